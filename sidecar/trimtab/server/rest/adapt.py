"""What becomes of a request that is read to its end: adapted, refused, or sent on as it came."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import orjson

from trimtab.errors import ConfigError, MalformedError, TooLargeError
from trimtab.faiss_collections.replies import Reply
from trimtab.rewrite.places import Path
from trimtab.rewrite.policies import Reason, reason_of_mark
from trimtab.rewrite.qdrant_rest import RestEndpoint
from trimtab.rewrite.texts import Text
from trimtab.rewrite.texts_rest import find_texts, may_hold_texts, put_embeddings
from trimtab.routing.adapt_rest import adapt_body
from trimtab.routing.outcome import Outcome
from trimtab.routing.route_book import CollectionRoutes
from trimtab.routing.transform import Origin
from trimtab.server.bypass import NOTHING_FOUND, Bypass, holds_vector
from trimtab.server.credentials import caller_of, credentials_of
from trimtab.server.dispatch import Plan, Way
from trimtab.server.embed_texts import EmbeddedTexts, Target, embed_texts
from trimtab.server.rankings import Ranking, of_searches, read_rankings
from trimtab.server.request_head import MARK, RequestHead
from trimtab.server.route_table import RouteTable
from trimtab.server.shadow import Capture
from trimtab.server.worker_state import BESIDE_BYTES, WorkerState, beside
from trimtab.upstream.http1 import unpack

_READ_BESIDE_BYTES = 64 * 1024
"""A larger body is read for texts in a thread: a bulk write takes a second."""


@dataclass(slots=True)  # unfrozen: made for every query
class Prepared:
    """A request that is ready to be sent.

    Attributes:
        body: Its body; where nothing was adapted, as it came.
        mark: The mark of the adapters that were used, or empty.
        watch: Where the route is in shadow mode: compares the answer.
        outcome: What was decided; None for a request that was not looked into.
        is_changed: True for a body that is not the one which came, whatever its mark says.
    """

    body: bytes
    mark: bytes = b""
    capture: Capture | None = None
    outcome: Outcome | None = None
    is_changed: bool = False

    def encode(self, head: RequestHead) -> bytes:
        """Write it under the head that it came with."""
        length = len(self.body)
        if self.mark:
            return head.encode_adapted(self.mark, length) + self.body
        encode = head.encode_changed if self.is_changed else head.encode_whole
        return encode(length) + self.body


class _Given(NamedTuple):
    """A request's body, and what is known of it.

    Attributes:
        routes: Of its collection, by vector name.
        body: The body, texts embedded.
        origins: What vectors in it were embedded of.
    """

    routes: CollectionRoutes
    body: bytes
    origins: Mapping[Path, Origin] = MappingProxyType({})


def prepare_at_once(
    state: WorkerState, table: RouteTable, plan: Plan, head: RequestHead, body: bytes
) -> Prepared | None:
    """Adapt a request, where Qdrant need not be asked anything for it.

    Args:
        state: What all requests share.
        table: The table that the request began with.
        plan: What is to be done.
        head: The request's head.
        body: Its body, as it came.

    Returns:
        What to send, or None where :func:`prepare` must ask first.

    Raises:
        SidecarError: The request is refused.
    """
    if plan.way is Way.SERVE:
        body = _unpacked(table, head, body)
    if plan.endpoint is None:
        return Prepared(body)
    if _may_hold_texts(table, plan.endpoint, head, body):
        return None
    mark = head.values.get(MARK)
    if mark is not None and not plan.endpoint.is_write:
        return _left(body, mark)
    if table.needs_aliases and _may_take_long(head, body):
        return None
    routes = _known_routes(state, table, plan.endpoint, head)
    if routes is None:
        return None
    given = _Given(routes, body)
    return _prepared(state, table, plan, head, given, _decide(table, plan, head, given))


async def prepare(
    state: WorkerState, table: RouteTable, plan: Plan, head: RequestHead, body: bytes
) -> Prepared:
    """Adapt a request for which somebody must be waited for: Qdrant, those who embed, a thread.

    Args and errors are those of :func:`prepare_at_once`.
    """
    endpoint = plan.endpoint
    if plan.way is Way.SERVE:
        body = _unpacked(table, head, body)
    if endpoint is None:
        return Prepared(body)
    routes = _known_routes(state, table, endpoint, head)
    if routes is None:
        routes = await _ask_routes(state, table, plan, head)
    content, embedded = await _embed(state, table, plan, (head, body), routes)
    if content is not body:
        head = head.without_coding()
    mark = head.values.get(MARK)
    if mark is not None and not endpoint.is_write:
        prepared = _left(content, mark)
    else:
        given = _Given(routes, content, embedded.origins)
        is_long = bool(routes) and _may_take_long(head, content)
        decided = await beside(lambda: _decide(table, plan, head, given), is_long=is_long)
        prepared = _prepared(state, table, plan, head, given, decided)
    prepared.is_changed = content is not body
    if embedded.mark:
        marks = (prepared.mark, embedded.mark.encode())
        prepared.mark = b",".join(filter(None, marks))
    return prepared


def _left(body: bytes, mark: bytes) -> Prepared:
    """Leave a query whose sender wants it as it is."""
    reason = reason_of_mark(mark.decode("latin-1"))
    return Prepared(body, outcome=Outcome(body, Counter({reason: 1})))


def _known_routes(
    state: WorkerState, table: RouteTable, endpoint: RestEndpoint, head: RequestHead
) -> CollectionRoutes | None:
    """Give the routes of a request's collection; None where Qdrant must be asked."""
    if not table.needs_aliases:
        return {}
    caller = caller_of(head.values, state.own_key)
    if endpoint.is_write:
        return table.book.unchecked_routes(endpoint.collection, caller)
    try:
        return table.known_routes(endpoint.collection, caller)
    except ConfigError as error:
        return state.fitting_routes(table, endpoint.collection, error)


