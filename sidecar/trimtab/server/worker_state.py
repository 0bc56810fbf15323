"""What all requests of one worker share, and what is decided about each of them.

The protocols' own modules read and write; what happens to a request is decided here, for both.
"""

import asyncio
import logging
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Hashable,
    Mapping,
)
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import orjson

from trimtab import metrics as t
from trimtab.errors import ConfigError, ForbiddenError, NoCollectionError, UpstreamError
from trimtab.metrics import Histogram, Telemetry
from trimtab.rewrite.policies import FEEDBACK_WARNING, Reason
from trimtab.routing.outcome import Outcome
from trimtab.routing.route_book import CollectionRoutes, Finding, Question
from trimtab.routing.schema_cache import Caller, SchemaCache
from trimtab.server.busy_poll import BusyPoll
from trimtab.server.bypass import (
    ADVICE,
    Bypass,
    Peek,
    is_search_method,
    message_holds_vector,
)
from trimtab.server.credentials import TWINS_FIELDS
from trimtab.server.dispatch import Planner
from trimtab.server.paths import Paths
from trimtab.server.qdrant_answers import read_answer
from trimtab.server.rankings import Ranking, of_searches, read_rankings
from trimtab.server.request_head import MARK, RequestHead
from trimtab.server.route_table import LiveTable, RouteTable
from trimtab.server.shadow import Shadow
from trimtab.server.text_pool import TextPools
from trimtab.server.tracing import Tracer
from trimtab.unforeseen import Border, tell
from trimtab.upstream.http1 import Fields
from trimtab.upstream.rest_fetch import Request, ask
from trimtab.upstream.rest_pool import Pool

logger = logging.getLogger(__name__)

BESIDE_BYTES = 256 * 1024
"""A larger request is adapted in a thread: most take milliseconds, but the worst for its size, of
thousands of tiny vectors, a second a megabyte."""
_BESIDE = ThreadPoolExecutor(2, thread_name_prefix="beside")
"""Of such requests alone: searches in indexes, look-ups of names and reloads have asyncio's own."""
_NOT_UNDERSTOOD = {Reason.UNKNOWN_VARIANT, Reason.ENCODED}
_SHOWN_CHARACTERS = 200

Found = TypeVar("Found")

Asker = Callable[[Question], Awaitable[Any]]
"""Answers a question; raises an UpstreamError where Qdrant does not."""


async def beside(work: Callable[[], Found], *, is_long: bool) -> Found:
    """Do what may take long in a thread, so that other clients go on; the rest at once."""
    if not is_long:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_BESIDE, work)


class Meter(NamedTuple):
    """Histograms of one kind of request.

    Attributes:
        whole: From its head to the end of its answer.
        upstream: From when it was sent to the head of its answer.
    """

    whole: Histogram
    upstream: Histogram


