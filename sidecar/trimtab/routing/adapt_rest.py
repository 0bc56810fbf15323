"""A REST request in, the request to send on out: find, decide, transform, put back.

For whoever stands between a client and Qdrant and holds a request's bytes. Nothing is sent from
here, and whatever is not adapted comes back as the very bytes that came.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from trimtab.errors import MalformedError
from trimtab.rewrite import qdrant_rest
from trimtab.rewrite.places import Path
from trimtab.rewrite.policies import Policies, Reason
from trimtab.routing.outcome import (
    Outcome,
    RoutesOf,
    guard,
    is_write_guarded,
    outcome_of,
    unread,
)
from trimtab.routing.routes import Route
from trimtab.routing.transform import Origin, adapt_bare, adapt_places


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
    origins: Mapping[Path, Origin] = MappingProxyType({}),
) -> Outcome:
    """Adapt the query vectors of a REST request whose endpoint is known.

    Args:
        endpoint: From :func:`trimtab.rewrite.qdrant_rest.match_endpoint`.
        body: The body, not compressed.
        routes: Of its collection, by vector name.
        policies: The user's settings.
        shadow: True for a shadow request, which takes shadow routes for ``on``.
        origins: What the vectors at some places were embedded of.

    Raises:
        RefusedError: A policy, or a route whose adapter failed, forbids the request.
    """
    bare = qdrant_rest.find_bare(endpoint, body) if routes else None
    adapted = None if bare is None else adapt_bare(bare, routes)
    if adapted is not None:
        return outcome_of(qdrant_rest.replace_in_body(body, adapted.changes), adapted)
    why_unread = unread(routes, origins, shadow=shadow)
    if why_unread is not None and not endpoint.is_write:
        return Outcome(body, Counter({why_unread: 1}))
    try:
        if endpoint.is_write:
            is_guarded = is_write_guarded(routes, policies)
            writes = not is_guarded or qdrant_rest.has_vectors_to_write(endpoint, body)
            return guard(body, endpoint.collection, routes, policies, writes=writes)
        places = qdrant_rest.find_in_body(endpoint, body)
    except MalformedError:
        return Outcome(body, Counter({Reason.MALFORMED: 1}))
    adapted = adapt_places(places, routes, policies, shadow=shadow, origins=origins)
    if not adapted.changes:
        return Outcome(body, adapted.decisions)
    content = qdrant_rest.replace_in_body(body, adapted.changes)
    return outcome_of(content, adapted)
