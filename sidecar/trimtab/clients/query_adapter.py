"""Which routes a call to Qdrant takes, and what its arguments become; no connection of its own.

One description serves the blocking client and the asynchronous one.
"""

import logging
import math
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.clients.second_look import BareQuery, Outcome
from trimtab.errors import MalformedError, NoCollectionError, QueryError
from trimtab.rewrite.policies import FEEDBACK_WARNING, Policies, Reason, reason_of_mark
from trimtab.rewrite.qdrant_models import find_in_arguments, replace_in_arguments
from trimtab.routing.route_book import (
    CollectionRoutes,
    Examination,
    Question,
    Questions,
    RouteBook,
    tell_findings,
)
from trimtab.routing.routes import Routes
from trimtab.routing.schema_cache import SchemaCache
from trimtab.routing.transform import adapt_places, draw, is_in_share, is_in_use
from trimtab.routing.vector_schema import read_all_vectors
from trimtab.vectors import to_float32

logger = logging.getLogger(__name__)

_NUMBERS = frozenset({float, int, np.float16, np.float32, np.float64})


class QueryAdapter:
    """Knows the routes, what Qdrant said about their collections, and what was decided so far.

    Attributes:
        routes: All routes.
        policies: The user's settings.
        has_examined: True once it was asked whether the routes can apply.
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
        self.has_examined = False
        self.decisions: Counter[Reason] = Counter()
        self._lock = threading.Lock()
        self._told_of_feedback: set[str] = set()
        # A collection is asked about once, and again where this client has changed it.
        self._facts = SchemaCache(vectors_ttl_s=math.inf, aliases_ttl_s=ttl_s)
        self._book = RouteBook(routes, self._facts)

    def known_routes(self, name: str) -> CollectionRoutes | None:
        """Give the routes of a collection or alias, or None where Qdrant must be asked first."""
        return self._book.known_routes(name)

    def look_up(self, name: str) -> Questions:
        """Ask what is needed to know the routes of a collection or alias.

        Yields:
            Questions, to be answered by the client; see :func:`read_answer`.

        Raises:
            ConfigError: An adapter can't serve its collection.
        """
        return self._book.look_up(name)

    def examine(self) -> Examination:
        """Ask about the collection of every route, and log which of them can't apply.

        Yields:
            Questions, as :meth:`look_up` does.
        """
        self.has_examined = True
        findings = yield from self._book.examine(self.policies, is_patient=False)
        for finding in findings:
            if finding.fit in {"missing", "unknown"}:  # it may be there by the first query
                self._facts.invalidate(finding.route.collection)
        tell_findings(findings)
        return findings

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
        if Reason.ADAPTED_FEEDBACK in adapted.decisions:
            self._warn_of_feedback(next(iter(routes.values())).collection)
        if not adapted.changes:
            return arguments, ""
        return replace_in_arguments(arguments, adapted.changes), adapted.mark

    def adapt_bare(self, collection: str, query: Any, using: str | None) -> BareQuery | Outcome:
        """Adapt a query that is nothing but a vector, before anything is made of it.

        The common case, on the shortest way. Whatever is not surely adapted is left to
        :meth:`adapt`, which decides and counts.

        Args:
            collection: The collection that is called.
            query: What the caller passed as the query: a list, or an array.
            using: The vector's name.

        Returns:
            The query, adapted; or why it can't be looked at twice.
        """
        routes = self.known_routes(collection)
        route = routes.get(using or "") if routes else None
        if route is None:
            return "no_route"
        if not is_in_use(route, shadow=False):
            return "off" if route.mode == "off" else "shadow"
        adapter = route.adapter.current
        try:
            raw = _as_vector(query, route.adapter.dim_in)
            if route.mode == "canary" and not is_in_share(route, draw(to_float32(raw).tobytes())):
                return "canary"
            adapted = adapter.transform(raw)
        except (QueryError, TypeError, ValueError, OverflowError):
            return "other_query"
        if not np.vdot(adapted, adapted) < np.inf:
            return "other_query"
        with self._lock:
            self.decisions[Reason.ADAPTED] += 1
        return BareQuery(raw, adapted, adapter, using or "")

    def distance_of(self, collection: str, using: str) -> str:
        """Tell how a vector that has a route is compared; empty where Qdrant did not say."""
        route = (self.known_routes(collection) or {}).get(using)
        vectors = self._facts.vectors_of(route.collection) if route else None
        searched = (vectors or {}).get(using)
        return searched.distance if searched else ""

    def pass_marked(self, mark: str) -> None:
        """Count a call that was adapted before it came here, or is not to be."""
        self._count({reason_of_mark(mark): 1})

    def invalidate(self, collection: str) -> None:
        """Ask anew about a collection, or about all where the name is empty, and about aliases."""
        self._book.facts.invalidate(collection or None)

    def _warn_of_feedback(self, collection: str) -> None:
        """Say once for each collection what adapting does to relevance feedback."""
        with self._lock:
            is_told = collection in self._told_of_feedback
            self._told_of_feedback.add(collection)
        if not is_told:
            logger.warning(FEEDBACK_WARNING, extra={"collection": collection})

    def _count(self, decisions: Mapping[Reason, int]) -> None:
        """Add to the counts; several threads may."""
        with self._lock:
            for reason, n in decisions.items():
                self.decisions[reason] += n


def _as_vector(query: Any, dim: int) -> NDArray[np.float32]:
    """Convert a list of so many numbers, or an array of one dimension."""
    shape = query.shape if isinstance(query, np.ndarray) else (len(query),)
    if shape != (dim,):
        raise QueryError("not a vector of the adapter's width")
    if isinstance(query, np.ndarray):
        return query
    if not _NUMBERS.issuperset(map(type, query)):
        raise QueryError("not a list of numbers")
    return to_float32(query)


def read_answer(question: Question, answer: Any) -> Any:
    """Read what the official client's method of the question's name gave."""
    if question.method == "get_aliases":
        return {each.alias_name: each.collection_name for each in answer.aliases}
    return read_all_vectors(answer)


def as_absence(error: Exception) -> Exception:
    """Tell the official client's ways to say that there is no such collection; else as it is.

    Over REST it raises its own type with a status, over gRPC gRPC's with a code, and in local mode
    a plain ValueError: qdrant-client 1.20, local/qdrant_local.py.
    """
    code = getattr(error, "code", None)
    status = getattr(error, "status_code", None)
    is_absent = (
        status == 404
        or (callable(code) and getattr(code(), "name", "") == "NOT_FOUND")
        or (type(error) is ValueError and "not found" in str(error))
    )
    return NoCollectionError(str(error)) if is_absent else error
