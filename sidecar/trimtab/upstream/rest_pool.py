"""Which of Qdrant's addresses gets a request, over which connection.

A name stands for all the addresses behind it. An address that can't be reached, or says of itself
that it fails, is left alone until it answers a check well; where none is left, all are tried, so
that a lone address is back the moment that it is back.
"""

import asyncio
import logging
import random
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from trimtab.addresses import Origin, prefix_path
from trimtab.errors import OverloadedError, UnavailableError, UpstreamError
from trimtab.metrics import Telemetry
from trimtab.settings import UpstreamSettings
from trimtab.time_limits import timeout_at, wait_for
from trimtab.unforeseen import Border, repeat, tell
from trimtab.upstream.rest_connection import Connection

logger = logging.getLogger(__name__)

FRESH_S = 1.0
"""Idle seconds after which a connection gets no request that must not be sent twice: the other side
may be closing it (Qdrant does after 5) while the request is on its way."""

_FAILURES_TO_EJECT = 3
_UP_CHECK_EVERY = 10
"""Rounds: addresses that answer are checked less often than those that don't."""

Check = Callable[[Connection, bytes], Awaitable[bool]]
"""Tells over a new connection, with what stands before paths there, whether an address is well;
raises an UpstreamError where it does not answer."""


class Node:
    """One address, its connections, and whether it answers.

    Attributes:
        origin: As the settings name it.
        host: The address itself.
        is_up: False while it is left alone.
        n_open: Connections, those being made included.
        n_busy: Connections with an exchange.
    """

    def __init__(self, origin: Origin, host: str, pool: "Pool") -> None:
        """Belong to a pool."""
        self.origin = origin
        self.host = host
        self.is_up = True
        self.n_open = 0
        self.n_busy = 0
        self._idle: deque[Connection] = deque()
        self._is_gone = False
        self._is_well = True  # by the last check that it answered
        self._failures = 0
        self._pool = pool

    def __str__(self) -> str:
        """Write the address."""
        return f"{self.host}:{self.origin.address.port}"

    def take_idle(self, now: float, max_idle_s: float) -> Connection | None:
        """Give the connection that was used last, if it is young enough."""
        while self._idle:
            connection = self._idle[-1]
            if not connection.is_open:
                self._idle.pop()
                continue
            if now - connection.idle_since > max_idle_s:
                return None
            self.n_busy += 1
            return self._idle.pop()
        return None

    def connection_free(self, connection: Connection) -> None:
        """Keep a connection for the next exchange, or give it to who is waiting."""
        self.succeeded()
        if self._is_gone:
            connection.close()
        elif not self._pool.hand_over(connection):
            self.n_busy -= 1
            self._idle.append(connection)

    def connection_closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self.n_open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        else:
            self.n_busy -= 1
        self._pool.room_made()

    def succeeded(self) -> None:
        """Count an answer."""
        self._failures = 0
        if not self.is_up and self._is_well:
            logger.info("upstream is back", extra={"address": str(self)})
            self.is_up = True

    def checked(self, *, is_well: bool) -> None:
        """Take what a check was answered; after an error, no answer but a check's shows it well."""
        self._is_well = is_well
        self.succeeded()
        if self.is_up and not is_well:
            logger.warning("upstream answers GET /healthz with 5xx", extra={"address": str(self)})
            self.is_up = False

    @property
    def is_in_doubt(self) -> bool:
        """Tell whether it failed when it was last heard of."""
        return not self.is_up or self._failures > 0

    def failed(self, *, surely: bool) -> None:
        """Count a failure; leave the address alone after some, or at once where it is sure."""
        self._failures += 1
        if self.is_up and (surely or self._failures >= _FAILURES_TO_EJECT):
            logger.warning("upstream does not answer", extra={"address": str(self)})
            self.is_up = False
            self.drop_idle(older_than=float("inf"))

    def go(self) -> None:
        """Get no more requests: close what is idle, and what is busy once it comes free."""
        self._is_gone = True
        self.drop_idle(older_than=float("inf"))

    def drop_idle(self, *, older_than: float) -> None:
        """Close connections that have been idle since before a time."""
        while self._idle and self._idle[0].idle_since < older_than:
            self.n_busy += 1  # until it is closed, when connection_closed counts it down
            self._idle.popleft().close()


