"""Which routes apply to a name, by what Qdrant says of its collections and aliases.

No connection of its own: looking something up takes questions to Qdrant. They are yielded, and
answered by whoever holds a connection, so that one description serves the blocking client, the
asynchronous one and the server.
"""

import logging
from collections.abc import Container, Generator, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from trimtab.errors import ConfigError, ForbiddenError, NoCollectionError
from trimtab.rewrite.policies import Policies
from trimtab.routing.routes import Aim, Route, Routes
from trimtab.routing.schema_cache import Caller, SchemaCache
from trimtab.routing.vector_schema import (
    IndexedVector,
    check_route,
    compare_distance,
    find_idle_cause,
)

logger = logging.getLogger(__name__)

CollectionRoutes = Mapping[str, Route]
"""Routes of one collection by vector name."""

_NONE: CollectionRoutes = {}
_LONG_S = 0.25
"""Seconds after which a question without an answer has kept a start waiting."""


class Question(NamedTuple):
    """Something that Qdrant must be asked.

    Attributes:
        method: ``get_collection``, answered by its vectors by name, or ``get_aliases``, answered by
            the collections by alias.
        arguments: ``collection_name`` for the first.
    """

    method: str
    arguments: dict[str, str]


Fit = Literal["fine", "doubtful", "idle", "unfit", "missing", "unknown"]


class Finding(NamedTuple):
    """Whether a route can apply, or what an encoder adapts.

    Attributes:
        route: Which.
        fit: ``fine``; ``doubtful``, where it can apply and may still not do what is wanted;
            ``idle``, where it would adapt nothing; ``unfit``, where its adapter can't serve its
            vector; ``missing``, where there is no such collection; ``unknown``, where Qdrant did
            not say.
        text: What is wrong; empty for nothing.
    """

    route: Aim
    fit: Fit
    text: str


Answer = Mapping[str, IndexedVector] | Mapping[str, str]
Questions = Generator[Question, Any, CollectionRoutes]
Examination = Generator[Question, Any, list[Finding]]


