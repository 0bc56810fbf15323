"""Writing so that no reader, and no crash, ever meets half of a file or a folder."""

import errno
import os
import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from trimtab_training.errors import ConfigError, DataError

_SHOWN = 3


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that no reader, and no crash, ever meets half of it; a link stays a link."""
    path = real_place(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def new_matrix(target: Path, shape: tuple[int, int]) -> "np.memmap[Any, np.dtype[np.float32]]":
    """Make a float32 ``.npy`` file to write into through memory, all of its disk space taken.

    Without that, a disk that fills up ends the process by a signal (SIGBUS) while it writes.

    Raises:
        OSError: There is too little space; nothing is left.
    """
    matrix = np.lib.format.open_memmap(target, mode="w+", dtype=np.float32, shape=shape)
    try:
        with target.open("r+b") as file:
            take_space(file.fileno(), target.stat().st_size)
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise
    return matrix


def take_space(file: int, size: int) -> None:
    """Take the disk space of an open file, where the system can say so at once.

    Raises:
        OSError: There is too little.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS and Windows
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:  # not all file systems can
            raise


def real_place(place: Path) -> Path:
    """Give the place that a path stands for: where it is a link, what it points to.

    Raises:
        ConfigError: Links go round in a circle.
    """
    if not place.is_symlink():
        return place
    real = Path(os.path.realpath(place))
    if real.is_symlink():
        raise ConfigError(f"{place} is a link to itself; name a folder")
    return real


def beside(place: Path, ending: str) -> Path:
    """Name what stands beside a folder while it is made, on the same disk also behind a link.

    Raises:
        ConfigError: The folder has no name of its own.
    """
    real = real_place(place)
    if real.name in {"", ".."}:
        raise ConfigError(f"{place} has no name of its own; name a folder, such as models/docs")
    return real.with_name(f".{real.name}.{ending}")


def make_parent(place: Path) -> None:
    """Make the folder that a place is in, before hours are spent on what would go there.

    Raises:
        ConfigError: There can be no such folder.
    """
    parent = real_place(place).parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"can't make {parent}: {error.strerror}") from error


def refuse_mount(place: Path) -> None:
    """Refuse to replace a mount point, such as a Docker volume, or a folder that one is in.

    A bind mount within one disk can't be told from a folder, and fails at the swap.

    Args:
        place: The folder, whether it is there already or not.

    Raises:
        ConfigError: It is one, or holds one.
    """
    real = real_place(place)
    if os.path.ismount(real):
        raise ConfigError(
            f"{place} is a mount point, which can't be replaced; name a folder in it, such as "
            f"{place / 'docs'}"
        )
    for item in real.iterdir() if real.is_dir() else []:
        if os.path.ismount(item):
            raise ConfigError(
                f"{item} is a mount point, which can't go when {place} is replaced; name another "
                "folder"
            )


def swap_folder(new: Path, place: Path) -> None:
    """Put a finished folder in its place; an older one there goes once the new one stands.

    Where that fails, the older one is back in its place.

    Args:
        new: The folder, on the same disk: such as one that :func:`beside` names.
        place: Where it goes. A link there stays, and what it points to is replaced.
    """
    place = real_place(place)
    old = beside(place, "old")
    _remove(old)
    if place.exists():
        place.rename(old)
    try:
        new.rename(place)
    except BaseException:
        bring_back(place)
        raise
    _remove(old)


def bring_back(place: Path) -> None:
    """Put an older folder back that a crash left beside its place, between two renames.

    What others keep in it is there alone.

    Args:
        place: Where it stood; a place that is taken stays as it is.
    """
    place, old = real_place(place), beside(place, "old")
    if old.is_dir() and not old.is_symlink() and not place.exists():
        old.rename(place)


def empty(folder: Path) -> Path:
    """Make a folder, without what an interrupted run left in it."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def keep_others(folder: Path, new: Path, ours: Collection[str]) -> None:
    """Carry over what others keep in a folder that is about to be replaced.

    There it stays, too, whatever happens until the swap: files are hard links where the disk knows
    them, which take no time and no space, and copies elsewhere.

    Args:
        folder: The old folder, if there is one.
        new: The folder that replaces it.
        ours: Names that are replaced.
    """
    for item in folder.iterdir() if folder.is_dir() else []:
        if item.name in ours:
            continue
        copy = new / item.name
        _remove(copy)  # of a run that was interrupted here
        if item.is_dir() and not item.is_symlink():
            copy.mkdir()
            keep_others(item, copy, ())
            shutil.copystat(item, copy)
        else:
            _link(item, copy)


def refuse_loss(folder: Path, names: Iterable[str]) -> None:
    """Refuse to replace a folder in which something stands that no run of ours made.

    Args:
        folder: The folder.
        names: What stands there.

    Raises:
        DataError: Something does, by the first names.
    """
    if found := sorted(names):
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise DataError(
            f"{folder} holds {', '.join(found[:_SHOWN])}{more}, which would be lost; move that, or "
            "name another folder"
        )


def _link(file: Path, target: Path) -> None:
    """Make a hard link to a file, or a copy where there can be none; a symbolic link is copied."""
    if not file.is_symlink():
        with suppress(OSError):
            target.hardlink_to(file)
            return
    shutil.copy2(file, target, follow_symlinks=False)


def _remove(path: Path) -> None:
    """Take away a folder, a file or a link, if there is one; never what a link points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
