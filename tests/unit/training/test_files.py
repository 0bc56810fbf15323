"""Files and folders that are put in place whole: what stood there stands until the new one does."""

import os
import shutil
from pathlib import Path

import pytest

from trimtab_training.files import swap_folder, write_whole


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


def test_crash_while_writing_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_whole(path, b"old")
    monkeypatch.setattr(os, "fsync", crash)  # all is written, and nothing is sure to be kept
    with pytest.raises(CrashError):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
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
