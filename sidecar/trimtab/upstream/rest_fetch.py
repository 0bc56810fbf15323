"""A whole request to Qdrant and its whole answer, for the sidecar's own questions."""

import asyncio
from dataclasses import dataclass

from trimtab.errors import DeadlineError, TooLargeError, UnavailableError, UpstreamError
from trimtab.time_limits import timeout
from trimtab.upstream.http1 import Fields, encode_head
from trimtab.upstream.rest_connection import AnswerHead, Connection
from trimtab.upstream.rest_pool import Pool

ANSWER_LIMIT_BYTES = 32 * 2**20
CHECK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the sidecar's own.

    Attributes:
        method: The HTTP method.
        target: Path and query.
        fields: Header fields, without ``Host`` and ``Content-Length``.
        body: May be empty.
    """

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def encode(self, host: bytes) -> bytes:
        """Write it for a host."""
        fields = [(b"host", host), *self.fields]
        if self.body or self.method != b"GET":
            fields.append((b"content-length", b"%d" % len(self.body)))
        return encode_head(b"%b %b HTTP/1.1" % (self.method, self.target), fields) + self.body


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """An answer."""

    status: int
    fields: Fields
    body: bytes


class _Collector:
    """Collects an answer."""

    takes_plain_answers = False
    is_request_whole = True

    def __init__(self) -> None:
        """Wait for it."""
        self.done: asyncio.Future[WholeAnswer] = asyncio.get_running_loop().create_future()
        self._head: AnswerHead | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def head_received(self, head: AnswerHead) -> None:
        """Take the head."""
        self._head = head

    def interim_received(self, head: AnswerHead) -> None:
        """Wait on."""

    def data_received(self, data: bytes) -> None:
        """Take a piece."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > ANSWER_LIMIT_BYTES and not self.done.done():
            self.done.set_exception(TooLargeError("Qdrant's answer is too large"))

    def answer_ended(self) -> None:
        """Hand it over."""
        if self._head is not None and not self.done.done():
            head = self._head
            self.done.set_result(WholeAnswer(head.status, head.fields, b"".join(self._pieces)))

    def answer_failed(self, error: UpstreamError) -> None:
        """Hand the failure over."""
        if not self.done.done():
            self.done.set_exception(error)

    def plain_answer_received(self, head: bytes, body: bytes) -> None:
        """Never called; see ``takes_plain_answers``."""

    def upstream_writable(self, *, writable: bool) -> None:
        """The request is sent already."""


async def ask(pool: Pool, request: Request, *, timeout_s: float | None) -> WholeAnswer:
    """Ask whichever address is best; without a limit, for as long as it takes.

    Raises:
        UnavailableError: None answers.
        DeadlineError: Not in time.
    """
    connection = pool.take(is_safe=True) or await pool.connect()
    try:
        return await ask_over(connection, request, timeout_s=timeout_s)
    except UnavailableError:
        if connection.n_exchanges == 1:
            raise
    # It was an old connection, which the other side had closed: once more over a new one.
    return await ask_over(await pool.connect(), request, timeout_s=timeout_s)


async def ask_over(
    connection: Connection, request: Request, *, timeout_s: float | None
) -> WholeAnswer:
    """Ask over a connection that is free.

    Raises:
        UnavailableError: It gives no whole answer.
        DeadlineError: Not in time.
    """
    collector = _Collector()
    encoded = request.encode(connection.host_field)
    connection.send(encoded, collector, is_head_request=False)
    try:
        async with timeout(timeout_s):
            return await collector.done
    except TimeoutError as error:
        raise DeadlineError(f"Qdrant did not answer within {timeout_s:g} s") from error
    finally:
        if not collector.done.done() or collector.done.cancelled() or collector.done.exception():
            connection.give_up()


async def is_well(connection: Connection, prefix: bytes) -> bool:
    """Check an address over a new connection, which is closed then.

    Args:
        connection: To the address.
        prefix: What stands before Qdrant's own paths there.

    Returns:
        False where it answers that it fails (5xx), as an ingress with no Qdrant behind it does.

    Raises:
        UpstreamError: It does not answer.
    """
    connection.is_kept = False
    request = Request(b"GET", prefix + b"/healthz")
    answer = await ask_over(connection, request, timeout_s=CHECK_TIMEOUT_S)
    return answer.status < 500
