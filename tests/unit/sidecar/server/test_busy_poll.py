"""A worker stays awake through waits that have been short, and sleeps through the others."""

import asyncio
from collections.abc import Callable
from time import perf_counter

import pytest

from trimtab.server.busy_poll import FOR_ANSWER, FOR_REQUEST, BusyPoll

LONGEST_US = 60_000_000
SHORT_S, LONG_S = 1.0, 100.0
"""Of waits that only seem to take so long: far from the limit, whatever else the machine does."""
N_TURNS = 20


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often it looks for something to read without being ready to sleep."""

    n_looks = 0

    def call_soon(self, callback: Callable[..., object], *args: object, **more: object) -> object:  # type: ignore[override]
        """Count the looks."""
        if getattr(callback, "__name__", "") == "_look":
            self.n_looks += 1
        return super().call_soon(callback, *args, **more)  # type: ignore[call-overload]


def looks_after(waits: list[tuple[int, float]], last: int, longest_us: int = LONGEST_US) -> int:
    """Tell how often a worker looks while it waits, after waits of known lengths."""

    async def wait() -> int:
        poll = BusyPoll(longest_us)
        for waits_for, length in waits:
            now = perf_counter()
            poll.wait(waits_for, now - length)
            poll.arrived(now)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        loop.n_looks = 0
        poll.wait(last, perf_counter())
        for _ in range(N_TURNS):
            await asyncio.sleep(0)
        n_looks = loop.n_looks
        poll.arrived(perf_counter())
        await asyncio.sleep(0)
        return n_looks

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        return runner.run(wait())


def test_that_it_sleeps_at_first() -> None:
    assert looks_after([], FOR_REQUEST) == 0


def test_that_it_stays_awake_after_short_waits() -> None:
    assert looks_after([(FOR_REQUEST, SHORT_S)] * 8, FOR_REQUEST) > 1


def test_that_it_sleeps_after_long_waits() -> None:
    short, long = [(FOR_REQUEST, SHORT_S)] * 8, [(FOR_REQUEST, LONG_S)] * 8
    assert looks_after(short + long, FOR_REQUEST) == 0


def test_that_one_long_wait_among_short_ones_changes_nothing() -> None:
    waits = [(FOR_REQUEST, SHORT_S)] * 16 + [(FOR_REQUEST, LONG_S)]
    assert looks_after(waits, FOR_REQUEST) > 1


@pytest.mark.parametrize(("last", "is_awake"), [(FOR_REQUEST, True), (FOR_ANSWER, False)])
def test_that_answers_and_requests_are_told_apart(last: int, is_awake: bool) -> None:
    waits = [(FOR_REQUEST, SHORT_S), (FOR_ANSWER, LONG_S)] * 16
    assert (looks_after(waits, last) > 0) is is_awake


def test_that_0_switches_it_off() -> None:
    assert looks_after([(FOR_REQUEST, 0.0)] * 16, FOR_REQUEST, longest_us=0) == 0


def test_that_it_ends_with_what_it_waited_for() -> None:
    async def wait() -> int:
        poll = BusyPoll(10_000_000)
        for _ in range(16):
            poll.wait(FOR_REQUEST, perf_counter())
            poll.arrived(perf_counter())
        poll.wait(FOR_REQUEST, perf_counter())
        for _ in range(N_TURNS):
            await asyncio.sleep(0)
        poll.arrived(perf_counter())
        for _ in range(N_TURNS):
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        loop.n_looks = 0
        for _ in range(N_TURNS):
            await asyncio.sleep(0)
        return loop.n_looks

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert runner.run(wait()) == 0
