"""The gRPC listener: every method of every service passes as bytes, and queries are adapted.

A message is decoded only where it carries query vectors, or is a write that is to be watched.
Metadata, deadlines, cancellation, status, details and trailing metadata pass both ways. What
grpc.aio does not leave to us, and a caller might notice:

- Compression is agreed on by each of the two connections. A compressed request is taken, and goes
  on to Qdrant uncompressed; Qdrant may compress its answers, and they reach the caller
  uncompressed. The library shows neither what a message came in nor what its reader accepts.
- ``user-agent``, ``:authority`` and the fields of gRPC itself are those of this sidecar.
"""

import time
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import grpc
import grpc.aio

from trimtab import metrics as t
from trimtab.addresses import Address
from trimtab.errors import BusyError, ConfigError, MalformedError, NotServedError, SidecarError
from trimtab.rewrite.policies import Reason, reason_of_mark
from trimtab.rewrite.qdrant_grpc import GrpcMethod, read_message
from trimtab.rewrite.texts_grpc import find_texts, put_embeddings
from trimtab.routing.adapt_grpc import adapt_message
from trimtab.routing.outcome import Outcome
from trimtab.routing.route_book import CollectionRoutes, Question
from trimtab.routing.routes import MARK_HEADER
from trimtab.server.bypass import NOTHING_FOUND, Bypass, message_holds_vector
from trimtab.server.changes import forgetting
from trimtab.server.credentials import CREDENTIALS
from trimtab.server.embed_texts import EmbeddedTexts, Target, embed_texts
from trimtab.server.grpc.listener import Listener
from trimtab.server.grpc.messages import (
    Method,
    changed_collection,
    known_methods,
    peek_collection,
    read_answer,
    read_rankings,
    write_question,
)
from trimtab.server.grpc.relay import Metadata, Relay, passed_on
from trimtab.server.rankings import Ranking, of_searches
from trimtab.server.route_table import RouteTable
from trimtab.server.status import status_of
from trimtab.server.worker_state import BESIDE_BYTES, Asker, WorkerState, beside
from trimtab.settings import Settings
from trimtab.unforeseen import Border, tell
from trimtab.upstream.grpc_channels import Channels

Given = TypeVar("Given")


@dataclass(frozen=True, slots=True)
class _Query:
    """A query, as much of it as its shadow request needs.

    Attributes:
        method: Its method.
        vectors: The same, as the rewriter knows it.
        content: The message that came.
        metadata: What came with it.
        collection: As it named it.
        routes: Of that collection.
        table: The table that it began with.
        embedded: What was embedded of it.
    """

    method: Method
    vectors: GrpcMethod
    content: bytes
    metadata: Metadata
    collection: str
    routes: CollectionRoutes
    table: RouteTable
    embedded: EmbeddedTexts

    async def adapt(self, message: Any, *, shadow: bool = False) -> Outcome:
        """Adapt it."""
        given = self.vectors, message, self.content, self.routes, self.table.policies
        is_long = len(self.content) > BESIDE_BYTES
        adapt = partial(adapt_message, *given, shadow=shadow, origins=self.embedded.origins)
        return await beside(adapt, is_long=is_long)


