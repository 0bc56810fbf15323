"""One client's connection: HTTP/1.1 in, requests in order, answers in the same order.

Callbacks instead of tasks; see :mod:`trimtab.upstream.rest_connection`. Whatever goes wrong here is
answered on this connection, behind the answers that were asked for before.
"""

import asyncio
import logging
from collections import deque
from typing import Any, cast

from trimtab import metrics as t
from trimtab.server.request_head import Refusal, RequestHead
from trimtab.server.rest.exchange import Exchange
from trimtab.server.rest.request_reader import RequestReader
from trimtab.server.rest.unsent import Unsent, look_at_unsent
from trimtab.server.worker_state import WorkerState
from trimtab.upstream.http1 import error_reply

logger = logging.getLogger(__name__)

HIGH_WATER_BYTES = 256 * 1024
"""Bytes of answers that may wait for a slow client before Qdrant is asked to pause."""
_KEPT_HEADS = 1024
_KEPT_HEAD_BYTES = 2048
MAX_WAITING = 1
"""Requests read ahead of the one that is being answered (pipelining)."""
_LINGER_S = 2.0
"""For which a client may go on sending once it has its last answer: RFC 9112, 9.6."""


class ClientConnection(asyncio.Protocol):
    """A connection and its requests."""

    def __init__(self, state: WorkerState, connections: "set[ClientConnection]") -> None:
        """Wait for the first request."""
        self._state = state
        self._connections = connections
        self._limits = state.table.settings.limits
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._reader = RequestReader(self, self._limits.head_bytes, self._loop.time)
        self._exchanges: deque[Exchange] = deque()
        self._receiving: Exchange | None = None
        self._refusal: Refusal | None = None
        self._is_refusal_bodiless = False
        self._last_head: RequestHead | None = None
        self._is_starting = False
        self._is_reading_paused = False
        self._is_upstream_slow = False
        self._is_writable = True
        self._lingers_until = 0.0
        self._unsent = Unsent(0, 0)  # of the last answer, when that was last looked at
        self._last_byte_at = self._loop.time()
        self._unwritable_since = 0.0

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be connected, or be one too many."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        if len(self._connections) >= self._limits.connections or self._state.is_draining:
            self._refusal = Refusal(503, "too many connections; try again")  # once it asks
            self._loop.call_later(_LINGER_S, self._transport.abort)
            return
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Read requests."""
        self._last_byte_at = self._loop.time()
        if self._lingers_until:
            return
        if self._refusal is not None:
            if self not in self._connections:
                self._is_refusal_bodiless = data.startswith(b"HEAD ")
                self._answer_refusal()
            return
        try:
            if self._exchanges or self._receiving is not None or not self._reader.is_between:
                self._parse(data)
            elif not self._take_known(data):
                self._parse(data)
                self._learn_head(data)
        except Exception:
            logger.exception("request failed")
            self._refuse(Refusal(500, "internal error; see the sidecar's log"))

    def _take_known(self, data: bytes) -> bool:
        """Take a request whose head came before byte by byte, and was parsed and checked then."""
        end = data.find(b"\r\n\r\n") + 4
        head = self._state.heads.get(data[:end])
        if head is None or len(data) - end != head.length:
            return False
        exchange = Exchange(self._state, self, head)
        self._exchanges.append(exchange)
        exchange.start_whole(data[end:])
        return True

    def _learn_head(self, data: bytes) -> None:
        """Keep the head of a request that was whole in what was read, and alone."""
        head, self._last_head = self._last_head, None
        if head is None or head.is_chunked or not self._reader.is_between:
            return
        end = data.find(b"\r\n\r\n") + 4
        is_short = end <= _KEPT_HEAD_BYTES
        if is_short and len(data) - end == head.length and data.startswith(head.method):
            if len(self._state.heads) >= _KEPT_HEADS:
                self._state.heads.clear()
            self._state.heads[data[:end]] = head

    def _parse(self, data: bytes) -> None:
        """Read requests with the parser."""
        try:
            self._reader.feed(data)
        except Refusal as refusal:
            self._refuse(refusal)
        else:
            self._steer_reading()

    def eof_received(self) -> bool:
        """Give up: whoever closes one side only can't be told from one who is gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what was under way."""
        self._connections.discard(self)
        self._reader.close()
        exchanges, self._exchanges = self._exchanges, deque()
        for exchange in exchanges:
            exchange.client_gone()

    def pause_writing(self) -> None:
        """Let the answer wait for its reader, and read no more requests until then."""
        self._is_writable = False
        self._unwritable_since = self._loop.time()
        if self._exchanges:
            self._exchanges[0].client_writable(writable=False)
        self._steer_reading()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        self._is_writable = True
        if self._reader.head_since:
            self._reader.head_since = self._loop.time()
        if self._exchanges:
            self._exchanges[0].client_writable(writable=True)
        self._start_next()
        self._steer_reading()

    # What the reader calls

    def head_received(self, head: RequestHead) -> None:
        """Take a request, and start it if none is before it."""
        if self._is_ending():
            raise Refusal(400, "the connection has ended")
        head.target = self._state.paths.forward(head.target)
        self._last_head = head if b"expect" not in head.values else None
        exchange = Exchange(self._state, self, head)
        self._receiving = exchange
        self._exchanges.append(exchange)
        self._start_next()

    def body_received(self, data: bytes) -> None:
        """Take a piece of a body."""
        if self._receiving is not None:
            self._receiving.body_received(data)

    def request_ended(self) -> None:
        """Take the end of a body."""
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
        if self._lingers_until or self._transport.is_closing():
            return
        self._last_byte_at = self._loop.time()  # from here on the client is waited for again
        if self._reader.head_since:
            self._reader.head_since = self._last_byte_at
        if self._receiving is exchange or not keep_alive or self._state.is_draining:
            self._receiving = None
            self._linger()
        elif self._exchanges:
            self._start_next()
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
        if self._lingers_until:
            self._check_lingering(now)
        elif not self._is_writable:  # nothing is read, so that nothing else is waited for
            if now - self._unwritable_since > self._limits.body_timeout_s:
                self._transport.abort()
        else:
            self._check_reading(now)
        if self._exchanges:
            self._exchanges[0].check(now)

    def _check_lingering(self, now: float) -> None:
        """Give up on a client that takes no more of its last answer, or has it and does not end."""
        unsent = look_at_unsent(self._transport)
        if unsent != self._unsent:
            self._await_end(unsent, now)
        elif now > self._lingers_until:
            self._transport.abort()

    def _check_reading(self, now: float) -> None:
        """Give up on a client that has been waited for too long."""
        limits = self._limits
        if self._exchanges:
            is_waiting = self._receiving is not None and not self._is_reading_paused
            if is_waiting and now - self._last_byte_at > limits.body_timeout_s:
                self._refuse(Refusal(408, "the request's body took too long"))
        elif self._reader.head_since:
            if now - self._reader.head_since > limits.head_timeout_s:
                self._refuse(Refusal(408, "the request's head took too long"))
        elif now - self._last_byte_at > limits.idle_timeout_s:
            self._close_idle()

    def drain(self) -> None:
        """Close the connection now if it is idle; else after the request that is under way."""
        if not self._exchanges and not self._reader.head_since:
            self._close_idle()

    # How it is done

    def _close_idle(self) -> None:
        """Close, with what may still be on its way: TLS has no end of its own to that."""
        if self._transport.can_write_eof():
            self._transport.close()
        elif not self._is_ending():
            self._linger()

    def _start_next(self) -> None:
        """Start the first request; one after another where they are answered at once.

        None is started while the client does not read, or its answers would pile up.
        """
        if self._is_starting:
            return  # the loop that runs already comes to it
        self._is_starting = True
        try:
            while self._may_start():
                self._exchanges[0].start()
        finally:
            self._is_starting = False

    def _may_start(self) -> bool:
        """Tell whether there is a request whose turn it is."""
        is_waiting = bool(self._exchanges) and not self._exchanges[0].is_started
        return is_waiting and self._is_writable and not self._is_ending()

    def _is_ending(self) -> bool:
        """Tell whether nothing more is read or answered."""
        return self._lingers_until > 0 or self._transport.is_closing()

    def _steer_reading(self) -> None:
        """Stop reading while enough waits, and go on when it no longer does."""
        is_busy = self._is_upstream_slow or len(self._exchanges) > MAX_WAITING
        should_pause = (is_busy or not self._is_writable) and not self._lingers_until
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
        if self._is_ending():
            return
        self._refusal = refusal
        self._is_refusal_bodiless = self._reader.is_for_head
        self._reader.head_since = 0.0
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
        self._state.telemetry.count(t.ERRORS, "rest", f"http_{refusal.status}")
        self._transport.write(
            error_reply(
                refusal.status,
                refusal.message,
                keep_alive=False,
                is_bodiless=self._is_refusal_bodiless,
            )
        )
        self._linger()

    def _linger(self) -> None:
        """Let the client read the answer before the connection breaks under what it still sends."""
        self._await_end(look_at_unsent(self._transport), self._loop.time())
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:  # TLS has no half-closed connections, and reads until the client agrees to the end
            self._transport.close()

    def _await_end(self, unsent: Unsent, now: float) -> None:
        """Wait for the last answer to be taken, or from when it is, for the client to end."""
        self._unsent = unsent
        self._lingers_until = now + (self._limits.body_timeout_s if unsent.n_bytes else _LINGER_S)
