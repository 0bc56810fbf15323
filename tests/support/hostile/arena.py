"""Sends hostile requests to a sidecar before a recording upstream, and judges both ends.

The rule is one: what arrives upstream is a request that the client's bytes mean beyond doubt, once,
and changed in nothing but the query vectors of a query. Everything else is refused with a reason.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

from tests.support.hostile.answers import Answer, AnswerError, read_answers
from tests.support.hostile.meaning import (
    MARK,
    is_query,
    is_rightly_adapted,
    path_of,
    query_vectors,
)
from tests.support.hostile.packing import unpack
from tests.support.hostile.reading import Reading, Request, read_stream

UNJUDGED = (b"slow=", b"reset=")
"""In the target of requests that are sent beside the arena, whole or in part."""

OWN_QUESTIONS = {b"/", b"/healthz", b"/readyz", b"/livez", b"/aliases", b"/collections/docs"}
"""What the sidecar may ask by itself, always by GET."""


LATE_S = 20.0
"""A request whose client has gone may still arrive for so long."""


@dataclass(frozen=True)
class Case:
    """One hostile connection.

    Attributes:
        name: Its shape.
        data: All that the client sends.
        must: What must become of its first request: ``refuse``, ``adapt``, ``pass``, or empty for
            whatever the bytes mean.
        ends: True where the client says that nothing more will come; it may then get no answer.
        pieces: How many writes the bytes are sent in.
        may_cut: True where the upstream breaks its answer off, so that the client's may end early.
    """

    name: str
    data: bytes
    must: str = ""
    ends: bool = False
    pieces: int = 1
    may_cut: bool = False


@dataclass
class Outcome:
    """What the client saw."""

    answers: list[Answer]
    rest: bytes
    how: str
    fault: str = ""


class _Client(asyncio.Protocol):
    """Sends a case and collects what comes back until it has enough."""

    def __init__(self, n_wanted: int, heads: list[bool]) -> None:
        self._n_wanted, self._heads = n_wanted, heads
        self.data = b""
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        if (
            not self.done.done()
            and self._n_wanted
            and self.data.count(b"HTTP/1.1 ") >= (self._n_wanted)
        ):
            try:
                answers, _ = read_answers(self.data, self._heads, is_closed=False)
            except AnswerError:
                return
            if len(answers) >= self._n_wanted:
                self.done.set_result("answered")

    def eof_received(self) -> bool:
        self._finish("closed")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._finish("reset" if error else "closed")

    def _finish(self, how: str) -> None:
        if not self.done.done():
            self.done.set_result(how)


@dataclass
class Arena:
    """Where a sidecar is attacked; knows what may arrive and counts what did.

    Attributes:
        address: The sidecar's REST listener.
        weight: The matrix of the adapter that serves the collection.
        bound_s: Within this time a connection must be answered or closed.
    """

    address: tuple[str, int]
    weight: Any
    bound_s: float = 10.0
    problems: list[tuple[str, str]] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    _allowed: dict[tuple[bytes, bytes], list[Request]] = field(default_factory=dict)
    _adapted: Counter[bytes] = field(default_factory=Counter)

    def complain(self, text: str) -> None:
        """Take down what must not happen."""
        self.problems.append(("", text))

    def tell(self, request: Request) -> None:
        """Judge a request that arrived upstream."""
        self.seen["arrived"] += 1
        path = path_of(request.target)
        known = self._allowed.get((request.method, _origin(request.target)), [])
        if request.values(MARK):
            self.seen["arrived adapted"] += 1
            self._adapted[_origin(request.target)] += 1
            if not is_query(request.method, request.target):
                self.complain(f"adapted what is no query: {_show(request)}")
            for asked in known:
                if is_rightly_adapted(_unpacked(asked), _unpacked(request), self.weight):
                    known.remove(asked)
                    return
            self.complain(f"adapted wrongly: {_show(request)} from {[_show(k) for k in known]}")
            return
        for asked in known:
            if asked.body == request.body:
                known.remove(asked)
                if is_query(request.method, request.target) and query_vectors(
                    _with_body(request, _unpacked(request))
                ):
                    self.complain(f"got round the adapter: {_show(request)}")
                return
        if request.method == b"GET" and path in OWN_QUESTIONS and not request.body:
            self.seen["own questions"] += 1
            return
        if any(tag in request.target for tag in UNJUDGED):
            return
        self.complain(f"nobody sent this: {_show(request)}")

    async def attack(self, case: Case) -> Outcome:
        """Send a case, judge what the client sees of it, and give that."""
        reading = read_stream(case.data)
        for request in reading.requests:
            key = (request.method, _origin(request.target))
            self._allowed.setdefault(key, []).append(request)
        outcome = await self._send(case, reading)
        self.seen["cases"] += 1
        for fault in self._judge(case, reading, outcome):
            self.problems.append((case.name, f"{fault}; sent {case.data[:600]!r}"))
        later = asyncio.get_running_loop().call_later
        for request in reading.requests:
            later(LATE_S, self._forget, request)
        return outcome

    def _forget(self, request: Request) -> None:
        """Expect a request no longer; another client's may look the same (``OPTIONS *``)."""
        key = (request.method, _origin(request.target))
        known = self._allowed.get(key, [])
        known[:] = [other for other in known if other is not request]
        if not known:
            self._allowed.pop(key, None)
            self._adapted.pop(key[1], None)

    async def knock(self, address: tuple[str, int], data: bytes) -> Outcome:
        """Send bytes somewhere else and say that they are all; nothing is expected upstream."""
        return await self._send(Case("", data, ends=True), Reading(is_cut=True), address)

    async def _send(
        self, case: Case, reading: Reading, address: tuple[str, int] | None = None
    ) -> Outcome:
        is_clean = not (reading.fault or reading.is_cut or reading.is_over)
        heads = _for_head(reading)
        wanted = len(reading.requests) if is_clean else 0
        loop = asyncio.get_running_loop()
        try:
            _, client = await loop.create_connection(
                lambda: _Client(wanted, heads), *(address or self.address)
            )
        except OSError as error:
            return Outcome([], b"", "refused", f"no connection: {error}")
        step = -(-len(case.data) // case.pieces) or 1
        for at in range(0, len(case.data), step):
            if client.transport.is_closing():
                break
            client.transport.write(case.data[at : at + step])
            if case.pieces > 1:
                await asyncio.sleep(0)
        if (case.ends or reading.is_cut or not case.data) and not client.transport.is_closing():
            client.transport.write_eof()
        try:
            how = await asyncio.wait_for(asyncio.shield(client.done), self.bound_s)
        except TimeoutError:
            how = "hung"
        client.transport.abort()
        try:
            answers, rest = read_answers(client.data, heads, is_closed=how != "hung")
        except AnswerError as error:
            return Outcome([], client.data, how, f"the answer can't be read: {error}")
        return Outcome(answers, rest, how)

    def _judge(self, case: Case, reading: Reading, outcome: Outcome) -> list[str]:
        """List what is wrong with what the client saw."""
        faults = [outcome.fault] if outcome.fault else []
        if outcome.how == "hung":
            faults.append(f"neither answered nor closed within {self.bound_s} s")
        if outcome.rest and not case.may_cut:
            faults.append(f"the answer has odd bytes: {outcome.rest[:200]!r}")
        if any(b"EVIL" in a.body or b"x-evil" in a.fields for a in outcome.answers):
            faults.append("an answer that was smuggled in reached the client")
        refusal = next((a for a in outcome.answers if a.is_refusal), None)
        if refusal is not None:
            self.refused[f"{case.name} {refusal.status}"] += 1
            faults += _judge_refusal(refusal, outcome, reading)
            if refusal.status in {502, 504} and not case.may_cut:
                faults.append(
                    f"{refusal.status}, though the upstream answers whatever it gets whole"
                )
        faults += _judge_echoes(outcome, reading)
        if len(outcome.answers) > len(reading.requests) and not (
            refusal and (reading.fault or reading.is_cut)
        ):
            faults.append(f"{len(outcome.answers)} answers to {len(reading.requests)} requests")
        if refusal is None and outcome.how != "hung":
            faults += _judge_silence(case, reading, outcome)
        return faults + self._judge_duty(case, outcome, reading)

    def _judge_duty(self, case: Case, outcome: Outcome, reading: Reading) -> list[str]:
        """Hold the first answer against what the case says must become of it."""
        first = outcome.answers[0] if outcome.answers else None
        if case.must == "refuse" and (first is None or not first.is_refusal):
            return ["must be refused"]
        if case.must in {"adapt", "pass"} and (first is None or first.is_refusal):
            return [f"must {case.must}, got {first and (first.status, first.body[:200])!r}"]
        is_adapted = first is not None and MARK in first.fields
        if case.must == "adapt" and not (
            is_adapted and self._adapted[_origin(reading.requests[0].target)]
        ):
            return ["must be adapted"]
        if case.must == "pass" and is_adapted:
            return ["must pass unchanged"]
        return []


def _for_head(reading: Reading) -> list[bool]:
    """Tell for each request, and for what is none, whether its answer has no body."""
    return [*(request.method == b"HEAD" for request in reading.requests), reading.is_rest_for_head]


def _judge_refusal(refusal: Answer, outcome: Outcome, reading: Reading) -> list[str]:
    faults = []
    n_before = outcome.answers.index(refusal)
    is_malformed = n_before >= len(reading.requests)
    is_head = n_before <= len(reading.requests) and _for_head(reading)[n_before]
    if not refusal.body and not is_head:
        faults.append(f"{refusal.status} without a reason")
    if reading.fault and outcome.how == "answered":
        faults.append(f"{refusal.status} without closing")
    if is_malformed and refusal is not outcome.answers[-1]:
        faults.append("answers after a refusal")
    return faults


def _judge_echoes(outcome: Outcome, reading: Reading) -> list[str]:
    """Check that every answer is the answer to its request."""
    faults = []
    for request, answer in zip(reading.requests, outcome.answers, strict=False):
        if answer.status == 200 and answer.body.startswith(b'{"echo": '):
            said = json.loads(answer.body)["echo"]["target"].encode("latin-1")
            if _origin(said) != _origin(request.target):
                faults.append(f"another's answer: {said!r}")
    return faults


def _judge_silence(case: Case, reading: Reading, outcome: Outcome) -> list[str]:
    """Judge a connection on which nothing was refused."""
    if reading.fault:
        return [f"not refused ({reading.fault}), {outcome.how}"]
    if len(outcome.answers) < len(reading.requests) and not (
        case.may_cut or case.ends or reading.is_cut
    ):
        n = len(reading.requests)
        return [f"{len(outcome.answers)} answers to {n} requests, {outcome.how}"]
    return []


def _origin(target: bytes) -> bytes:
    """Give a target in origin form: a proxy may turn the absolute form into it."""
    if target.startswith(b"/"):
        return target
    path = path_of(target)
    query = target.partition(b"?")
    return (path or b"/") + query[1] + query[2]


def _unpacked(request: Request) -> bytes:
    return unpack(request.body, request.values(b"content-encoding"))


def _with_body(request: Request, body: bytes) -> Request:
    return Request(
        request.method, request.target, request.fields, body, request.end, request.is_last
    )


def _show(request: Request) -> str:
    head = f"{request.method!r} {request.target[:200]!r} {request.fields[:20]!r}"
    return f"{head} {request.body[:200]!r}"
