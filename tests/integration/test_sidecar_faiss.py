"""An adapter in front of real FAISS indexes: queries turn, nothing else changes."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from tests.support.onnx_models import DIM_OUT, linear_adapter, queries_of
from trimtab.clients import AdaptedIndex
from trimtab.errors import ConfigError, DimensionError, NonFiniteError
from trimtab.model.adapter import Adapter

DOCUMENTS = queries_of(300, DIM_OUT, seed=3)
QUERIES = queries_of(7)
K = 5


def pickled(one: Any) -> Any:
    return pickle.loads(pickle.dumps(one))  # noqa: S301 - our own bytes


class Named(AdaptedIndex):
    """An application's own kind, which keeps a name."""

    name: str


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return linear_adapter(normalised=True)


def build(description: str) -> faiss.Index:
    """Make an index that holds the documents."""
    index = faiss.index_factory(DIM_OUT, description, faiss.METRIC_INNER_PRODUCT)
    index.train(DOCUMENTS)
    if "IDMap" in description:
        index.add_with_ids(DOCUMENTS, np.arange(1000, 1300))
    else:
        index.add(DOCUMENTS)
    return index


def same(found: tuple[np.ndarray, ...], wanted: tuple[np.ndarray, ...]) -> bool:
    """Compare answers, number by number."""
    return len(found) == len(wanted) and all(map(np.array_equal, found, wanted))


INDEXES = ["Flat", "IVF8,Flat", "HNSW8", "IDMap,Flat", "IDMap2,IVF8,Flat", "SQ8", "PCA2,Flat"]


@pytest.mark.parametrize("description", INDEXES)
def test_search_is_the_inner_search_of_adapted_queries(adapter: Adapter, description: str) -> None:
    inner = build(description)
    found = AdaptedIndex(inner, adapter).search(QUERIES, K)
    assert same(found, inner.search(adapter.transform(QUERIES), K))
    assert found[0].shape == found[1].shape == (7, K)


def test_search_differs_from_the_raw_search() -> None:
    """A wrapper that forgot the adapter would pass every other test of an identity."""
    square = linear_adapter(dim_in=DIM_OUT, normalised=True)
    inner, queries = build("Flat"), queries_of(7, DIM_OUT)
    assert not same(AdaptedIndex(inner, square).search(queries, K), inner.search(queries, K))


@pytest.mark.parametrize("form", [np.float64, np.float16, list])
def test_search_takes_any_form_of_queries(adapter: Adapter, form: type) -> None:
    queries = QUERIES.tolist() if form is list else QUERIES.astype(form)
    inner = build("Flat")
    found = AdaptedIndex(inner, adapter).search(queries, K)
    assert same(found, inner.search(adapter.transform(queries), K))


def test_search_takes_one_query_of_rank_one(adapter: Adapter) -> None:
    index = AdaptedIndex(build("Flat"), adapter)
    scores, rows = index.search(QUERIES[0], K)
    assert scores.shape == rows.shape == (1, K)
    assert same((scores, rows), index.search(QUERIES[:1], K))


def test_search_takes_parameters_of_ivf(adapter: Adapter) -> None:
    inner = build("IVF8,Flat")
    index = AdaptedIndex(inner, adapter)
    few, all_lists = (faiss.SearchParametersIVF(nprobe=n) for n in (1, 8))
    adapted = adapter.transform(QUERIES)
    assert same(index.search(QUERIES, 20, params=few), inner.search(adapted, 20, params=few))
    exact = build("Flat").search(adapted, 20)[1]
    assert np.array_equal(index.search(QUERIES, 20, params=all_lists)[1], exact)
    assert not np.array_equal(index.search(QUERIES, 20, params=few)[1], exact)


def test_search_takes_parameters_of_hnsw(adapter: Adapter) -> None:
    inner = build("HNSW4")
    wide = faiss.SearchParametersHNSW(efSearch=300)
    found = AdaptedIndex(inner, adapter).search(QUERIES, K, params=wide)
    assert same(found, inner.search(adapter.transform(QUERIES), K, params=wide))


