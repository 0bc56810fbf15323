"""A gRPC request in, the request to send on out: find, decide, transform, put back.

Apart from REST, since Qdrant's messages are those of qdrant_client, which takes seconds to import.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from trimtab.errors import MalformedError
from trimtab.rewrite import qdrant_grpc
from trimtab.rewrite.places import Path
from trimtab.rewrite.policies import Policies, Reason
from trimtab.routing.outcome import Outcome, RoutesOf, guard, outcome_of, unread
from trimtab.routing.routes import Route
from trimtab.routing.transform import Origin, adapt_bare, adapt_places


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


def adapt_message(  # noqa: PLR0913 - a message, and what is known of it
    method: qdrant_grpc.GrpcMethod,
    message: Any,
    content: bytes,
    routes: Mapping[str, Route],
    policies: Policies,
    *,
    shadow: bool = False,
    origins: Mapping[Path, Origin] = MappingProxyType({}),
) -> Outcome:
    """Adapt the query vectors of a gRPC request that is decoded.

    Args:
        method: From :func:`trimtab.rewrite.qdrant_grpc.match_method`.
        message: From :func:`trimtab.rewrite.qdrant_grpc.read_message`; changed.
        content: The bytes that it was read from.
        routes: Of its collection, by vector name.
        policies: The user's settings.
        shadow: True for a shadow request, which takes shadow routes for ``on``.
        origins: What the vectors at some places were embedded of.

    Raises:
        RefusedError: A policy, or a route whose adapter failed, forbids the request.
    """
    why_unread = unread(routes, origins, shadow=shadow)
    if method.is_write:
        writes = qdrant_grpc.has_vectors_to_write(message)
        return guard(content, message.collection_name, routes, policies, writes=writes)
    if why_unread is not None:
        return Outcome(content, Counter({why_unread: 1}))
    try:
        places = qdrant_grpc.find_in_message(method, message)
    except MalformedError:
        return Outcome(content, Counter({Reason.MALFORMED: 1}))
    bare = adapt_bare(places[0], routes) if len(places) == 1 else None
    adapted = bare or adapt_places(places, routes, policies, shadow=shadow, origins=origins)
    if not adapted.changes:
        return Outcome(content, adapted.decisions)
    for place, vector in adapted.changes:
        qdrant_grpc.put_in_message(message, place.path, place.kind, vector)
    changed = message.SerializeToString()
    return outcome_of(changed, adapted)
