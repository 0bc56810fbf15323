"""What is counted, timed and traced of one request."""

import time
from dataclasses import replace

from trimtab import metrics as t
from trimtab.errors import SidecarError
from trimtab.rewrite.policies import Reason, reason_of_mark
from trimtab.routing.outcome import Outcome
from trimtab.server.busy_poll import FOR_ANSWER, FOR_REQUEST
from trimtab.server.dispatch import UNPLANNED, Plan
from trimtab.server.request_head import MARK, RequestHead
from trimtab.server.route_table import RouteTable
from trimtab.server.status import Status, status_of
from trimtab.server.tracing import Span
from trimtab.server.worker_state import WorkerState


class RequestMetrics:
    """The clocks, the counters and the span of a request."""

    _plan = UNPLANNED
    _started_at = 0.0
    _sent_at = 0.0
    _span: Span | None = None

    def __init__(self, state: WorkerState) -> None:
        """Count nothing before :meth:`begin`."""
        self._state = state

    def begin(self) -> None:
        """Start the clock: it is this request's turn."""
        self._started_at = time.perf_counter()
        self._state.n_under_way += 1
        self._state.busy_poll.arrived(self._started_at)

    def planned(self, plan: Plan, head: RequestHead) -> RequestHead:
        """Begin a span where traces are asked for; give the head that names it as the parent."""
        self._plan = plan
        tracer = self._state.tracer
        if tracer is None:
            return head
        collection = "" if plan.endpoint is None else plan.endpoint.collection
        span = self._span = tracer.begin(
            plan.kind, head.method, head.target, head.fields, collection=collection
        )
        return replace(head, fields=span.fields(head.fields), adapted_prefix=b"")

    def passed(self, table: RouteTable, head: RequestHead) -> None:
        """Count a request that could carry vectors and is not looked into."""
        endpoint = self._plan.endpoint
        if endpoint is None or not len(table.routes):
            return
        mark = head.values.get(MARK)
        if mark is not None and not endpoint.is_write:
            reason = reason_of_mark(mark.decode("latin-1"))
        elif endpoint.is_write and table.routes.of_collection(endpoint.collection):
            reason = Reason.WRITE
        else:
            return
        label = self._state.label_of(endpoint.collection)
        self._state.telemetry.count(t.DECISIONS, label, reason)
        if self._span is not None:
            self._span.counted(reason)

    def decided(self, outcome: Outcome | None) -> None:
        """Trace what was decided about a whole request."""
        if self._span is not None:
            self._span.decided(outcome)

    def adapted(self, outcome: Outcome | None) -> None:
        """Count what was decided about a whole request; called once it is sent."""
        if outcome is not None and self._plan.endpoint is not None:
            self._state.count_outcome(self._plan.endpoint.collection, outcome, "rest")

    def sent(self, address: object) -> None:
        """Note that the request goes to one of Qdrant's addresses."""
        self._sent_at = time.perf_counter()
        if self._span is not None:
            self._span.sent(str(address))

    def waiting(self) -> None:
        """Note that the answer is waited for from here on."""
        self._state.busy_poll.wait(FOR_ANSWER, self._sent_at)

    def answered(self, arrived_at: float) -> None:
        """Note when Qdrant's answer has come, or begun."""
        self._state.busy_poll.arrived(arrived_at)
        self._state.meter(self._plan.kind).upstream.add(arrived_at - self._sent_at)

    def retried(self) -> None:
        """Count a request that is sent once more."""
        self._state.telemetry.count(t.RETRIES, "rest")

    def failed(self, error: SidecarError) -> Status:
        """Count an error of the sidecar's own; give how it is answered."""
        status = status_of(error)
        self._state.telemetry.count(t.ERRORS, "rest", status.name)
        if self._span is not None:
            self._span.failed(status.name)
        return status

    def cut(self) -> None:
        """Count an answer that broke off."""
        self._state.telemetry.count(t.ERRORS, "rest", "answer_cut")
        self.ended("cut")

    def ended(self, status: str) -> None:
        """Count the request.

        Args:
            status: Of its answer; ``gone`` where nobody waits for it, ``cut`` where it broke off.
        """
        state, kind = self._state, self._plan.kind
        state.n_under_way -= 1
        state.telemetry.count(t.REQUESTS, "rest", kind, status)
        now = time.perf_counter()
        state.meter(kind).whole.add(now - self._started_at)
        state.busy_poll.wait(FOR_REQUEST, now)
        if self._span is not None:
            self._span.end(status)
