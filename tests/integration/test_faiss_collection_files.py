"""FAISS index files that can't be served are refused at start, in one line."""

import builtins
from pathlib import Path
from typing import Any

import faiss
import pytest

from tests.support.faiss_collections import build_index, vectors_of, write_collection
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


@pytest.mark.parametrize("kind", ["Flat", "IVF4,Flat", "IVF4,PQ4x4", "L2norm,IVF4,SQ8", "HNSW8"])
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
