"""Runs a server until it is told to end: one worker in this process, or several in their own."""

import asyncio
import contextlib
import math
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from trimtab.addresses import Address
from trimtab.errors import ConfigError
from trimtab.log import LogSettings
from trimtab.metrics import Telemetry
from trimtab.routing.route_book import Finding
from trimtab.routing.schema_cache import SchemaCache
from trimtab.server.event_loop import new_event_loop, on_signal
from trimtab.server.process.admin_api import AdminServer, make_app
from trimtab.server.process.admin_operations import Administration, stamp_files, watch_files
from trimtab.server.process.control import Control
from trimtab.server.process.route_check import check_means, check_routes_offline, run_online
from trimtab.server.process.supervisor import Supervisor
from trimtab.server.process.worker import Worker
from trimtab.server.route_table import LiveTable
from trimtab.settings import Settings
from trimtab.settings_file import read_secret

Tell = Callable[[dict[str, str]], None]
Read = Callable[[], Settings]


def run_server(settings: Settings, read: Read, tell: Tell, logs: LogSettings) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends at once.

    Args:
        settings: As they are now.
        read: Reads them anew at each reload; must be picklable for several workers.
        tell: Is told where what listens, once everything does.
        logs: How workers write their logs.

    Raises:
        SidecarError: The server can't start.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if settings.workers == 1:
            runner.run(_run_one(settings, read, tell))
        else:
            runner.run(_run_several(settings, read, tell, logs))


@dataclass(frozen=True, slots=True)
class _Workers:
    """All workers, and how they end.

    Attributes:
        workers: They.
        numbers: Those of workers that have ended, and of this process.
        drain: Lets all finish what is under way.
        kill: Ends all at once.
        changing: Held by whoever changes what they serve, or starts another; None for one alone.
    """

    workers: Sequence[Control]
    numbers: Telemetry
    drain: Callable[[], Awaitable[None]]
    kill: Callable[[], None]
    changing: asyncio.Lock | None = None


class _AdminListener:
    """The administrator's listener, if there is one; opened first, so that it fails first.

    Attributes:
        seen: The files that are watched, as they were before anything was read.
    """

    def __init__(self, server: AdminServer | None, token: str | None, settings: Settings) -> None:
        """Take an open listener, and what it asks for."""
        self.seen = stamp_files(settings)
        self._server = server
        self._token = token

    @classmethod
    def open(cls, settings: Settings) -> "_AdminListener":
        """Open the listener.

        Raises:
            ConfigError: The address can't be had, or the token is not set.
        """
        token, address = read_token(settings), settings.listen.admin
        return cls(None if address is None else AdminServer(address), token, settings)

    @property
    def address(self) -> Address | None:
        """Tell where it listens."""
        return None if self._server is None else self._server.address

    def close(self) -> None:
        """Listen no more, before anything was answered."""
        if self._server is not None:
            self._server.close()

    async def start(self, administration: Administration) -> None:
        """Begin to answer."""
        if self._server is not None:
            host = self._server.address.host
            app = make_app(administration, self._token, host)
            await self._server.start(app, administration.numbers)

    async def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            await self._server.stop()


async def _run_one(settings: Settings, read: Read, tell: Tell) -> None:
    """Serve in this process."""
    admin = _AdminListener.open(settings)
    try:
        worker = await Worker.start(settings, read, shares_ports=False)
    except BaseException:
        admin.close()
        raise
    workers = _Workers([worker], Telemetry(), worker.drain, worker.close)
    listens = {"rest": worker.rest, "grpc": worker.grpc, "admin": admin.address}
    try:
        await _administer(settings, read, workers, admin, lambda: tell(_written(listens)))
    except BaseException:
        worker.close()
        raise


async def _run_several(settings: Settings, read: Read, tell: Tell, logs: LogSettings) -> None:
    """Serve in processes of their own."""
    admin = _AdminListener.open(settings)
    try:
        supervisor = Supervisor(settings, read, logs)
        await supervisor.start()
    except BaseException:
        admin.close()
        raise
    workers = _Workers(
        supervisor.workers,
        supervisor.numbers,
        supervisor.stop,
        supervisor.kill,
        supervisor.changing,
    )
    listen = supervisor.settings.listen
    listens = {"rest": listen.rest, "grpc": listen.grpc, "admin": admin.address}
    try:
        await _administer(settings, read, workers, admin, lambda: tell(_written(listens)))
    except BaseException:
        supervisor.kill()
        raise


async def _administer(
    settings: Settings,
    read: Read,
    workers: _Workers,
    admin: "_AdminListener",
    tell: Callable[[], None],
) -> None:
    """Answer the administrator until a signal has said to end and the workers have."""
    administration = Administration(workers.workers, workers.numbers, workers.changing)
    await admin.start(administration)
    ended = asyncio.Event()
    reloads: set[asyncio.Task[str]] = set()

    def reload() -> None:  # which raises nothing
        task = asyncio.create_task(administration.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def end() -> None:
        if ended.is_set():  # told twice: at once
            workers.kill()
            os._exit(130)
        ended.set()

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        on_signal(name, end)
    on_signal("SIGHUP", reload)
    watching = None
    if settings.reload.watch:
        watching = asyncio.create_task(watch_files(settings, administration, read, admin.seen))
    tell()
    await ended.wait()
    if watching is not None:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    administration.is_ending = True
    await workers.drain()
    await admin.stop()


def check_settings_work(settings: Settings, read: Read, *, online: bool = False) -> list[Finding]:
    """Try everything that needs no port, and Qdrant only where that is wanted.

    Args:
        settings: As they are now.
        read: Reads them anew.
        online: True to ask Qdrant about every route.

    Returns:
        What was found out about every route.

    Raises:
        SidecarError: With what is wrong.
    """
    read_token(settings)
    check_means(settings)
    facts = SchemaCache(vectors_ttl_s=math.inf, aliases_ttl_s=math.inf)
    live = LiveTable(read, facts)
    return run_online(live, facts, settings) if online else check_routes_offline(live)


def read_token(settings: Settings) -> str | None:
    """Read the administrator's token from the environment.

    Raises:
        ConfigError: The variable that the settings name is not set, or holds no token.
    """
    name = settings.admin.token_env
    if not name:
        return None
    token = read_secret(name)
    if not token:
        raise ConfigError(f"[admin] token_env names {name}, which is not set; set it to the token")
    return token


def _written(addresses: dict[str, Address | None]) -> dict[str, str]:
    """Write those addresses that are listened on."""
    return {name: str(address) for name, address in addresses.items() if address is not None}
