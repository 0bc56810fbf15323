"""gRPC calls through the sidecar, before a server that a test scripts: nothing changes."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from qdrant_client import grpc as messages

from tests.support.grpc_upstream import World, connect, first, world

METHODS = ["/qdrant.Points/Get", "/qdrant.Points/Query", "/qdrant.Points/Upsert", "/new.Thing/Do"]
QUERY = messages.QueryPoints(collection_name="docs").SerializeToString()
WAIT_S = 60
HEAD = (("date", "today"), ("x-head-bin", b"\x00\xff"))
TAIL = (("x-tail", "2"), ("x-tail", "3"), ("grpc-status-details-bin", b"\x08\x05\xfe"))


async def told(call: Any) -> tuple[Any, ...]:
    """All that a caller is told by a call with one message each way."""
    try:
        answer = await call
    except grpc.aio.AioRpcError:
        answer = None
    return (
        answer,
        await call.code(),
        await call.details(),
        tuple(await call.initial_metadata()),
        tuple(await call.trailing_metadata()),
    )


async def both(world: World, method: str, **more: Any) -> tuple[Any, ...]:
    """What is told of a call, the same direct and through the sidecar."""
    direct = await told(world.direct.unary_unary(method)(QUERY, **more))
    assert await told(world.through.unary_unary(method)(QUERY, **more)) == direct
    return direct


@pytest.mark.parametrize("method", METHODS)
def test_answers_pass_with_all_their_metadata(method: str) -> None:
    async def script(name: str, requests: Any, context: Any) -> None:
        assert (name, await first(requests)) == (method, QUERY)
        await context.send_initial_metadata(HEAD)
        await context.write(b"answer")
        context.set_trailing_metadata(TAIL)

    async def compare() -> None:
        async with world(script) as found:
            answer, code, _, head, tail = await both(found, method)
            assert (answer, code) == (b"answer", grpc.StatusCode.OK)
            assert set(HEAD) <= set(head)
            assert set(TAIL) <= set(tail)

    asyncio.run(compare())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("has_head", [True, False])
def test_a_status_passes_with_its_details(method: str, has_head: bool) -> None:
    async def script(name: str, requests: Any, context: Any) -> None:
        await first(requests)
        if has_head:
            await context.send_initial_metadata(HEAD)
        await context.abort(grpc.StatusCode.NOT_FOUND, "no `dócs` here: 100 %", TAIL)

    async def compare() -> None:
        async with world(script) as found:
            _, code, details, _, tail = await both(found, method)
            assert (code, details) == (grpc.StatusCode.NOT_FOUND, "no `dócs` here: 100 %")
            assert set(TAIL) <= set(tail)

    asyncio.run(compare())


def test_every_status_code_passes() -> None:
    codes = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]

    async def script(name: str, requests: Any, context: Any) -> None:
        await first(requests)
        await context.abort(grpc.StatusCode[name.rpartition("/")[2]], "")

    async def compare() -> None:
        async with world(script) as found:
            for code in codes:
                assert (await both(found, f"/any.Service/{code.name}"))[1] is code

    asyncio.run(compare())


@pytest.mark.parametrize("method", METHODS)
def test_metadata_of_the_caller_reach_qdrant(method: str) -> None:
    sent = (
        ("api-key", "only-for-tests"),
        ("authorization", "Bearer only-for-tests"),
        ("openai-api-key", "another"),
        ("host", "a-name"),
        ("grpc-new", "1"),
        ("accept-encoding", "gzip"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-qdrant-route-affinity", "a"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("x-raw-bin", b"\x00\x01\xfe"),
    )
    seen = []

    async def script(name: str, requests: Any, context: Any) -> None:
        await first(requests)
        metadata = sorted(context.invocation_metadata(), key=str)
        seen.append([pair for pair in metadata if pair[0] != "user-agent"])
        await context.write(b"")

    async def compare() -> None:
        async with world(script) as found:
            await both(found, method, metadata=sent)

    asyncio.run(compare())
    assert seen[0] == seen[1]
    assert set(sent) <= set(seen[0])


def test_long_metadata_pass_both_ways() -> None:
    token = "t" * 30_000

    async def script(name: str, requests: Any, context: Any) -> None:
        await first(requests)
        assert ("authorization", token) in tuple(context.invocation_metadata())
        await context.write(b"")

    async def compare() -> None:
        async with world(script) as found:
            call = found.through.unary_unary(METHODS[0])
            assert await call(QUERY, metadata=(("authorization", token),)) == b""

    asyncio.run(compare())


@pytest.mark.parametrize("method", METHODS)
def test_the_deadline_is_qdrants_as_well(method: str) -> None:
    seen: list[float | None] = []

    async def script(name: str, requests: Any, context: Any) -> None:
        await first(requests)
        seen.append(context.time_remaining())
        await context.write(b"")

    async def ask() -> None:
        async with world(script) as found:
            call = found.through.unary_unary(method)
            await call(QUERY)
            await call(QUERY, timeout=1000)

    asyncio.run(ask())
    assert seen[0] is None
    assert seen[1] is not None
    assert 900 < seen[1] < 1100  # each hop writes it with two or three digits, rounded up


@pytest.mark.parametrize("method", METHODS)
def test_a_deadline_that_passes_is_told_to_both(method: str) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def script(name: str, requests: Any, context: Any) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def ask() -> None:
        async with world(script) as found:
            timeout_s = 0.1
            while not began.is_set():  # a busy machine may need longer to reach the upstream
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await found.through.unary_unary(method)(QUERY, timeout=timeout_s)
                assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                timeout_s *= 2
            await asyncio.wait_for(cancelled.wait(), WAIT_S)

    asyncio.run(ask())


@pytest.mark.parametrize("method", METHODS)
def test_a_caller_who_gives_up_is_noticed_by_qdrant(method: str) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def script(name: str, requests: Any, context: Any) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def ask() -> None:
        async with world(script) as found:
            call = found.through.unary_unary(method)(QUERY)
            await asyncio.wait_for(began.wait(), WAIT_S)
            call.cancel()
            await asyncio.wait_for(ended.wait(), WAIT_S)
            telemetry = found.sidecar._state.telemetry
            statuses = {key[3] for key in telemetry.numbers if key[0] == "requests"}
            assert statuses == {"CANCELLED"}
            assert found.sidecar._state.n_under_way == 0

    asyncio.run(ask())


@pytest.mark.parametrize("method", ["/qdrant.Points/Upsert", "/qdrant.Points/Get", "/new.Thing/Do"])
def test_large_messages_pass_both_ways(method: str) -> None:
    large = b"\x0a\x04docs" + bytes(64 * 2**20)

    async def script(name: str, requests: Any, context: Any) -> None:
        await context.write(await first(requests))

    async def ask() -> None:
        async with world(script) as found:
            assert await found.through.unary_unary(method)(large) == large

    asyncio.run(ask())


def test_compressed_requests_are_taken() -> None:
    async def script(name: str, requests: Any, context: Any) -> None:
        context.set_compression(grpc.Compression.Gzip)
        await context.write(await first(requests))

    async def ask() -> None:
        async with world(script) as found:
            content = b"\x0a\x04docs" + bytes(10_000)
            for compression in grpc.Compression:
                channel = connect(found.port, compression=compression)
                for method in METHODS:
                    assert await channel.unary_unary(method)(content) == content
                await channel.close()

    asyncio.run(ask())
