"""One REST request on its way to Qdrant, and its answer on the way back.

A request that may carry query vectors is read to its end, adapted (:mod:`.adapt`), and sent;
any other is passed on piece by piece as it comes. Answers always are.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from trimtab import metrics as t
from trimtab.errors import (
    DeadlineError,
    NotServedError,
    SidecarError,
    TooLargeError,
    UpstreamError,
)
from trimtab.rewrite.policies import Reason, reason_of_mark
from trimtab.server.busy_poll import FOR_ANSWER, FOR_REQUEST
from trimtab.server.bypass import Peek
from trimtab.server.dispatch import Plan, Way
from trimtab.server.request_head import MARK, RequestHead
from trimtab.server.rest.adapt import Prepared, answer_from_index, prepare, prepare_at_once
from trimtab.server.rest.response import Answering, Client
from trimtab.server.route_table import Table
from trimtab.server.status import status_of
from trimtab.server.tracing import Span
from trimtab.server.worker_state import Traffic
from trimtab.unforeseen import Border, tell
from trimtab.upstream.http1 import (
    LAST_CHUNK,
    Fields,
    chunk,
    end_to_end,
)
from trimtab.upstream.rest_connection import AnswerHead, Connection

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_WAITING_BYTES = 256 * 1024
"""Bytes of a body that may wait for a connection before the client is asked to pause."""
_EXPECT = frozenset({b"expect"})
_UNPLANNED = Plan(Way.PASS, "other", None, is_repeatable=False, forgets=None)


class Exchange(Answering):
    """A request and its answer.

    Attributes:
        is_started: True once it is this request's turn.
    """

    is_started = False
    _plan = _UNPLANNED
    _way = Way.PASS
    _is_whole = False
    _is_over = False
    _is_sent = False
    _size = 0
    _sent_at = 0.0
    _task: asyncio.Task[None] | None = None
    _connection: Connection | None = None
    _request: bytes | None = None  # what is sent, kept where it may be sent again
    _span: Span | None = None
    _peek: Peek | None = None

    def __init__(self, traffic: Traffic, client: Client, head: RequestHead) -> None:
        """Take a head; nothing happens before :meth:`start`."""
        super().__init__(client, head)
        self._traffic = traffic
        self._is_chunked = head.is_chunked
        self._pieces: list[bytes] = []

    # What the client's connection calls

    def start_whole(self, body: bytes) -> None:
        """Begin with a body that is whole."""
        self._pieces.append(body)
        self._size = len(body)
        self._is_whole = True
        self.start()

    def start(self) -> None:
        """Begin, now that the answers before this one are sent."""
        try:
            self._begin()
        except Exception as error:
            self._answer_unforeseen(error)

    def _begin(self) -> None:
        """Decide what is done with the request, and do what can be done at once."""
        self.is_started = True
        self._started_at = time.perf_counter()
        traffic = self._traffic
        traffic.n_under_way += 1
        traffic.busy_poll.arrived(self._started_at)
        planner, head = traffic.planner, self._head
        self._table: Table = planner.table
        plan = self._plan = planner.plan(head.method, head.target)
        if traffic.tracer is not None:
            collection = "" if plan.endpoint is None else plan.endpoint.collection
            self._span = traffic.tracer.begin(
                plan.kind, head.method, head.target, head.fields, collection=collection
            )
            self._head = replace(head, fields=self._span.fields(head.fields), adapted_prefix=b"")
        is_left = plan.way is Way.ADAPT and plan.kind == "query" and MARK in head.values
        self._way = Way.PASS if is_left else plan.way
        if self._way is Way.PASS:
            self._count_passed()
            if self._is_whole or not self._is_held():
                self._obtain_connection()
        elif self._is_too_large():
            self._answer_error(self._too_large())
        elif self._is_whole:
            self._prepare()
        elif head.values.get(b"expect", b"").lower() == b"100-continue" and not head.is_http_10:
            self._client.write(_CONTINUE)

    def body_received(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self._is_over:
            return
        try:
            self._take_piece(data)
        except Exception as error:
            self._answer_unforeseen(error)

    def _take_piece(self, data: bytes) -> None:
        """Send a piece of the body on, or keep it."""
        if self._peek is not None:
            self._peek.add(data)
        if self._is_sent and self._connection is not None:
            self._connection.write(chunk(data) if self._is_chunked else data)
            return
        self._pieces.append(data)
        self._size += len(data)
        if not self.is_started:
            return
        if self._way is Way.PASS:
            if self._size > _WAITING_BYTES:
                self._client.set_upstream_writable(writable=False)
        elif self._size > self._table.settings.limits.body_bytes:
            self._answer_error(self._too_large())

    def body_ended(self) -> None:
        """Take the end of the body."""
        self._is_whole = True
        if self._is_over or not self.is_started:
            return
        try:
            self._take_end()
        except Exception as error:
            self._answer_unforeseen(error)

    def _take_end(self) -> None:
        """Do what waited for the whole body."""
        if self._peek is not None:
            self._peek.end()
        if self._way is not Way.PASS:
            self._prepare()
        elif self._task is None and self._connection is None:
            self._obtain_connection()
        elif self._is_chunked and self._is_sent and self._connection is not None:
            self._connection.write(LAST_CHUNK)

    def client_writable(self, *, writable: bool) -> None:
        """Let Qdrant send more of the answer, or not for now."""
        if self._connection is not None and not self._is_over:
            if writable:
                self._connection.resume_answer()
            else:
                self._connection.pause_answer()

    def client_gone(self) -> None:
        """Give up: nobody waits for the answer."""
        if self._is_over:
            return
        self._is_over = True
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.give_up()
        if self.is_started:
            self._count_end("gone")

    def check(self, now: float) -> None:
        """Give up on a Qdrant that does not answer a query; called about once a second."""
        connection = self._connection
        if connection is None or self._plan.kind != "query" or self._is_over:
            return
        timeout_s = self._traffic.settings.upstream.query_timeout_s
        since = connection.last_byte_at if self.has_answered else connection.asked_at
        if timeout_s and self._client.is_writable and now - since > timeout_s:
            connection.give_up()
            connection.owner.failed(surely=False)
            self._request = None  # once is enough
            self.answer_failed(DeadlineError(f"Qdrant did not answer within {timeout_s:g} s"))

    # A request that is read to its end first

    def _prepare(self) -> None:
        """Adapt the request, at once where nothing must be asked for it."""
        body = b"".join(self._pieces)
        try:
            prepared = prepare_at_once(self._traffic, self._table, self._plan, self._head, body)
        except Exception as error:
            self._answer_unforeseen(error)
            return
        if prepared is None:
            self._run(lambda: self._prepare_slowly(body))
        else:
            self._send_prepared(prepared)

    async def _prepare_slowly(self, body: bytes) -> None:
        """Adapt the request once Qdrant has said what must be known."""
        self._send_prepared(await prepare(self._traffic, self._table, self._plan, self._head, body))

    def _send_prepared(self, prepared: Prepared) -> None:
        """Send a request that is whole: to Qdrant, or to an index."""
        if self._is_over:
            return
        self.mark = prepared.mark
        self.watch = prepared.watch
        self._send_whole(prepared)
        if prepared.outcome is not None and self._plan.endpoint is not None:  # once it is sent
            self._traffic.count_outcome(self._plan.endpoint.collection, prepared.outcome, "rest")

    def _send_whole(self, prepared: Prepared) -> None:
        """Send a request, its bookkeeping left for later."""
        if self._span is not None:
            self._span.decided(prepared.outcome)
        body, head = prepared.body, self._head
        if self._way is Way.SERVE:
            self._run(lambda: self._serve(body))
            return
        if prepared.mark:
            self._request = head.encode_adapted(prepared.mark, len(body)) + body
        else:
            fields = end_to_end(head.fields, without=_EXPECT)
            if head.is_chunked:
                fields.append((b"content-length", b"%d" % len(body)))
            self._request = head.encode(fields) + body
        self._obtain_connection()

    async def _serve(self, body: bytes) -> None:
        """Answer from an index, in a thread."""
        method = self._head.method
        answered = await answer_from_index(self._table, method, self._plan.target, body)
        if self._is_over:
            return
        if answered is None:
            self._answer_error(NotServedError("there is no Qdrant behind this sidecar"))
            return
        self.give_reply(answered, keep_alive=self._keeps())
        self._finish()

    # On to Qdrant

    def _obtain_connection(self) -> None:
        """Take a connection that is open, or wait for one."""
        pool = self._traffic.pool
        if pool is None:
            self._answer_error(NotServedError("there is no Qdrant behind this sidecar"))
            return
        connection = pool.take(is_safe=self._is_whole and self._plan.is_repeatable)
        if connection is not None:
            self._send(connection)
        else:
            self._run(self._connect)

    async def _connect(self) -> None:
        """Wait for a connection."""
        if self._traffic.pool is not None:
            self._send(await self._traffic.pool.connect())

    def _send(self, connection: Connection) -> None:
        """Send the request, as much of it as there is."""
        self._connection = connection
        self._is_sent = True
        self._sent_at = time.perf_counter()
        if self._span is not None:
            self._span.sent(str(connection.owner))
        request = self._request
        if request is None:
            request = self._head.encode(self._streamed_fields()) + self._encoded_pieces()
            if self._is_whole and self._plan.is_repeatable:
                self._request = request
        if connection.is_tls or self._head.lacks_host:
            request = self._head.renamed(request, connection.host_field)
        connection.send(request, self, is_head_request=self._head.is_for_head)
        self._traffic.busy_poll.wait(FOR_ANSWER, self._sent_at)
        if not self._client.is_writable:
            connection.pause_answer()
        if not self._is_whole:
            self._client.set_upstream_writable(writable=True)

    def _streamed_fields(self) -> Fields:
        """Give the fields of a request that is passed on as it comes."""
        fields = end_to_end(self._head.fields)
        if self._is_chunked:
            fields.append((b"transfer-encoding", b"chunked"))
        return fields

    def _encoded_pieces(self) -> bytes:
        """Give what has come of the body, framed."""
        pieces, self._pieces = self._pieces, []
        if not self._is_chunked:
            return b"".join(pieces)
        return b"".join(map(chunk, pieces)) + (LAST_CHUNK if self._is_whole else b"")

    # What the connection to Qdrant calls

    @property
    def is_request_whole(self) -> bool:
        """Tell whether nothing more of the request is to be sent."""
        return self._is_whole

    def upstream_writable(self, *, writable: bool) -> None:
        """Read more of the body, or not for now."""
        self._client.set_upstream_writable(writable=writable)

    def head_received(self, head: AnswerHead) -> None:
        """Pass on the answer's head."""
        now = time.perf_counter()
        self._traffic.busy_poll.arrived(now)
        self._traffic.meter(self._plan.kind).upstream.add(now - self._sent_at)
        self.begin_answer(head, keep_alive=self._keeps() and self._is_whole)

    def plain_answer_received(self, head: bytes, body: bytes) -> None:
        """Pass on an answer of 200 that is whole, its head in one piece without its end."""
        now = time.perf_counter()
        self.give_plain_answer(head, body, keep_alive=self._keeps() and self._is_whole)
        self._traffic.busy_poll.arrived(now)
        self._traffic.meter(self._plan.kind).upstream.add(now - self._sent_at)

    def answer_ended(self) -> None:
        """End."""
        if self._connection is not None and not self._client.is_writable:
            self._connection.resume_answer()
        self.end_answer()
        self._finish()

    def answer_failed(self, error: UpstreamError) -> None:
        """Try once more where that is safe; else tell the client."""
        connection, self._connection = self._connection, None
        if self._is_over:
            return
        if self.has_answered:
            self._cut()
            return
        is_stale = connection is not None and connection.n_exchanges > 1
        if is_stale and self._request is not None and self._plan.is_repeatable:
            self._traffic.telemetry.count(t.RETRIES, "rest")
            self._run(self._connect)
            return
        self._answer_error(error)

    # The end

    def _cut(self) -> None:
        """Break off an answer of which a part is sent."""
        self._traffic.telemetry.count(t.ERRORS, "rest", "answer_cut")
        self._is_over = True
        self._count_end("cut")
        self._client.abort()

    def _answer_unforeseen(self, error: Exception) -> None:
        """Answer in spite of an error; log and count one that nobody has foreseen."""
        if isinstance(error, SidecarError):
            self._answer_error(error)
            return
        tell(self._traffic.telemetry, Border.REQUEST, error)
        connection, self._connection = self._connection, None
        if connection is not None and not self._is_over:
            connection.give_up()
        if self.has_answered and not self._is_over:
            self._cut()
        self._answer_error(SidecarError("internal error; see the sidecar's log"))

    def _answer_error(self, error: SidecarError) -> None:
        """Answer with an error of the sidecar's own."""
        if self._is_over:
            return
        status = status_of(error)
        self._traffic.telemetry.count(t.ERRORS, "rest", status.name)
        if self._span is not None:
            self._span.failed(status.name)
        self.keep_alive = self._keeps() and self._is_whole
        self.give_error(status.http, str(error))
        self._finish()

    def _finish(self) -> None:
        """Let go."""
        self._is_over = True
        self._connection = None
        self._count_end(str(self.status))
        if self._plan.forgets is not None:
            self._traffic.forget(self._plan.forgets)
        self._client.exchange_ended(self, keep_alive=self.keep_alive and self._is_whole)

    def _count_end(self, status: str) -> None:
        """Count the request."""
        traffic, kind = self._traffic, self._plan.kind
        traffic.n_under_way -= 1
        traffic.telemetry.count(t.REQUESTS, "rest", kind, status)
        now = time.perf_counter()
        traffic.meter(kind).whole.add(now - self._started_at)
        traffic.busy_poll.wait(FOR_REQUEST, now)
        if self._span is not None:
            self._span.end(status)

    def _count_passed(self) -> None:
        """Count a request that could carry vectors and is not looked into."""
        endpoint = self._plan.endpoint
        if self._plan.bypass is not None:
            self._peek = self._traffic.suspect(self._plan.bypass, self._head)
            if self._peek is not None and self._pieces:
                self._peek.add(b"".join(self._pieces))
            if self._peek is not None and self._is_whole:
                self._peek.end()
        if endpoint is None or not len(self._table.routes):
            return
        mark = self._head.values.get(MARK)
        if mark is not None and not endpoint.is_write:
            reason = reason_of_mark(mark.decode("latin-1"))
        elif endpoint.is_write and self._table.routes.of_collection(endpoint.collection):
            reason = Reason.WRITE
        else:
            return
        self._traffic.telemetry.count(t.DECISIONS, endpoint.collection, reason)
        if self._span is not None:
            self._span.counted(reason)

    def _keeps(self) -> bool:
        """Tell whether the client's connection stays open."""
        return self.keep_alive and not self._traffic.is_draining

    def _is_held(self) -> bool:
        """Tell whether a request waits for its whole body, so that it can be sent once more."""
        head = self._head
        return (
            self._plan.is_repeatable
            and 0 < head.length <= _WAITING_BYTES
            and b"expect" not in head.values
        )

    def _is_too_large(self) -> bool:
        """Tell whether the body has, or says that it has, more bytes than may be kept."""
        limit = self._table.settings.limits.body_bytes
        announced = self._head.values.get(b"content-length", b"0")
        return self._size > limit or len(announced) > 18 or int(announced) > limit

    def _too_large(self) -> TooLargeError:
        """Say what the limit is."""
        limit = self._table.settings.limits.body_bytes
        return TooLargeError(f"the body has more than {limit} bytes; see body_bytes in [limits]")

    def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do what takes waiting."""
        self._task = asyncio.create_task(self._guarded(work))

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Answer, whatever goes wrong."""
        try:
            await work()
        except Exception as error:
            self._answer_unforeseen(error)
