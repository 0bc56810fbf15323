"""The loop that serves, on systems that lack what Linux has."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable

import pytest

from trimtab.addresses import Address
from trimtab.errors import ConfigError, MissingExtraError
from trimtab.server import busy_poll
from trimtab.server.event_loop import ignore_signal, new_event_loop, on_signal
from trimtab.server.process.worker import open_socket


def kind_of_loop() -> str:
    loop = new_event_loop()
    loop.close()
    return type(loop).__module__.partition(".")[0]


def test_loop_is_uvloop_s() -> None:
    assert kind_of_loop() == "uvloop"


def test_loop_is_asyncio_s_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    monkeypatch.setattr(sys, "platform", "win32")
    assert kind_of_loop() == "asyncio"


def test_missing_extra_is_named_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(MissingExtraError, match=r"trimtab\[server\]"):
        new_event_loop()


class WindowsLoop(asyncio.SelectorEventLoop):
    """A loop that knows no signals."""

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: object) -> None:  # type: ignore[override]
        raise NotImplementedError


@pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, WindowsLoop])
def test_signal_is_acted_on_in_any_loop(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def wait() -> None:
        told = asyncio.Event()
        on_signal("SIGTERM", told.set)
        os.kill(os.getpid(), signal.SIGTERM)
        await told.wait()

    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(wait())
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signal_that_the_system_lacks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    on_signal("SIGHUP", lambda: None)
    ignore_signal("SIGHUP")


def test_system_without_shared_ports_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(ConfigError, match="use one worker"):
        open_socket(Address("127.0.0.1", 0), shares_port=True)
    open_socket(Address("127.0.0.1", 0), shares_port=False).close()


def test_busy_poll_gives_way_without_sched_yield(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_poll, "_CAN_YIELD", False)
    monkeypatch.delattr(os, "sched_yield")

    async def wait() -> bool:
        poll = busy_poll.BusyPoll(60_000_000)
        for _ in range(16):
            poll.wait(busy_poll.FOR_REQUEST, 0.0)
            poll.arrived(0.0)
        poll.wait(busy_poll.FOR_REQUEST, busy_poll.perf_counter())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        is_awake = poll._is_awake
        poll.arrived(busy_poll.perf_counter())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return is_awake

    assert asyncio.run(wait())
