"""FAISS files that can end a process, or lie in two places, are read or refused."""

import shutil
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from tests.support.faiss_battery import put_lists_on_disk
from trimtab.errors import ConfigError
from trimtab.faiss_files import StoredVectors, open_index, trial
from trimtab.faiss_files.index_file import take_apart

DIM, N = 8, 60
ROWS = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)


def build(kind: str) -> Any:
    index = faiss.index_factory(DIM, kind)
    index.train(ROWS)
    index.add(ROWS)
    return index


def write_on_disk(folder: Path) -> Path:
    """An index whose lists are in a file of their own."""
    folder.mkdir()
    index = build("IVF2,Flat")
    put_lists_on_disk(index, folder / "lists.ivfdata")
    faiss.write_index(index, str(folder / "x.faiss"))
    return folder / "x.faiss"


def vectors(path: Path) -> np.ndarray:
    file = open_index(path)
    return StoredVectors(file).read(np.arange(len(file)))


def test_lists_on_disk_are_read_where_they_were_made(tmp_path: Path) -> None:
    np.testing.assert_array_equal(vectors(write_on_disk(tmp_path / "a")), ROWS)


def test_lists_on_disk_are_found_beside_an_index_that_was_moved(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_on_disk(tmp_path / "a").parent.rename(tmp_path / "b")
    capfd.readouterr()
    np.testing.assert_array_equal(vectors(tmp_path / "b/x.faiss"), ROWS)
    assert capfd.readouterr().out == "", "faiss itself would write on stdout"


def test_a_copy_of_the_lists_beside_the_index_is_no_riddle(tmp_path: Path) -> None:
    shutil.copytree(write_on_disk(tmp_path / "a").parent, tmp_path / "b")
    np.testing.assert_array_equal(vectors(tmp_path / "b/x.faiss"), ROWS)


def test_other_lists_of_the_same_name_are_refused(tmp_path: Path) -> None:
    shutil.copytree(write_on_disk(tmp_path / "a").parent, tmp_path / "b")
    lists = tmp_path / "a/lists.ivfdata"
    lists.write_bytes(bytes(reversed(lists.read_bytes())))
    with pytest.raises(ConfigError, match="same size and other content; remove the one"):
        open_index(tmp_path / "b/x.faiss")


def test_lists_that_are_gone_or_cut_short_are_named(tmp_path: Path) -> None:
    path = write_on_disk(tmp_path / "a")
    lists = tmp_path / "a/lists.ivfdata"
    lists.write_bytes(lists.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"lists\.ivfdata, the inverted lists of .*cut short"):
        open_index(path)
    lists.unlink()
    with pytest.raises(ConfigError, match=r"not there, nor is lists\.ivfdata beside the index"):
        open_index(path)


def test_an_index_without_its_lists_or_vectors_is_refused(tmp_path: Path) -> None:
    bare, path = build("IVF2,Flat"), tmp_path / "x.faiss"
    bare.own_invlists, bare.invlists = False, None
    faiss.write_index(bare, str(path))
    with pytest.raises(ConfigError, match="written without its inverted lists"):
        open_index(path)
    faiss.write_index(build("HNSW8"), str(path), faiss.IO_FLAG_SKIP_STORAGE)
    with pytest.raises(ConfigError, match="written without its vectors"):
        open_index(path)


@pytest.mark.parametrize("beyond", [0, 10**6])
def test_a_graph_that_leads_nowhere_is_refused(tmp_path: Path, beyond: int) -> None:
    index = build("HNSW8")
    links = faiss.rev_swig_ptr(index.hnsw.neighbors.data(), index.hnsw.neighbors.size())
    links[:] = N + beyond
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    with pytest.raises(ConfigError, match=r"x\.faiss"):
        open_index(tmp_path / "x.faiss")
    # The installed faiss looks at the links that it reads; older ones follow them.
    with pytest.raises(ConfigError, match=r"x\.faiss: its graph has links to vectors that are not"):
        trial._check_graph(faiss, take_apart(index, Path("x.faiss")), Path("x.faiss"))


def test_a_graph_that_begins_nowhere_is_refused() -> None:
    index = build("HNSW8")
    index.hnsw.entry_point = N
    with pytest.raises(ConfigError, match=r"x\.faiss: its graph begins at a vector that is not"):
        trial._check_graph(faiss, take_apart(index, Path("x.faiss")), Path("x.faiss"))


def test_an_id_map_that_no_longer_fits_is_refused(tmp_path: Path) -> None:
    index = faiss.index_factory(DIM, "IDMap,IVF2,Flat")
    index.train(ROWS)
    index.add_with_ids(ROWS, np.arange(N) + 1000)
    index.remove_ids(np.array([1003]))
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    with pytest.raises(ConfigError, match="id map does not fit the IndexIVFFlat under it"):
        open_index(tmp_path / "x.faiss")


def test_a_file_that_ends_the_child_is_refused_by_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faiss.write_index(build("IVF2,Flat"), str(tmp_path / "x.faiss"))
    deadly = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(trial, "_START", deadly)
    with pytest.raises(ConfigError, match=r"a process that tried it was ended by SIGSEGV; write"):
        open_index(tmp_path / "x.faiss")


def test_flat_indexes_need_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_START", "raise SystemExit(1)")
    for kind in ("Flat", "IDMap,Flat", "IDMap2,Flat"):
        index = faiss.index_factory(DIM, kind, faiss.METRIC_L1)  # a metric with an argument
        index.add(ROWS) if kind == "Flat" else index.add_with_ids(ROWS, np.arange(N))
        faiss.write_index(index, str(tmp_path / "x.faiss"))
        assert len(open_index(tmp_path / "x.faiss")) == N