def test_search_takes_a_selector_of_ids(adapter: Adapter) -> None:
    wanted = faiss.SearchParameters(sel=faiss.IDSelectorRange(10, 20))
    rows = AdaptedIndex(build("Flat"), adapter).search(QUERIES, K, params=wanted)[1]
    assert rows.min() >= 10
    assert rows.max() < 20


def test_search_writes_into_the_callers_arrays(adapter: Adapter) -> None:
    scores, rows = np.empty((7, K), np.float32), np.empty((7, K), np.int64)
    found = AdaptedIndex(build("Flat"), adapter).search(QUERIES, K, D=scores, I=rows)
    assert found[0] is scores
    assert found[1] is rows


@pytest.mark.parametrize("description", ["Flat", "IVF8,Flat", "IDMap,HNSW8"])
def test_assign_is_the_inner_one_of_adapted_queries(adapter: Adapter, description: str) -> None:
    square = linear_adapter(dim_in=DIM_OUT, normalised=True)
    inner, queries = build(description), queries_of(7, DIM_OUT)
    wanted = inner.assign(square.transform(queries), K)
    index = AdaptedIndex(inner, square)
    assert np.array_equal(index.assign(queries, K), wanted)
    assert np.array_equal(index.assign(x=queries, k=K), wanted)
    assert not np.array_equal(inner.assign(queries, K), wanted)


@pytest.mark.parametrize("name", ["search_preassigned", "search_and_return_codes", "search1"])
def test_no_other_way_to_ask_goes_raw(adapter: Adapter, name: str) -> None:
    index = AdaptedIndex(build("IVF8,Flat"), adapter)
    assert hasattr(index.inner, name)
    assert not hasattr(index, name)
    with pytest.raises(AttributeError, match=rf"raw queries; ask index.inner.{name} with index"):
        getattr(index, name)


def test_whatever_faiss_can_be_asked_is_adapted_or_refused(adapter: Adapter) -> None:
    kinds = [one for one in vars(faiss).values() if isinstance(one, type)]
    names = {name for kind in kinds if issubclass(kind, faiss.Index) for name in dir(kind)}
    asking = {name for name in names if any(part in name for part in ("search", "assign", "dist"))}
    index = AdaptedIndex(SimpleNamespace(d=DIM_OUT, **dict.fromkeys(asking)), adapter)
    settings = {"search_type", "assign_indexes", "num_base_level_search_entrypoints"}
    adapted = {"search", "search_and_reconstruct", "range_search", "assign"}
    assert {name for name in asking if hasattr(index, name)} == adapted | settings


@pytest.mark.parametrize("description", ["Flat", "IVF8,Flat", "IDMap2,Flat"])
def test_range_search_is_the_inner_one_of_adapted_queries(
    adapter: Adapter, description: str
) -> None:
    inner = build(description)
    found = AdaptedIndex(inner, adapter).range_search(QUERIES, 0.6)
    assert same(found, inner.range_search(adapter.transform(QUERIES), 0.6))
    assert found[0][-1] > 0


def test_range_search_takes_one_query_and_parameters(adapter: Adapter) -> None:
    inner = build("IVF8,Flat")
    every = faiss.SearchParametersIVF(nprobe=8)
    found = AdaptedIndex(inner, adapter).range_search(QUERIES[0], thresh=0.6, params=every)
    assert same(found, inner.range_search(adapter.transform(QUERIES[:1]), 0.6, params=every))


@pytest.mark.parametrize("description", ["Flat", "IVF8,Flat"])
def test_search_and_reconstruct_gives_stored_vectors_untouched(
    adapter: Adapter, description: str
) -> None:
    inner = build(description)
    found = AdaptedIndex(inner, adapter).search_and_reconstruct(QUERIES, K)
    assert same(found, inner.search_and_reconstruct(adapter.transform(QUERIES), K))
    _, rows, vectors = found
    held = rows >= 0
    assert np.array_equal(vectors[held], DOCUMENTS[rows[held]])


