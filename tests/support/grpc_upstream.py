"""A gRPC server that does what a test says, behind a sidecar, on one loop."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import grpc
import grpc.aio

from tests.support.sidecar_grpc import settings_for, start
from trimtab.server.grpc.service import GrpcServer
from trimtab.settings import Settings

UNLIMITED = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 2**16),
    ("grpc.absolute_max_metadata_size", 2**16),
)

Script = Callable[[str, Any, Any], Awaitable[None]]
"""What is done for a call: its method, its requests and its context."""


class Scripted(grpc.GenericRpcHandler):
    """Gives every method to one script."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method

        async def handle(requests: Any, context: Any) -> None:
            await self.script(method, requests, context)

        return grpc.stream_stream_rpc_method_handler(handle)


async def serve(script: Script, port: int = 0, credentials: Any = None) -> tuple[Any, int]:
    """Start a scripted server."""
    server = grpc.aio.server(options=[*UNLIMITED, ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Scripted(script),))
    address = f"127.0.0.1:{port}"
    bound = (
        server.add_secure_port(address, credentials)
        if credentials
        else server.add_insecure_port(address)
    )
    await server.start()
    return server, bound


@dataclass
class World:
    """A scripted server and a sidecar before it."""

    upstream: Any
    upstream_port: int
    sidecar: GrpcServer
    port: int
    direct: grpc.aio.Channel
    through: grpc.aio.Channel

    def decisions(self) -> dict[tuple[str, str], int]:
        numbers = self.sidecar._state.telemetry.numbers
        return {key[1:]: int(n) for key, n in numbers.items() if key[0] == "query_vectors"}


def connect(port: int, **more: Any) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED, **more)


@contextlib.asynccontextmanager
async def world(script: Script, settings: Settings | None = None) -> AsyncIterator[World]:
    """Run both until the block ends; the settings' upstream is the scripted server."""
    upstream, upstream_port = await serve(script)
    known = settings_for(upstream_port)
    settings = known if settings is None else replace(settings, upstream=known.upstream)
    sidecar, port = await start(settings)
    direct, through = connect(upstream_port), connect(port)
    try:
        yield World(upstream, upstream_port, sidecar, port, direct, through)
    finally:
        await direct.close()
        await through.close()
        await sidecar.drain(0)
        await upstream.stop(0)


async def first(requests: Any) -> bytes:
    """The one message of a request that has one."""
    messages = [message async for message in requests]
    assert len(messages) == 1
    return messages[0]
