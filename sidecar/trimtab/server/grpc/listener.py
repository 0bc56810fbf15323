"""The port that gRPC calls come to, open for as long as the worker lives.

grpcio 1.85 reads a call's path in the loop that serves everybody (``AioServer._server_main_loop``),
and one path that is no UTF-8 ends that loop, and with it the listener. Anybody who reaches the port
can send such a call, and nothing of ours is asked before it; so the listener is watched and opened
again. The calls under way are lost each time.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio

from trimtab import metrics as t
from trimtab.addresses import Address
from trimtab.errors import ConfigError
from trimtab.metrics import Telemetry
from trimtab.server.tls import server_context
from trimtab.settings import ListenSettings
from trimtab.upstream.grpc_channels import METADATA_BYTES, UNLIMITED, read_pem

logger = logging.getLogger(__name__)

_MAIN_LOOP = "AioServer._server_main_loop"
_REOPEN_S = 0.1


class Listener:
    """One port."""

    def __init__(self, handler: Any, settings: ListenSettings, telemetry: Telemetry) -> None:
        """Take what handles calls (a ``GenericRpcHandler``), certificates, and what counts."""
        self._handler = handler
        self._settings = settings
        self._telemetry = telemetry
        self._server: Any = None
        self._watcher: asyncio.Task[None] | None = None
        self._serving: asyncio.Task[Any] | None = None
        self._is_stopping = False

    async def start(self, address: Address, *, shares_ports: bool) -> int:
        """Listen.

        Args:
            address: Where; port 0 takes a free one.
            shares_ports: True where other processes listen on the same port.

        Returns:
            The port.

        Raises:
            ConfigError: The port can't be had, or a certificate can't be used.
        """
        port = await self._open(address, shares_ports=shares_ports)
        again = Address(address.host, port)
        self._watcher = asyncio.create_task(self._watch(again, shares_ports=shares_ports))
        return port

    async def stop(self, timeout_s: float) -> None:
        """Take no new calls, and wait for those under way as long as that."""
        self._is_stopping = True
        if self._server is not None:
            await self._server.stop(timeout_s)
        if self._watcher is not None:
            await self._watcher

    async def _watch(self, address: Address, *, shares_ports: bool) -> None:
        """Open the port again whenever the library has given it up."""
        while self._serving is not None:
            await asyncio.wait({self._serving})
            if self._is_stopping:
                return
            self._telemetry.count(t.ERRORS, "grpc", "listener_ended")
            cause = {"cause": str(self._serving.exception())}
            logger.error("gRPC listener ended; opening it again", extra=cause)
            while not await self._is_open_again(address, shares_ports=shares_ports):
                await asyncio.sleep(_REOPEN_S)

    async def _is_open_again(self, address: Address, *, shares_ports: bool) -> bool:
        """Try to open the port."""
        try:
            await self._open(address, shares_ports=shares_ports)
        except ConfigError as error:
            logger.warning("gRPC listener not open yet", extra={"cause": str(error)})
            return False
        return True

    async def _open(self, address: Address, *, shares_ports: bool) -> int:
        """Listen, with a server of its own."""
        options = [
            *UNLIMITED,
            ("grpc.so_reuseport", int(shares_ports)),
            ("grpc.max_metadata_size", METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", METADATA_BYTES),
            # Qdrant's own server takes any number of pings; this library would hang up.
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((self._handler,))
        credentials = _credentials(self._settings)
        try:
            if credentials is None:
                port: int = server.add_insecure_port(str(address))
            else:
                port = server.add_secure_port(str(address), credentials)
        except RuntimeError as error:
            raise ConfigError(
                f"can't listen on {address} for gRPC: {error}; is another server there, or a "
                "certificate that can't be used?"
            ) from error
        others = asyncio.all_tasks()
        await server.start()
        self._serving = _serving_task(asyncio.all_tasks() - others)
        self._server = server
        return port


def _serving_task(tasks: Iterable[asyncio.Task[Any]]) -> asyncio.Task[Any] | None:
    """Find the task that takes a server's calls; the library tells nobody of its end."""
    names = ((task, getattr(task.get_coro(), "__qualname__", "")) for task in tasks)
    return next((task for task, name in names if name == _MAIN_LOOP), None)


def _credentials(settings: ListenSettings) -> grpc.ServerCredentials | None:
    """Make what TLS needs of the listener; None where there is no certificate.

    Raises:
        ConfigError: A file can't be used.
    """
    if settings.certificate is None:
        return None
    server_context(settings)  # gRPC takes any bytes, and then fails every handshake
    key = read_pem(settings.key or settings.certificate)
    return grpc.ssl_server_credentials([(key, read_pem(settings.certificate))])
