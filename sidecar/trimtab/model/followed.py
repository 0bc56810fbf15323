"""A value that follows its file: looked at again and again, replaced whole or not at all.

How an adapter comes to a newer model without a restart. A look that fails, however it fails,
leaves the value in force, is counted, and is said once.
"""

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from trimtab.errors import ConfigError

logger = logging.getLogger(__name__)

T = TypeVar("T")

Stamp = tuple[int, ...]
"""What changes with a file."""

_OF_ONE_PROCESS = ("_looking", "_starting", "_ended", "_thread")


class Followed(Generic[T]):
    """A value read from a file; a thread reads it again once the file has changed.

    The thread ends with this object, or by :meth:`close`, at once. A process that was forked, or
    that this was sent to, has none until :meth:`stay_awake` is called there.

    Attributes:
        current: The value in force; replaced by one assignment.
        n_changes: How often another value came into force.
        n_failures: How many looks have failed.
        last_error: What the last look failed with; None once one succeeds.
    """

    def __init__(
        self, find: Callable[[], Path], read: Callable[[Path, T | None], T], *, interval_s: float
    ) -> None:
        """Read the value for the first time.

        Args:
            find: Gives the file, or raises where there is none.
            read: Reads and checks the file, given the value in force. Whatever it raises keeps that
                value; so does giving it back.
            interval_s: Seconds between two looks at the file.

        Raises:
            ConfigError: The interval is no positive number.
            Exception: What ``find`` and ``read`` raise.
        """
        if not 0 < interval_s < math.inf:
            raise ConfigError(f"the interval is {interval_s} s; expected a positive number")
        self._find, self._read, self._interval_s = find, read, interval_s
        self.n_changes = self.n_failures = 0
        self.last_error: str | None = None
        self._is_closed = False
        file = find()
        self._stamp: Stamp | None = stamp_of(file)
        self.current: T = read(file, None)
        self._arrive()

    def _arrive(self) -> None:
        """Make what belongs to this process, and do so again in every child that is forked."""
        self._prepare()
        _FOLLOWED.add(self)

    def _prepare(self) -> None:
        """Make locks and no thread; a child has no threads, and its locks may be held for ever."""
        self._looking, self._starting = threading.Lock(), threading.Lock()
        self._ended: SimpleQueue[None] = SimpleQueue()  # which a finalizer may put into
        weakref.finalize(self, self._ended.put, None)
        self._thread: threading.Thread | None = None

    def stay_awake(self) -> None:
        """Start the thread where none is running; costs next to nothing where one is."""
        thread = self._thread
        if (thread is not None and thread.is_alive()) or self._is_closed:
            return
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return
            arguments = (weakref.ref(self), self._ended, self._interval_s)
            thread = threading.Thread(
                target=_look_on, args=arguments, name="trimtab-follow", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is ending
                self._fail(error)
            else:
                self._thread = thread

    def look(self) -> bool:
        """Look at the file now; never raises.

        Returns:
            True where another value came into force.
        """
        with self._looking:
            try:
                return self._look()
            except Exception as error:  # whatever it is, the value in force stays
                self._fail(error)
                return False

    def _look(self) -> bool:
        """Read the file if it has changed; its stamp is taken first, so no change is missed."""
        file = self._find()
        stamp = stamp_of(file)
        value = self.current if stamp == self._stamp else self._read(file, self.current)
        self._stamp, self.last_error = stamp, None
        if value is self.current:
            return False
        self.current = value
        self.n_changes += 1
        logger.info("model reloaded", extra={"path": str(file), "changes": self.n_changes})
        return True

    def _fail(self, error: Exception) -> None:
        """Count a failure; say it, unless it is the last one again."""
        cause = " ".join(str(error).split()) or type(error).__name__
        self.n_failures += 1
        if cause != self.last_error:
            logger.warning("model not reloaded; the last one serves on", extra={"cause": cause})
        self.last_error = cause

    def close(self) -> None:
        """Look no more; the value in force stays."""
        self._is_closed = True
        self._ended.put(None)

    def __getstate__(self) -> dict[str, Any]:
        """Travel with the value in force, to look at the same path there."""
        kept = {name: held for name, held in self.__dict__.items() if name not in _OF_ONE_PROCESS}
        return {**kept, "_stamp": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive in another process, or as a copy."""
        self.__dict__.update(state)
        self._arrive()


def stamp_of(file: Path) -> Stamp:
    """Give what changes with a file, however it is replaced: in place, by a rename, by a link.

    Two models of one recipe are of one size, and out of an image or an archive of one time as well;
    a file system gives a number again as soon as it is free. The time of the last change of
    anything, which no writer can choose, tells them apart.

    Raises:
        OSError: There is no such file.
    """
    found = file.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _look_on(
    owner: "weakref.ref[Followed[Any]]", ended: "SimpleQueue[None]", interval_s: float
) -> None:
    """Look at every interval, until the owner is gone or closed."""
    while True:
        try:
            ended.get(timeout=interval_s)
        except Empty:
            followed = owner()
        else:
            return
        if followed is None:
            return
        followed.look()
        del followed  # asleep, the thread must not keep it


_FOLLOWED: "weakref.WeakSet[Followed[Any]]" = weakref.WeakSet()


def _prepare_all() -> None:
    """Prepare every one that a forked child has from its parent."""
    for followed in _FOLLOWED:
        followed._prepare()


if hasattr(os, "register_at_fork"):  # once: what is registered stays for good
    os.register_at_fork(after_in_child=_prepare_all)
