"""The query methods of the connection below an official client, adapted."""

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from qdrant_client.context_headers import get_context_headers, headers

from trimtab.clients.query_adapter import QueryAdapter, as_absence, read_answer
from trimtab.routing.route_book import CollectionRoutes, Question
from trimtab.routing.routes import MARK_HEADER

_Calls = Generator[Callable[[], Any], Any, Any]
"""Calls of the connection, each to be told its answer, and what they come to."""
_CHANGING_ALL = {"update_collection_aliases", "recover_snapshot", "recover_shard_snapshot"}
_CHANGING = (
    *sorted(_CHANGING_ALL),
    "create_collection",
    "recreate_collection",
    "update_collection",
    "delete_collection",
    "create_vector_name",
    "delete_vector_name",
)
"""The official client's methods after which Qdrant may say otherwise of its collections."""


class _Queries:
    """The query methods of the connection below a client, which calls them by keyword.

    Which calls a method takes is told by a generator; a subclass makes them, and tells it the
    answers. The connection itself is called: local mode answers a batch by its own queries.
    """

    __slots__ = ()
    _query_adapter: QueryAdapter
    _inner: Any

    def query_points(self, collection_name: str, **arguments: Any) -> Any:
        """Adapt and query."""
        return self._run(self._query("query_points", collection_name, arguments))

    def query_points_groups(self, collection_name: str, **arguments: Any) -> Any:
        """Adapt and query."""
        return self._run(self._query("query_points_groups", collection_name, arguments))

    def query_batch_points(self, collection_name: str, **arguments: Any) -> Any:
        """Adapt and query."""
        return self._run(self._query("query_batch_points", collection_name, arguments))

    def examine(self) -> Any:
        """Ask about the collection of every route."""
        return self._run(self._answered(self._query_adapter.examine()))

    def learn(self, collection: str) -> Any:
        """Ask what must be known to adapt queries of a collection, where it is not."""
        return self._run(self._learn(collection))

    def _query(self, method: str, collection: str, arguments: dict[str, Any]) -> _Calls:
        """Adapt the vectors in a call's arguments and make the call, marked."""
        mark = mark_of_context()
        if mark is not None:
            self._query_adapter.pass_marked(mark)
            return (yield self._call(method, collection_name=collection, **arguments))
        routes = yield from self._learn(collection)
        changed, mark = _adapt(self._query_adapter, routes, arguments)
        with headers({MARK_HEADER: mark}) if mark else nullcontext():
            return (yield self._call(method, collection_name=collection, **changed))

    def _learn(self, collection: str) -> Generator[Callable[[], Any], Any, CollectionRoutes]:
        """Give a collection's routes; ask Qdrant first where they are not known."""
        routes = self._query_adapter.known_routes(collection)
        if routes is None:
            if not self._query_adapter.has_examined:
                yield from self._answered(self._query_adapter.examine())
            routes = yield from self._answered(self._query_adapter.look_up(collection))
        return routes

    def _change(self, method: str, values: Sequence[Any], named: Mapping[str, Any]) -> _Calls:
        """Change a collection: what was known of it is asked anew."""
        try:
            return (yield self._call(method, *values, **named))
        finally:  # even a call without a good answer may have been carried out
            self._query_adapter.invalidate(_changed_collection(method, values, named))

    def _answered(self, questions: Generator[Question, Any, Any]) -> _Calls:
        """Have the guide's questions answered; give what it comes to."""
        try:
            question = next(questions)
            while True:
                try:
                    answer = yield self._call(question.method, **question.arguments)
                    answer = read_answer(question, answer)
                except Exception as error:  # the guide knows what to make of it
                    question = questions.throw(as_absence(error))
                else:
                    question = questions.send(answer)
        except StopIteration as end:
            return end.value

    def _call(self, method: str, *values: Any, **named: Any) -> Callable[[], Any]:
        """Prepare a call of the connection."""
        return functools.partial(getattr(self._inner, method), *values, **named)

    def _run(self, calls: _Calls) -> Any:
        """Make the calls, one after the other; give what comes out in the end."""
        raise NotImplementedError


class BlockingQueries(_Queries):
    """Those of ``QdrantClient``."""

    __slots__ = ()

    def _run(self, calls: _Calls) -> Any:
        try:
            call = next(calls)
            while True:
                try:
                    answer = call()
                except BaseException as error:
                    call = calls.throw(error)
                else:
                    call = calls.send(answer)
        except StopIteration as end:
            return end.value


class AsyncQueries(_Queries):
    """Those of ``AsyncQdrantClient``."""

    __slots__ = ()

    async def _run(self, calls: _Calls) -> Any:
        try:
            call = next(calls)
            while True:
                try:
                    answer = await call()
                except BaseException as error:
                    call = calls.throw(error)
                else:
                    call = calls.send(answer)
        except StopIteration as end:
            return end.value


def mark_of_context() -> str | None:
    """Give the mark that the caller sends along, whatever the case of its name; None for none."""
    given = get_context_headers()
    return next((value for name, value in given.items() if name.lower() == MARK_HEADER), None)


def _adapt(
    query_adapter: QueryAdapter, routes: CollectionRoutes, arguments: dict[str, Any]
) -> tuple[Mapping[str, Any], str]:
    """Adapt the arguments of any of the three methods; give them with their mark."""
    requests = arguments.get("requests")
    if requests is not None:
        changed, mark = query_adapter.adapt(routes, {"searches": list(requests)})
        return {**arguments, "requests": changed["searches"]}, mark
    return query_adapter.adapt(routes, arguments)


def adapted_copy(inner: Any, query_adapter: QueryAdapter, queries: type) -> Any:
    """Make a connection that shares everything with another one, but adapts its queries."""
    kind = _adapted_type(type(inner), queries)  # type: ignore[arg-type]  # a class is hashable
    adapted: Any = object.__new__(kind)
    adapted.__dict__ = inner.__dict__  # one state: what is opened or closed in one is so in both
    adapted._query_adapter, adapted._inner = query_adapter, inner
    return adapted


@functools.cache
def _adapted_type(kind: type, queries: type) -> type:
    """Make a subclass of a connection; what it adds lives outside of the state that it shares."""
    changes = {name: _changing(name) for name in _CHANGING if hasattr(kind, name)}
    members = {"__slots__": ("_query_adapter", "_inner"), **changes}
    return type(f"Adapted{kind.__name__}", (queries, kind), members)


def _changing(method: str) -> Callable[..., Any]:
    """Make a method that changes a collection."""

    def change(self: _Queries, *values: Any, **named: Any) -> Any:
        return self._run(self._change(method, values, named))

    return change


def _changed_collection(method: str, values: Sequence[Any], named: Mapping[str, Any]) -> str:
    """Name the collection that a call changes; empty where it may be any."""
    if method in _CHANGING_ALL:
        return ""
    return str(named.get("collection_name", values[0] if values else ""))
