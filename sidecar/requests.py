"""A Qdrant request in, the request to send on out: find, decide, transform, put back.

For whoever stands between a client and Qdrant and holds a request's bytes. Nothing is sent from
here, and whatever is not adapted comes back as the very bytes that came.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sidecar.apply import adapt_places
from sidecar.errors import MalformedError, RefusedError
from sidecar.rewrite import qdrant_grpc, qdrant_rest
from sidecar.rewrite.policies import Policies, Reason
from sidecar.routes import Route

logger = logging.getLogger(__name__)

RoutesOf = Callable[[str], Mapping[str, Route]]
"""Gives the routes of a collection or alias by vector name; ``Routes.of_collection`` is one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to send on, and why.

    Attributes:
        content: The request's bytes: the very object that came, where nothing was adapted.
        decisions: How many places were adapted, and how many not, by reason. Empty for a request
            that can't carry a vector; a collection without a route counts once, unread.
        mark: ``NAME@VERSION`` of the adapters that were used, joined by commas; or empty.
    """

    content: bytes
    decisions: Counter[Reason] = field(default_factory=Counter)
    mark: str = ""


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
    routes = routes_of(endpoint.collection)
    if not routes:
        return Outcome(body, Counter({Reason.NO_ROUTE: 1}))
    try:
        if endpoint.is_write:
            writes = qdrant_rest.has_vectors_to_write(endpoint, body)
            return _guard(body, endpoint.collection, writes=writes, policies=policies)
        places = qdrant_rest.find_in_body(endpoint, body)
    except MalformedError:
        return Outcome(body, Counter({Reason.MALFORMED: 1}))
    adapted = adapt_places(places, routes, policies)
    if not adapted.changes:
        return Outcome(body, adapted.decisions)
    content = qdrant_rest.replace_in_body(body, adapted.changes)
    return Outcome(content, adapted.decisions, adapted.mark)


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
        collection = message.collection_name
        routes = routes_of(collection)
        if not routes:
            return Outcome(content, Counter({Reason.NO_ROUTE: 1}))
        if known.is_write:
            writes = qdrant_grpc.has_vectors_to_write(message)
            return _guard(content, collection, writes=writes, policies=policies)
        places = qdrant_grpc.find_in_message(known, message)
    except MalformedError:
        return Outcome(content, Counter({Reason.MALFORMED: 1}))
    adapted = adapt_places(places, routes, policies)
    if not adapted.changes:
        return Outcome(content, adapted.decisions)
    for place, vector in adapted.changes:
        qdrant_grpc.put_in_message(message, place.path, place.kind, vector)
    return Outcome(message.SerializeToString(), adapted.decisions, adapted.mark)


def _guard(content: bytes, collection: str, *, writes: bool, policies: Policies) -> Outcome:
    """Let a write through as it came, watched as the user wishes.

    An application that embeds its documents with the queries' new encoder writes vectors of
    another space into the index; where the dims are equal, nothing else would notice.
    """
    if not writes:
        return Outcome(content)
    if policies.write_guard == "refuse":
        raise RefusedError(
            f"vectors are written into {collection!r}, whose queries are adapted; write to "
            "Qdrant itself, or set write_guard"
        )
    if policies.write_guard == "warn":
        logger.warning(
            "vectors written into a collection whose queries are adapted",
            extra={"collection": collection},
        )
    return Outcome(content, Counter({Reason.WRITE: 1}))
