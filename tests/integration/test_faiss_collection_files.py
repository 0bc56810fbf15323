"""FAISS index files that can't be served are refused at start, in one line."""

import builtins
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from tests.support.faiss_collections import (
    METRICS,
    ask,
    build_index,
    normalise,
    vectors_of,
    write_collection,
)
from tests.support.faiss_trials import forked_trials  # noqa: F401  # for every test here
from trimtab.errors import ConfigError, MissingExtraError
from trimtab.faiss_collections import Collections
from trimtab.settings import CollectionSettings

DIM, N_ROWS = 16, 1200
VECTORS = vectors_of(N_ROWS, DIM)


def bad_index(tmp_path: Path, content: bytes) -> CollectionSettings:
    path = tmp_path / "bad.faiss"
    path.write_bytes(content)
    return CollectionSettings("papers", path)


@pytest.mark.parametrize("content", [b"", b"hello world", b"IxFI", b"IxF2" + b"\0" * 40])
def test_files_that_are_no_index_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"bad\.faiss is not a FAISS index: ") as refused:
        Collections.load([bad_index(tmp_path, content)])
    assert "\n" not in str(refused.value)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    settings = write_collection(tmp_path, build_index("HNSW8", VECTORS))
    settings.index.write_bytes(settings.index.read_bytes()[:-3000])
    with pytest.raises(ConfigError, match="is not a FAISS index"):
        Collections.load([settings])


@pytest.mark.parametrize("kind", ["Flat", "IVF4,Flat", "IVF4,PQ4x4np", "L2norm,IVF4,SQ8", "HNSW8"])
def test_a_file_cut_short_by_a_few_bytes_is_refused(tmp_path: Path, kind: str) -> None:
    """Faiss takes a last number that lacks some bytes; behind the end there may be nothing."""
    settings = write_collection(tmp_path, build_index(kind, VECTORS))
    whole = settings.index.read_bytes()
    Collections.load([settings])
    for n_missing in (1, 3, 5, 8):
        settings.index.write_bytes(whole[:-n_missing])
        with pytest.raises(ConfigError, match="is not a FAISS index"):
            Collections.load([settings])


def test_missing_and_binary_indexes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no FAISS index at"):
        Collections.load([CollectionSettings("papers", tmp_path / "absent.faiss")])
    path = tmp_path / "binary.faiss"
    faiss.write_index_binary(faiss.IndexBinaryFlat(32), str(path))
    with pytest.raises(ConfigError, match="is a binary index"):
        Collections.load([CollectionSettings("papers", path)])


def test_metrics_that_qdrant_has_not_are_refused(tmp_path: Path) -> None:
    index = faiss.IndexFlat(DIM, faiss.METRIC_Canberra)
    index.add(VECTORS)
    with pytest.raises(ConfigError, match="a metric that Qdrant has not"):
        Collections.load([write_collection(tmp_path, index)])


@pytest.mark.parametrize(
    ("kind", "distance"),
    [
        ("SQ8", "Manhattan"),
        ("PQ4x4np", "Manhattan"),
        ("IVF4,PQ4x4np", "Manhattan"),
        ("PCA8,SQ8", "Manhattan"),
        ("PQ4x4np,RFlat", "Manhattan"),
        ("LSH", "Euclid"),
    ],
)
def test_an_index_that_is_not_searched_by_its_metric_is_refused(
    tmp_path: Path, kind: str, distance: str
) -> None:
    """Faiss gives inner products for L1, Hamming distances for L2, or raises at every query."""
    settings = write_collection(tmp_path, build_index(kind, VECTORS, distance))
    with pytest.raises(ConfigError, match="by another measure than the"):
        Collections.load([settings])


@pytest.mark.parametrize("kind", ["Flat", "HNSW8", "IVF4,Flat", "PCA8,Flat", "IDMap,Flat"])
def test_an_index_of_plain_vectors_is_served_by_l1(tmp_path: Path, kind: str) -> None:
    settings = write_collection(tmp_path, build_index(kind, VECTORS, "Manhattan"))
    assert Collections.load([settings])


@pytest.mark.parametrize("kind", ["Flat", "HNSW16", "SQfp16"])
@pytest.mark.parametrize("distance", ["Cosine", "Dot", "Euclid"])
def test_a_vector_that_is_no_vector_is_never_found(
    tmp_path: Path, kind: str, distance: str
) -> None:
    """Of an empty text, say: zeros by their length. What faiss never finds no scan finds first."""
    vectors = normalise(vectors_of(400, DIM)) if distance == "Cosine" else vectors_of(400, DIM)
    index = faiss.index_factory(DIM, kind, METRICS[distance])
    index.train(vectors)
    vectors[[7, 399]] = np.nan
    index.add(vectors)
    payloads = [{"part": number % 2} for number in range(400)]
    served = Collections.load([write_collection(tmp_path, index, payloads=payloads)])
    _, info = served_info(served)
    assert info["config"]["params"]["vectors"]["distance"] == distance
    odd = {"must": [{"key": "part", "match": {"value": 1}}]}
    for limit in (5, 200, 400):
        wanted = [each for each in found(served, vectors[3], 400, {}) if each[0] % 2][:limit]
        assert found(served, vectors[3], limit, {"filter": odd}) == wanted
        exact = found(served, vectors[3], limit, {"params": {"exact": True}})
        assert len(exact) == min(limit, 398)
    assert found(served, 7, 5, {}) == []


def served_info(served: Collections) -> tuple[int, Any]:
    status, body = ask(served, "GET", "/collections/papers")
    return status, body["result"]


def found(served: Collections, query: Any, limit: int, more: dict[str, Any]) -> list[Any]:
    """Query; give ids and scores, of which none may be missing."""
    asked = query if isinstance(query, int) else query.tolist()
    body = {"query": asked, "limit": limit, **more}
    status, answer = ask(served, "POST", "/collections/papers/points/query", body)
    assert status == 200, answer
    return [
        (each["id"], pytest.approx(each["score"], abs=1e-5)) for each in answer["result"]["points"]
    ]


def test_files_that_do_not_fit_the_index_are_refused(tmp_path: Path) -> None:
    flat, own = (
        build_index("Flat", VECTORS),
        build_index("IVF4,Flat", VECTORS, "Dot", [*range(7, 7 + N_ROWS)]),
    )
    with pytest.raises(ConfigError, match=r"has 2 ids, the index 1200 vectors"):
        Collections.load([write_collection(tmp_path, flat, ["a", "b"])])
    with pytest.raises(ConfigError, match="filled with numbers of its own"):
        Collections.load([write_collection(tmp_path, own, range(N_ROWS))])
    twice = build_index("IDMap,Flat", VECTORS, "Dot", [5] * N_ROWS)
    with pytest.raises(ConfigError, match="id 5 stands more than once"):
        Collections.load([write_collection(tmp_path, twice)])
    twice = build_index("IVF4,Flat", VECTORS, "Dot", [5] * N_ROWS)
    with pytest.raises(ConfigError, match="1 numbers stand twice, such as 5"):
        Collections.load([write_collection(tmp_path, twice)])


def test_without_faiss_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write_collection(tmp_path, build_index("Flat", VECTORS))
    plain_import = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "faiss":
            raise ImportError(name)
        return plain_import(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match="pip install faiss-cpu"):
        Collections.load([settings])
