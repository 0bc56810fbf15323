"""Where the sidecar's gRPC listens, and which of Qdrant's addresses it uses."""

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest
from qdrant_client import grpc as messages

from tests.support.grpc_upstream import connect, first, serve, world
from tests.support.sidecar_grpc import settings_for, start
from trimtab.addresses import Address
from trimtab.errors import ConfigError
from trimtab.settings import Settings

METHODS = ["/qdrant.Points/Get", "/qdrant.Points/Query", "/qdrant.Points/Upsert", "/new.Thing/Do"]
QUERY = messages.QueryPoints(collection_name="docs").SerializeToString()
WAIT_S = 60


async def echo(name: str, requests: Any, context: Any) -> None:
    await context.write(await first(requests))


@pytest.mark.parametrize("method", METHODS)
def test_qdrant_down_is_said_at_once_and_qdrant_back_is_used(method: str) -> None:
    async def ask() -> None:
        async with world(echo) as found:
            call = found.through.unary_unary(method)
            assert await call(QUERY) == QUERY
            await found.upstream.stop(0)
            node = found.sidecar.channels.nodes[0]
            async with asyncio.timeout(WAIT_S):  # until then a call can be lost with its connection
                while (state := node.state()) is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    await node.channel.wait_for_state_change(state)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(QUERY)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "trimtab: Qdrant can't be reached over gRPC" in (caught.value.details() or "")
            again, _ = await serve(echo, found.upstream_port)
            async with asyncio.timeout(WAIT_S):
                while (state := node.state()) is not grpc.ChannelConnectivity.READY:
                    await node.channel.wait_for_state_change(state)
            assert await call(QUERY) == QUERY
            await again.stop(0)

    asyncio.run(ask())


def test_of_several_addresses_those_that_answer_are_used() -> None:
    seen: set[str] = set()

    async def ask() -> None:
        async def named(name: str) -> tuple[Any, int]:
            async def script(_: str, requests: Any, context: Any) -> None:
                seen.add(name)
                await echo(_, requests, context)

            return await serve(script)

        servers = [await named("a"), await named("b"), await named("c")]
        await servers[2][0].stop(0)
        sidecar, port = await start(settings_for(*[port for _, port in servers]))
        channel = connect(port)
        async with asyncio.timeout(WAIT_S):
            for node in sidecar.channels.nodes[:2]:
                while (state := node.state()) is not grpc.ChannelConnectivity.READY:
                    await node.channel.wait_for_state_change(state)
        for _ in range(12):
            assert await channel.unary_unary(METHODS[0])(QUERY) == QUERY
        assert seen == {"a", "b"}
        ready = [node.state() is grpc.ChannelConnectivity.READY for node in sidecar.channels.nodes]
        assert ready == [True, True, False]
        await channel.close()
        await sidecar.drain(0)
        for server, _ in servers[:2]:
            await server.stop(0)

    asyncio.run(ask())


def test_without_an_address_every_call_says_so() -> None:
    async def ask() -> None:
        sidecar, port = await start(settings_for())
        channel = connect(port)
        for method in METHODS:
            with pytest.raises(grpc.aio.AioRpcError, match="no gRPC address") as caught:
                await channel.unary_unary(method)(QUERY)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        await channel.close()
        await sidecar.drain(0)

    asyncio.run(ask())


def test_a_port_that_is_taken_is_an_error_and_a_shared_one_is_not() -> None:
    async def listen() -> None:
        settings = settings_for()
        one, port = await start(settings, shares_ports=True)
        other, same = await start(_at(settings, port), shares_ports=True)
        assert same == port
        with pytest.raises(ConfigError, match="can't listen"):
            await start(_at(settings, port))
        await one.drain(0)
        await other.drain(0)

    asyncio.run(listen())


def _at(settings: Settings, port: int) -> Settings:
    return replace(settings, listen=replace(settings.listen, grpc=Address("127.0.0.1", port)))


def test_calls_under_way_may_end_while_the_listener_drains() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def script(name: str, requests: Any, context: Any) -> None:
        began.set()
        await go_on.wait()
        await echo(name, requests, context)

    async def ask() -> None:
        async with world(script) as found:
            call = found.through.unary_unary(METHODS[0])(QUERY)
            await asyncio.wait_for(began.wait(), WAIT_S)
            drained = asyncio.create_task(found.sidecar.drain(WAIT_S))
            async with asyncio.timeout(WAIT_S):
                late = connect(found.port)
                with pytest.raises(grpc.aio.AioRpcError):
                    await late.unary_unary(METHODS[0])(QUERY)
                await late.close()
                go_on.set()
                assert await call == QUERY
                await drained

    asyncio.run(ask())
