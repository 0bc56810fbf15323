"""The gRPC listener under hostile calls and bytes; benchmarks/hostile sends far more."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.grpc_upstream import connect, first, world
from tests.support.hostile.grpc_arena import GrpcArena, random_call
from tests.support.hostile.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    SHAPES,
    call_headers,
    frame,
)
from tests.support.hostile.stage import grpc_staged
from tests.support.ways import WAYS

SEED = 11
N_CALLS = 250
LANES = 4
WAIT_S = 30


def attack(way: str, folder: Path, work: Callable[[GrpcArena], Any]) -> None:
    """Do something to a sidecar; nothing may be wrong, and a plain query is adapted afterwards."""

    async def main() -> None:
        async with grpc_staged(folder, WAYS[way]) as (arena, sidecar):
            await work(arena)
            channel = arena.channel()
            await arena.check(channel)
            await channel.close()
            assert not arena.problems, arena.problems[:10]
            assert sidecar.process.poll() is None
            said = sidecar.log()
        assert "never awaited" not in said, said

    asyncio.run(main())


async def call_at_random(arena: GrpcArena) -> None:
    """Make calls of every kind over several connections."""
    waiting = iter(range(N_CALLS))

    async def lane() -> None:
        channel = arena.channel()
        for number in waiting:
            await arena.attack(channel, random_call(SEED, number))
        await channel.close()

    await asyncio.gather(*(lane() for _ in range(LANES)))
    assert arena.seen["arrived adapted"] > N_CALLS / 10


@pytest.mark.parametrize("way", ["grpc", "grpc, tls", "grpc, 2 workers"])
def test_no_call_arrives_as_another_or_gets_anothers_answer(tmp_path: Path, way: str) -> None:
    attack(way, tmp_path, call_at_random)


def test_bytes_that_are_no_grpc_harm_nobody_else(tmp_path: Path) -> None:
    async def knock(arena: GrpcArena) -> None:
        rng = random.Random(SEED)  # noqa: S311  # hostile, not secret
        for shape in SHAPES:
            await arena.knock(shape, rng)
            await arena.check_patiently()

    attack("grpc", tmp_path, knock)


def test_a_path_that_is_no_utf_8_does_not_end_the_listener() -> None:
    async def script(method: str, requests: Any, context: Any) -> None:
        await context.write(await first(requests))

    async def talk() -> None:
        async with world(script) as found, asyncio.timeout(WAIT_S):
            numbers = found.sidecar._state.telemetry.numbers
            for n_before in range(2):
                _, writer = await asyncio.open_connection("127.0.0.1", found.port)
                head = frame(HEADERS, END_HEADERS, 1, call_headers(b"/qdrant.Points/\xf8"))
                writer.write(PREFACE + frame(SETTINGS) + head)
                writer.write(frame(DATA, END_STREAM, 1, bytes(5)))
                await writer.drain()
                while numbers.get(("errors", "grpc", "listener_ended"), 0) == n_before:
                    await asyncio.sleep(0.01)
                writer.close()
                await writer.wait_closed()
                channel = connect(found.port)
                ask = channel.unary_unary("/qdrant.Points/Get")
                assert await ask(b"hello", wait_for_ready=True) == b"hello"
                await channel.close()

    asyncio.run(talk())