class RouteBook:
    """Which routes apply to the name in a request, once held against the facts.

    A route under the very name that is called wins; otherwise an alias leads to the routes of its
    collection.
    """

    def __init__(self, routes: Routes, facts: SchemaCache) -> None:
        """Take both; facts outlive a book, as routes are replaced."""
        self.routes = routes
        self.facts = facts
        self._checked: dict[str, tuple[int, CollectionRoutes | ConfigError]] = {}
        self._ready: dict[str, tuple[int, float, CollectionRoutes]] = {}

    def known_routes(self, name: str, caller: Caller = ()) -> CollectionRoutes | None:
        """Give the routes of a collection or alias, or None where Qdrant must be asked first.

        Args:
            name: The collection or alias.
            caller: Who wants to know.

        Raises:
            ConfigError: An adapter can't serve the collection.
        """
        ready = self._ready.get(name)
        if ready is not None and ready[0] == self.facts.version and self.facts.now() < ready[1]:
            return ready[2]
        if self.routes.of_collection(name):
            if not self.facts.is_known(name):
                return None
            routes = self._check(name)
            self._ready[name] = (self.facts.version, self.facts.known_until(name), routes)
            return routes
        if not self.facts.is_alias_known(name, caller):
            return None
        target = self.facts.collection_of(name)
        if target is None or not self.routes.of_collection(target):
            return _NONE
        return self._check(target) if self.facts.is_known(target) else None

    def unchecked_routes(self, name: str, caller: Caller = ()) -> CollectionRoutes | None:
        """Give the routes of a collection or alias, whether or not their adapters can serve it.

        Args:
            name: The collection or alias.
            caller: Who wants to know.

        Returns:
            None where the name may be an alias, and Qdrant must be asked first.
        """
        if self.routes.of_collection(name):
            return self.routes.of_collection(name)
        if not self.facts.is_alias_known(name, caller):
            return None
        return self.routes.of_collection(self.facts.collection_of(name) or "")

    def fitting_routes(self, name: str) -> CollectionRoutes:
        """Give those routes of a collection or alias whose adapters can serve it.

        Raises:
            ConfigError: One can't, and its route refuses what is not adapted.
        """
        target = name if self.routes.of_collection(name) else self.facts.collection_of(name)
        vectors = self.facts.vectors_of(target or "") or {}
        fitting = {}
        for vector_name, route in self.routes.of_collection(target or "").items():
            try:
                check_routes([route], vectors)
            except ConfigError:
                if route.on_error == "refuse":
                    raise
            else:
                fitting[vector_name] = route
        return fitting

    def look_up(self, name: str, caller: Caller = ()) -> Questions:
        """Ask what is needed to know the routes of a collection or alias.

        Args:
            name: The collection or alias.
            caller: Who wants to know; the questions must be asked for the same.

        Yields:
            Questions; send the answers back, or throw what was raised instead.

        Raises:
            ConfigError: An adapter can't serve the collection.
        """
        if self.routes.of_collection(name):
            return (yield from self._learn(name))
        if not self.facts.is_alias_known(name, caller):
            yield from self._ask_aliases(caller)
        target = self.facts.collection_of(name)
        if target is None or not self.routes.of_collection(target):
            return _NONE
        return (yield from self._learn(target))

    def _ask_aliases(self, caller: Caller = ()) -> Generator[Question, Any, None]:
        """Ask which alias leads where."""
        epoch = self.facts.epoch
        try:
            found = yield Question("get_aliases", {})
            self.facts.learn_aliases(found, epoch=epoch, caller=caller)
        except ForbiddenError:  # says nothing about the next caller
            logger.debug("aliases not shown to a caller")
        except Exception as error:  # as many types as transports; the query will show its own
            logger.warning("aliases unknown", extra={"cause": _one_line(error)})
            self.facts.learn_aliases(None, epoch=epoch, caller=caller)

    def _learn(self, collection: str) -> Questions:
        """Ask about a collection's vectors, unless they are known."""
        yield from self._ask(collection)
        return self._check(collection)

    def _ask(
        self, collection: str, *, hidden: int = logging.DEBUG
    ) -> Generator[Question, Any, tuple[Fit, str]]:
        """Ask about a collection's vectors, unless they are known; give what came of it.

        Args:
            collection: The collection.
            hidden: Level at which it is told that Qdrant does not show it to whoever asks.
        """
        if self.facts.is_known(collection):
            is_told = self.facts.vectors_of(collection) is not None
            return ("fine", "") if is_told else ("unknown", "Qdrant has not answered")
        question = Question("get_collection", {"collection_name": collection})
        epoch = self.facts.epoch
        try:
            self.facts.learn_vectors(collection, (yield question), epoch=epoch)
        except ForbiddenError:
            cause = "Qdrant does not show it to this key"
            extra = {"collection": collection, "cause": cause}
            logger.log(hidden, "collection not checked", extra=extra)
            return "unknown", cause
        except NoCollectionError:
            logger.warning("a route's collection does not exist", extra={"collection": collection})
            self.facts.learn_vectors(collection, None, epoch=epoch)
            return "missing", "Qdrant has no collection or alias of that name"
        except Exception as error:  # as above
            cause = _one_line(error)
            logger.warning(
                "collection not checked", extra={"collection": collection, "cause": cause}
            )
            self.facts.learn_vectors(collection, None, epoch=epoch)
            return "unknown", cause
        return "fine", ""

    def examine(
        self,
        policies: Policies,
        *,
        encoded: Iterable[Aim] = (),
        without: Container[str] = (),
        is_patient: bool = True,
    ) -> Examination:
        """Ask about the collection of every route, and say of each whether it can apply.

        Args:
            policies: The user's settings.
            encoded: What encoders adapt; held against collections as routes are, and against the
                routes that an alias leads to.
            without: Collections that Qdrant is not asked about.
            is_patient: False to ask no more once a question was not answered, and not only once
                one was waited for in vain.

        Yields:
            Questions, as :meth:`look_up` does.
        """
        aims: list[Aim] = [*self.routes, *encoded]
        findings, is_down, has_given_up = [], False, False
        for collection in dict.fromkeys(aim.collection for aim in aims):
            fit: Fit = "fine"
            cause = ""
            if has_given_up and collection not in without:
                fit, cause = "unknown", "Qdrant has not answered before"
            elif collection not in without:
                asked_at = self.facts.now()
                fit, cause = yield from self._ask(collection, hidden=logging.WARNING)
                is_down = fit == "unknown"
                is_long = self.facts.now() - asked_at >= _LONG_S
                has_given_up = is_down and (is_long or not is_patient)
            for route in [aim for aim in aims if aim.collection == collection]:
                if fit == "fine" or route.mode == "off":
                    vectors = self.facts.vectors_of(collection)
                    findings.append(_judge_route(route, vectors, policies))
                else:
                    findings.append(Finding(route, fit, f"{route}: {cause}"))
        if len(aims) == len(self.routes) or not len(self.routes) or is_down:
            return findings
        if not self.facts.are_aliases_known():
            yield from self._ask_aliases()
        return [self._compare_routes(finding) for finding in findings]

    def _compare_routes(self, finding: Finding) -> Finding:
        """Refuse what an encoder adapts where an alias leads its queries to a route as well."""
        aim = finding.route
        if isinstance(aim, Route) or finding.fit not in {"fine", "doubtful"}:
            return finding
        leads_to = self.facts.collection_of
        for route in self.routes:
            is_met = (
                leads_to(route.collection) == aim.collection
                or leads_to(aim.collection) == route.collection
            )
            if is_met and route.vector_name == aim.vector_name and route.mode != "off":
                text = f"{aim} has a [[route]] as well, as {route} by an alias; leave one out"
                return Finding(aim, "unfit", text)
        return finding

    def _check(self, collection: str) -> CollectionRoutes:
        """Hold the routes of a collection against its vectors, once for each state of the facts."""
        found = self._checked.get(collection)
        if found is None or found[0] != self.facts.version:
            found = self._checked[collection] = (self.facts.version, self._judge(collection))
        if isinstance(found[1], ConfigError):
            raise found[1]
        return found[1]

    def _judge(self, collection: str) -> CollectionRoutes | ConfigError:
        """Give the routes of a collection, or why they can't serve it."""
        routes = self.routes.of_collection(collection)
        vectors = self.facts.vectors_of(collection)
        try:
            if vectors is not None:
                check_routes(routes.values(), vectors)
        except ConfigError as error:
            return error
        return routes


