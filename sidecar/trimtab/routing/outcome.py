"""What becomes of one request, and what is decided before its vectors are looked at."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from trimtab.errors import RefusedError
from trimtab.rewrite.places import Path
from trimtab.rewrite.policies import Policies, Reason
from trimtab.routing.routes import Route
from trimtab.routing.transform import Adapted, Origin, is_in_use

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
        shadowed: Of a shadow request, the positions, from 0, of the searches that a route in shadow
            mode has changed.
    """

    content: bytes
    decisions: Counter[Reason] = field(default_factory=Counter)
    mark: str = ""
    transform_s: float = 0.0
    n_judged: int = 0
    n_far: int = 0
    shadowed: frozenset[int] = frozenset()


def outcome_of(content: bytes, adapted: Adapted) -> Outcome:
    """Say what became of a request that has changed."""
    return Outcome(
        content=content,
        decisions=adapted.decisions,
        mark=adapted.mark,
        transform_s=adapted.transform_s,
        n_judged=adapted.n_judged,
        n_far=adapted.n_far,
        shadowed=adapted.shadowed,
    )


def unread(
    routes: Mapping[str, Route], origins: Mapping[Path, Origin], *, shadow: bool
) -> Reason | None:
    """Say why a request need not be read; None where it must be, if only to count what it holds."""
    if any(is_in_use(route, shadow=shadow) for route in routes.values()):
        return None
    if any(origin.is_adapted for origin in origins.values()):
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


def guard(
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
