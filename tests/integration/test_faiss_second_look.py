"""A second look through real FAISS indexes: the best in its order, all else as ever."""

import logging
import pickle
import tracemalloc
from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.support.onnx_models import DIM_IN, DIM_OUT, linear_adapter, linear_bytes, queries_of
from tests.support.second_looks import DEPTH, expected_scores, look_bytes
from trimtab.clients import AdaptedIndex
from trimtab.errors import ConfigError
from trimtab.model.adapter import Adapter

N_DOCUMENTS, K = 300, 5
DOCUMENTS = queries_of(N_DOCUMENTS, DIM_OUT, seed=3)
DOCUMENTS /= np.linalg.norm(DOCUMENTS, axis=1, keepdims=True)
QUERIES = queries_of(7)


@pytest.fixture(scope="module")
def model() -> Adapter:
    return Adapter.from_bytes(look_bytes(DIM_IN, DIM_OUT))


def build(description: str, metric: int = faiss.METRIC_INNER_PRODUCT) -> faiss.Index:
    index = faiss.index_factory(DIM_OUT, description, metric)
    index.train(DOCUMENTS)
    if "IDMap" in description:
        index.add_with_ids(DOCUMENTS, np.arange(N_DOCUMENTS))
    else:
        index.add(DOCUMENTS)
    return index