def check_routes(routes: Iterable[Aim], vectors: Mapping[str, IndexedVector]) -> None:
    """Hold every route that is in use against a collection's vectors.

    Raises:
        ConfigError: An adapter can't serve its vector.
    """
    for route in routes:
        if route.mode != "off":
            check_route(route, vectors)


def tell_findings(findings: Iterable[Finding]) -> None:
    """Log the routes that can't apply, or may not do what is wanted."""
    for finding in findings:
        extra = {"collection": finding.route.collection, "cause": finding.text}
        if finding.fit in {"idle", "missing", "unfit"}:
            logger.error("%s can't apply", _kind(finding), extra=extra)
        elif finding.fit == "doubtful":
            logger.warning("%s may not do what is wanted", _kind(finding), extra=extra)


def _kind(finding: Finding) -> str:
    """Call what was examined by its kind."""
    return "a route" if isinstance(finding.route, Route) else "what an encoder adapts"


def _judge_route(
    route: Aim, vectors: Mapping[str, IndexedVector] | None, policies: Policies
) -> Finding:
    """Hold one route against its collection's vectors, where they are known."""
    if route.mode == "off":
        return Finding(route, "fine", "")
    if vectors is None:
        return Finding(route, "doubtful" if route.remark else "fine", route.remark)
    try:
        check_route(route, vectors)
    except ConfigError as error:
        return Finding(route, "unfit", str(error))
    vector = vectors[route.vector_name]
    idle = find_idle_cause(route, vector, policies)
    if idle:
        return Finding(route, "idle", idle)
    remark = compare_distance(route, vector) or route.remark
    return Finding(route, "doubtful" if remark else "fine", remark)


def _one_line(error: Exception) -> str:
    """Write another library's error on one line, without its traceback."""
    return " ".join(str(error).split())[:200] or type(error).__name__
