"""The sidecar's gRPC listener on a loop in a thread of its own, for callers that block."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.onnx_models import linear_bytes
from trimtab.addresses import Address, Origin
from trimtab.metrics import DECISIONS, Telemetry
from trimtab.rewrite.policies import Policies, Reason
from trimtab.routing.schema_cache import SchemaCache
from trimtab.server.grpc.service import GrpcServer
from trimtab.server.route_table import LiveTable
from trimtab.server.worker_state import WorkerState
from trimtab.settings import ListenSettings, RouteSettings, Settings, UpstreamSettings

LOOPBACK = Address("127.0.0.1", 0)
_STOP_TIMEOUT_S = 60


@dataclass
class Sidecar:
    """A running listener."""

    port: int
    state: WorkerState
    server: GrpcServer
    loop: asyncio.AbstractEventLoop

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def decisions(self) -> dict[tuple[str, Reason], int]:
        """What was decided so far, by collection and reason."""
        return {
            (key[1], Reason(key[2])): int(value)
            for key, value in self.state.telemetry.numbers.items()
            if key[0] == DECISIONS.name
        }

    def run(self, work: Awaitable[Any]) -> Any:
        """Do something on the sidecar's loop."""

        async def wait() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(_STOP_TIMEOUT_S)


def settings_for(*upstream_ports: int, **more: Any) -> Settings:
    """Settings of a sidecar before servers on the loopback."""
    origins = tuple(Origin(Address("127.0.0.1", port), is_tls=False) for port in upstream_ports)
    upstream = UpstreamSettings(grpc=origins)
    listen = ListenSettings(rest=None, grpc=LOOPBACK, admin=None)
    return replace(Settings(listen=listen, upstream=upstream, policies=Policies()), **more)


def write_route(folder: Path, collection: str, vector: str = "", **model: Any) -> RouteSettings:
    """Write a linear model, and give a route to it; ``mode`` and ``share`` are the route's."""
    route = {key: model.pop(key) for key in ("mode", "share", "on_error") if key in model}
    path = folder / f"{collection}-{vector}.onnx"
    path.write_bytes(linear_bytes(**model))
    return RouteSettings(collection, path, vector, **route)


async def start(settings: Settings, *, shares_ports: bool = False) -> tuple[GrpcServer, int]:
    """Start a listener on the running loop."""
    facts = SchemaCache(vectors_ttl_s=settings.facts.ttl_s, aliases_ttl_s=settings.facts.ttl_s)
    state = WorkerState(LiveTable(lambda: settings, facts), facts, None, Telemetry())
    server = GrpcServer(state, settings)
    port = await server.start(settings.listen.grpc or LOOPBACK, shares_ports=shares_ports)
    return server, port


@contextlib.contextmanager
def running_sidecar(
    settings: Settings, run: Callable[[Any], Any] = asyncio.run
) -> Iterator[Sidecar]:
    """Run a listener until the block ends."""
    started = threading.Event()
    held: dict[str, Any] = {}

    async def serve() -> None:
        ended = asyncio.Event()
        try:
            server, port = await start(settings)
            loop = asyncio.get_running_loop()
            held.update(sidecar=Sidecar(port, server._state, server, loop), ended=ended)
        finally:
            started.set()
        await ended.wait()
        await server.drain(1.0)

    thread = threading.Thread(target=lambda: run(serve()), daemon=True)
    thread.start()
    started.wait(_STOP_TIMEOUT_S)
    try:
        yield held["sidecar"]
    finally:
        held["sidecar"].loop.call_soon_threadsafe(held["ended"].set)
        thread.join(_STOP_TIMEOUT_S)