def test_add_is_never_adapted(adapter: Adapter) -> None:
    index = AdaptedIndex(faiss.IndexFlatIP(DIM_OUT), adapter)
    index.add(DOCUMENTS)
    assert index.ntotal == index.inner.ntotal == 300
    assert np.array_equal(index.reconstruct_n(0, 300), DOCUMENTS)


def test_add_with_ids_and_remove_reach_the_index(adapter: Adapter) -> None:
    index = AdaptedIndex(build("IDMap2,Flat"), adapter)
    index.add_with_ids(-DOCUMENTS[:1], np.array([7]))
    assert np.array_equal(index.reconstruct(7), -DOCUMENTS[0])
    assert index.remove_ids(np.array([7])) == 1
    assert index.ntotal == 300


def test_attributes_are_read_and_written_through(adapter: Adapter) -> None:
    index = AdaptedIndex(build("IVF8,Flat"), adapter)
    assert (index.d, index.nlist, index.is_trained) == (DIM_OUT, 8, True)
    index.nprobe = 8
    assert index.inner.nprobe == index.nprobe == 8
    exact = build("Flat").search(adapter.transform(QUERIES), K)[1]
    assert np.array_equal(index.search(QUERIES, K)[1], exact)


def test_attribute_of_an_inner_object_is_written_through(adapter: Adapter) -> None:
    index = AdaptedIndex(build("HNSW8"), adapter)
    index.hnsw.efSearch = 123
    assert index.inner.hnsw.efSearch == 123


def test_attribute_that_the_index_lacks_is_refused(adapter: Adapter) -> None:
    index = AdaptedIndex(build("Flat"), adapter)
    with pytest.raises(AttributeError):
        index.no_such_thing = 1
    assert not hasattr(index, "no_such_thing")


def test_another_adapter_or_index_takes_its_place(adapter: Adapter) -> None:
    index = AdaptedIndex(build("Flat"), adapter)
    other = linear_adapter(seed=7)
    index.adapter = other
    assert same(index.search(QUERIES, K), build("Flat").search(other.transform(QUERIES), K))
    index.inner = build("HNSW8")
    assert type(index.inner) is faiss.IndexHNSWFlat
    assert index.adapter is other


def test_what_does_not_fit_in_its_place_is_refused(adapter: Adapter) -> None:
    index = AdaptedIndex(build("Flat"), adapter)
    with pytest.raises(ConfigError, match="the adapter is a int; expected an Adapter"):
        index.adapter = 1  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="holds vectors of 4 values, the adapter gives 5"):
        index.adapter = linear_adapter(dim_out=DIM_OUT + 1)
    with pytest.raises(ConfigError, match="holds vectors of 3 values, the adapter gives 4"):
        index.inner = faiss.IndexFlatIP(3)
    assert index.adapter is adapter
    assert index.ntotal == build("Flat").ntotal


# Travelling


@pytest.mark.parametrize("kind", ["Flat", "IVF8,Flat", "HNSW8", "IDMap2,Flat"])
@pytest.mark.parametrize("send", [copy.deepcopy, pickled])
def test_it_travels_with_its_index_and_adapter(
    adapter: Adapter, kind: str, send: Callable[[AdaptedIndex], AdaptedIndex]
) -> None:
    index = AdaptedIndex(build(kind), adapter)
    again = send(index)
    assert type(again) is AdaptedIndex
    assert again.inner is not index.inner
    assert same(again.search(QUERIES, K), index.search(QUERIES, K))


def test_an_index_beside_it_travels_once(adapter: Adapter) -> None:
    inner = build("Flat")
    for send in (copy.deepcopy, pickled):
        raw, adapted = send((inner, AdaptedIndex(inner, adapter)))
        assert adapted.inner is raw


