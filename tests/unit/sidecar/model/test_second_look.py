"""A second look in a model file: scores by the formula, and damage told before it is used."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.onnx_models import DIM_IN, DIM_OUT, linear_adapter, linear_bytes, queries_of
from tests.support.second_looks import (
    DEPTH,
    MIX,
    RANK,
    attach,
    changed,
    encoded,
    expected_scores,
    look_bytes,
)
from trimtab.errors import DimensionError, IntegrityError, ManifestError, ModelError, QueryError
from trimtab.model.adapter import Adapter
from trimtab.model.second_look import SecondLook

QUERIES, DOCUMENTS = queries_of(4), queries_of(30, DIM_OUT, seed=3)


@pytest.fixture(scope="module")
def model() -> Adapter:
    return Adapter.from_bytes(look_bytes(DIM_IN, DIM_OUT))


def look_of(model: Adapter) -> SecondLook:
    assert model.second_look is not None
    return model.second_look


def rescore(model: Adapter, query: Any, documents: Any) -> np.ndarray:
    return look_of(model).rescore(query, model.transform(query), documents)


def test_scores_are_the_formulas_for_one_query_and_for_several(model: Adapter) -> None:
    each = np.stack([queries_of(30, DIM_OUT, seed=seed) for seed in range(len(QUERIES))])
    scores = rescore(model, QUERIES, each)
    assert scores.shape == (4, 30)
    assert scores.dtype == np.float32
    for query, documents, found in zip(QUERIES, each, scores, strict=True):
        assert np.allclose(found, expected_scores(model, query, documents), atol=1e-5)
        assert np.allclose(found, rescore(model, query, documents), atol=1e-6)


def test_the_length_of_a_document_says_nothing_and_one_without_length_scores_nothing(
    model: Adapter,
) -> None:
    lengths = np.linspace(0.1, 9, len(DOCUMENTS), dtype=np.float32)[:, None]
    plain, scaled = (rescore(model, QUERIES[0], DOCUMENTS * size) for size in (1, lengths))
    assert np.allclose(plain, scaled, atol=1e-5)
    assert rescore(model, QUERIES[0], np.zeros((1, DIM_OUT))) == 0


def test_a_mix_of_one_is_the_second_score_alone() -> None:
    model = Adapter.from_bytes(look_bytes(DIM_IN, DIM_OUT, mix=1.0))
    wanted = expected_scores(model, QUERIES[0], DOCUMENTS, mix=1.0)
    assert np.allclose(rescore(model, QUERIES[0], DOCUMENTS), wanted, atol=1e-5)


def test_a_model_says_what_its_second_look_is_and_one_without_has_none(model: Adapter) -> None:
    look = look_of(model)
    assert (look.depth, look.mix, look.rank) == (DEPTH, MIX, RANK)
    assert look is model.second_look  # read once
    assert linear_adapter().second_look is None


def test_the_first_adapter_is_the_same_with_and_without(model: Adapter) -> None:
    assert np.array_equal(
        model.transform(QUERIES), linear_adapter(normalised=True).transform(QUERIES)
    )


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])  # noqa: S301
def test_it_travels_with_the_model(model: Adapter, travel: Any) -> None:
    wanted = rescore(model, QUERIES[0], DOCUMENTS)  # which makes it, before it travels
    assert np.array_equal(rescore(travel(model), QUERIES[0], DOCUMENTS), wanted)


def test_a_watched_model_gives_the_second_look_in_force(tmp_path: Path) -> None:
    file = tmp_path / "adapter.onnx"
    file.write_bytes(look_bytes(DIM_IN, DIM_OUT))
    watched = Adapter.watch(file, interval_s=3600)
    assert look_of(watched).depth == DEPTH
    file.write_bytes(look_bytes(DIM_IN, DIM_OUT, depth=7))
    assert watched.reload()
    assert look_of(watched).depth == 7
    file.write_bytes(linear_bytes(dim_in=DIM_IN, dim_out=DIM_OUT, normalised=True))
    assert watched.reload()
    assert watched.second_look is None
    watched.close()


def test_a_watched_model_is_not_replaced_by_one_whose_second_look_is_damaged(
    tmp_path: Path,
) -> None:
    file = tmp_path / "adapter.onnx"
    file.write_bytes(look_bytes(DIM_IN, DIM_OUT))
    watched = Adapter.watch(file, interval_s=3600)
    in_force = watched.current
    file.write_bytes(changed(look_bytes(DIM_IN, DIM_OUT, seed=4), rank=RANK + 1))
    assert not watched.reload()
    assert watched.current is in_force
    assert watched.n_failures == 1
    assert "'reduce' that holds" in str(watched.last_error)
    watched.close()


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"depth": 0}, ManifestError, "'depth'|depth"),
        ({"depth": "many"}, ManifestError, "depth"),
        ({"mix": 0}, ManifestError, "mix"),
        ({"mix": 1.5}, ManifestError, "mix"),
        ({"mix": None}, ManifestError, "lacks 'mix'|mix is missing"),
        ({"rank": RANK + 1}, ManifestError, "'reduce' that holds \\d+ bytes, expected"),
        ({"rank": 10**9}, ManifestError, "rank"),
        ({"reduce": "%%%"}, ManifestError, "'reduce' that is not base64"),
        ({"expand": encoded(b"ab")}, ManifestError, "'expand' that holds 2 bytes, expected"),
        (
            {"expand": encoded(np.full((RANK, DIM_OUT), np.nan, "<f2").tobytes())},
            ManifestError,
            "'expand' that holds what is no finite",
        ),
        ({"model": encoded(b"no model")}, ModelError, "not a valid ONNX model"),
        ({"model": encoded(b"")}, IntegrityError, "empty"),
        (
            {"model": encoded(linear_bytes(dim_in=DIM_IN + 1, dim_out=DIM_OUT, normalised=True))},
            ManifestError,
            f"is from {DIM_IN + 1} to {DIM_OUT} values, the model from {DIM_IN}",
        ),
        (
            {"model": encoded(linear_bytes(dim_in=DIM_IN, dim_out=DIM_OUT))},
            ManifestError,
            "wants adapted queries of unit length",
        ),
    ],
)
def test_damage_is_told_and_the_adapter_serves_on(
    values: dict[str, Any], error: type[Exception], words: str
) -> None:
    damaged = Adapter.from_bytes(changed(look_bytes(DIM_IN, DIM_OUT), **values))
    assert damaged.transform(QUERIES).shape == (4, DIM_OUT)
    with pytest.raises(error, match=words):
        _ = damaged.second_look


@pytest.mark.parametrize("text", ["", "no JSON", "[" * 100_000, "[]", "3"])
def test_what_is_no_record_is_told(text: str) -> None:
    model = Adapter.from_bytes(attach(linear_bytes(normalised=True), text))
    with pytest.raises(ManifestError, match="second look"):
        _ = model.second_look


def test_two_second_looks_are_refused() -> None:
    with pytest.raises(ManifestError, match="2 second looks, expected one or none"):
        Adapter.from_bytes(attach(look_bytes(DIM_IN, DIM_OUT), "{}"))


@pytest.mark.parametrize(
    ("documents", "error"),
    [
        (DOCUMENTS[:, 1:], DimensionError),
        (DOCUMENTS[0], DimensionError),
        (np.stack([DOCUMENTS, DOCUMENTS]), DimensionError),
        (np.full((2, DIM_OUT), np.nan), QueryError),
        ([["a"] * DIM_OUT], QueryError),
    ],
)
def test_documents_that_are_none_are_refused(model: Adapter, documents: Any, error: type) -> None:
    with pytest.raises(error):
        rescore(model, QUERIES[0], documents)


def test_an_adapted_query_of_another_shape_is_refused(model: Adapter) -> None:
    with pytest.raises(DimensionError, match="adapted queries have shape"):
        look_of(model).rescore(QUERIES[0], model.transform(QUERIES), DOCUMENTS)
