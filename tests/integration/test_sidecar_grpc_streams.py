"""gRPC streams through the sidecar, before a server that a test scripts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.support.grpc_upstream import connect, serve, world
from tests.support.sidecar_grpc import settings_for, start
from trimtab.server.grpc.relay import _whole

WAIT_S = 60
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, RST_STREAM, END_STREAM = 0, 3, 1
HEAD = (("date", "today"), ("x-head-bin", b"\x00\xff"))
TAIL = (("x-tail", "2"), ("grpc-status-details-bin", b"\x08\x05\xfe"))


def test_messages_stream_both_ways_as_they_come() -> None:
    async def script(name: str, requests: Any, context: Any) -> None:
        await context.send_initial_metadata(HEAD)
        async for message in requests:
            await context.write(message.upper())
        await context.write(b"end")
        context.set_trailing_metadata(TAIL)

    async def talk() -> None:
        async with world(script) as found:
            call = found.through.stream_stream("/qdrant.StorageRead/Read")()
            assert set(HEAD) <= set(tuple(await call.initial_metadata()))
            for word in (b"a", b"", b"c"):
                await call.write(word)
                assert await call.read() == word.upper()
            await call.done_writing()
            assert [message async for message in _rest(call)] == [b"end"]
            assert set(TAIL) <= set(tuple(await call.trailing_metadata()))

    asyncio.run(talk())


async def _rest(call: Any) -> Any:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


def test_a_stream_that_qdrant_ends_early_ends_at_once() -> None:
    async def script(name: str, requests: Any, context: Any) -> None:
        await context.write(await anext(aiter(requests)))
        await context.abort(grpc.StatusCode.ABORTED, "enough")

    async def talk() -> None:
        async with world(script) as found:
            call = found.through.stream_stream("/qdrant.StorageRead/Read")()
            await call.write(b"one")
            assert await call.read() == b"one"
            with pytest.raises(grpc.aio.AioRpcError, match="enough"):
                await call.read()
            assert await call.code() is grpc.StatusCode.ABORTED

    asyncio.run(talk())


def test_a_stream_that_is_given_up_never_looks_complete() -> None:
    frames: list[tuple[int, int]] = []
    reset, closed = asyncio.Event(), asyncio.Event()

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass HTTP/2 on, noting the kind and the flags of every frame: RFC 9113, 4.1."""
        writer.write(await reader.readexactly(len(PREFACE)))
        while head := await reader.read(1):
            head += await reader.readexactly(8)
            writer.write(head + await reader.readexactly(int.from_bytes(head[:3], "big")))
            frames.append((head[3], head[4]))
            if head[3] == RST_STREAM:
                reset.set()

    async def talk() -> None:
        upstream, upstream_port = await serve(_echo_all)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
            back = asyncio.create_task(_copy(far_reader, writer))
            await record(reader, far_writer)
            far_writer.close()
            await far_writer.wait_closed()
            await back
            closed.set()

        between = await asyncio.start_server(connected, "127.0.0.1", 0)
        port_between = between.sockets[0].getsockname()[1]
        sidecar, port = await start(settings_for(port_between))
        channel = connect(port)
        for _ in range(30):
            reset.clear()
            call = channel.stream_stream("/qdrant.StorageRead/Write")()
            await call.write(b"part")
            assert await call.read() == b"part"
            call.cancel()
            await asyncio.wait_for(reset.wait(), WAIT_S)
        await channel.close()
        await sidecar.drain(0)
        await asyncio.wait_for(closed.wait(), WAIT_S)
        between.close()
        await upstream.stop(0)

    asyncio.run(talk())
    assert [kind for kind, flags in frames if kind == DATA and flags & END_STREAM] == []


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
    writer.close()
    await writer.wait_closed()


async def _echo_all(name: str, requests: Any, context: Any) -> None:
    async for message in requests:
        await context.write(message)


def test_a_caller_who_gives_up_is_told_from_one_who_is_done_also_later() -> None:
    async def nothing_more() -> AsyncIterator[bytes]:
        yield b"part"

    async def run() -> None:
        async def send() -> list[bytes]:
            return [message async for message in _whole(nothing_more())]

        sending = asyncio.create_task(send())
        for _ in range(10):  # turns that whoever says so needs on a busy machine
            await asyncio.sleep(0.001)
        sending.cancel()
        await asyncio.wait([sending])
        assert sending.cancelled()

    asyncio.run(run())
