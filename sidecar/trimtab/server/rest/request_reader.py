"""Reads requests out of the bytes of one connection, whole heads and pieces of bodies.

Parsing is httptools' (llhttp in its strict mode), and :mod:`trimtab.server.request_head` refuses
what it lets pass and a proxy must not. Three things are the reader's own, since the parser can't do
them: the name of the protocol, which it does not tell; what follows an offer of another protocol,
where it stops; and a tab behind ``chunked``, which it takes for a part of the word.
"""

import re
from collections.abc import Callable
from typing import Protocol

import httptools

from trimtab.server.request_head import Refusal, RequestHead, read_head
from trimtab.upstream.http1 import Fields

_PRIMING = b"POST / HTTP/1.1\r\nHost: -\r\n"
_CHUNKED_AND_BLANK = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]+\r\n", re.IGNORECASE)


class RequestTaker(Protocol):
    """Takes what is read; it may raise a Refusal."""

    def head_received(self, head: RequestHead) -> None:
        """Take a head."""

    def body_received(self, data: bytes) -> None:
        """Take a piece of the body of the request whose head came last."""

    def request_ended(self) -> None:
        """That request is whole."""


class RequestReader:
    """Reads the requests of one connection.

    Attributes:
        head_since: When the head began that is not whole yet; 0 where there is none. Whoever does
            not read for a while sets it again.
        is_between: True where the next byte begins a request.
    """

    def __init__(self, taker: RequestTaker, head_bytes: int, clock: Callable[[], float]) -> None:
        """Expect a request.

        Args:
            taker: Takes what is read.
            head_bytes: Largest head, request line included.
            clock: Gives the time in seconds.
        """
        self._taker = taker
        self._limit = head_bytes
        self._clock = clock
        self.is_between = True
        self._is_priming = False
        self._head: RequestHead | None = None  # of the request that is not whole yet
        self._is_kept_open = True
        self._n_begun = 0
        self._n_heads = 0  # requests of HEAD in what is kept
        self._n_fed = 0
        self._raw = b""  # what holds the head that is not whole yet, and perhaps more before it
        self._has_blanks: bool | None = None  # at the ends of its lines; None: not looked for yet
        self._forget_head()
        self._parser = httptools.HttpRequestParser(self)

    def _forget_head(self) -> None:
        """Expect a head."""
        self._target = b""
        self._fields: Fields = []
        self._head_size = 0
        self.head_since = 0.0

    @property
    def is_for_head(self) -> bool:
        """Tell whether the request that is being read is one of HEAD, as far as it was read."""
        if self._head is not None:
            return self._head.is_for_head
        if not self.head_since:
            return False
        if self._target:
            return bool(self._parser.get_method() == b"HEAD")
        # Of a target that it refuses the parser says nothing, not even the method before it.
        return self._n_heads < self._raw.startswith(b"HEAD ") + self._raw.count(b"\nHEAD ")

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            Refusal: What comes is no request, or none that is read; nothing more can be read.
        """
        while data:
            data = self._feed(data)

    def close(self) -> None:
        """Let go of the parser, which holds this reader in turn."""
        del self._parser

    def _feed(self, data: bytes) -> bytes:
        """Read on with the parser; give what it has left."""
        was_in_head = self.head_since > 0
        is_at_start = self.is_between
        if was_in_head:
            self._raw += data
        else:
            self._raw, self._n_heads = data, 0
        self._has_blanks = None
        self._n_begun = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._read_on_behind_head()
            return data[offer.args[0] :]
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Exception):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            if not (is_at_start and self._is_tab_behind_chunked()):
                raise Refusal(400, f"the request is not HTTP/1.1: {error}") from error
            self._read_on_behind_head()
            return self._raw.lstrip(b"\r\n").partition(b"\r\n\r\n")[2]
        if not self.head_since:
            self._raw = b""
        else:
            self._check_size(len(data) if was_in_head and not self._n_begun else 0)
        return b""

    def _check_size(self, more: int) -> None:
        """Give up on a head that does not end."""
        self._n_fed += more
        if self._n_fed > self._limit or self._head_size + len(self._target) > self._limit:
            raise self._too_large()

    def _is_tab_behind_chunked(self) -> bool:
        """Tell whether the parser has stopped behind the first head here, for such a tab alone."""
        head = self._head
        if head is None or self._n_begun != 1 or not head.is_chunked:
            return False
        raw_head = self._raw.lstrip(b"\r\n").partition(b"\r\n\r\n")[0]
        return _CHUNKED_AND_BLANK.search(raw_head + b"\r\n") is not None

    def _read_on_behind_head(self) -> None:
        """Begin anew behind a head at which the parser has stopped.

        A client may offer another protocol, and it is ignored: RFC 9110, 7.8. The new parser is
        told of a body by a head of our own.
        """
        primer = _PRIMING
        if self._head is not None and self._head.framing:
            primer += self._head.framing + b"\r\n"
        if not self._is_kept_open:
            primer += b"Connection: close\r\n"
        self._parser = httptools.HttpRequestParser(self)
        self._is_priming = True
        self._parser.feed_data(primer + b"\r\n")
        self._is_priming = False

    # What httptools calls

    def on_message_begin(self) -> None:
        """Begin a head."""
        if self._is_priming:
            return
        self._forget_head()
        self.is_between = False
        self._n_begun += 1
        self._n_fed = 0
        self.head_since = self._clock()

    def on_url(self, data: bytes) -> None:
        """Take (a piece of) the target."""
        if self._is_priming:
            return
        self._target += data
        if len(self._target) > self._limit:
            raise Refusal(414, "the request's target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; what comes behind a body is none."""
        if self._head is not None or self._is_priming:
            return
        self._fields.append((name, value))
        self._head_size += len(name) + len(value) + 4
        if self._head_size > self._limit:
            raise self._too_large()

    def on_headers_complete(self) -> None:
        """Take a head."""
        if self._is_priming:
            return
        version = self._parser.get_http_version()
        raw = self._raw
        if self._target + b" HTTP/1.1\r\n" not in raw:
            self._check_protocol(version)
        if self._has_blanks is None:  # once for all heads that came together
            self._has_blanks = b" \r\n" in raw or b"\t\r\n" in raw
        if self._has_blanks:  # no part of a value: RFC 9110, 5.5
            self._fields = [(name, value.rstrip(b" \t")) for name, value in self._fields]
        head = read_head(self._parser.get_method(), self._target, self._fields, version)
        head.keep_alive = head.keep_alive and self._parser.should_keep_alive()
        self._is_kept_open = head.keep_alive
        self._n_heads += head.is_for_head
        self.head_since = 0.0
        self._head = head
        self._taker.head_received(head)

    def _check_protocol(self, version: str) -> None:
        """Refuse RTSP and ICE, which the parser reads as well, and does not tell."""
        line = re.escape(self._target) + rb" +HTTP/" + version.encode()
        if version != "0.9" and re.search(line, self._raw) is None:
            raise Refusal(400, "the request's protocol is not HTTP")

    def on_body(self, data: bytes) -> None:
        """Take a piece of a body."""
        if self._head is not None:
            self._taker.body_received(data)

    def on_message_complete(self) -> None:
        """Take the end of a body, but not where the parser only stops before an offer's body."""
        head = self._head
        if head is None or (self._parser.should_upgrade() and head.framing):
            return
        self._head = None
        self.is_between = True
        self._taker.request_ended()

    def _too_large(self) -> Refusal:
        """Say what the limit is."""
        return Refusal(431, f"the request's head has more than {self._limit} bytes")
