"""What an index file says of its search, through every wrapper that FAISS puts around it."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from tests.support.served_indexes import build, rows_of
from trimtab_training.errors import DataError
from trimtab_training.evaluation.ann_index import ServedIndex

ROWS = rows_of(300)


def opened(folder: Path, index: Any) -> ServedIndex:
    faiss.write_index(index, str(folder / "x.faiss"))
    return ServedIndex.open(folder / "x.faiss")


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("HNSW8,Flat", ("HNSW", "efSearch", "IndexHNSWFlat")),
        ("HNSW8,SQ8", ("HNSW", "efSearch", "IndexHNSWSQ")),
        ("IVF4,Flat", ("IVF", "nprobe", "IndexIVFFlat")),
        ("IVF4,PQ4x4np", ("IVF", "nprobe", "IndexIVFPQ")),
        ("IVF4_HNSW8,Flat", ("IVF", "nprobe", "IndexIVFFlat")),
        ("PCA8,IVF4,Flat", ("IVF", "nprobe", "IndexIVFFlat")),
        ("L2norm,HNSW8,Flat", ("HNSW", "efSearch", "IndexHNSWFlat")),
        ("OPQ4,IVF4,PQ4x4np,RFlat", ("IVF", "nprobe", "IndexIVFPQ")),
    ],
)
def test_graph_or_lists_are_found_in_their_wrappers(
    tmp_path: Path, kind: str, found: tuple[str, str, str]
) -> None:
    index = opened(tmp_path, build(kind, ROWS))
    assert (index.kind, index.parameter, type(index.core).__name__) == found


@pytest.mark.parametrize(("kind", "default"), [("HNSW8", 16), ("IVF4,Flat", 1)])
def test_value_is_the_one_that_the_file_has(tmp_path: Path, kind: str, default: int) -> None:
    index = build(kind, ROWS)
    assert opened(tmp_path, index).value == default
    if kind == "HNSW8":
        index.hnsw.efSearch = 77
    else:
        index.nprobe = 3
    assert opened(tmp_path, index).value == (77 if kind == "HNSW8" else 3)


def test_lists_are_swept_up_to_all_of_them(tmp_path: Path) -> None:
    index = build("IVF11,Flat", ROWS)
    index.nprobe = 3
    assert opened(tmp_path, index).values() == [1, 2, 3, 4, 8, 11]


def test_graph_is_swept_up_to_a_thousand_candidates(tmp_path: Path) -> None:
    values = opened(tmp_path, build("HNSW8", ROWS)).values()
    assert values == [8, 16, 32, 64, 128, 256, 512, 1024]


def test_numbers_of_an_id_map_become_rows(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).permutation(300) * 5 - 40  # some are below zero
    index = faiss.IndexIDMap(faiss.IndexHNSWFlat(16, 8))
    index.add_with_ids(ROWS, numbers)
    rows, _ = opened(tmp_path, index).search(ROWS, 1, 64)
    np.testing.assert_array_equal(rows[:, 0], np.arange(300))


def test_nothing_found_stays_nothing(tmp_path: Path) -> None:
    index = opened(tmp_path, build("IVF60,Flat", ROWS))
    rows, seconds = index.search(ROWS[:5], 100, 1)
    assert (rows == -1).any()
    assert (rows[:, 0] == np.arange(5)).all()
    assert seconds > 0


@pytest.mark.parametrize("kind", ["HNSW2", "IVF30,Flat"])
def test_larger_value_finds_more(tmp_path: Path, kind: str) -> None:
    queries = -ROWS[:100]
    index = opened(tmp_path, build(kind, ROWS, metric=faiss.METRIC_L2))
    most, least = (index.search(queries, 10, value)[0] for value in (index.values()[-1], 1))
    assert not np.array_equal(most, least)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Flat", "IndexFlat.*, which compares a query with every vector"),
        ("IDMap,Flat", "IndexFlat.*, which compares a query with every vector"),
        ("SQ8", "IndexScalarQuantizer, which compares a query with every vector"),
        ("NSG8,Flat", "is an IndexNSGFlat; expected an HNSW or IVF index"),
    ],
)
def test_index_without_a_parameter_to_turn_is_refused(
    tmp_path: Path, kind: str, message: str
) -> None:
    index = faiss.index_factory(16, kind)
    index.train(ROWS)
    index.add_with_ids(ROWS, np.arange(300)) if "IDMap" in kind else index.add(ROWS)
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path, index)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "similarity", "is_unit"),
    [
        (faiss.METRIC_INNER_PRODUCT, "dot", False),
        (faiss.METRIC_L2, "euclid", False),
        (faiss.METRIC_INNER_PRODUCT, "cosine", True),
        (faiss.METRIC_L2, "cosine", True),
        (faiss.METRIC_L2, "dot", True),
    ],
)
def test_metric_that_gives_the_same_order_fits(
    tmp_path: Path, metric: int, similarity: str, is_unit: bool
) -> None:
    index = opened(tmp_path, build("HNSW8", ROWS, metric=metric))
    index.check_similarity(similarity, is_unit=is_unit)


@pytest.mark.parametrize(
    ("metric", "similarity", "own"),
    [
        (faiss.METRIC_INNER_PRODUCT, "cosine", "dot"),
        (faiss.METRIC_INNER_PRODUCT, "euclid", "dot"),
        (faiss.METRIC_L2, "cosine", "euclid"),
        (faiss.METRIC_L2, "dot", "euclid"),
    ],
)
def test_metric_that_gives_another_order_is_refused(
    tmp_path: Path, metric: int, similarity: str, own: str
) -> None:
    index = opened(tmp_path, build("HNSW8", ROWS, metric=metric))
    with pytest.raises(DataError, match=rf"compares by {own} .*; build it for {similarity}"):
        index.check_similarity(similarity, is_unit=False)


def test_metric_that_no_adapter_is_fitted_for_is_refused(tmp_path: Path) -> None:
    index = opened(tmp_path, build("HNSW8", ROWS, metric=faiss.METRIC_L1))
    with pytest.raises(DataError, match="FAISS's metric 2; expected inner product or L2"):
        index.check_similarity("euclid", is_unit=True)
