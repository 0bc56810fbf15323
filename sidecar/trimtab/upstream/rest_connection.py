"""One connection to one address of Qdrant's REST: a request out, its answer back, piece by piece.

Callbacks instead of tasks: a query passes here in a few microseconds.
"""

import asyncio
import logging
import re
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httptools

from trimtab.addresses import Origin
from trimtab.errors import UnavailableError, UpstreamError
from trimtab.upstream.http1 import Fields

logger = logging.getLogger(__name__)

HIGH_WATER_BYTES = 256 * 1024
"""Bytes that may wait to be written before the sender of them is asked to pause."""
_HEAD_BYTES = 2**20
"""Largest head of an answer, with the interim ones before it; many servers allow 8 KiB."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_FIELD = (  # one that has no say in how the answer is read, and no control character
    rb"(?:(?!connection:|content-length:|transfer-encoding:|keep-alive:|upgrade:|trailer:|te:)"
    rb"[!#-'*+.0-9A-Z^-z|~-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*+"
)
_PLAIN = re.compile(
    rb"(HTTP/1\.1 200 OK\r\n" + _FIELD + rb"content-length:[ \t]*([0-9]{1,15})[ \t]*\r\n" + _FIELD
    + rb")(?:connection:[ \t]*keep-alive[ \t]*\r\n)?(" + _FIELD + rb")\r\n",
    re.IGNORECASE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The head of an answer.

    Attributes:
        status: Its number.
        reason: The words behind it.
        fields: Header fields as they came.
        is_chunked: True where the body has no length of its own, or comes in chunks.
    """

    status: int
    reason: bytes
    fields: Fields
    is_chunked: bool


class Receiver(Protocol):
    """Takes what comes back for one request."""

    def head_received(self, head: AnswerHead) -> None:
        """Take the final head; only once."""

    def interim_received(self, head: AnswerHead) -> None:
        """Take a head of 1xx, which another one follows."""

    def data_received(self, data: bytes) -> None:
        """Take a piece of the body."""

    def answer_ended(self) -> None:
        """The answer is whole; the connection may be in other hands now."""

    def answer_failed(self, error: UpstreamError) -> None:
        """Nothing more will come."""

    @property
    def takes_plain_answers(self) -> bool:
        """Tell whether :meth:`plain_answer_received` may be called."""

    def plain_answer_received(self, head: bytes, body: bytes) -> None:
        """Take an answer of 200 that is whole and has nothing to it; the end is told as ever.

        Args:
            head: Its head as it came, without its last line break and without ``Connection``.
            body: Its body.
        """

    def upstream_writable(self, *, writable: bool) -> None:
        """The connection takes more of the request's body, or not for now."""

    @property
    def is_request_whole(self) -> bool:
        """Tell whether nothing more of the request will come; else the connection is spent."""