def test_what_a_subclass_keeps_travels_too(adapter: Adapter) -> None:
    index = Named(build("Flat"), adapter)
    object.__setattr__(index, "name", "docs")
    assert copy.deepcopy(index).name == "docs"
    assert pickled(index).name == "docs"


@pytest.mark.parametrize("send", [copy.deepcopy, pickle.dumps])
def test_an_index_that_faiss_can_not_write_says_what_to_do(
    adapter: Adapter, send: Callable[[object], object]
) -> None:
    shards = faiss.IndexShards(DIM_OUT)
    part = build("Flat")
    shards.add_shard(part)
    with pytest.raises(ConfigError, match=r"can't write an IndexShards.* open the index there"):
        send(AdaptedIndex(shards, adapter))


@pytest.mark.parametrize("inner", [None, faiss.IndexBinaryFlat(8 * DIM_OUT), np.eye(DIM_OUT)])
def test_what_is_no_index_of_float_vectors_is_refused(adapter: Adapter, inner: Any) -> None:
    with pytest.raises(ConfigError, match=f"expected a FAISS index.* not {type(inner).__name__}"):
        AdaptedIndex(inner, adapter)


def test_queries_are_not_adapted_twice() -> None:
    square = linear_adapter(dim_in=DIM_OUT, dim_out=DIM_OUT)
    index = AdaptedIndex(build("Flat"), square)
    with pytest.raises(ConfigError, match="adapted already"):
        AdaptedIndex(index, square)
    with pytest.raises(ConfigError, match="adapted already"):
        index.inner = AdaptedIndex(build("Flat"), square)


@pytest.mark.parametrize("dim", [DIM_OUT - 1, DIM_OUT + 1, 768])
def test_index_of_another_width_is_refused(adapter: Adapter, dim: int) -> None:
    wanted = f"index holds vectors of {dim} values, the adapter gives {DIM_OUT}; use the adapter"
    with pytest.raises(ConfigError, match=wanted):
        AdaptedIndex(faiss.IndexFlatIP(dim), adapter)


def test_bad_queries_are_refused_before_the_index_sees_them(adapter: Adapter) -> None:
    index = AdaptedIndex(build("Flat"), adapter)
    with pytest.raises(DimensionError):
        index.search(DOCUMENTS[:2], K)
    with pytest.raises(NonFiniteError):
        index.range_search(np.full_like(QUERIES, np.nan), 0.5)


def test_copy_searches_the_same_index_through_the_same_adapter(adapter: Adapter) -> None:
    index = AdaptedIndex(build("Flat"), adapter)
    other = copy.copy(index)
    assert type(other) is AdaptedIndex
    assert other.inner is index.inner
    assert other.adapter is adapter
    assert same(other.search(QUERIES, K), index.search(QUERIES, K))


def test_repr_names_the_adapter_and_the_index(adapter: Adapter) -> None:
    assert repr(AdaptedIndex(build("Flat"), adapter)) == "AdaptedIndex('toy', IndexFlat)"


def test_stored_index_is_the_same_file_as_without_an_adapter(
    adapter: Adapter, tmp_path: Path
) -> None:
    inner = build("IVF8,Flat")
    before = faiss.serialize_index(inner)
    index = AdaptedIndex(inner, adapter)
    index.search(QUERIES, K)
    faiss.write_index(index.inner, str(tmp_path / "index.faiss"))
    assert (tmp_path / "index.faiss").read_bytes() == before.tobytes()


def test_search_takes_the_keywords_of_faiss() -> None:
    rows = np.eye(4, dtype=np.float32)
    inner = faiss.IndexFlatIP(4)
    inner.add(rows)
    adapted = AdaptedIndex(inner, linear_adapter())
    found = adapted.search(x=np.ones((1, 6), dtype=np.float32), k=2)
    np.testing.assert_array_equal(found[1], adapted.search(np.ones(6, dtype=np.float32), 2)[1])