async def _ask_routes(
    state: WorkerState, table: RouteTable, plan: Plan, head: RequestHead
) -> CollectionRoutes:
    """Ask Qdrant what must be known of a request's collection."""
    assert plan.endpoint is not None  # noqa: S101  # narrowing
    collection = plan.endpoint.collection
    if state.pool is None:  # there is no Qdrant, and so no alias
        return table.book.unchecked_routes(collection) or {}
    credentials = credentials_of(head.fields, state.own_key)
    caller = caller_of(head.values, state.own_key)
    try:
        return await state.look_up(
            table,
            collection,
            lambda question: state.ask_rest(question, credentials, plan.prefix),
            caller,
        )
    except ConfigError as error:
        if plan.endpoint.is_write:
            return table.book.unchecked_routes(collection, caller) or {}
        return state.fitting_routes(table, collection, error)


def _may_hold_texts(
    table: RouteTable, endpoint: RestEndpoint, head: RequestHead, body: bytes
) -> bool:
    """Tell whether a body may hold texts to embed here; one that is packed has to be looked at."""
    if not (table.encoders.write if endpoint.is_write else len(table.encoders)):
        return False
    return b"content-encoding" in head.values or may_hold_texts(body)


async def _find_texts(endpoint: RestEndpoint, content: bytes) -> list[Text]:
    """Find the texts of a body; none in one that can't be read, which is told by what comes next.

    A write that is too large to be read goes on to Qdrant.
    """
    if not may_hold_texts(content):
        return []
    try:
        is_long = len(content) > _READ_BESIDE_BYTES
        return await beside(lambda: find_texts(endpoint, content), is_long=is_long)
    except (MalformedError, TooLargeError):
        return []


async def _embed(
    state: WorkerState,
    table: RouteTable,
    plan: Plan,
    given: tuple[RequestHead, bytes],
    routes: CollectionRoutes,
) -> tuple[bytes, EmbeddedTexts]:
    """Put vectors where texts stand that are embedded here.

    Returns:
        The new body, unpacked, or the very one that came; and what was embedded.
    """
    head, body = given
    endpoint, nothing = plan.endpoint, EmbeddedTexts()
    if endpoint is None or not _may_hold_texts(table, endpoint, head, body):
        return body, nothing
    content: bytes | None = body
    if plan.way is not Way.SERVE:
        content = _unpack(table, head, body)
    if content is None:
        return body, nothing
    texts = await _find_texts(endpoint, content)
    is_left = MARK in head.values
    target = Target(
        endpoint.collection,
        routes,
        endpoint.is_write,
        is_left=is_left,
        fields=head.fields,
    )
    embedded = await embed_texts(state, table, texts, target)
    if not embedded.vectors:
        return body, nothing
    return put_embeddings(content, embedded.vectors), embedded


def _may_take_long(head: RequestHead, body: bytes) -> bool:
    """Tell a body that may keep a worker from its other clients; what is packed has any size."""
    return len(body) > BESIDE_BYTES or b"content-encoding" in head.values


