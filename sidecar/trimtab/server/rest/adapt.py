"""What becomes of a request that is read to its end: adapted, refused, or sent on as it came."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from trimtab.errors import ConfigError, MalformedError
from trimtab.faiss_collections.replies import Reply
from trimtab.rewrite.policies import Reason, reason_of_mark
from trimtab.routing.adapt_rest import adapt_body
from trimtab.routing.outcome import Outcome
from trimtab.routing.schema_cache import CollectionRoutes
from trimtab.server.bypass import NOTHING_FOUND, Bypass, holds_vector
from trimtab.server.dispatch import Plan, Way
from trimtab.server.rankings import Ranking, read_rankings
from trimtab.server.request_head import MARK, RequestHead
from trimtab.server.route_table import RouteTable
from trimtab.server.shadow import Capture
from trimtab.server.worker_state import WorkerState, credentials_of
from trimtab.upstream.http1 import unpack


@dataclass(slots=True)  # unfrozen: made for every query
class Prepared:
    """A request that is ready to be sent.

    Attributes:
        body: Its body; where nothing was adapted, as it came.
        mark: The mark of the adapters that were used, or empty.
        watch: Where the route is in shadow mode: compares the answer.
        outcome: What was decided; None for a request that was not looked into.
    """

    body: bytes
    mark: bytes = b""
    capture: Capture | None = None
    outcome: Outcome | None = None


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
        unpacked = _unpack(table, head, body)
        if unpacked is None:
            raise MalformedError("the body is in a coding that is not known here")
        body = unpacked
    if plan.endpoint is None:
        return Prepared(body)
    mark = head.values.get(MARK)
    if mark is not None and not plan.endpoint.is_write:
        reason = reason_of_mark(mark.decode("latin-1"))
        return Prepared(body, outcome=Outcome(body, Counter({reason: 1})))
    collection = plan.endpoint.collection
    if plan.endpoint.is_write:
        unchecked = table.book.unchecked_routes(collection)
        if unchecked is None:
            return None
        return _adapt(state, table, plan, head, (unchecked, body))
    try:
        routes = table.known_routes(collection)
    except ConfigError as error:
        routes = state.fitting_routes(table, collection, error)
    return None if routes is None else _adapt(state, table, plan, head, (routes, body))


async def prepare(
    state: WorkerState, table: RouteTable, plan: Plan, head: RequestHead, body: bytes
) -> Prepared:
    """Ask Qdrant what must be known of a collection, then adapt; see :func:`prepare_at_once`."""
    collection = "" if plan.endpoint is None else plan.endpoint.collection
    credentials = credentials_of(head.fields, state.own_key)
    try:
        routes = await state.look_up(
            table, collection, lambda question: state.ask_rest(question, credentials, plan.prefix)
        )
    except ConfigError as error:
        if plan.endpoint is not None and plan.endpoint.is_write:
            routes = table.book.unchecked_routes(collection) or {}
        else:
            routes = state.fitting_routes(table, collection, error)
    return _adapt(state, table, plan, head, (routes, body))


def _adapt(
    state: WorkerState,
    table: RouteTable,
    plan: Plan,
    head: RequestHead,
    given: tuple[CollectionRoutes, bytes],
) -> Prepared:
    """Adapt a body by routes that are known."""
    routes, body = given
    endpoint = plan.endpoint
    if endpoint is None:
        return Prepared(body)
    content = body
    if b"content-encoding" in head.values and routes and plan.way is not Way.SERVE:
        unpacked = _unpack(table, head, body)
        if unpacked is None:
            return Prepared(body, outcome=Outcome(body, Counter({Reason.ENCODED: 1})))
        content = unpacked
    outcome = adapt_body(endpoint, content, routes, table.policies)
    if outcome.mark:
        return Prepared(outcome.content, outcome.mark.encode(), outcome=outcome)
    if outcome.decisions.keys() == NOTHING_FOUND and routes and holds_vector(content):
        state.count_bypass("rest", Bypass.FIELD, "/".join(endpoint.call))
    capture = None
    if Reason.SHADOW in outcome.decisions and state.shadow.is_wanted():
        is_served = plan.way is Way.SERVE
        shadow_request = _ShadowRequest(state, table, plan, head, (routes, content, is_served))
        capture = Capture(state.shadow, endpoint.collection, shadow_request.ask)
    return Prepared(body, capture=capture, outcome=outcome)


def _unpack(table: RouteTable, head: RequestHead, body: bytes) -> bytes | None:
    """Undo a body's content coding; None for one that is not known here.

    What can't be undone is refused rather than passed: Qdrant might read it all the same.
    """
    coding = head.values.get(b"content-encoding", b"")
    return unpack(body, coding, table.settings.limits.body_bytes)


class _ShadowRequest:
    """The adapted query beside a raw one."""

    def __init__(
        self,
        state: WorkerState,
        table: RouteTable,
        plan: Plan,
        head: RequestHead,
        given: tuple[CollectionRoutes, bytes, bool],
    ) -> None:
        """Keep what is needed to ask it later."""
        self._state = state
        self._table = table
        self._plan = plan
        self._head = head
        self._routes, self._content, self._is_served = given

    async def ask(self) -> Sequence[Ranking] | None:
        """Ask it; None where nothing in it is adapted."""
        endpoint = self._plan.endpoint
        if endpoint is None:
            return None
        outcome = adapt_body(
            endpoint, self._content, self._routes, self._table.policies, shadow=True
        )
        if not outcome.mark:
            return None
        if not self._is_served:
            return await self._state.ask_shadow(self._head.target, self._head.fields, outcome)
        answered = await answer_from_index(
            self._table, self._head.method, self._plan.target, outcome.content
        )
        return read_rankings(orjson.loads(b"" if answered is None else answered.body))


async def answer_from_index(
    table: RouteTable, method: bytes, target: bytes, body: bytes
) -> Reply | None:
    """Ask the served indexes, in a thread: FAISS lets go of the interpreter while it searches."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, table.collections.answer, method.decode(), target, body)
