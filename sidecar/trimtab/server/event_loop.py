"""The event loop that serves, and what ends it: uvloop and signals, and Windows' ways instead."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable

from trimtab.errors import MissingExtraError


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of uvloop's; of asyncio's own on Windows, where there is no uvloop.

    Raises:
        MissingExtraError: uvloop is not installed where it could be.
    """
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    try:
        import uvloop
    except ImportError as error:
        raise MissingExtraError("trimtab serve needs: pip install 'trimtab[server]'") from error
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def on_signal(name: str, act: Callable[[], None]) -> None:
    """Have the running loop act on a signal, if the system knows it.

    Args:
        name: Such as ``SIGHUP``, which Windows has not.
        act: Called in the loop.
    """
    number = getattr(signal, name, None)
    if number is None:
        return
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, act)
    except NotImplementedError:  # Windows' loop: its handlers are called between byte codes
        signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(act))


def ignore_signal(name: str) -> None:
    """Ignore a signal, if the system knows it and this is the main thread."""
    number = getattr(signal, name, None)
    if number is not None:
        with contextlib.suppress(ValueError):
            signal.signal(number, signal.SIG_IGN)
