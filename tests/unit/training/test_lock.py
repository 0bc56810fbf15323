"""One run at a time into one place; a dead one is in nobody's way."""

import builtins
import errno
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from trimtab_training import lock
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.lock import hold, locked

HOLDER = """
import sys
from pathlib import Path
from trimtab_training.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(place: Path) -> subprocess.Popen[str]:
    """Hold a place in a process of its own; returns once it is held."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_second_run_is_refused_with_a_way_out_and_the_next_one_not(tmp_path: Path) -> None:
    place = tmp_path / "models" / "docs"
    message = r"another run writes to .*docs; wait for it, or choose another -o"
    with locked(place), pytest.raises(DataError, match=message), locked(place):
        pytest.fail("both were let in")
    with locked(place):
        assert [file.name for file in place.parent.iterdir()] == [".docs.lock"]
    assert list(place.parent.iterdir()) == []


@pytest.mark.parametrize("is_taken", [False, True])
def test_what_a_crash_left_beside_the_place_is_put_back(tmp_path: Path, is_taken: bool) -> None:
    place, old = tmp_path / "docs", tmp_path / ".docs.old"
    for folder in (old, *([place] if is_taken else [])):
        folder.mkdir()
        (folder / "notes.md").write_text(folder.name)
    with locked(place):
        assert (place / "notes.md").read_text() == ("docs" if is_taken else ".docs.old")
    assert old.exists() == is_taken


def test_link_and_the_folder_that_it_points_to_are_one_place(tmp_path: Path) -> None:
    (tmp_path / "v3").mkdir()
    (tmp_path / "current").symlink_to("v3")
    with (
        locked(tmp_path / "current"),
        pytest.raises(DataError, match=r"another run writes to .*v3"),
        locked(tmp_path / "v3"),
    ):
        pytest.fail("both were let in")


def test_other_places_are_free(tmp_path: Path) -> None:
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        pass


def test_killed_process_holds_nothing(tmp_path: Path) -> None:
    holder = start_holder(tmp_path / "docs")
    with pytest.raises(DataError, match="another run"), locked(tmp_path / "docs"):
        pass
    holder.kill()
    holder.communicate()
    assert (tmp_path / ".docs.lock").exists()
    with locked(tmp_path / "docs"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_lock_is_free_after_a_failure_inside(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "docs"):
        _ = 1 / 0
    with locked(tmp_path / "docs"):
        pass


def test_file_removed_by_the_run_before_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def lock_late(file: object) -> None:
        taken.append(file)
        if len(taken) == 1:  # the run before ends here: between opening and locking
            (tmp_path / ".docs.lock").unlink()

    monkeypatch.setattr(lock, "_lock", lock_late)
    with locked(tmp_path / "docs"):
        assert len(taken) == 2
        assert (tmp_path / ".docs.lock").exists()


@pytest.mark.parametrize("place", [".", "..", "models/.."])
def test_place_without_a_name_is_one_line(place: str) -> None:
    with pytest.raises(ConfigError, match="name a folder"), locked(Path(place)):
        pass


def test_place_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="can't write to"), locked(tmp_path / "file" / "docs"):
        pass


def test_file_system_without_locks_is_warned_of_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(_file: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", unsupported)
    with caplog.at_level(logging.WARNING), locked(tmp_path / "docs"):
        pass
    assert "knows no locks" in caplog.text


def test_other_errors_of_the_system_are_not_taken_for_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_file: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lock, "_lock", broken)
    with (
        (tmp_path / "file").open("ab") as file,
        pytest.raises(OSError, match="Input/output error"),
    ):
        hold(file, tmp_path, "wait")


def test_windows_locks_a_byte_behind_the_file_and_removes_it_once_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []
    windows = SimpleNamespace(LK_NBLCK=2, locking=lambda _fd, mode, n: calls.append((mode, n)))
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    found = builtins.__import__

    def without_fcntl(name: str, *more: object) -> object:
        if name == "fcntl":
            raise ModuleNotFoundError("No module named 'fcntl'", name="fcntl")
        return found(name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_fcntl)
    monkeypatch.setattr(sys, "platform", "win32")
    spec = importlib.util.spec_from_file_location("lock_of_windows", lock.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.locked(tmp_path / "docs"):
        assert calls == [(2, 1)]
    assert list(tmp_path.iterdir()) == []
