"""Which routes a call to Qdrant takes, and what its arguments become; no connection of its own.

Looking a collection up takes questions to Qdrant. They are yielded, and answered by whoever holds a
connection, so that one description serves the blocking client and the asynchronous one.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidecar.apply import adapt_places
from sidecar.collection import check_route, read_vectors
from sidecar.errors import MalformedError, QueryError
from sidecar.rewrite.policies import Policies, Reason
from sidecar.rewrite.qdrant_models import find_in_arguments, replace_in_arguments
from sidecar.routes import Route, Routes

logger = logging.getLogger(__name__)

CollectionRoutes = Mapping[str, Route]
"""Routes of one collection by vector name."""

_NONE: CollectionRoutes = {}


class Question(NamedTuple):
    """A call of the official client whose answer is needed.

    Attributes:
        method: ``get_collection`` or ``get_aliases``.
        arguments: By keyword.
    """

    method: str
    arguments: dict[str, str]


Questions = Generator[Question, Any, CollectionRoutes]


class Guide:
    """Knows the routes, what Qdrant said about their collections, and what was decided so far.

    Attributes:
        routes: All routes.
        policies: The user's settings.
        decisions: Places in queries by what became of them, since the start.
    """

    def __init__(self, routes: Routes, policies: Policies, *, ttl_s: float) -> None:
        """Know nothing yet of any collection.

        Args:
            routes: All routes.
            policies: The user's settings.
            ttl_s: Seconds for which the list of aliases, and a question that Qdrant did not
                answer, are not asked again.
        """
        self.routes = routes
        self.policies = policies
        self.decisions: Counter[Reason] = Counter()
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._checked: dict[str, CollectionRoutes] = {}
        self._unchecked_until: dict[str, float] = {}
        self._aliases: dict[str, str] = {}
        self._aliases_until = float("-inf")

    def known_routes(self, name: str) -> CollectionRoutes | None:
        """Give the routes of a collection or alias, or None where Qdrant must be asked first."""
        routes = self._checked.get(name)
        if routes is not None:
            return routes
        if self.routes.of_collection(name):
            is_due = time.monotonic() >= self._unchecked_until.get(name, float("-inf"))
            return None if is_due else self.routes.of_collection(name)
        if time.monotonic() >= self._aliases_until:
            return None
        target = self._aliases.get(name)
        return _NONE if target is None else self.known_routes(target)

    def look_up(self, name: str) -> Questions:
        """Ask what is needed to know the routes of a collection or alias.

        A route under the very name that is called wins; otherwise an alias leads to the routes of
        its collection.

        Yields:
            Calls to make; send their answers back, or throw what they raised.

        Raises:
            ConfigError: An adapter can't serve its collection.
        """
        if self.routes.of_collection(name):
            return (yield from self._check(name))
        if time.monotonic() >= self._aliases_until:
            try:
                answer = yield Question("get_aliases", {})
                found = {each.alias_name: each.collection_name for each in answer.aliases}
            except Exception as error:  # as many types as transports; the query will show its own
                logger.warning("aliases unknown", extra={"cause": _one_line(error)})
                found = self._aliases
            self._aliases, self._aliases_until = found, time.monotonic() + self._ttl_s
        target = self._aliases.get(name)
        if target is None or not self.routes.of_collection(target):
            return _NONE
        return self._checked.get(target) or (yield from self._check(target))

    def _check(self, collection: str) -> Questions:
        """Hold the routes of a collection against what it says about its vectors."""
        routes = self.routes.of_collection(collection)
        try:
            info = yield Question("get_collection", {"collection_name": collection})
        except Exception as error:  # as above
            logger.warning(
                "collection not checked",
                extra={"collection": collection, "cause": _one_line(error)},
            )
            self._unchecked_until[collection] = time.monotonic() + self._ttl_s
            return routes
        vectors = read_vectors(info)
        for route in routes.values():
            check_route(route, vectors)
        self._checked[collection] = routes
        return routes

    def adapt(
        self, routes: CollectionRoutes, arguments: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], str]:
        """Adapt the query vectors in a call's arguments.

        Args:
            routes: Of the collection that is called.
            arguments: As :func:`find_in_arguments` takes them; not changed.

        Returns:
            The arguments to call with, and the mark of the adapters that were used, or "".

        Raises:
            RefusedError: A policy, or a route whose adapter failed, forbids the call.
        """
        if not routes:
            self._count({Reason.NO_ROUTE: 1})
            return arguments, ""
        try:
            places = find_in_arguments(arguments)
        except MalformedError:  # the official client says what is wrong with it
            self._count({Reason.MALFORMED: 1})
            return arguments, ""
        adapted = adapt_places(places, routes, self.policies)
        self._count(adapted.decisions)
        if not adapted.changes:
            return arguments, ""
        return replace_in_arguments(arguments, adapted.changes), adapted.mark

    def adapt_bare(
        self, collection: str, query: Any, using: str | None
    ) -> tuple[NDArray[np.float32], str] | None:
        """Adapt a query that is nothing but a vector, before anything is made of it.

        The common case, on the shortest way. It knows one outcome; whatever is not surely adapted
        is left to :meth:`adapt`, which knows them all.

        Args:
            collection: The collection that is called.
            query: What the caller passed as the query.
            using: The vector's name.

        Returns:
            The adapted vector and the adapter's mark, or None.
        """
        routes = self.known_routes(collection)
        route = routes.get(using or "") if routes else None
        if route is None or len(query) != route.adapter.dim_in:
            return None
        try:
            adapted = route.adapter.transform(_as_vector(query))
        except (QueryError, TypeError, ValueError, OverflowError):
            return None
        if not np.vdot(adapted, adapted) < np.inf:
            return None
        with self._lock:
            self.decisions[Reason.ADAPTED] += 1
        return adapted, route.adapter.mark

    def pass_adapted(self) -> None:
        """Count a call that was adapted before it came here."""
        self._count({Reason.ALREADY_ADAPTED: 1})

    def _count(self, decisions: Mapping[Reason, int]) -> None:
        """Add to the counts; several threads may."""
        with self._lock:
            for reason, n in decisions.items():
                self.decisions[reason] += n


def _as_vector(query: Any) -> NDArray[np.float32]:
    """Convert a list of numbers, or an array of one dimension."""
    if isinstance(query, np.ndarray):
        if query.ndim != 1:
            raise QueryError("not one vector")
        return query
    if type(query[0]) not in {float, int}:
        raise QueryError("not a list of numbers")
    return np.array(query, dtype=np.float32)


def _one_line(error: Exception) -> str:
    """Write another library's error on one line, without its traceback."""
    return " ".join(str(error).split())[:200] or type(error).__name__