class Connection(asyncio.Protocol):
    """A connection, and the exchange that has it at the moment.

    Attributes:
        idle_since: When its last exchange ended, in the loop's time.
        is_open: False once it can take no more requests.
        is_kept: False for one that is closed after its exchange, of which its owner hears nothing.
        n_exchanges: Exchanges that it has had.
        asked_at: When its exchange began, in the loop's time.
        last_byte_at: When it last sent or received something, in the loop's time.
        owner: Its address.
        host_field: The ``Host`` of the address, for requests of the sidecar's own.
        is_tls: True for TLS.
    """

    def __init__(self, owner: "ConnectionOwner") -> None:
        """Belong to an address."""
        self.host_field = str(owner.origin.address).encode()
        self.is_tls = owner.origin.is_tls
        self.idle_since = 0.0
        self.is_open = self.is_kept = True
        self.n_exchanges = 0
        self.last_byte_at = self.asked_at = 0.0
        self.owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._receiver: Receiver | None = None
        self._is_head_request = False
        self._reset_parser()

    def _reset_parser(self) -> None:
        """Expect the head of an answer."""
        self._parser = httptools.HttpResponseParser(self)
        self._raw_head = b""  # what holds the head that is not whole yet
        self._begin()

    def _begin(self) -> None:
        """Forget the last answer."""
        self._reason = b""
        self._fields: Fields = []
        self._has_head = False
        self._is_interim = False
        self._ends_with_connection = False
        self._is_between = True  # nothing of an answer has been given to the parser
        self._is_complete = self._is_kept_open = False
        self._is_spoiled = False  # bytes came behind the answer, and are nobody's

    # What the exchange calls

    def send(self, data: bytes, receiver: Receiver, *, is_head_request: bool) -> None:
        """Begin an exchange with the first bytes of a request."""
        if not self.is_open:  # closed since it was taken, with the news still on its way
            self._loop.call_soon(receiver.answer_failed, UnavailableError("Qdrant has gone"))
            return
        self._receiver = receiver
        self._is_head_request = is_head_request
        self.n_exchanges += 1
        self.asked_at = self.last_byte_at = self._loop.time()
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        """Send more of the request."""
        self._transport.write(data)

    def pause_answer(self) -> None:
        """Let the answer wait for its reader."""
        if self.is_open:
            self._transport.pause_reading()

    def resume_answer(self) -> None:
        """Go on with the answer."""
        if self.is_open:
            self._transport.resume_reading()

    @property
    def is_silent(self) -> bool:
        """Tell whether not a byte of an answer has come, as from one that was closed before."""
        return self._is_between

    def give_up(self) -> None:
        """End an exchange before its answer is whole; the connection is of no more use."""
        self._receiver = None
        self._close()

    def close(self) -> None:
        """Close it while nobody has it."""
        self._close()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Read a piece of an answer."""
        if self._receiver is None:  # nobody has asked
            self._close()
            return
        self.last_byte_at = self._loop.time()
        if self._is_between and self._receiver.takes_plain_answers:
            plain = read_plain_answer(data)
            if plain is not None:
                self._receiver.plain_answer_received(*plain)
                self._end()
                return
        self._raw_head = data if self._is_between else self._raw_head + data
        self._is_between = False
        self._parse(data)
        if self._has_head or self._is_between:
            self._raw_head = b""
        elif len(self._raw_head) > _HEAD_BYTES:
            self._fail(UnavailableError("the head of Qdrant's answer does not end"))

    def _parse(self, data: bytes) -> None:
        """Read a piece of an answer with the parser."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError) as error:
            if not self._is_complete:
                self._refuse(error)
                return
            self._is_spoiled = True
        if self._is_complete:
            if self._is_spoiled or not self._is_kept_open:
                self._close()
            self._begin()
            self._end()

    def _refuse(self, error: Exception) -> None:
        """Give up on what can't be read, or on a receiver that has failed."""
        if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(
            error.__context__, _BadAnswerError
        ):
            logger.error("answer could not be passed on", exc_info=error.__context__)
        self._fail(UnavailableError("what answers at Qdrant's address is not HTTP/1.1"))

    def eof_received(self) -> bool:
        """Take the end of the connection for the end of a body that has no other."""
        if self._receiver is not None and self._has_head and self._ends_with_connection:
            self._close()
            self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever is waiting."""
        self.is_open = False
        self.owner.connection_closed(self)
        self._fail(UnavailableError("Qdrant closed the connection before its answer was whole"))
        del self._parser  # which holds this connection in turn

    def pause_writing(self) -> None:
        """Ask for no more of the request's body."""
        if self._receiver is not None:
            self._receiver.upstream_writable(writable=False)

    def resume_writing(self) -> None:
        """Ask for more of the request's body."""
        if self._receiver is not None:
            self._receiver.upstream_writable(writable=True)

    # What httptools calls

    def on_message_begin(self) -> None:
        """Begin an answer, unless there is one already: then what comes is nobody's."""
        self._is_spoiled = self._is_complete

    def on_status(self, reason: bytes) -> None:
        """Take (a piece of) the words behind the status."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; what comes behind a body is none."""
        if not self._has_head:
            if value.endswith((b" ", b"\t")):  # no part of it: RFC 9110, 5.5
                value = value.rstrip(b" \t")
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Hand the head over."""
        receiver = self._receiver
        if receiver is None or self._is_complete:
            return
        status = self._parser.get_status_code()
        names = {name.lower() for name, _ in self._fields}
        if not self._is_understood(status):
            raise _BadAnswerError
        has_length = b"content-length" in names
        is_bodiless = self._is_head_request or status in {204, 304} or status < 200
        is_chunked = not has_length and not is_bodiless
        head = AnswerHead(status, self._reason, self._fields, is_chunked)
        self._has_head = True
        self._is_interim = status < 200
        if self._is_interim:
            receiver.interim_received(head)
            return
        self._ends_with_connection = is_chunked and b"transfer-encoding" not in names
        receiver.head_received(head)
        if self._is_head_request and self._receiver is receiver:
            # The parser waits for the body that the length announces, and that never comes.
            self._is_complete = self._is_spoiled = True

    def _is_understood(self, status: int) -> bool:
        """Tell whether an answer's head can be read in one way only."""
        codings = [v for name, v in self._fields if name.lower() == b"transfer-encoding"]
        version = self._parser.get_http_version()
        return (
            100 <= status <= 599
            and status != 101  # nobody has offered another protocol
            and all(coding.lower() == b"chunked" for coding in codings)
            and len(codings) < 2
            and version in {"1.0", "1.1"}
            and b"HTTP/%b %d" % (version.encode(), status) in self._raw_head  # no RTSP, no ICE
            and _CONTROL.search(self._reason) is None
        )

    def on_body(self, data: bytes) -> None:
        """Hand a piece of the body over."""
        if self._receiver is not None and not self._is_complete:
            self._receiver.data_received(data)

    def on_message_complete(self) -> None:
        """Note the end; it is told once the parser is done with what was read."""
        if self._receiver is None or self._is_complete:
            return
        if self._is_interim:
            self._begin()
            self._is_between = False
        else:
            self._is_complete = True
            self._is_kept_open = self._parser.should_keep_alive()  # the parser forgets it now

    # How an exchange ends

    def _end(self) -> None:
        """Let go of an exchange whose answer is whole."""
        receiver, self._receiver = self._receiver, None
        self.idle_since = self._loop.time()
        if receiver is not None and not (receiver.is_request_whole and self.is_kept):
            self._close()
        if self.is_open:
            self.owner.connection_free(self)
        if receiver is not None:
            receiver.answer_ended()

    def _fail(self, error: UpstreamError) -> None:
        """Let go of an exchange that gets no answer, or not all of it."""
        receiver, self._receiver = self._receiver, None
        self._close()
        if receiver is not None:
            receiver.answer_failed(error)

    def _close(self) -> None:
        """Close the connection at once."""
        if self.is_open:
            self.is_open = False
            self._transport.abort()


def read_plain_answer(data: bytes) -> tuple[bytes, bytes] | None:
    """Take a plain answer apart, in a fifth of the time that reading it field by field takes.

    Args:
        data: What was read from the connection, from the first byte of an answer on.

    Returns:
        The head, without its last line break and without ``Connection``, and the body: where the
        answer is a 200 that has one length, is whole and alone. None for everything else, however
        right or wrong; that is the parser's.
    """
    match = _PLAIN.match(data)
    if match is None or len(data) - match.end() != int(match[2]):
        return None
    return match[1] + match[3], data[match.end() :]


class _BadAnswerError(Exception):
    """Ends the parsing of an answer that can be read in two ways."""


class ConnectionOwner(Protocol):
    """An address: keeps its connections between exchanges."""

    @property
    def origin(self) -> Origin:
        """As the settings name it."""

    def connection_free(self, connection: Connection) -> None:
        """An exchange has ended; the connection can take another."""

    def connection_closed(self, connection: Connection) -> None:
        """A connection is gone."""

    def failed(self, *, surely: bool) -> None:
        """The address has not answered; surely, where it can't even be reached."""
