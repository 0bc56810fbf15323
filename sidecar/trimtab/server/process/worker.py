"""One worker: its listeners, its route table, and how it begins, reloads and ends."""

import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trimtab import metrics as t
from trimtab.addresses import Address
from trimtab.errors import ConfigError
from trimtab.metrics import Telemetry
from trimtab.routing.route_book import tell_findings
from trimtab.routing.schema_cache import SchemaCache
from trimtab.server.bypass import PROTOCOLS_OF, Bypass
from trimtab.server.encoders import ServedEncoder
from trimtab.server.process.route_check import examine_routes, refuse_unfit
from trimtab.server.rest.client_connection import ClientConnection
from trimtab.server.route_table import LiveTable, RouteTable
from trimtab.server.tls import client_context, server_context
from trimtab.server.tracing import Tracer
from trimtab.server.worker_state import WorkerState
from trimtab.settings import Settings
from trimtab.settings_file import read_secret
from trimtab.time_limits import read_what_has_come
from trimtab.unforeseen import Border, repeat, tell
from trimtab.upstream.rest_fetch import is_well
from trimtab.upstream.rest_pool import Node, Pool

if TYPE_CHECKING:
    from trimtab.server.grpc.service import GrpcServer

logger = logging.getLogger(__name__)

_BACKLOG = 1024
_TLS_END_S = 86_400.0
"""Seconds in which an end of TLS must be answered: connections see to that, and sooner."""
_SWITCH_S = 0.0005
"""Seconds for which a thread may keep the interpreter: models are loaded beside requests."""
_RETRY_S = 1.0
_SWEEP_S = (0.05, 1.0)
_DRAIN_LOOK_S = 0.05
_GAUGES = (
    *(t.CONNECTIONS, t.UPSTREAM_UP, t.ADAPTER_INFO, t.EXPECTED_FAR, t.DRAINING),
    *(t.TEXTS_WAITING, t.TEXTS_CACHED),
)


