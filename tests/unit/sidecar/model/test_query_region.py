"""Drift: a query is far where no centroid of the training queries is near."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.onnx_models import DIM_IN, MANIFEST, queries_of
from trimtab.errors import ManifestError
from trimtab.model.manifest import QueryRegion
from trimtab.model.query_region import Region

AXES = np.eye(DIM_IN, dtype=np.float32)


def region_of(
    centroids: NDArray[np.float32] = AXES[:2], threshold: float = 0.5, share: float = 0.01
) -> Region:
    return Region(QueryRegion.pack(centroids, threshold=threshold, share=share))


def alone(region: Region, queries: NDArray[np.float32]) -> list[bool]:
    """Ask for one query at a time."""
    return [bool(region.is_far(query[np.newaxis])[0]) for query in queries]


def test_query_is_near_where_its_best_centroid_is() -> None:
    queries = np.stack([AXES[0], AXES[1], AXES[0] + AXES[1], AXES[2], -AXES[0]])
    expected = [False, False, False, True, True]
    region = region_of()
    assert region.is_far(queries).tolist() == expected
    assert alone(region, queries) == expected


@pytest.mark.parametrize("cosine", [0.4, 0.49, 0.51, 0.9])
def test_threshold_is_a_cosine(cosine: float) -> None:
    query = cosine * AXES[0] + np.sqrt(1 - cosine**2).astype(np.float32) * AXES[3]
    assert alone(region_of(), query[np.newaxis]) == [cosine < 0.5]


def test_answer_is_that_of_the_formula_alone_and_in_a_batch() -> None:
    centroids, queries = queries_of(5), queries_of(400, seed=2)
    region = region_of(centroids, threshold=0.3)
    expected = (queries @ centroids.T).max(axis=1) <= 0.3
    assert 0 < expected.sum() < len(queries)
    assert region.is_far(queries).tolist() == expected.tolist()
    assert alone(region, queries) == expected.tolist()


@pytest.mark.parametrize("length", [1e-20, 1e-6, 1.0, 1e6, 1e30])
def test_length_of_a_query_does_not_matter(length: float) -> None:
    queries = queries_of(50)
    region = region_of(threshold=0.4)
    scaled = (queries * length).astype(np.float32)
    assert region.is_far(scaled).tolist() == region.is_far(queries).tolist()
    assert alone(region, scaled) == alone(region, queries)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.5])
def test_zero_vector_is_far_at_any_threshold(n: int, threshold: float) -> None:
    is_far = region_of(threshold=threshold).is_far(np.zeros((n, DIM_IN), dtype=np.float32))
    assert is_far.tolist() == [True] * n


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_answer_has_one_bool_a_query(n: int) -> None:
    is_far = region_of().is_far(queries_of(7)[:n])
    assert is_far.shape == (n,)
    assert is_far.dtype == np.bool_


def test_queries_stay_as_they_are() -> None:
    queries = queries_of(4)
    before = queries.copy()
    region_of().is_far(queries)
    region_of().is_far(queries[:1])
    np.testing.assert_array_equal(queries, before)


def test_region_comes_out_of_a_manifest_that_has_one() -> None:
    record = QueryRegion.pack(AXES[:2], threshold=0.5, share=0.02)
    region = Region.from_manifest(replace(MANIFEST, query_region=record))
    assert region is not None
    assert region.share == 0.02
    assert region.is_far(AXES).tolist() == [False, False, True, True, True, True]


def test_manifest_without_a_region_gives_none() -> None:
    assert Region.from_manifest(MANIFEST) is None


def test_region_made_by_hand_is_checked_too() -> None:
    record = QueryRegion(1, DIM_IN, "AAAA", 0.5, 0.01)
    with pytest.raises(ManifestError, match="holds 3 bytes, expected 12"):
        Region(record)
