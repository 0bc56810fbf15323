"""Starts a sidecar before a recording upstream, with short limits, as an arena."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from tests.support.grpc_upstream import serve
from tests.support.hostile.arena import Arena
from tests.support.hostile.grpc_arena import GrpcArena
from tests.support.hostile.meaning import DIM
from tests.support.hostile.tls_relay import TlsRelay
from tests.support.hostile.upstream import start_upstream
from tests.support.onnx_models import linear_bytes, weight_of
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.ways import WAYS, Authority, Way, listen_table
from trimtab.model.adapter import Adapter

HEAD_TIMEOUT_S, BODY_TIMEOUT_S, IDLE_TIMEOUT_S = 1.0, 1.0, 2.0
LIMITS = {
    "body_bytes": 32 * 2**20,
    "head_bytes": 64 * 2**10,
    "head_timeout_s": HEAD_TIMEOUT_S,
    "body_timeout_s": BODY_TIMEOUT_S,
    "idle_timeout_s": IDLE_TIMEOUT_S,
}


@contextlib.asynccontextmanager
async def staged(
    folder: Path, way: Way = WAYS["rest"], *, token: str = "", **limits: float
) -> AsyncIterator[tuple[Arena, Sidecar]]:
    """Run both until the block ends.

    Args:
        folder: An empty folder for the model and the settings.
        way: How the sidecar is reached, over REST.
        token: The admin token; empty for none.
        limits: Of ``[limits]``, beside ``LIMITS``.
    """
    model = linear_bytes(dim_in=DIM, dim_out=DIM, normalised=True, use="relevance")
    (folder / "adapter.onnx").write_bytes(model)
    arena, authority = Arena(("", 0), weight_of(DIM, DIM)), Authority(folder)
    server = await start_upstream(arena.tell, arena.complain)
    host, port = server.sockets[0].getsockname()
    upstream = f'rest = "http://{host}:{port}"'
    listen = listen_table(way, authority) + 'path_prefix = ""\n'  # a path has one meaning here
    text = listen + _settings(upstream, {**LIMITS, **limits}, bool(token))
    environment = {"HOSTILE_ADMIN_TOKEN": token} if token else {}
    async with _running(folder, way, text, environment) as sidecar:
        async with _plain_port(way, authority, sidecar.rest_address) as address:
            arena.address = address
            yield arena, sidecar
        server.close()


@contextlib.asynccontextmanager
async def grpc_staged(folder: Path, way: Way) -> AsyncIterator[tuple[GrpcArena, Sidecar]]:
    """Run a sidecar before a recording gRPC upstream until the block ends."""
    model = linear_bytes(normalised=True, use="relevance")
    (folder / "adapter.onnx").write_bytes(model)
    arena, authority = GrpcArena(Adapter.from_bytes(model)), Authority(folder)
    server, port = await serve(arena.script)
    upstream = f'grpc = "http://127.0.0.1:{port}"'
    text = listen_table(way, authority) + _settings(upstream, LIMITS, False) + _TITLES
    async with _running(folder, way, text, {}) as sidecar:
        host, listening = sidecar.grpc_address
        arena.target = f"{host}:{listening}"
        if way.is_tls:
            arena.credentials = grpc.ssl_channel_credentials(authority.pem)
        async with _plain_port(way, authority, (host, listening)) as address:
            arena.plain = address
            yield arena, sidecar
    await server.stop(0)


@contextlib.asynccontextmanager
async def _running(
    folder: Path, way: Way, text: str, environment: dict[str, str]
) -> AsyncIterator[Sidecar]:
    """Run a sidecar with these settings."""
    config = folder / "sidecar.toml"
    config.write_text(text)
    running = running_sidecar(*way.flags, config=config, env=environment)
    # The upstream lives in this loop, so nothing here may wait for it by blocking.
    sidecar = await asyncio.to_thread(running.__enter__)
    try:
        yield sidecar
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


@contextlib.asynccontextmanager
async def _plain_port(
    way: Way, authority: Authority, address: tuple[str, int]
) -> AsyncIterator[tuple[str, int]]:
    """Give a port that takes bytes as they are: the listener's, or one that puts TLS around."""
    if not way.is_tls:
        yield address
        return
    context = authority.context
    if way.protocol == "grpc":
        context.set_alpn_protocols(["h2"])
    relay = TlsRelay(address, context)
    await relay.start()
    try:
        yield relay.address
    finally:
        relay.close()


_TITLES = """[[route]]
collection = "docs"
vector = "title"
adapter = "adapter.onnx"
"""


def _settings(upstream: str, limits: dict[str, float], has_token: bool) -> str:
    lines = [
        "[upstream]",
        upstream,
        "query_timeout_s = 2.0",
        "[[route]]",
        'collection = "docs"',
        'adapter = "adapter.onnx"',
        "[limits]",
        *(f"{name} = {value}" for name, value in limits.items()),
    ]
    if has_token:
        lines += ["[admin]", 'token_env = "HOSTILE_ADMIN_TOKEN"']
    return "\n".join(lines) + "\n"