def by_hand(model: Adapter, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores: the best by the adapter, put in order by the formula."""
    best = np.argsort(-(DOCUMENTS @ model.transform(query)), kind="stable")[:DEPTH]
    scores = expected_scores(model, query, DOCUMENTS[best])
    order = np.argsort(-scores)[:k]
    return best[order], scores[order]


@pytest.mark.parametrize("description", ["Flat", "HNSW32", "IVF4,Flat", "IDMap2,Flat"])
@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2])
def test_the_best_come_in_the_order_of_the_second_look(
    model: Adapter, description: str, metric: int
) -> None:
    inner = build(description, metric)
    if "IVF" in description:
        inner.nprobe = 4
    index = AdaptedIndex(inner, model, second_look=True)
    scores, rows = index.search(QUERIES, K)
    assert scores.shape == rows.shape == (len(QUERIES), K)
    for query, found, row in zip(QUERIES, scores, rows, strict=True):
        wanted, cosines = by_hand(model, query, K)
        assert row.tolist() == wanted.tolist()
        is_distance = metric == faiss.METRIC_L2
        assert np.allclose(found, 2 - 2 * cosines if is_distance else cosines, atol=1e-4)
    first_look = AdaptedIndex(inner, model).search(QUERIES, K)
    assert not np.array_equal(first_look[1], rows)


def test_stored_vectors_come_with_their_rows(model: Adapter) -> None:
    index = AdaptedIndex(build("Flat"), model, second_look=True)
    scores, rows, vectors = index.search_and_reconstruct(QUERIES, K)
    assert np.array_equal(vectors, DOCUMENTS[rows])
    assert np.array_equal(index.search(QUERIES, K)[0], scores)


def test_what_lies_past_the_depth_stays_behind_as_it_was(model: Adapter) -> None:
    inner = build("Flat")
    scores, rows = AdaptedIndex(inner, model, second_look=True).search(QUERIES, DEPTH + 10)
    before_scores, before = AdaptedIndex(inner, model).search(QUERIES, DEPTH + 10)
    assert np.array_equal(rows[:, DEPTH:], before[:, DEPTH:])
    assert np.array_equal(scores[:, DEPTH:], before_scores[:, DEPTH:])
    assert np.array_equal(np.sort(rows[:, :DEPTH]), np.sort(before[:, :DEPTH]))


def test_of_fewer_documents_than_its_depth_all_are_looked_at(model: Adapter) -> None:
    few = faiss.IndexFlatIP(DIM_OUT)
    few.add(DOCUMENTS[:3])
    scores, rows = AdaptedIndex(few, model, second_look=True).search(QUERIES[0], K)
    wanted = expected_scores(model, QUERIES[0], DOCUMENTS[:3])
    assert rows[0].tolist() == [*np.argsort(-wanted), -1, -1]
    assert np.allclose(scores[0, :3], np.sort(wanted)[::-1], atol=1e-5)


def test_many_queries_are_each_looked_at_alone(model: Adapter) -> None:
    index, many = AdaptedIndex(build("Flat"), model, second_look=True), queries_of(600)
    rows = index.search(many, K)[1]
    assert np.array_equal(rows[::37], np.vstack([index.search(one, K)[1] for one in many[::37]]))


def test_a_search_among_some_documents_stays_among_them(model: Adapter) -> None:
    chosen = np.arange(0, N_DOCUMENTS, 2)
    params = faiss.SearchParameters(sel=faiss.IDSelectorBatch(chosen))
    index = AdaptedIndex(build("Flat"), model, second_look=True)
    rows = index.search(QUERIES, K, params=params)[1]
    assert not (rows % 2).any()


def test_arrays_that_the_caller_gives_are_filled(model: Adapter) -> None:
    index = AdaptedIndex(build("Flat"), model, second_look=True)
    scores, rows = np.empty((7, K), np.float32), np.empty((7, K), np.int64)
    found = index.search(QUERIES, K, D=scores, I=rows)
    assert np.array_equal(found[0], scores)
    assert np.array_equal(found[1], rows)


def test_it_is_pickled_with_its_second_look(model: Adapter) -> None:
    index = AdaptedIndex(build("Flat"), model, second_look=True)
    again = pickle.loads(pickle.dumps(index))  # noqa: S301 - our own bytes
    assert np.array_equal(again.search(QUERIES, K)[1], index.search(QUERIES, K)[1])


def test_a_model_without_one_is_refused() -> None:
    plain = linear_adapter(normalised=True)
    with pytest.raises(ConfigError, match="has no second look; fit it with 'rescore = 100'"):
        AdaptedIndex(build("Flat"), plain, second_look=True)
    index = AdaptedIndex(build("Flat"), Adapter.from_bytes(look_bytes(DIM_IN, DIM_OUT)))
    index.adapter = plain  # where no second look is asked for


def test_an_index_that_keeps_no_vectors_by_row_is_refused(model: Adapter) -> None:
    with pytest.raises(ConfigError, match="of an IndexIDMap, make an IndexIDMap2"):
        AdaptedIndex(build("IDMap,Flat"), model, second_look=True)
    mapped = build("IDMap2,IVF4,Flat")
    with pytest.raises(ConfigError, match=r"direct map.*make_direct_map"):
        AdaptedIndex(mapped, model, second_look=True)
    faiss.extract_index_ivf(mapped).make_direct_map()
    AdaptedIndex(mapped, model, second_look=True).search(QUERIES, K)


@pytest.mark.parametrize("k", [K, DEPTH + 10])
def test_an_index_that_was_empty_is_refused_by_its_first_search(model: Adapter, k: int) -> None:
    inner = faiss.IndexIDMap(faiss.IndexFlatIP(DIM_OUT))
    index = AdaptedIndex(inner, model, second_look=True)
    assert (index.search(QUERIES, k)[1] == -1).all()
    index.add_with_ids(DOCUMENTS, np.arange(N_DOCUMENTS))
    for search in (index.search, index.search_and_reconstruct):
        with pytest.raises(ConfigError, match="of an IndexIDMap, make an IndexIDMap2"):
            search(QUERIES, k)


def test_an_index_of_ids_below_zero_alone_is_refused(model: Adapter) -> None:
    """FAISS brings no vector of such an id with a search, and so tells of none that it lacks."""
    inner = faiss.IndexIDMap(faiss.IndexFlatIP(DIM_OUT))
    inner.add_with_ids(DOCUMENTS, np.arange(-N_DOCUMENTS - 1, -1))
    with pytest.raises(ConfigError, match="of an IndexIDMap, make an IndexIDMap2"):
        AdaptedIndex(inner, model, second_look=True)


@pytest.mark.parametrize("description", ["IVF4,Flat", "IDMap2,Flat"])
def test_ids_may_be_any_numbers(model: Adapter, description: str) -> None:
    """Hashed ids are negative half of the time; FAISS brings no vectors of some of these."""
    ids = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, N_DOCUMENTS)
    inner = faiss.index_factory(DIM_OUT, description, faiss.METRIC_INNER_PRODUCT)
    inner.train(DOCUMENTS)
    inner.add_with_ids(DOCUMENTS, ids)
    if "IVF" in description:
        inner.nprobe = 4
    rows = AdaptedIndex(inner, model, second_look=True).search(QUERIES, K)[1]
    for query, row in zip(QUERIES, rows, strict=True):
        assert row.tolist() == ids[by_hand(model, query, K)[0]].tolist()


def test_a_stored_vector_that_is_none_comes_last(model: Adapter) -> None:
    inner = build("HNSW32")
    inner.add(np.full((1, DIM_OUT), np.nan, dtype=np.float32))
    rows = AdaptedIndex(inner, model, second_look=True).search(QUERIES, K)[1]
    assert [row.tolist() for row in rows] == [by_hand(model, one, K)[0].tolist() for one in QUERIES]


@pytest.mark.parametrize("k", [0, -5])
def test_no_documents_are_asked_for_as_ever(model: Adapter, k: int) -> None:
    inner = build("Flat")
    for index in (inner, AdaptedIndex(inner, model, second_look=True)):
        with pytest.raises(AssertionError):
            index.search(queries_of(7, index.d if index is inner else DIM_IN), k)


def test_a_search_takes_no_room_for_vectors(model: Adapter) -> None:
    index = AdaptedIndex(build("Flat"), model, second_look=True)
    with pytest.raises(TypeError):
        index.search(QUERIES, K, R=np.empty((7, K, DIM_OUT), np.float32))


def test_memory_of_many_queries_is_that_of_a_few() -> None:
    dim, n_queries, k = 256, 1500, 250
    inner = faiss.IndexFlatIP(dim)
    inner.add(queries_of(300, dim))
    index = AdaptedIndex(inner, Adapter.from_bytes(look_bytes(DIM_IN, dim)), second_look=True)
    peaks = []
    for queries in (queries_of(100), queries_of(n_queries)):
        tracemalloc.start()
        index.search(queries, k)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < n_queries * k * dim * 4 / 2


def test_a_measure_of_another_kind_is_refused(model: Adapter) -> None:
    with pytest.raises(ConfigError, match="wants inner products or L2"):
        AdaptedIndex(build("Flat", faiss.METRIC_L1), model, second_look=True)


def test_a_newer_model_without_one_searches_without_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "adapter.onnx"
    file.write_bytes(look_bytes(DIM_IN, DIM_OUT))
    watched, inner = Adapter.watch(file, interval_s=3600), build("Flat")
    index = AdaptedIndex(inner, watched, second_look=True)
    file.write_bytes(linear_bytes(dim_in=DIM_IN, dim_out=DIM_OUT, normalised=True, seed=2))
    assert watched.reload()
    with caplog.at_level(logging.WARNING):
        found = [index.search(QUERIES, K)[1] for _ in range(2)]
    assert np.array_equal(found[0], inner.search(watched.transform(QUERIES), K)[1])
    assert [record.message for record in caplog.records].count(
        "the model has no second look: searches go without"
    ) == 1
    watched.close()
