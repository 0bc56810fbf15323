"""A limit of time counts once what lies in the sockets is read."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop

from trimtab.time_limits import read_what_has_come, timeout, wait_for

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
HELD_S = 0.1


@contextlib.contextmanager
def arriving(loop: asyncio.AbstractEventLoop) -> Iterator[asyncio.Future[bytes]]:
    """Give what arrives at a socket of the loop's while the loop is held up."""
    found: asyncio.Future[bytes] = loop.create_future()
    near, far = socket.socketpair()
    work, worker = socket.socketpair()

    def hold_up() -> None:  # called as the loop reads, so that timers come next
        loop.remove_reader(work)
        far.sendall(b"in time")
        time.sleep(2 * HELD_S)

    with near, far, work, worker:
        loop.add_reader(near, lambda: found.set_result(near.recv(100)))
        loop.add_reader(work, hold_up)
        worker.sendall(b"work")
        yield found
        loop.remove_reader(near)


@pytest.mark.parametrize("make_loop", LOOPS)
def test_what_came_while_the_loop_was_held_up_came_in_time(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def read() -> bytes:
        with arriving(asyncio.get_running_loop()) as found:
            async with timeout(HELD_S):
                return await found

    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(read()) == b"in time"


@pytest.mark.parametrize("make_loop", LOOPS)
def test_work_that_was_done_while_the_loop_was_held_up_was_done_in_time(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def work() -> bytes:
        with arriving(asyncio.get_running_loop()) as found:

            async def read() -> bytes:
                return await found

            return await wait_for(read(), HELD_S)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(work()) == b"in time"


def test_work_that_is_not_done_is_cancelled_and_its_own_errors_are_raised() -> None:
    ended = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def fail() -> None:
        raise TimeoutError("its own")

    async def both() -> None:
        with pytest.raises(TimeoutError):
            await wait_for(never(), 0.01)
        with pytest.raises(TimeoutError, match="its own"):
            await wait_for(fail(), 10)
        await asyncio.sleep(0)
        waiting = asyncio.create_task(wait_for(never(), 10))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)

    asyncio.run(both())
    assert ended == ["cancelled", "cancelled"]


@pytest.mark.parametrize("make_loop", LOOPS)
def test_what_has_come_is_read_before_somebody_looks(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def look() -> bool:
        with arriving(asyncio.get_running_loop()) as found:
            await asyncio.sleep(HELD_S)
            await read_what_has_come()
            return found.done()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(look())


@pytest.mark.parametrize("make_loop", LOOPS)
def test_what_never_comes_is_given_up(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def wait(seconds: float | None) -> None:
        async with timeout(seconds):
            await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        with pytest.raises(TimeoutError):
            runner.run(wait(0.01))
        with pytest.raises(TimeoutError):  # None sets no limit: another one ends it
            runner.run(asyncio.wait_for(wait(None), 0.01))


def test_a_block_that_is_done_in_time_is_not_ended_later() -> None:
    async def twice() -> str:
        async with timeout(0.01):
            pass
        await asyncio.sleep(0.05)
        return "went on"

    assert asyncio.run(twice()) == "went on"
