"""One run at a time into one place: a lock that goes with its process, however that ends.

The system holds it on an open file, so a run that was killed, or whose machine went down, leaves
no lock behind. What the file says is for people alone.
"""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from trimtab_training.errors import ConfigError, DataError
from trimtab_training.files import beside, bring_back

logger = logging.getLogger(__name__)

_FAR = 1 << 30  # Windows keeps readers from a locked byte: one far behind all that is written
_TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def locked(place: Path, way_out: str = "wait for it, or choose another -o") -> Iterator[None]:
    """Hold a folder that is being made, for this run alone.

    The lock is a file beside the folder, ``.NAME.lock``, which is removed when the run ends. A link
    and the folder that it points to are one place. An older folder that a crash has left beside
    the place is put back first.

    Args:
        place: The folder, whether it is there already or not.
        way_out: What the user of a second run can do.

    Raises:
        ConfigError: There can be no such folder.
        DataError: Another run holds it.
    """
    path = beside(place, "lock")
    file = _take(path, place, way_out)
    try:
        bring_back(place)
        yield
    finally:
        _release(file, path)


def hold(file: BinaryIO, place: Path, way_out: str) -> None:
    """Lock an open file until it is closed; where the file system knows no locks, warn.

    Args:
        file: Open for writing.
        place: What it stands for, for the message.
        way_out: What the user of a second run can do.

    Raises:
        DataError: Another run holds it.
    """
    try:
        _lock(file)
    except OSError as error:
        if error.errno in _TAKEN:
            raise DataError(f"another run writes to {place}; {way_out}") from error
        if error.errno not in _UNSUPPORTED:
            raise
        logger.warning(
            "this file system knows no locks: keep a second run away yourself",
            extra={"path": str(place)},
        )


if sys.platform == "win32":

    def _lock(file: BinaryIO) -> None:
        """Lock one byte, or raise at once."""
        import msvcrt

        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:

    def _lock(file: BinaryIO) -> None:
        """Lock the file, or raise at once."""
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _take(path: Path, place: Path, way_out: str) -> BinaryIO:
    """Open and lock the file; again where the run before has removed it between the two."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise ConfigError(f"can't write to {path.parent}: {error.strerror}") from error
        try:
            hold(file, place, way_out)
            if _is_at(file, path):
                file.truncate(0)
                file.write(f"{os.getpid()}\n".encode())
                file.flush()
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Tell whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _release(file: BinaryIO, path: Path) -> None:
    """Remove the file while it is locked; where that can't be (Windows), right after."""
    with suppress(OSError):
        path.unlink()
    file.close()
    if sys.platform == "win32":
        with suppress(OSError):  # a run that waits for nothing has opened it: it removes it
            path.unlink()
