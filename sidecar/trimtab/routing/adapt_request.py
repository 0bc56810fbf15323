"""A Qdrant request in, the request to send on out: find, decide, transform, put back.

For whoever stands between a client and Qdrant and holds a request's bytes. Nothing is sent from
here, and whatever is not adapted comes back as the very bytes that came.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trimtab.errors import MalformedError, RefusedError
from trimtab.rewrite import qdrant_grpc, qdrant_rest
from trimtab.rewrite.policies import Policies, Reason
from trimtab.routing.routes import Route
from trimtab.routing.transform import Adapted, adapt_bare, adapt_places, is_in_use

logger = logging.getLogger(__name__)

RoutesOf = Callable[[str], Mapping[str, Route]]
"""Gives the routes of a collection or alias by vector name; ``Routes.of_collection`` is one."""


@dataclass(slots=True)  # unfrozen: made for every query
class Outcome:
    """What to send on, and why.

    Attributes:
        content: The request's bytes: the very object that came, where nothing was adapted.
        decisions: How many places were adapted, and how many not, by reason. Empty for a request
            that can't carry a vector; a collection without a route counts once, unread.
        mark: ``NAME@VERSION`` of the adapters that were used, joined by commas; or empty.
        transform_s: Seconds in the adapters.
        n_judged: Adapted queries that were held against the training queries.
        n_far: Those among them that are far from all of these.
    """

    content: bytes
    decisions: Counter[Reason] = field(default_factory=Counter)
    mark: str = ""
    transform_s: float = 0.0
    n_judged: int = 0
    n_far: int = 0


def adapt_rest(
    method: str, path: str | bytes, body: bytes, routes_of: RoutesOf, policies: Policies
) -> Outcome:
    """Adapt the query vectors of a REST request.

    Args:
        method: The HTTP method.
        path: The raw path.
        body: The body, not compressed.
        routes_of: Gives the routes of a collection by vector name.
        policies: The user's settings.

    Returns:
        The body to send on.

    Raises:
        RefusedError: A policy, or a route whose adapter failed, forbids the request.
    """
    endpoint = qdrant_rest.match_endpoint(method, path)
    if endpoint is None:
        return Outcome(body)
    return adapt_body(endpoint, body, routes_of(endpoint.collection), policies)


def adapt_body(
    endpoint: qdrant_rest.RestEndpoint,
    body: bytes,
    routes: Mapping[str, Route],
    policies: Policies,
    *,
    shadow: bool = False,
) -> Outcome:
    """Adapt the query vectors of a REST request whose endpoint is known.

    Args:
        endpoint: From :func:`trimtab.rewrite.qdrant_rest.match_endpoint`.
        body: The body, not compressed.
        routes: Of its collection, by vector name.
        policies: The user's settings.
        shadow: True for a shadow request, which takes shadow routes for ``on``.

    Raises:
        RefusedError: A policy, or a route whose adapter failed, forbids the request.
    """
    bare = qdrant_rest.find_bare(endpoint, body) if routes else None
    adapted = None if bare is None else adapt_bare(bare, routes)
    if adapted is not None:
        return _outcome(qdrant_rest.replace_in_body(body, adapted.changes), adapted)
    unread = _unread(routes, shadow=shadow)
    if unread is not None and not endpoint.is_write:
        return Outcome(body, Counter({unread: 1}))
    try:
        if endpoint.is_write:
            is_guarded = is_write_guarded(routes, policies)
            writes = not is_guarded or qdrant_rest.has_vectors_to_write(endpoint, body)
            return _guard(body, endpoint.collection, routes, policies, writes=writes)
        places = qdrant_rest.find_in_body(endpoint, body)
    except MalformedError:
        return Outcome(body, Counter({Reason.MALFORMED: 1}))
    adapted = adapt_places(places, routes, policies, shadow=shadow)
    if not adapted.changes:
        return Outcome(body, adapted.decisions)
    content = qdrant_rest.replace_in_body(body, adapted.changes)
    return _outcome(content, adapted)


def adapt_grpc(method: str, content: bytes, routes_of: RoutesOf, policies: Policies) -> Outcome:
    """Adapt the query vectors of a gRPC request.

    Args:
        method: As gRPC names it: ``/qdrant.Points/Query``.
        content: The message's bytes.
        routes_of: Gives the routes of a collection by vector name.
        policies: The user's settings.

    Returns:
        The message to send on.

    Raises:
        RefusedError: A policy, or a route whose adapter failed, forbids the request.
    """
    known = qdrant_grpc.match_method(method)
    if known is None:
        return Outcome(content)
    try:
        message = qdrant_grpc.read_message(known, content)
    except MalformedError:
        return Outcome(content, Counter({Reason.MALFORMED: 1}))
    return adapt_message(known, message, content, routes_of(message.collection_name), policies)


def adapt_message(
    method: qdrant_grpc.GrpcMethod,
    message: Any,
    content: bytes,
    routes: Mapping[str, Route],
    policies: Policies,
    *,
    shadow: bool = False,
) -> Outcome:
    """Adapt the query vectors of a gRPC request that is decoded.

    Args:
        method: From :func:`trimtab.rewrite.qdrant_grpc.match_method`.
        message: From :func:`trimtab.rewrite.qdrant_grpc.read_message`; changed.
        content: The bytes that it was read from.
        routes: Of its collection, by vector name.
        policies: The user's settings.
        shadow: True for a shadow request, which takes shadow routes for ``on``.

    Raises:
        RefusedError: A policy, or a route whose adapter failed, forbids the request.
    """
    unread = _unread(routes, shadow=shadow)
    if method.is_write:
        writes = qdrant_grpc.has_vectors_to_write(message)
        return _guard(content, message.collection_name, routes, policies, writes=writes)
    if unread is not None:
        return Outcome(content, Counter({unread: 1}))
    try:
        places = qdrant_grpc.find_in_message(method, message)
    except MalformedError:
        return Outcome(content, Counter({Reason.MALFORMED: 1}))
    bare = adapt_bare(places[0], routes) if len(places) == 1 else None
    adapted = bare or adapt_places(places, routes, policies, shadow=shadow)
    if not adapted.changes:
        return Outcome(content, adapted.decisions)
    for place, vector in adapted.changes:
        qdrant_grpc.put_in_message(message, place.path, place.kind, vector)
    changed = message.SerializeToString()
    return _outcome(changed, adapted)


def _outcome(content: bytes, adapted: Adapted) -> Outcome:
    """Say what became of a request that has changed."""
    return Outcome(
        content=content,
        decisions=adapted.decisions,
        mark=adapted.mark,
        transform_s=adapted.transform_s,
        n_judged=adapted.n_judged,
        n_far=adapted.n_far,
    )


def _unread(routes: Mapping[str, Route], *, shadow: bool) -> Reason | None:
    """Say why a request need not be read; None where it must be."""
    if any(is_in_use(route, shadow=shadow) for route in routes.values()):
        return None
    modes = {route.mode for route in routes.values()}
    if "shadow" in modes:
        return Reason.SHADOW
    return Reason.OFF if modes else Reason.NO_ROUTE


def is_write_guarded(routes: Mapping[str, Route], policies: Policies) -> bool:
    """Tell whether anything is to be done about vectors that are written into a collection.

    An application that embeds its documents with the queries' new encoder writes vectors of
    another space into the index; where the dims are equal, nothing else would notice. Only an
    adapter that leads from a new encoder into an old index makes that likely.
    """
    return policies.write_guard != "pass" and any(
        route.mode != "off" and route.adapter.manifest.use == "migration"
        for route in routes.values()
    )


def _guard(
    content: bytes,
    collection: str,
    routes: Mapping[str, Route],
    policies: Policies,
    *,
    writes: bool,
) -> Outcome:
    """Let a write through as it came, watched as the user wishes."""
    if not writes:
        return Outcome(content)
    if not routes:
        return Outcome(content, Counter({Reason.NO_ROUTE: 1}))
    if is_write_guarded(routes, policies):
        watch_write(collection, policies)
    return Outcome(content, Counter({Reason.WRITE: 1}))


def watch_write(collection: str, policies: Policies) -> None:
    """Warn of vectors that are written into a guarded collection, or refuse them.

    Raises:
        RefusedError: The policy says so.
    """
    if policies.write_guard == "refuse":
        raise RefusedError(
            f"vectors are written into {collection!r}, whose queries come from another model than "
            "its vectors; write to Qdrant itself, or set write_guard"
        )
    logger.warning(
        "vectors written into a collection whose queries come from another model",
        extra={"collection": collection},
    )
