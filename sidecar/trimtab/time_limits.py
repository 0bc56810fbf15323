"""Limits of time that blame nobody for the time that this process has lost.

uvloop calls what a timer wakes before it reads. A process that was held up, as where the machine
slept or had too much to do, would take for late what lies in its sockets already.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

Done = TypeVar("Done")

_ROUNDS = 3
"""Of the loop, before a limit counts: one accepts, one reads, and one to spare."""


async def read_what_has_come() -> None:
    """Have the running loop look at its sockets before anybody is judged by the time."""
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def timeout_at(when: float) -> AsyncIterator[None]:
    """Limit a block as :func:`asyncio.timeout_at` does, once what has come is read.

    Args:
        when: By the running loop's clock.

    Raises:
        TimeoutError: The block was not done.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        waiting: list[asyncio.Handle] = []

        def count_down(n_rounds: int) -> None:
            if n_rounds:
                waiting[:] = [loop.call_soon(count_down, n_rounds - 1)]
            else:
                limit.reschedule(loop.time())

        waiting.append(loop.call_at(when, count_down, _ROUNDS))
        try:
            yield
        finally:
            waiting[0].cancel()


@contextlib.asynccontextmanager
async def timeout(seconds: float | None) -> AsyncIterator[None]:
    """Limit a block as :func:`asyncio.timeout` does, once what has come is read.

    Args:
        seconds: From now on; None sets no limit.

    Raises:
        TimeoutError: The block was not done.
    """
    if seconds is None:
        yield
        return
    async with timeout_at(asyncio.get_running_loop().time() + seconds):
        yield


async def wait_for(work: Coroutine[Any, Any, Done], seconds: float) -> Done:
    """Wait for work as :func:`asyncio.wait_for` does, once what has come is read.

    Raises:
        TimeoutError: It was not done, and is cancelled.
    """
    task = asyncio.create_task(work)
    try:
        async with timeout(seconds):
            return await asyncio.shield(task)
    except TimeoutError:
        if task.done():
            return task.result()  # or its own error, which may be of the same type
        raise
    finally:
        task.cancel()