@dataclass
class Worker:
    """A worker; made by :meth:`start`.

    Attributes:
        state: What its requests share.
        rest: Where REST is listened to, if it is.
        grpc: Where gRPC is listened to, if it is.
    """

    state: WorkerState
    settings: Settings
    rest: Address | None = None
    grpc: Address | None = None
    _connections: set[ClientConnection] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _grpc_server: "GrpcServer | None" = None
    _sweeper: asyncio.Task[None] | None = None
    _prepared: RouteTable | None = None
    _telling: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, settings: Settings, read: Callable[[], Settings], *, shares_ports: bool
    ) -> "Worker":
        """Load the models, look for Qdrant, and listen.

        Args:
            settings: What the server was started with.
            read: Reads the settings, as they are at each reload.
            shares_ports: True where other workers listen on the same ports.

        Raises:
            SidecarError: The settings or a model can't be used, or a port can't be had.
        """
        tracer = Tracer.make(settings.telemetry)
        sys.setswitchinterval(_SWITCH_S)
        ttl_s = settings.facts.ttl_s
        facts = SchemaCache(vectors_ttl_s=ttl_s, aliases_ttl_s=ttl_s, retry_s=min(ttl_s, _RETRY_S))
        live = LiveTable(read, facts, settings)
        pool, telemetry = None, Telemetry()
        if settings.upstream.rest:
            pool = Pool(settings.upstream, client_context(settings.upstream), telemetry)
            await pool.start(is_well)
        own_key = read_secret(settings.upstream.api_key_env)
        state = WorkerState(live, facts, pool, telemetry, own_key=own_key)
        state.tracer = tracer
        worker = cls(state, settings)
        await worker._check_routes()
        await worker._listen(shares_ports=shares_ports)
        worker._sweeper = asyncio.create_task(worker._sweep())
        gc.freeze()  # what is loaded stays: no collection need look through it again
        return worker

    async def _check_routes(self) -> None:
        """Refuse to start with an adapter that can't serve its collection, where Qdrant says so."""
        findings = await examine_routes(self.state, self.state.table)
        refuse_unfit(findings)
        tell_findings(findings)

    async def _tell_routes(self, table: RouteTable) -> None:
        """Say which routes of a new table can't apply; requests find out by themselves."""
        try:
            tell_findings(await examine_routes(self.state, table))
        except Exception as error:
            tell(self.state.telemetry, Border.FACTS, error)

    async def _listen(self, *, shares_ports: bool) -> None:
        """Open the listeners."""
        listen = self.settings.listen
        tls = server_context(listen)
        if listen.rest is not None:
            loop = asyncio.get_running_loop()
            opened = open_socket(listen.rest, shares_port=shares_ports)
            self.rest = Address(listen.rest.host, opened.getsockname()[1])
            self._server = await loop.create_server(
                lambda: ClientConnection(self.state, self._connections),
                sock=opened,
                ssl=tls,
                ssl_shutdown_timeout=None if tls is None else _TLS_END_S,
                backlog=_BACKLOG,
            )
        if listen.grpc is not None:
            from trimtab.server.grpc.service import GrpcServer

            self._grpc_server = GrpcServer(self.state, self.settings)
            port = await self._grpc_server.start(listen.grpc, shares_ports=shares_ports)
            self.grpc = Address(listen.grpc.host, port)

    async def _sweep(self) -> None:
        """Look after slow clients."""
        limits = self.settings.limits
        query_s = self.settings.upstream.query_timeout_s or limits.body_timeout_s  # 0 is never
        shortest_s = min(limits.head_timeout_s, limits.body_timeout_s, query_s)
        tick_s = min(_SWEEP_S[1], max(_SWEEP_S[0], shortest_s / 10))
        await repeat(self.state.telemetry, Border.CLIENTS, tick_s, self._check_clients)

    async def _check_clients(self) -> None:
        """Look at every client once."""
        await read_what_has_come()
        now = asyncio.get_running_loop().time()
        for connection in list(self._connections):
            try:
                connection.check(now)
            except Exception as error:
                tell(self.state.telemetry, Border.CLIENTS, error)

    # What the administrator asks

    async def prepare(self) -> str:
        """Make the next table; give what is wrong with it, or an empty text."""
        try:
            self._prepared = await asyncio.to_thread(self.state.live.prepare)
        except Exception as error:
            self._prepared = None
            return tell(self.state.telemetry, Border.RELOAD, error)
        return ""

    async def commit(self) -> bool:
        """Put the table that was prepared in force."""
        table, self._prepared = self._prepared, None
        if table is None:
            return False
        self.state.live.commit(table)
        self.state.texts.keep([*table.encoders, *self._previous_encoders()])
        self.state.telemetry.count(t.RELOADS, "ok")
        logger.info("routes reloaded", extra={"table": table.number})
        self._telling = asyncio.create_task(self._tell_routes(table))
        return True

    def _previous_encoders(self) -> Iterable[ServedEncoder]:
        """Give the encoders of the table to which the administrator may go back."""
        previous = self.state.live.previous
        return () if previous is None else previous.encoders

    async def abort(self, cause: str) -> None:
        """Keep the table in force, though another was asked for."""
        self._prepared = None
        self.state.telemetry.count(t.RELOADS, "failed")
        logger.error("reload refused; the old routes stay", extra={"cause": cause})

    async def roll_back(self) -> bool:
        """Go back to the table before; False where there is none."""
        done = self.state.live.roll_back()
        if done:
            self.state.telemetry.count(t.RELOADS, "rollback")
            logger.warning("routes rolled back", extra={"table": self.state.table.number})
        return done

    async def describe(self) -> dict[str, Any]:
        """Give the routes in force and the state of everything, as JSON can hold it."""
        table = self.state.table
        return {
            "pid": os.getpid(),
            "table": table.number,
            "has_previous": self.state.live.previous is not None,
            "is_draining": self.state.is_draining,
            "routes": [
                {
                    "collection": route.collection,
                    "vector": route.vector_name,
                    "adapter": route.adapter.mark,
                    "mode": route.mode,
                    "share": route.share if route.mode == "canary" else None,
                    "on_error": route.on_error,
                    "dim_in": route.adapter.dim_in,
                    "dim_out": route.adapter.dim_out,
                    "use": route.adapter.manifest.use,
                }
                for route in table.routes
            ],
            "collections": table.collections.names(),
            "encoders": [
                {
                    "model": served.settings.model,
                    "encoder": served.encoder.manifest.name,
                    "version": served.encoder.version,
                    "dim": served.encoder.dim,
                    "writes": served.settings.writes,
                }
                for served in table.encoders
            ],
            "upstream": [
                {"address": str(node), "is_up": node.is_up, "connections": node.n_open}
                for node in self._rest_nodes()
            ],
        }

    async def measure(self) -> dict[str, Any]:
        """Give the numbers of this worker."""
        telemetry = self.state.telemetry
        for gauge in _GAUGES:
            telemetry.clear(gauge)
        for texts in self.state.texts:
            model = texts.served.settings.model
            telemetry.count(t.TEXTS_WAITING, model, by=texts.n_waiting)
            telemetry.count(t.TEXTS_CACHED, model, by=texts.n_cached)
        for result in ("ok", "failed", "rollback"):  # an alert sees the first one only after a 0
            telemetry.count(t.RELOADS, result, by=0)
        for border in Border:
            telemetry.count(t.UNFORESEEN, border, by=0)
        for reason in Bypass:
            for protocol in PROTOCOLS_OF[reason]:
                telemetry.count(t.BYPASSED, protocol, reason, by=0)
        telemetry.count(t.CONNECTIONS, "client", by=len(self._connections))
        self._measure_upstream(telemetry)
        for route in self.state.table.routes:
            manifest = route.adapter.manifest
            adapter = (manifest.name, route.adapter.version, route.mode)
            labels = (route.collection, route.vector_name, *adapter)
            telemetry.count(t.ADAPTER_INFO, *labels)
            if route.adapter.region is not None:
                telemetry.count(t.EXPECTED_FAR, *labels, by=route.adapter.region.share)
        telemetry.count(t.DRAINING, by=int(self.state.is_draining))
        return telemetry.to_record()

    def _measure_upstream(self, telemetry: Telemetry) -> None:
        """Give the numbers of Qdrant's addresses."""
        for node in self._rest_nodes():
            telemetry.count(t.CONNECTIONS, "upstream", by=node.n_open)
            telemetry.count(t.UPSTREAM_UP, str(node), by=int(node.is_up))
        for address, is_up in self._answering_grpc().items():
            telemetry.count(t.UPSTREAM_UP, address, by=int(is_up))

    async def comparisons(self) -> list[dict[str, Any]]:
        """Give the last comparisons of shadow routes."""
        return self.state.shadow.comparisons()

    async def is_ready(self) -> bool:
        """Tell whether a query could be answered now."""
        if self.state.pool is not None:
            has_upstream = any(node.is_up for node in self._rest_nodes())
        else:
            answering = self._answering_grpc()
            has_upstream = not answering or any(answering.values())
        return has_upstream and not self.state.is_draining

    def _rest_nodes(self) -> list[Node]:
        """Give Qdrant's REST addresses."""
        return [] if self.state.pool is None else self.state.pool.nodes

    def _answering_grpc(self) -> dict[str, bool]:
        """Tell of each of Qdrant's gRPC addresses whether it answers."""
        return {} if self._grpc_server is None else self._grpc_server.channels.answering()

    def close(self) -> None:
        """Stop at once."""
        if self._server is not None:
            self._server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.abort()

    async def invalidate(self, collection: str) -> None:
        """Forget what Qdrant said of a collection, or of all; another worker has seen it change."""
        self.state.facts.invalidate(collection or None)

    async def drain(self) -> None:
        """Take no new requests, and wait for those under way, as long as the limit says."""
        self.state.is_draining = True
        timeout_s = self.state.table.settings.limits.drain_timeout_s
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        grpc = None
        if self._grpc_server is not None:
            grpc = asyncio.create_task(self._grpc_server.drain(timeout_s))
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self._connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_DRAIN_LOOK_S)
        for connection in list(self._connections):
            connection.abort()
        if grpc is not None:
            await self._end(grpc)
        await self._end_rest()

    async def _end_rest(self) -> None:
        """End what works beside the requests."""
        self.state.texts.close()
        for task in (self._sweeper, self._telling):
            if task is not None:
                task.cancel()
        if self.state.pool is not None:
            await self._end(self.state.pool.stop())
        if self.state.tracer is not None:
            await self._end(asyncio.to_thread(self.state.tracer.shutdown))

    async def _end(self, ending: Awaitable[None]) -> None:
        """Wait for one part's end, which must not keep the others from theirs."""
        try:
            await ending
        except Exception as error:
            tell(self.state.telemetry, Border.END, error)


def open_socket(address: Address, *, shares_port: bool) -> socket.socket:
    """Listen on an address.

    Raises:
        ConfigError: It can't be had.
    """
    if shares_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("this system has no ports that processes share; use one worker")
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares_port:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind(place)
    except OSError as error:
        raise ConfigError(
            f"can't listen on {address}: {error.strerror}; is another server there?"
        ) from error
    return opened
