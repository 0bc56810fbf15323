"""One client's connection: HTTP/1.1 in, requests in order, answers in the same order.

Parsing is httptools' (llhttp in its strict mode), and :mod:`sidecar.server.heads` refuses what it
lets pass and a proxy must not. Callbacks instead of tasks; see :mod:`sidecar.upstream.qdrant_rest`.
"""

import asyncio
from collections import deque
from typing import Any, cast

import httptools

from sidecar import telemetry as t
from sidecar.http1 import Fields, error_reply, origin_form
from sidecar.server.exchange import Exchange
from sidecar.server.heads import Refusal, RequestHead, check_head, index_fields
from sidecar.server.traffic import Traffic

HIGH_WATER_BYTES = 256 * 1024
"""Bytes of answers that may wait for a slow client before Qdrant is asked to pause."""
_PRIMING = b"POST / HTTP/1.1\r\nHost: -\r\n"
_KEPT_HEADS = 1024
_KEPT_HEAD_BYTES = 2048
MAX_WAITING = 1
"""Requests read ahead of the one that is being answered (pipelining)."""
_LINGER_S = 2.0


class ClientConnection(asyncio.Protocol):
    """A connection and its requests."""

    def __init__(self, traffic: Traffic, connections: "set[ClientConnection]") -> None:
        """Wait for the first request."""
        self._traffic = traffic
        self._connections = connections
        self._limits = traffic.table.settings.limits
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._exchanges: deque[Exchange] = deque()
        self._receiving: Exchange | None = None
        self._refusal: Refusal | None = None
        self._last_head: RequestHead | None = None
        self._is_priming = False
        self._is_reading_paused = False
        self._is_upstream_slow = False
        self._is_writable = True
        self._lingers_until = 0.0
        self._last_byte_at = self._loop.time()
        self._unwritable_since = 0.0
        self._begin()

    def _begin(self) -> None:
        """Expect a request."""
        self._parser = httptools.HttpRequestParser(self)
        self._forget_head()

    def _forget_head(self) -> None:
        """Expect a head."""
        self._target = b""
        self._fields: Fields = []
        self._head_size = 0
        self._head_since = 0.0

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be connected, or be one too many."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        if len(self._connections) >= self._limits.connections or self._traffic.is_draining:
            self._refuse(Refusal(503, "too many connections; try again"))
            return
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Read requests."""
        self._last_byte_at = self._loop.time()
        if self._refusal is not None or self._lingers_until:
            return
        if self._exchanges or self._receiving is not None or self._head_since:
            self._parse(data)
        elif not self._take_known(data):
            self._parse(data)
            self._learn_head(data)

    def _take_known(self, data: bytes) -> bool:
        """Take a request whose head came before byte by byte, and was parsed and checked then."""
        end = data.find(b"\r\n\r\n") + 4
        head = self._traffic.heads.get(data[:end])
        if head is None or len(data) - end != head.length:
            return False
        exchange = Exchange(self._traffic, self, head)
        self._exchanges.append(exchange)
        exchange.start_whole(data[end:])
        return True

    def _learn_head(self, data: bytes) -> None:
        """Keep the head of a request that was whole in what was read, and alone."""
        head, self._last_head = self._last_head, None
        if head is None or head.is_chunked or self._receiving is not None or self._head_since:
            return
        end = data.find(b"\r\n\r\n") + 4
        is_short = end <= _KEPT_HEAD_BYTES
        if is_short and len(data) - end == head.length and data.startswith(head.method):
            if len(self._traffic.heads) >= _KEPT_HEADS:
                self._traffic.heads.clear()
            self._traffic.heads[data[:end]] = head

    def _parse(self, data: bytes) -> None:
        """Read requests with the parser."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_offer(data[upgrade.args[0] :])
            return
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, Refusal):
                raise
            self._refuse(error.__context__)
            return
        except httptools.HttpParserError as error:
            self._refuse(Refusal(400, f"the request is not HTTP/1.1: {error}"))
            return
        if self._head_since and self._head_size + len(self._target) > self._limits.head_bytes:
            self._refuse(Refusal(431, self._too_large()))
        self._steer_reading()

    def _ignore_offer(self, rest: bytes) -> None:
        """Read on in HTTP/1.1 where the client has offered another protocol, as it may.

        The parser has stopped behind the head. A new one is told of a body by a head of our own.
        """
        self._begin()
        exchange = self._receiving
        if exchange is not None:
            self._is_priming = True
            self._parser.feed_data(_PRIMING + exchange.framing + b"\r\n\r\n")
            self._is_priming = False
        if rest:
            self._parse(rest)

    def eof_received(self) -> bool:
        """Give up: whoever closes one side only can't be told from one who is gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what was under way."""
        self._connections.discard(self)
        del self._parser  # which holds this connection in turn
        exchanges, self._exchanges = self._exchanges, deque()
        for exchange in exchanges:
            exchange.client_gone()

    def pause_writing(self) -> None:
        """Let the answer wait for its reader."""
        self._is_writable = False
        self._unwritable_since = self._loop.time()
        if self._exchanges:
            self._exchanges[0].client_writable(writable=False)

    def resume_writing(self) -> None:
        """Go on with the answer."""
        self._is_writable = True
        if self._exchanges:
            self._exchanges[0].client_writable(writable=True)

    # What httptools calls

    def on_message_begin(self) -> None:
        """Begin a head."""
        if self._is_priming:
            return
        self._forget_head()
        self._head_since = self._loop.time()

    def on_url(self, data: bytes) -> None:
        """Take (a piece of) the target."""
        if self._is_priming:
            return
        self._target += data
        if len(self._target) > self._limits.head_bytes:
            raise Refusal(414, "the request's target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; what comes behind a body is none."""
        if self._receiving is not None:
            return
        self._fields.append((name, value))
        self._head_size += len(name) + len(value) + 4
        if self._head_size > self._limits.head_bytes:
            raise Refusal(431, self._too_large())

    def on_headers_complete(self) -> None:
        """Take a request, and start it if none is before it."""
        if self._is_priming:
            return
        version = self._parser.get_http_version()
        head = RequestHead(
            self._parser.get_method(),
            self._traffic.paths.forward(origin_form(self._target)),
            self._fields,
            index_fields(self._fields),
            keep_alive=self._parser.should_keep_alive(),
            is_http_10=version == "1.0",
        )
        check_head(head, version)
        self._head_since = 0.0
        self._last_head = head if b"expect" not in head.values else None
        exchange = Exchange(self._traffic, self, head)
        self._receiving = exchange
        self._exchanges.append(exchange)
        if len(self._exchanges) == 1:
            exchange.start()

    def on_body(self, data: bytes) -> None:
        """Take a piece of a body."""
        if self._receiving is not None:
            self._receiving.body_received(data)

    def on_message_complete(self) -> None:
        """Take the end of a body, but not where the parser only stops before an offer's body."""
        if self._parser.should_upgrade() and self._receiving and self._receiving.framing:
            return
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            exchange.body_ended()

    # What the exchange calls

    def write(self, data: bytes) -> None:
        """Send (a piece of) an answer, unless the client has just gone."""
        if not self._transport.is_closing():
            self._transport.write(data)

    @property
    def is_writable(self) -> bool:
        """Tell whether the client keeps up with its answers."""
        return self._is_writable

    def set_upstream_writable(self, *, writable: bool) -> None:
        """Read more of the request's body, or not for now."""
        self._is_upstream_slow = not writable
        self._steer_reading()

    def exchange_ended(self, exchange: Exchange, *, keep_alive: bool) -> None:
        """Go on to the next request, or close."""
        if self._exchanges and self._exchanges[0] is exchange:
            self._exchanges.popleft()
        if self._transport.is_closing():
            return
        if self._receiving is exchange:
            self._receiving = None
            self._linger()
        elif not keep_alive or self._traffic.is_draining:
            self._transport.close()
        elif self._exchanges:
            self._exchanges[0].start()
        elif self._refusal is not None:
            self._answer_refusal()
        self._is_upstream_slow = False
        self._steer_reading()

    def abort(self) -> None:
        """Break the connection, so that a part of an answer is not taken for the whole."""
        self._transport.abort()

    # What the server calls

    def check(self, now: float) -> None:
        """Close the connection if its client takes too long; called about once a second."""
        limits = self._limits
        if self._lingers_until:
            if now > self._lingers_until:
                self._transport.abort()
        elif not self._is_writable and now - self._unwritable_since > limits.body_timeout_s:
            self._transport.abort()
        elif self._head_since:
            if now - self._head_since > limits.head_timeout_s:
                self._refuse(Refusal(408, "the request's head took too long"))
        elif self._receiving is not None and not self._is_reading_paused:
            if now - self._last_byte_at > limits.body_timeout_s:
                self._refuse_slow_body()
        elif not self._exchanges and now - self._last_byte_at > limits.idle_timeout_s:
            self._transport.close()
        if self._exchanges:
            self._exchanges[0].check(now)

    def drain(self) -> None:
        """Close the connection now if it is idle; else after the request that is under way."""
        if not self._exchanges and not self._head_since:
            self._transport.close()

    # How it is done

    def _steer_reading(self) -> None:
        """Stop reading while enough waits, and go on when it no longer does."""
        should_pause = self._is_upstream_slow or len(self._exchanges) > MAX_WAITING
        if should_pause is self._is_reading_paused or self._transport.is_closing():
            return
        self._is_reading_paused = should_pause
        if should_pause:
            self._transport.pause_reading()
        else:
            self._last_byte_at = self._loop.time()
            self._transport.resume_reading()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a request that can't be read, after those before it, and close."""
        self._refusal = refusal
        self._head_since = 0.0
        if self._receiving is not None:  # its body can't be read to the end
            exchange, self._receiving = self._receiving, None
            if exchange is self._exchanges[-1]:
                self._exchanges.pop()
            exchange.client_gone()
            if exchange.has_answered:
                self._transport.abort()
                return
        if not self._exchanges:
            self._answer_refusal()

    def _answer_refusal(self) -> None:
        """Answer and close."""
        refusal = self._refusal
        if refusal is None:
            return
        self._traffic.telemetry.count(t.ERRORS, "rest", f"http_{refusal.status}")
        self._transport.write(error_reply(refusal.status, refusal.message, keep_alive=False))
        self._linger()

    def _refuse_slow_body(self) -> None:
        """Give up a request whose body does not come."""
        self._refuse(Refusal(408, "the request's body took too long"))

    def _linger(self) -> None:
        """Let the client read the answer before the connection breaks under what it still sends."""
        self._lingers_until = self._loop.time() + _LINGER_S
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:  # TLS has no half-closed connections
            self._transport.close()

    def _too_large(self) -> str:
        """Say what the limit is."""
        return f"the request's head has more than {self._limits.head_bytes} bytes"
