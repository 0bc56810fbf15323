"""From found places to adapted vectors: every adapter is asked once for the whole request."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sidecar.adapter import Adapter
from sidecar.errors import QueryError, RefusedError
from sidecar.rewrite.places import Kind, Place
from sidecar.rewrite.policies import Policies, Reason, decide, name_path
from sidecar.routes import Route

logger = logging.getLogger(__name__)

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Adapted:
    """What became of a request's places.

    Attributes:
        changes: Each place that is adapted, with its new vector ``(dim,)`` or rows ``(n, dim)``.
        decisions: How many places were adapted, and how many not, by reason.
        marks: ``NAME@VERSION`` of every adapter that was used, in the order of use.
    """

    changes: list[tuple[Place, Matrix]] = field(default_factory=list)
    decisions: Counter[Reason] = field(default_factory=Counter)
    marks: list[str] = field(default_factory=list)

    @property
    def mark(self) -> str:
        """The marks as one header's value."""
        return ",".join(self.marks)


def adapt_places(
    places: Iterable[Place], routes: Mapping[str, Route], policies: Policies
) -> Adapted:
    """Adapt the vectors of one request.

    Args:
        places: What was found in it.
        routes: The collection's routes by vector name.
        policies: The user's settings.

    Returns:
        The new vectors, and what was decided about every place.

    Raises:
        RefusedError: A policy forbids the request, or a query can't be transformed and its route
            refuses such.
    """
    result = Adapted()
    groups: dict[int, list[tuple[Route, Place]]] = {}
    for place in places:
        route = routes.get(place.vector_name)
        reason = decide(place, None if route is None else route.dims, policies)
        if reason is Reason.ADAPTED and route is not None:
            groups.setdefault(id(route.adapter), []).append((route, place))
        else:
            result.decisions[reason] += 1
    for group in groups.values():
        _adapt_group(group, result)
    return result


def _adapt_group(group: Sequence[tuple[Route, Place]], result: Adapted) -> None:
    """Adapt all vectors of one adapter at once; where that fails, each place alone."""
    places = [place for _, place in group]
    adapter = group[0][0].adapter
    try:
        changes = list(zip(places, _transform(adapter, places), strict=True))
    except QueryError:
        changes = []
        for route, place in group:
            try:
                changes.append((place, _transform(adapter, [place])[0]))
            except QueryError as error:
                _pass_or_refuse(route, place, error)
                result.decisions[Reason.ADAPTER_ERROR] += 1
    if changes:
        result.changes.extend(changes)
        result.decisions[Reason.ADAPTED] += len(changes)
        result.marks.append(adapter.mark)


def _transform(adapter: Adapter, places: Sequence[Place]) -> list[Matrix]:
    """Run one adapter over the vectors of some places."""
    if len(places) == 1 and places[0].kind is Kind.DENSE:
        return [_checked(adapter.transform(places[0].value))]
    rows = [np.atleast_2d(np.asarray(place.value, dtype=np.float32)) for place in places]
    adapted = _checked(adapter.transform(np.concatenate(rows)))
    pieces = np.split(adapted, np.cumsum([len(block) for block in rows])[:-1])
    return [
        piece if place.kind is Kind.MULTI else piece[0]
        for place, piece in zip(places, pieces, strict=True)
    ]


def _checked(adapted: Matrix) -> Matrix:
    """Refuse what no index can be searched with."""
    flat = adapted.ravel()
    # One product says that every value is finite, unless it overflows.
    if not np.vdot(flat, flat) < np.inf and not np.isfinite(adapted).all():
        raise QueryError("the adapter answers with NaN or infinity")
    return adapted


def _pass_or_refuse(route: Route, place: Place, error: QueryError) -> None:
    """Let a query go on as it came, where its route says so."""
    if route.on_error == "refuse":
        raise RefusedError(f"{name_path(place)}: {error}") from error
    logger.warning("query not adapted", extra={"collection": route.collection, "cause": str(error)})