class WorkerState:
    """One worker's requests.

    Attributes:
        live: The route table.
        facts: What Qdrant said of its collections.
        telemetry: What is counted.
        pool: Qdrant's REST addresses; None where there are none.
        shadow: Compares raw and adapted answers.
        busy_poll: Keeps the worker awake through short waits.
        tracer: Begins spans; None where nobody wants them.
        settings: What the server was started with; see ``route_table.FIXED``.
        own_key: Key for the sidecar's own questions; else the caller's is used.
        paths: What stands before Qdrant's paths.
        texts: Embed texts, beside the event loop.
        heads: Heads that were read and found good, by their very bytes: clients send few.
        invalidation_listeners: Are told what was forgotten, for other workers.
        is_draining: True once no new connections are taken.
        n_under_way: Requests under way.
    """

    def __init__(
        self,
        live: LiveTable,
        facts: SchemaCache,
        pool: Pool | None,
        telemetry: Telemetry,
        *,
        own_key: str | None = None,
    ) -> None:
        """Begin."""
        self.shadow = Shadow(live.current.settings.shadow, telemetry)
        self.own_key = own_key
        self.settings = live.current.settings
        self.live = live
        self.facts = facts
        self.pool = pool
        self.telemetry = telemetry
        self.busy_poll = BusyPoll(self.settings.listen.busy_poll_us)
        self.tracer: Tracer | None = None
        self.is_draining = False
        self.n_under_way = 0
        self.paths = Paths(self.settings.listen, self.settings.upstream)
        self.texts = TextPools(telemetry)
        self._planner = Planner(live.current, self.paths, has_upstream=pool is not None)
        self._warned: set[str] = set()
        self._meters: dict[str, Meter] = {}
        self.heads: dict[bytes, RequestHead] = {}
        self.invalidation_listeners: list[Callable[[str], None]] = []
        self._told: set[tuple[int, str, str]] = set()
        self._told_of_feedback: set[str] = set()
        self._asked: dict[Hashable, asyncio.Task[CollectionRoutes]] = {}

    @property
    def table(self) -> RouteTable:
        """The table in force; a request asks once and keeps it."""
        return self.live.current

    def meter(self, kind: str) -> Meter:
        """Give the histograms of a kind of REST request."""
        meter = self._meters.get(kind)
        if meter is None:
            meter = self._meters[kind] = Meter(
                self.telemetry.histogram(t.REQUEST_SECONDS, "rest", kind),
                self.telemetry.histogram(t.UPSTREAM_SECONDS, "rest", kind),
            )
        return meter

    @property
    def planner(self) -> Planner:
        """Plans for the table in force; a request asks once and keeps the table."""
        if self._planner.table is not self.live.current:
            has_upstream = self.pool is not None
            self._planner = Planner(self.live.current, self.paths, has_upstream=has_upstream)
        return self._planner

    async def look_up(
        self, table: RouteTable, name: str, asker: Asker, caller: Caller
    ) -> CollectionRoutes:
        """Learn the routes of a collection or alias; those who want the same wait for one answer.

        Args:
            table: The table that the request began with.
            name: The collection or alias.
            asker: Asks Qdrant.
            caller: Whom it asks for: what Qdrant hides from one says nothing to another.

        Raises:
            ConfigError: An adapter can't serve the collection.
        """
        key = (table.number, self.facts.epoch, name, caller)
        task = self._asked.get(key)
        if task is None:
            task = asyncio.create_task(self._answer_all(table.book.look_up(name, caller), asker))
            self._asked[key] = task
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(task)

    async def examine(self, table: RouteTable, asker: Asker) -> list[Finding]:
        """Ask Qdrant about the collection of every route; see :meth:`RouteBook.examine`."""
        questions = table.book.examine(
            table.policies, encoded=table.encoders.aims, without=table.collections
        )
        return await self._answer_all(questions, asker)

    async def _answer_all(self, questions: Generator[Question, Any, Found], asker: Asker) -> Found:
        """Answer what a table's book asks."""
        try:
            question = next(questions)
            while True:
                try:
                    answer = await asker(question)
                except Exception as error:  # the book goes on without an answer
                    tell(self.telemetry, Border.FACTS, error)
                    question = questions.throw(error)
                else:
                    question = questions.send(answer)
        except StopIteration as end:
            found: Found = end.value
            return found

    async def ask_rest(
        self, question: Question, credentials: Fields, prefix: bytes | None = None
    ) -> Any:
        """Answer a question over REST.

        Args:
            question: The question.
            credentials: Header fields that say who asks.
            prefix: What stands before Qdrant's own path in the request that it is asked for;
                unless given, what the settings say.

        Raises:
            UpstreamError: Qdrant does not answer, or not with what was asked.
        """
        if self.pool is None:
            raise UpstreamError("no REST address of Qdrant is known")
        target = b"/aliases"
        if question.method == "get_collection":
            target = b"/collections/" + _quoted(question.arguments["collection_name"])
        target = (self.paths.upstream if prefix is None else prefix) + target
        request = Request(b"GET", target, tuple(credentials))
        timeout_s = self.settings.upstream.connect_timeout_s
        answer = await ask(self.pool, request, timeout_s=timeout_s)
        if answer.status in {401, 403}:
            raise ForbiddenError(f"Qdrant answers GET {target.decode()} with {answer.status}")
        if answer.status == 404 and question.method == "get_collection":
            raise NoCollectionError(f"Qdrant answers GET {target.decode()} with 404")
        if answer.status != 200:
            raise UpstreamError(f"Qdrant answers GET {target.decode()} with {answer.status}")
        try:
            return read_answer(question, orjson.loads(answer.body)["result"])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UpstreamError(f"Qdrant's answer to GET {target.decode()} is new to us") from error

    async def ask_shadow(
        self, target: bytes, fields: Fields, outcome: Outcome
    ) -> Mapping[int, Ranking]:
        """Ask an adapted query over REST, beside its raw one.

        Returns:
            The rankings of the searches that were changed, by position.

        Raises:
            UpstreamError: Qdrant does not answer it.
        """
        if self.pool is None:
            return {}
        kept = [field for field in fields if TWINS_FIELDS.fullmatch(field[0])]
        kept += [(b"content-type", b"application/json"), (MARK, outcome.mark.encode())]
        request = Request(b"POST", target, tuple(kept), outcome.content)
        timeout_s = self.settings.upstream.query_timeout_s or None
        answer = await ask(self.pool, request, timeout_s=timeout_s)
        if answer.status != 200:
            raise UpstreamError(f"Qdrant answers the adapted query with {answer.status}")
        return of_searches(read_rankings(orjson.loads(answer.body)), outcome.shadowed)

    def count_outcome(self, collection: str, outcome: Outcome, protocol: str) -> None:
        """Count what was decided about a request's places."""
        for reason, n in outcome.decisions.items():
            if reason in _NOT_UNDERSTOOD:
                self._warn_once(reason, {"collection": collection})
            label = "" if reason is Reason.NO_ROUTE else self.label_of(collection)
            self.telemetry.count(t.DECISIONS, label, reason, by=n)
        if Reason.ADAPTED_FEEDBACK in outcome.decisions:
            self._warn_of_feedback(collection)
        if outcome.mark:
            self.telemetry.observe(t.TRANSFORM_SECONDS, outcome.transform_s, protocol)
        if outcome.n_judged:
            self.telemetry.count(t.JUDGED, collection, by=outcome.n_judged)
            self.telemetry.count(t.FAR, collection, by=outcome.n_far)

    def label_of(self, collection: str) -> str:
        """Give a collection's label in metrics: its name, or empty where no route leads there.

        Clients choose the names that they ask for, and each label is kept for good.
        """
        table = self.table
        if table.routes.of_collection(collection) or collection in table.collections:
            return collection
        try:
            return collection if table.known_routes(collection) else ""
        except ConfigError:  # it is a route's that does not fit
            return collection

    def suspect(self, bypass: Bypass, head: RequestHead) -> Peek | None:
        """Count a REST request that looks like a search and is not understood.

        Returns:
            What wants to see its body pass by, where only that can tell.
        """
        path = head.target.partition(b"?")[0].decode(errors="replace")
        if bypass is not Bypass.BODY:
            self.count_bypass("rest", bypass, path)
            return None
        coding = head.values.get(b"content-encoding", b"")
        return Peek(coding, lambda: self.count_bypass("rest", bypass, path))

    def watch_unknown(self, path: str, messages: AsyncIterable[bytes]) -> AsyncIterable[bytes]:
        """Count a call to a gRPC method that is not known, where it looks like a search.

        Args:
            path: The method.
            messages: The caller's.

        Returns:
            The same messages.
        """
        if not len(self.table.routes):
            return messages
        if is_search_method(path):
            self.count_bypass("grpc", Bypass.METHOD, path)
            return messages
        return self._look_at_first(path, messages)

    async def _look_at_first(
        self, path: str, messages: AsyncIterable[bytes]
    ) -> AsyncIterator[bytes]:
        """Give messages on, and count their call where the first one holds a dense vector."""
        is_first = True
        async for message in messages:
            if is_first and message_holds_vector(message):
                self.count_bypass("grpc", Bypass.METHOD, path)
            is_first = False
            yield message

    def count_bypass(self, protocol: str, reason: Bypass, path: str) -> None:
        """Count a request that looks like a search and is not understood; warn of the first.

        Args:
            protocol: ``rest`` or ``grpc``.
            reason: Why it looks like one.
            path: Its path, or its method.
        """
        self.telemetry.count(t.BYPASSED, protocol, reason)
        path = path[:_SHOWN_CHARACTERS]
        self._warn_once(reason, {"path": path, "advice": ADVICE[reason]})

    def _warn_once(self, reason: str, fields: Mapping[str, str]) -> None:
        """Warn of the first search that passes raw for a reason; metrics count them all."""
        if reason not in self._warned:
            self._warned.add(reason)
            logger.warning(
                "what looks like a search is not understood, and passes as it is",
                extra={"reason": str(reason), **fields},
            )

    def _warn_of_feedback(self, collection: str) -> None:
        """Say once for each collection what adapting does to relevance feedback."""
        if collection not in self._told_of_feedback:
            self._told_of_feedback.add(collection)
            logger.warning(FEEDBACK_WARNING, extra={"collection": collection})

    def fitting_routes(self, table: RouteTable, name: str, error: ConfigError) -> CollectionRoutes:
        """Go on without adapters that can't serve a collection, where their routes allow it.

        Raises:
            ConfigError: A route that refuses what it can't adapt is among them.
        """
        key = (table.number, name, str(error))
        if key not in self._told:
            self._told.add(key)
            logger.error("adapter can't serve its collection", extra={"cause": str(error)})
        self.telemetry.count(t.DECISIONS, name, Reason.UNFIT)
        return table.book.fitting_routes(name)

    def invalidate(self, collection: str) -> None:
        """Forget what Qdrant said of a collection, or of all where the name is empty."""
        self.facts.invalidate(collection or None)
        for listener in self.invalidation_listeners:
            listener(collection)


def _quoted(name: str) -> bytes:
    """Write a name as one segment of a path."""
    return quote(name, safe="").encode()