class Pool:
    """All addresses of one upstream."""

    def __init__(
        self,
        settings: UpstreamSettings,
        tls: ssl.SSLContext | None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Know no address yet; see :meth:`start`.

        Args:
            settings: Addresses and limits.
            tls: For those of ``https://``.
            telemetry: Counts what nobody foresaw.
        """
        self._telemetry = telemetry or Telemetry()
        self._turn = 0
        self._settings = settings
        self._tls = tls
        self._nodes: dict[tuple[Origin, str], Node] = {}
        self._only: Node | None = None
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def nodes(self) -> list[Node]:
        """All addresses."""
        return list(self._nodes.values())

    async def start(self, check: Check) -> None:
        """Look names up, and begin to look after the addresses.

        Args:
            check: Tells whether an address is well.
        """
        await self._resolve_all()
        self._tasks = [
            self._repeat(self._settings.resolve_interval_s, self._resolve_all),
            self._repeat(self._settings.check_interval_s, lambda: self._check_all(check)),
        ]

    def _repeat(self, every_s: float, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Do something from time to time, whatever becomes of one turn."""
        return asyncio.create_task(repeat(self._telemetry, Border.UPSTREAM, every_s, work))

    async def stop(self) -> None:
        """Close whatever is idle, and what is busy once it comes free."""
        for task in self._tasks:
            task.cancel()
        for node in self.nodes:
            node.go()
        await asyncio.sleep(0)

    def take(self, *, is_safe: bool) -> Connection | None:
        """Give a connection that is open already, or None where one must be made.

        Args:
            is_safe: True for a request that may be sent twice.
        """
        now = asyncio.get_running_loop().time()
        max_idle_s = self._settings.idle_timeout_s if is_safe else FRESH_S
        if self._only is not None:
            return self._only.take_idle(now, max_idle_s)
        for node in self._by_preference():
            connection = node.take_idle(now, max_idle_s)
            if connection is not None:
                return connection
            if node.n_open < self._settings.max_connections:
                return None  # rather a new connection here than an old one to a busier address
        return None

    async def connect(self) -> Connection:
        """Make a new connection, to any address that can be reached.

        Raises:
            UnavailableError: No address can be reached.
            OverloadedError: All connections are in use, and none came free.
        """
        deadline = asyncio.get_running_loop().time() + self._settings.connect_timeout_s
        failure: UpstreamError = UnavailableError("no address of Qdrant is known")
        tried: set[Node] = set()
        while True:
            nodes = [node for node in self._by_preference() if node not in tried]
            if not nodes:
                raise failure
            node = next((n for n in nodes if n.n_open < self._settings.max_connections), None)
            if node is None:
                connection = await self._wait_for_one(deadline)
                if connection is not None:
                    return connection
                continue
            try:
                return await self.connect_to(node)
            except UnavailableError as error:
                tried.add(node)
                failure = error

    async def connect_to(self, node: Node) -> Connection:
        """Make a new connection to one address.

        Raises:
            UnavailableError: It can't be reached.
        """
        node.n_open += 1
        node.n_busy += 1
        loop = asyncio.get_running_loop()
        try:
            _, connection = await wait_for(
                loop.create_connection(
                    lambda: Connection(node),
                    node.host,
                    node.origin.address.port,
                    ssl=self._tls if node.origin.is_tls else None,
                    server_hostname=node.origin.address.host if node.origin.is_tls else None,
                ),
                self._settings.connect_timeout_s,
            )
        except (OSError, TimeoutError) as error:
            node.n_open -= 1
            node.n_busy -= 1
            node.failed(surely=True)
            cause = "no answer" if isinstance(error, TimeoutError) else _reason(error)
            raise UnavailableError(f"can't connect to Qdrant at {node}: {cause}") from error
        except asyncio.CancelledError:
            node.n_open -= 1
            node.n_busy -= 1
            raise
        if not connection.is_open:  # it ended before we came to it
            node.failed(surely=False)
            raise UnavailableError(f"Qdrant at {node} closed the connection at once")
        return connection

    def hand_over(self, connection: Connection) -> bool:
        """Give a connection that came free to whoever has waited longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def room_made(self) -> None:
        """Let whoever has waited longest make a connection of their own."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _wait_for_one(self, deadline: float) -> Connection | None:
        """Wait for a connection, or for None where one may be made."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._waiting.append(waiter)
        try:
            async with timeout_at(deadline):
                return await waiter
        except TimeoutError as error:
            raise OverloadedError(
                "every connection to Qdrant is in use; raise max_connections in [upstream]"
            ) from error

    def _by_preference(self) -> Iterator[Node]:
        """Give the addresses that answer, the least busy first; all where none does."""
        nodes = self._nodes.values()
        if len(nodes) == 1:
            yield from nodes
            return
        up = [node for node in nodes if node.is_up] or list(nodes)
        random.shuffle(up)  # turns among equals, no secret
        yield from sorted(up, key=lambda node: node.n_busy)

    async def _resolve_all(self) -> None:
        """Look up every name; keep what was known of one that can't be looked up."""
        found: dict[tuple[Origin, str], Node] = {}
        for origin in self._settings.rest:
            hosts = await _resolve(origin)
            if hosts is None:
                found.update({key: node for key, node in self._nodes.items() if key[0] == origin})
                continue
            for host in hosts:
                key = (origin, host)
                found[key] = self._nodes.get(key) or Node(origin, host, self)
        for key, node in self._nodes.items():
            if key not in found:
                node.go()
        self._nodes = found
        self._only = next(iter(found.values())) if len(found) == 1 else None

    async def _check_all(self, check: Check) -> None:
        """Check addresses that failed often and others seldom; close what has been idle long.

        Also one that is alone, and asked whatever comes of it: probes and alerts go by that.
        """
        self._turn += 1
        is_turn_of_all = self._turn % _UP_CHECK_EVERY == 0
        checked = [
            self._check_one(node, check)
            for node in self.nodes
            if node.is_in_doubt or is_turn_of_all
        ]
        await asyncio.gather(*checked)
        now = asyncio.get_running_loop().time()
        for node in self.nodes:
            node.drop_idle(older_than=now - self._settings.idle_timeout_s)

    async def _check_one(self, node: Node, check: Check) -> None:
        """Check one address over a new connection."""
        try:
            connection = await self.connect_to(node)
            is_well = await check(connection, prefix_path(self._settings.path_prefix))
        except Exception as error:  # of one address, which says nothing of the others
            tell(self._telemetry, Border.UPSTREAM, error)
            node.failed(surely=False)
        else:
            node.checked(is_well=is_well)


async def _resolve(origin: Origin) -> list[str] | None:
    """Look one name up; None where it can't be."""
    loop = asyncio.get_running_loop()
    address = origin.address
    if address.host == "localhost":  # one server, listening on either kind of address
        return [address.host]
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=1)  # SOCK_STREAM
    except (OSError, UnicodeError) as error:  # the latter for what can't be a name at all
        logger.warning(
            "upstream's name can't be looked up",
            extra={"host": address.host, "cause": _reason(error)},
        )
        return None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _reason(error: OSError | UnicodeError) -> str:
    """Say on one line what the system said."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).partition("\n")[
        0
    ]
