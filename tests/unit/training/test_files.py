"""Files and folders that are put in place whole: what stood there stands until the new one does."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from trimtab_training.errors import ConfigError
from trimtab_training.files import beside, keep_others, new_matrix, swap_folder, write_whole


class CrashError(Exception):
    """The machine goes down."""


def crash(*_: object, **__: object) -> None:
    raise CrashError


def test_file_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for content in (b"old", b"new"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system takes no space ahead")
def test_matrix_has_its_space_before_it_is_written_to(tmp_path: Path) -> None:
    matrix = new_matrix(tmp_path / "m.npy", (1000, 256))
    found = (tmp_path / "m.npy").stat()
    assert found.st_blocks * 512 >= found.st_size > matrix.nbytes
    matrix[:] = 1
    assert np.load(tmp_path / "m.npy").sum() == 256_000


def test_matrix_without_space_is_an_error_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", is_full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        new_matrix(tmp_path / "m.npy", (10, 4))
    assert not list(tmp_path.iterdir())


def test_link_to_a_file_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("v3")
    for content in (b"old", b"new"):
        write_whole(tmp_path / "current", content)
        assert (tmp_path / "v3").read_bytes() == content
    assert (tmp_path / "current").is_symlink()


def test_crash_while_writing_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_whole(path, b"old")
    monkeypatch.setattr(os, "fsync", crash)  # all is written, and nothing is sure to be kept
    with pytest.raises(CrashError):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def folder_with(place: Path, content: str) -> Path:
    place.mkdir()
    (place / "model").write_text(content)
    return place


def test_crash_while_swapping_loses_neither_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder_with(tmp_path / "docs", "old")
    new = folder_with(tmp_path / "work", "new")
    rename = Path.rename

    def crash_at_the_new_one(path: Path, target: Path) -> Path:
        return crash() if path == new else rename(path, target)  # type: ignore[func-returns-value]

    monkeypatch.setattr(Path, "rename", crash_at_the_new_one)
    with pytest.raises(CrashError):
        swap_folder(new, place)
    kept = sorted(path.read_text() for path in tmp_path.rglob("model"))
    assert kept == ["new", "old"]


def test_older_folder_goes_once_the_new_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder_with(tmp_path / "docs", "old")
    new = folder_with(tmp_path / "work", "new")
    monkeypatch.setattr(shutil, "rmtree", crash)
    with pytest.raises(CrashError):
        swap_folder(new, place)
    assert (place / "model").read_text() == "new"
    monkeypatch.undo()
    swap_folder(folder_with(tmp_path / "work", "newest"), place)
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]
    assert (place / "model").read_text() == "newest"


def test_folder_is_back_where_the_swap_fails(tmp_path: Path) -> None:
    place = folder_with(tmp_path / "docs", "old")
    with pytest.raises(FileNotFoundError):
        swap_folder(tmp_path / "gone", place)
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]
    assert (place / "model").read_text() == "old"


@pytest.mark.parametrize("links", [True, False], ids=["hard-links", "no-hard-links"])
def test_what_others_keep_is_carried_over_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", unsupported)
    old, new = folder_with(tmp_path / "docs", "ours"), folder_with(tmp_path / "work", "new")
    folder_with(old / "notes", "mine").chmod(0o700)
    (old / "notes" / "link").symlink_to("model")
    (old / "gone").symlink_to("nowhere")
    for _ in range(2):  # the second time over what an interrupted run has left
        keep_others(old, new, {"model"})
    for folder, ours in ((old, "ours"), (new, "new")):
        assert (folder / "model").read_text() == ours
        assert (folder / "notes" / "model").read_text() == "mine"
        assert (folder / "notes" / "link").readlink() == Path("model")
        assert (folder / "gone").readlink() == Path("nowhere")
    assert (new / "notes").stat().st_mode == (old / "notes").stat().st_mode
    assert (old / "notes" / "model").samefile(new / "notes" / "model") == links


@pytest.mark.parametrize("exists", [True, False], ids=["to-a-folder", "to-nothing-yet"])
def test_link_to_a_folder_stays_and_what_it_points_to_is_replaced(
    tmp_path: Path, exists: bool
) -> None:
    (tmp_path / "far").mkdir()
    if exists:
        folder_with(tmp_path / "far" / "v3", "old")
    place = tmp_path / "current"
    place.symlink_to("far/v3")
    assert beside(place, "partial") == tmp_path.resolve() / "far" / ".v3.partial"
    for content in ("new", "newest"):
        swap_folder(folder_with(beside(place, "partial"), content), place)
        assert (tmp_path / "far" / "v3" / "model").read_text() == content
    assert place.readlink() == Path("far/v3")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["current", "far", "model", "v3"]


def test_link_that_a_crash_left_goes_and_not_what_it_points_to(tmp_path: Path) -> None:
    folder_with(tmp_path / "v3", "old")
    (tmp_path / ".docs.old").symlink_to("v3")
    swap_folder(folder_with(tmp_path / "work", "new"), tmp_path / "docs")
    assert (tmp_path / "v3" / "model").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "v3"]


def test_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to("docs")
    with pytest.raises(ConfigError, match="docs is a link to itself; name a folder"):
        beside(tmp_path / "docs", "partial")
