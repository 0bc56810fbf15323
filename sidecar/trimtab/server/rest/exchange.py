"""One REST request on its way to Qdrant, and its answer on the way back.

A request that may carry query vectors is read to its end, adapted (:mod:`.adapt`), and sent;
any other is passed on piece by piece as it comes. Answers always are.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from trimtab.errors import DeadlineError, NotServedError, SidecarError, UpstreamError
from trimtab.faiss_collections.replies import Reply
from trimtab.server.bypass import Peek
from trimtab.server.changes import forget_changed
from trimtab.server.dispatch import UNPLANNED, Way
from trimtab.server.request_head import MARK, RequestHead
from trimtab.server.rest.adapt import Prepared, answer_from_index, prepare, prepare_at_once
from trimtab.server.rest.embeddings import answer_embeddings, refuse
from trimtab.server.rest.request_body import RequestBody
from trimtab.server.rest.request_metrics import RequestMetrics
from trimtab.server.rest.response import Answer, Client
from trimtab.server.route_table import RouteTable
from trimtab.server.worker_state import WorkerState
from trimtab.unforeseen import Border, tell
from trimtab.upstream.rest_connection import AnswerHead, Connection

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_WAITING_BYTES = 256 * 1024
"""Bytes of a body that may wait for a connection before the client is asked to pause."""


class Exchange:
    """A request and its answer.

    Attributes:
        is_started: True once it is this request's turn.
    """

    is_started = False
    _plan = UNPLANNED
    _way = Way.PASS
    _is_over = False
    _is_sent = False
    _task: asyncio.Task[None] | None = None
    _connection: Connection | None = None
    _request: bytes | None = None  # what is sent, kept where it may be sent again
    _peek: Peek | None = None

    def __init__(self, state: WorkerState, client: Client, head: RequestHead) -> None:
        """Take a head; nothing happens before :meth:`start`."""
        self._state = state
        self._client = client
        self._head = head
        self._body = RequestBody(is_chunked=head.is_chunked)
        self._answer = Answer(client, head)
        self._metrics = RequestMetrics(state)

    # What the client's connection calls

    @property
    def has_answered(self) -> bool:
        """Tell whether a part of the answer is sent."""
        return self._answer.has_begun

    def start_whole(self, body: bytes) -> None:
        """Begin with a body that is whole."""
        self._body.keep(body)
        self._body.is_whole = True
        self.start()

    def start(self) -> None:
        """Begin, now that the answers before this one are sent."""
        self._guard(self._begin)

    def _begin(self) -> None:
        """Decide what is done with the request, and do what can be done at once."""
        self.is_started = True
        self._metrics.begin()
        planner = self._state.planner
        self._table: RouteTable = planner.table
        plan = self._plan = planner.plan(self._head.method, self._head.target)
        head = self._head = self._metrics.planned(plan, self._head)
        is_left = plan.way is Way.ADAPT and plan.kind == "query" and MARK in head.values
        is_left = is_left and not len(self._table.encoders)
        self._way = Way.PASS if is_left else plan.way
        if self._way is Way.PASS:
            self._look_into_passed()
            self._metrics.passed(self._table, head)
            is_held = plan.is_repeatable and head.has_short_body(_WAITING_BYTES)
            if self._body.is_whole or not is_held:  # held, it can be sent once more
                self._obtain_connection()
        elif (error := self._body.over_limit(self._table.body_bytes, head)) is not None:
            self._answer_error(error)
        elif self._body.is_whole:
            self._prepare()
        elif head.values.get(b"expect", b"").lower() == b"100-continue" and not head.is_http_10:
            self._client.write(_CONTINUE)

    def body_received(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self._is_over:
            return
        self._guard(lambda: self._take_piece(data))

    def _take_piece(self, data: bytes) -> None:
        """Send a piece of the body on, or keep it."""
        if self._peek is not None:
            self._peek.add(data)
        if self._is_sent and self._connection is not None:
            self._connection.write(self._body.frame(data))
            return
        self._body.keep(data)
        if not self.is_started:
            return
        if self._way is Way.PASS:
            if self._body.size > _WAITING_BYTES:
                self._client.set_upstream_writable(writable=False)
        elif (error := self._body.over_limit(self._table.body_bytes)) is not None:
            self._answer_error(error)

    def body_ended(self) -> None:
        """Take the end of the body."""
        self._body.is_whole = True
        if self._is_over or not self.is_started:
            return
        self._guard(self._take_end)

    def _take_end(self) -> None:
        """Do what waited for the whole body."""
        if self._peek is not None:
            self._peek.end()
        if self._way is not Way.PASS:
            self._prepare()
        elif self._task is None and self._connection is None:
            self._obtain_connection()
        elif self._is_sent and self._connection is not None and (end := self._body.end_frame()):
            self._connection.write(end)

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
        self._end(is_answered=False)
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.give_up()
        if self.is_started:
            self._metrics.ended("gone")

    def check(self, now: float) -> None:
        """Give up on a Qdrant that does not answer a query; called about once a second."""
        connection = self._connection
        if connection is None or self._plan.kind != "query" or self._is_over:
            return
        timeout_s = self._state.settings.upstream.query_timeout_s
        since = connection.last_byte_at if self._answer.has_begun else connection.asked_at
        if timeout_s and self._client.is_writable and now - since > timeout_s:
            connection.give_up()
            connection.owner.failed(surely=False)
            self._request = None  # once is enough
            self.answer_failed(DeadlineError(f"Qdrant did not answer within {timeout_s:g} s"))

    # A request that is read to its end first

    def _prepare(self) -> None:
        """Adapt the request, at once where nothing must be asked for it."""
        body = self._body.kept()
        if self._way is Way.EMBED:
            self._run(lambda: self._embed(body))
            return
        prepared = prepare_at_once(self._state, self._table, self._plan, self._head, body)
        if prepared is None:
            self._run(lambda: self._prepare_slowly(body))
        else:
            self._send_prepared(prepared)

    async def _prepare_slowly(self, body: bytes) -> None:
        """Adapt the request once Qdrant has said what must be known."""
        self._send_prepared(await prepare(self._state, self._table, self._plan, self._head, body))

    def _send_prepared(self, prepared: Prepared) -> None:
        """Send a request that is whole: to Qdrant, or to an index."""
        if self._is_over:
            return
        self._answer.mark = prepared.mark
        self._answer.capture = prepared.capture
        self._metrics.decided(prepared.outcome)
        if self._way is Way.SERVE:
            self._run(lambda: self._serve(prepared.body))
        else:
            self._request = prepared.encode(self._head)
            self._obtain_connection()
        self._metrics.adapted(prepared.outcome)  # its bookkeeping once the request is on its way

    async def _embed(self, body: bytes) -> None:
        """Answer with embeddings, as an OpenAI-compatible endpoint."""
        state, table, head = self._state, self._table, self._head
        self._reply(await answer_embeddings(state, table, head, self._plan.target, body))

    async def _serve(self, body: bytes) -> None:
        """Answer from an index, in a thread."""
        method = self._head.method
        answered = await answer_from_index(self._table, method, self._plan.target, body)
        if answered is None:
            raise NotServedError("there is no Qdrant behind this sidecar")
        self._reply(answered)

    def _reply(self, reply: Reply) -> None:
        """Give an answer that is whole."""
        if not self._is_over:
            self._answer.give_reply(reply, keep_alive=self._keeps())
            self._finish()

    # On to Qdrant

    def _obtain_connection(self) -> None:
        """Take a connection that is open, or wait for one."""
        pool = self._state.pool
        if pool is None:
            self._answer_error(NotServedError("there is no Qdrant behind this sidecar"))
            return
        connection = pool.take(is_safe=self._body.is_whole and self._plan.is_repeatable)
        if connection is not None:
            self._send(connection)
        else:
            self._run(self._connect)

    async def _connect(self) -> None:
        """Wait for a connection."""
        if self._state.pool is not None:
            self._send(await self._state.pool.connect())

    def _send(self, connection: Connection) -> None:
        """Send the request, as much of it as there is."""
        self._connection = connection
        self._is_sent = True
        self._metrics.sent(connection.owner)
        request = self._request
        if request is None:
            request = self._head.encode_streamed() + self._body.take_framed()
            if self._body.is_whole and self._plan.is_repeatable:
                self._request = request
        if connection.is_tls or self._head.lacks_host:
            request = self._head.renamed(request, connection.host_field)
        connection.send(request, self, is_head_request=self._head.is_for_head)
        self._metrics.waiting()
        if not self._client.is_writable:
            connection.pause_answer()
        if not self._body.is_whole:
            self._client.set_upstream_writable(writable=True)

    # What the connection to Qdrant calls

    @property
    def is_request_whole(self) -> bool:
        """Tell whether nothing more of the request is to be sent."""
        return self._body.is_whole

    def upstream_writable(self, *, writable: bool) -> None:
        """Read more of the body, or not for now."""
        self._client.set_upstream_writable(writable=writable)

    def head_received(self, head: AnswerHead) -> None:
        """Pass on the answer's head."""
        self._metrics.answered(time.perf_counter())
        self._answer.begin(head, keep_alive=self._keeps() and self._body.is_whole)

    def plain_answer_received(self, head: bytes, body: bytes) -> None:
        """Pass on an answer of 200 that is whole, its head in one piece without its end."""
        arrived_at = time.perf_counter()
        self._answer.give_plain(head, body, keep_alive=self._keeps() and self._body.is_whole)
        self._metrics.answered(arrived_at)

    @property
    def takes_plain_answers(self) -> bool:
        """Tell whether an answer's head may come unread."""
        return self._answer.takes_plain

    def interim_received(self, head: AnswerHead) -> None:
        """Pass on a head of 1xx."""
        self._answer.pass_interim(head)

    def data_received(self, data: bytes) -> None:
        """Pass on a piece of the answer."""
        self._answer.pass_data(data)

    def answer_ended(self) -> None:
        """End."""
        if self._connection is not None and not self._client.is_writable:
            self._connection.resume_answer()
        self._answer.end()
        self._finish()

    def answer_failed(self, error: UpstreamError) -> None:
        """Try once more where that is safe; else tell the client."""
        connection, self._connection = self._connection, None
        if self._is_over:
            return
        if self._answer.has_begun:
            self._cut()
            return
        is_stale = connection is not None and connection.n_exchanges > 1 and connection.is_silent
        if is_stale and self._request is not None and self._plan.is_repeatable:
            self._metrics.retried()
            self._run(self._connect)
            return
        self._answer_error(error)

    # The end

    def _cut(self) -> None:
        """Break off an answer of which a part is sent."""
        self._end(is_answered=False)
        self._metrics.cut()
        self._client.abort()

    def _guard(self, step: Callable[[], None]) -> None:
        """Answer, whatever goes wrong in a step."""
        try:
            step()
        except Exception as error:
            self._answer_unforeseen(error)

    def _answer_unforeseen(self, error: Exception) -> None:
        """Answer in spite of an error; log and count one that nobody has foreseen."""
        if isinstance(error, SidecarError):
            self._answer_error(error)
            return
        tell(self._state.telemetry, Border.REQUEST, error)
        connection, self._connection = self._connection, None
        if connection is not None and not self._is_over:
            connection.give_up()
        if self._answer.has_begun and not self._is_over:
            self._cut()
        self._answer_error(SidecarError("internal error; see the sidecar's log"))

    def _answer_error(self, error: SidecarError) -> None:
        """Answer with an error of the sidecar's own."""
        if self._is_over:
            return
        status = self._metrics.failed(error)
        keeps = self._answer.keep_alive = self._keeps() and self._body.is_whole
        if self._way is Way.EMBED:
            self._answer.give_reply(refuse(error), keep_alive=keeps)
        else:
            self._answer.give_error(status.http, error)
        self._finish(is_answered=False)

    def _finish(self, *, is_answered: bool = True) -> None:
        """Count the request, and let the client's connection go on to the next."""
        self._end(is_answered=is_answered)
        self._connection = None
        self._metrics.ended(str(self._answer.status))
        self._client.exchange_ended(
            self, keep_alive=self._answer.keep_alive and self._body.is_whole
        )

    def _end(self, *, is_answered: bool) -> None:
        """Do nothing more; forget what Qdrant said of what the request may have changed."""
        self._is_over = True
        if self._is_sent and self._plan.invalidates is not None:
            forget_changed(self._state, self._plan.invalidates, is_answered=is_answered)

    def _look_into_passed(self) -> None:
        """Find searches that are not understood, so that none passes raw in silence."""
        if self._plan.bypass is None:
            return
        self._peek = self._state.suspect(self._plan.bypass, self._head)
        if self._peek is not None:
            self._peek.add(self._body.kept())
            if self._body.is_whole:
                self._peek.end()

    def _keeps(self) -> bool:
        """Tell whether the client's connection stays open."""
        return self._answer.keep_alive and not self._state.is_draining

    def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do what takes waiting."""
        self._task = asyncio.create_task(self._guarded(work))

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Answer, whatever goes wrong."""
        try:
            await work()
        except Exception as error:
            self._answer_unforeseen(error)