class GrpcServer:
    """The listener and its calls.

    Attributes:
        channels: The ways to Qdrant.
    """

    def __init__(self, state: WorkerState, settings: Settings) -> None:
        """Begin to connect to Qdrant; needs a running event loop.

        Raises:
            ConfigError: A certificate can't be read.
        """
        self.channels = Channels(settings.upstream)
        self._state = state
        self._settings = settings
        self._relay = Relay(self.channels, state.telemetry)
        self._methods = {method.path: method for method in known_methods()}
        self._handlers = {path: self._handler(method) for path, method in self._methods.items()}
        self._listener: Listener | None = None

    async def start(self, address: Address, *, shares_ports: bool) -> int:
        """Listen.

        Args:
            address: Where; port 0 takes a free one.
            shares_ports: True where other processes listen on the same port.

        Returns:
            The port.

        Raises:
            ConfigError: The port can't be had, or a certificate can't be used.
        """
        self._listener = Listener(self, self._settings.listen, self._state.telemetry)
        return await self._listener.start(address, shares_ports=shares_ports)

    async def drain(self, timeout_s: float) -> None:
        """Take no new calls, wait for those under way as long as that, and close everything."""
        if self._listener is not None:
            await self._listener.stop(timeout_s)
        await self.channels.close()

    def service(self, handler_call_details: Any) -> Any:
        """Give what handles a call."""
        path: str = handler_call_details.method
        handler = self._handlers.get(path)
        if handler is not None:
            return handler
        method = self._methods.get("/" + "/".join(path.split("/")[-2:]))
        if method is not None:  # with something before it, as from behind an ingress
            return self._handler(replace(method, path=path))
        return self._stream_handler(path)

    def _handler(self, method: Method) -> Any:
        """Make what handles a method with one message each way."""
        ways = {"query": self._query, "write": self._write}
        serve = ways.get(method.kind, self._other)

        async def handle(content: bytes, context: Any) -> bytes:
            return await self._counted(method.kind, context, serve(method, content, context))

        return grpc.unary_unary_rpc_method_handler(handle)

    def _stream_handler(self, path: str) -> Any:
        """Make what handles a method of which nothing is known; one message is a stream too."""

        async def handle(requests: AsyncIterable[bytes], context: Any) -> None:
            metadata = passed_on(context.invocation_metadata())
            watched = self._state.watch_unknown(path, requests)
            passing = self._relay.stream(path, watched, metadata, context)
            await self._counted("other", context, passing)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _counted(self, kind: str, context: Any, serving: Awaitable[Given]) -> Given:
        """Count a call and its end."""
        telemetry, started = self._state.telemetry, time.perf_counter()
        status = grpc.StatusCode.CANCELLED.name
        self._state.n_under_way += 1
        try:
            given = await self._guarded(context, serving)
            status = grpc.StatusCode.OK.name
        except grpc.aio.AbortError:
            status = context.code().name
            raise
        else:
            return given
        finally:
            self._state.n_under_way -= 1
            telemetry.count(t.REQUESTS, "grpc", kind, status)
            took_s = time.perf_counter() - started
            telemetry.observe(t.REQUEST_SECONDS, took_s, "grpc", kind)

    async def _guarded(self, context: Any, serving: Awaitable[Given]) -> Given:
        """Answer, whatever goes wrong."""
        try:
            return await serving
        except grpc.aio.BaseError:  # the call is over already, or its caller is gone
            raise
        except SidecarError as error:
            status, said = status_of(error), str(error)
            retry_after_s = error.retry_after_s if isinstance(error, BusyError) else None
        except Exception as error:
            tell(self._state.telemetry, Border.REQUEST, error)
            status, said = status_of(error), "internal error; see the sidecar's log"
            retry_after_s = None
        self._state.telemetry.count(t.ERRORS, "grpc", status.name)
        trailing = () if retry_after_s is None else (("retry-after", str(retry_after_s)),)
        await context.abort(grpc.StatusCode[status.grpc], f"trimtab: {said}", trailing)
        raise AssertionError(said)  # for the type checker: abort never returns

    # The three kinds of calls with one message each way

    async def _other(self, method: Method, content: bytes, context: Any) -> bytes:
        """Pass a call on."""
        metadata = passed_on(context.invocation_metadata())
        if not method.invalidates:
            return await self._relay.unary(method, content, metadata, context)
        with forgetting(self._state, changed_collection(method, content) or ""):
            return await self._relay.unary(method, content, metadata, context)

    async def _write(self, method: Method, content: bytes, context: Any) -> bytes:
        """Pass a write on, watched where a route asks for it."""
        metadata = passed_on(context.invocation_metadata())
        table = self._state.table
        if table.encoders.write:
            content = await self._embed_write(method, content, table, metadata)
        if table.is_guarded:
            await self._watch(method, content, metadata, table)
        elif len(table.routes):
            self._count_unread(content, Reason.WRITE)
        return await self._relay.unary(method, content, metadata, context)

    async def _query(self, method: Method, content: bytes, context: Any) -> bytes:
        """Pass a query on, adapted where a route asks for it."""
        metadata = passed_on(context.invocation_metadata())
        table = self._state.table
        has_encoders, embedded = len(table.encoders) > 0, EmbeddedTexts()
        if not len(table.routes) and not table.collections.names() and not has_encoders:
            return await self._relay.unary(method, content, metadata, context)
        mark = next((str(value) for key, value in metadata if key == MARK_HEADER), None)
        if mark is not None and not has_encoders:
            self._count_unread(content, reason_of_mark(mark))
            return await self._relay.unary(method, content, metadata, context)
        assert method.vectors is not None  # noqa: S101  # narrowing
        try:
            message = read_message(method.vectors, content)
        except MalformedError:  # Qdrant says what is wrong with it
            self._state.telemetry.count(t.DECISIONS, "", Reason.MALFORMED)
            return await self._relay.unary(method, content, metadata, context)
        name: str = message.collection_name
        if name in table.collections:
            raise NotServedError(f"collection {name!r} is a FAISS index; ask it over REST")
        routes = await self._routes(table, name, metadata)
        if has_encoders:
            target = Target(name, routes, is_write=False, is_left=mark is not None, fields=metadata)
            content, embedded = await self._embed(method.vectors, message, (content, table), target)
        if mark is not None:
            self._count_unread(content, reason_of_mark(mark))
            return await self._relay.unary(method, content, metadata, context)
        query = _Query(method, method.vectors, content, metadata, name, routes, table, embedded)
        return await self._ask(query, message, context)

    async def _ask(self, query: _Query, message: Any, context: Any) -> bytes:
        """Adapt a query that is decoded, and pass it on."""
        outcome = await query.adapt(message)
        self._state.count_outcome(query.collection, outcome, "grpc")
        if outcome.decisions.keys() <= NOTHING_FOUND and message_holds_vector(query.content):
            self._state.count_bypass("grpc", Bypass.FIELD, query.method.path)
        metadata, mark = query.metadata, ",".join(filter(None, (outcome.mark, query.embedded.mark)))
        if mark:
            metadata = [*metadata, (MARK_HEADER, mark)]
        answer = await self._relay.unary(query.method, outcome.content, metadata, context, mark)
        if Reason.SHADOW in outcome.decisions and self._state.shadow.is_wanted():
            self._compare(query, answer)
        return answer

    # What they need

    async def _embed_write(
        self, method: Method, content: bytes, table: RouteTable, metadata: Metadata
    ) -> bytes:
        """Put vectors where texts stand in a write; give the message to send on."""
        assert method.vectors is not None  # noqa: S101  # narrowing
        try:
            message = read_message(method.vectors, content)
        except MalformedError:  # Qdrant says what is wrong with it
            return content
        target = Target(message.collection_name, {}, is_write=True, fields=metadata)
        return (await self._embed(method.vectors, message, (content, table), target))[0]

    async def _embed(
        self,
        vectors: GrpcMethod,
        message: Any,
        given: tuple[bytes, RouteTable],
        target: Target,
    ) -> tuple[bytes, EmbeddedTexts]:
        """Put vectors where texts stand that are embedded here.

        Returns:
            The message to send on, and what was embedded.
        """
        content, table = given
        try:
            texts = find_texts(vectors, message)
        except MalformedError:  # told once more, and counted, by what comes next
            return content, EmbeddedTexts()
        embedded = await embed_texts(self._state, table, texts, target)
        if not embedded.vectors:
            return content, embedded
        put_embeddings(embedded.vectors)
        changed: bytes = message.SerializeToString()
        return changed, embedded

    async def _watch(
        self, method: Method, content: bytes, metadata: Metadata, table: RouteTable
    ) -> None:
        """Look at a write.

        Raises:
            RefusedError: The write guard says so.
        """
        assert method.vectors is not None  # noqa: S101  # narrowing
        try:
            message = read_message(method.vectors, content)
        except MalformedError:
            self._state.telemetry.count(t.DECISIONS, "", Reason.MALFORMED)
            return
        name: str = message.collection_name
        try:
            routes = await self._known_routes(table, name, metadata)
        except ConfigError:  # an adapter that can't serve does not keep anybody from writing
            routes = table.routes.of_collection(name)
        outcome = adapt_message(method.vectors, message, content, routes, table.policies)
        self._state.count_outcome(name, outcome, "grpc")

    async def _routes(self, table: RouteTable, name: str, metadata: Metadata) -> CollectionRoutes:
        """Give the routes of a collection or alias that are in use.

        Raises:
            ConfigError: An adapter can't serve it, and its route refuses what it can't adapt.
        """
        try:
            return await self._known_routes(table, name, metadata)
        except ConfigError as error:
            return self._state.fitting_routes(table, name, error)

    async def _known_routes(
        self, table: RouteTable, name: str, metadata: Metadata
    ) -> CollectionRoutes:
        """Give the routes of a collection or alias, asking Qdrant where that is needed.

        Raises:
            ConfigError: An adapter can't serve it.
        """
        if not table.needs_aliases:
            return {}
        credentials = self._credentials(metadata)
        caller = () if self._state.own_key else tuple(credentials)
        routes = table.known_routes(name, caller)
        if routes is None:
            asker = self._asker(credentials)
            routes = await self._state.look_up(table, name, asker, caller)
        return routes

    def _credentials(self, metadata: Metadata) -> Metadata:
        """Give what the sidecar's own questions are asked with: its own key, or the caller's."""
        if self._state.own_key:
            return [("api-key", self._state.own_key)]
        return [pair for pair in metadata if pair[0].encode() in CREDENTIALS]

    def _asker(self, credentials: Metadata) -> Asker:
        """Make what asks Qdrant about collections."""
        timeout_s = self._settings.upstream.connect_timeout_s

        async def ask(question: Question) -> Any:
            path, content = write_question(question)
            answer = await self.channels.ask(path, content, credentials, timeout_s=timeout_s)
            return read_answer(question, answer)

        return ask

    def _count_unread(self, content: bytes, reason: Reason) -> None:
        """Count a call that is not looked into, under its collection where that has routes."""
        name = peek_collection(content)
        if reason is Reason.WRITE and not self._state.label_of(name):
            reason = Reason.NO_ROUTE
        self._state.count_outcome(name, Outcome(content, Counter({reason: 1})), "grpc")

    def _compare(self, query: _Query, answer: bytes) -> None:
        """Have an answer compared with the adapted query's."""
        method = query.vectors

        async def ask_shadow() -> Mapping[int, Ranking]:
            outcome = await query.adapt(read_message(method, query.content), shadow=True)
            if not outcome.shadowed:
                return {}
            metadata = [*query.metadata, (MARK_HEADER, outcome.mark)]
            timeout_s = self._settings.upstream.query_timeout_s or None
            adapted = await self.channels.ask(
                query.method.path, outcome.content, metadata, timeout_s=timeout_s
            )
            return of_searches(read_rankings(method.name, adapted), outcome.shadowed)

        self._state.shadow.offer(
            query.collection, lambda: read_rankings(method.name, answer), ask_shadow
        )