def _decide(
    table: RouteTable, plan: Plan, head: RequestHead, given: _Given
) -> tuple[bytes, Outcome]:
    """Adapt a body by routes that are known, in whatever thread; give it unpacked, too."""
    routes, body, origins = given
    assert plan.endpoint is not None  # noqa: S101  # narrowing
    content = body
    if b"content-encoding" in head.values and routes and plan.way is not Way.SERVE:
        unpacked = _unpack(table, head, body)
        if unpacked is None:
            return body, Outcome(body, Counter({Reason.ENCODED: 1}))
        content = unpacked
    return content, adapt_body(plan.endpoint, content, routes, table.policies, origins=origins)


def _prepared(
    state: WorkerState,
    table: RouteTable,
    plan: Plan,
    head: RequestHead,
    given: _Given,
    decided: tuple[bytes, Outcome],
) -> Prepared:
    """Count and watch what was decided, and give what is sent."""
    (routes, body, origins), (content, outcome), endpoint = given, decided, plan.endpoint
    assert endpoint is not None  # noqa: S101  # narrowing
    if plan.way is Way.SERVE and Reason.MALFORMED in outcome.decisions:
        state.count_outcome(endpoint.collection, outcome, "rest")
        raise MalformedError(
            "the query can't be adapted as it stands: expected JSON that names each field once, "
            "with numbers in every vector"
        )
    is_empty_query = not endpoint.is_write and outcome.decisions.keys() <= NOTHING_FOUND
    if is_empty_query and routes and holds_vector(content):
        state.count_bypass("rest", Bypass.FIELD, "/".join(endpoint.call))
    capture = None
    if Reason.SHADOW in outcome.decisions and state.shadow.is_wanted():
        is_served = plan.way is Way.SERVE
        asked = _Given(routes, content, origins)
        shadow_request = _ShadowRequest(state, table, plan, head, asked, is_served=is_served)
        capture = Capture(state.shadow, endpoint.collection, shadow_request.ask)
    if outcome.mark:
        return Prepared(outcome.content, outcome.mark.encode(), capture, outcome)
    return Prepared(body, capture=capture, outcome=outcome)


def _unpack(table: RouteTable, head: RequestHead, body: bytes) -> bytes | None:
    """Undo a body's content coding; None for one that is not known here.

    What can't be undone is refused rather than passed: Qdrant might read it all the same.
    """
    coding = head.values.get(b"content-encoding", b"")
    return unpack(body, coding, table.body_bytes)


def _unpacked(table: RouteTable, head: RequestHead, body: bytes) -> bytes:
    """Undo a body's content coding, for whoever reads it here.

    Raises:
        MalformedError: It is one that is not known here.
    """
    unpacked = _unpack(table, head, body)
    if unpacked is None:
        raise MalformedError("the body is in a coding that is not known here")
    return unpacked


class _ShadowRequest:
    """The adapted query beside a raw one."""

    def __init__(
        self,
        state: WorkerState,
        table: RouteTable,
        plan: Plan,
        head: RequestHead,
        given: _Given,
        *,
        is_served: bool,
    ) -> None:
        """Keep what is needed to ask it later."""
        self._state = state
        self._table = table
        self._plan = plan
        self._head = head
        self._given, self._is_served = given, is_served

    async def ask(self) -> Mapping[int, Ranking]:
        """Ask it; give the rankings of the searches that were changed, by position."""
        endpoint = self._plan.endpoint
        if endpoint is None:
            return {}
        routes, content, origins = self._given
        given = endpoint, content, routes, self._table.policies
        is_long = len(content) > BESIDE_BYTES
        adapt = partial(adapt_body, *given, shadow=True, origins=origins)
        outcome = await beside(adapt, is_long=is_long)
        if not outcome.shadowed:
            return {}
        if not self._is_served:
            return await self._state.ask_shadow(self._head.target, self._head.fields, outcome)
        answered = await answer_from_index(
            self._table, self._head.method, self._plan.target, outcome.content
        )
        rankings = read_rankings(orjson.loads(b"" if answered is None else answered.body))
        return of_searches(rankings, outcome.shadowed)


async def answer_from_index(
    table: RouteTable, method: bytes, target: bytes, body: bytes
) -> Reply | None:
    """Ask the served indexes, in a thread: FAISS lets go of the interpreter while it searches."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, table.collections.answer, method.decode(), target, body)
