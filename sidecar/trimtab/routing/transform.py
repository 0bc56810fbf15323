"""From found places to adapted vectors: every adapter is asked once for the whole request."""

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import QueryError, RefusedError, TooLargeError
from trimtab.model.adapter import Adapter
from trimtab.rewrite.places import Kind, Path, Place, Role
from trimtab.rewrite.policies import Policies, Reason, decide, name_path
from trimtab.routing.routes import Route
from trimtab.unforeseen import describe_error

logger = logging.getLogger(__name__)

Matrix = NDArray[np.float32]

MAX_PLACES = 20_000
"""Places of one request, so that it can't keep all others waiting."""

_BATCHES = {"searches", "query_points", "search_points", "recommend_points", "discover_points"}
"""Fields that hold the searches of a batch."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The text that a vector of a request was embedded of.

    Attributes:
        model: The encoder.
        text: The text.
        is_adapted: True where the adapter in the encoder's file has adapted it.
    """

    model: str
    text: str
    is_adapted: bool = False

    def to_bytes(self) -> bytes:
        """Write it down."""
        return f"{self.model}\0{self.text}".encode(errors="surrogatepass")


@dataclass(slots=True)
class Adapted:
    """What became of a request's places.

    Attributes:
        changes: Each place that is adapted, with its new vector ``(dim,)`` or rows ``(n, dim)``.
        decisions: How many places were adapted, and how many not, by reason.
        marks: ``NAME@VERSION`` of every adapter that was used, in the order of use.
        transform_s: Seconds in the adapters.
        n_judged: Adapted queries that were held against the training queries.
        n_far: Those among them that are far from all of these.
        shadowed: Positions, from 0, of the searches that a route in shadow mode has changed.
    """

    changes: list[tuple[Place, Matrix]] = field(default_factory=list)
    decisions: Counter[Reason] = field(default_factory=Counter)
    marks: list[str] = field(default_factory=list)
    transform_s: float = 0.0
    n_judged: int = 0
    n_far: int = 0
    shadowed: frozenset[int] = frozenset()

    @property
    def mark(self) -> str:
        """The marks as one header's value."""
        return ",".join(self.marks)


def adapt_places(
    places: Sequence[Place],
    routes: Mapping[str, Route],
    policies: Policies,
    *,
    shadow: bool = False,
    origins: Mapping[Path, Origin] = MappingProxyType({}),
) -> Adapted:
    """Decide about every place of a request, and adapt those that are to be.

    Args:
        places: What a finder found.
        routes: The collection's routes by vector name.
        policies: The user's settings.
        shadow: True to take routes in shadow mode for ``on``, as a shadow request does.
        origins: What the vectors at some places were embedded of.

    Returns:
        The new vectors, and what was decided about every place.

    Raises:
        TooLargeError: There are too many of them.
        RefusedError: A policy forbids the request, or a query can't be transformed and its route
            refuses such.
    """
    if len(places) > MAX_PLACES:
        raise TooLargeError(
            f"the request has {len(places)} places for vectors; at most {MAX_PLACES} are looked at"
        )
    result = Adapted()
    groups: dict[int, list[tuple[Route, Place]]] = {}
    drawn: dict[int, int] = {}
    for place in places:
        route = routes.get(place.vector_name)
        in_use = None if route is None or not is_in_use(route, shadow=shadow) else route
        reason = decide(place, None if in_use is None else in_use.dims, policies)
        origin = origins.get(place.path)
        if reason is Reason.NO_ROUTE and origin is not None and origin.is_adapted:
            result.decisions[Reason.ADAPTED] += 1
            continue
        if reason is Reason.NO_ROUTE and route is not None:
            reason = Reason.OFF if route.mode == "off" else Reason.SHADOW
        if (
            reason is Reason.ADAPTED
            and in_use is not None
            and _is_drawn(in_use, place, origin, drawn)
        ):
            groups.setdefault(id(in_use.adapter), []).append((in_use, place))
        else:
            result.decisions[Reason.CANARY if reason is Reason.ADAPTED else reason] += 1
    for group in groups.values():
        _adapt_group(group, result)
    if shadow:
        result.shadowed = frozenset(
            _position_of(place)
            for place, _ in result.changes
            if routes[place.vector_name].mode == "shadow"
        )
    return result


def adapt_bare(place: Place, routes: Mapping[str, Route]) -> Adapted | None:
    """Adapt the one vector of a request, in half the time; see :func:`adapt_places`.

    Returns:
        Its new vector, or None where it is not surely adapted.
    """
    route = routes.get(place.vector_name)
    if route is None or route.mode != "on" or place.role is not Role.QUERY:
        return None
    if place.kind is not Kind.DENSE:
        return None
    adapter, query = route.adapter.current, np.asarray(place.value, dtype=np.float32)
    if len(query) != adapter.dim_in:
        return None
    started = time.perf_counter()
    try:
        adapted = _checked(adapter.transform(query))
    except Exception:  # told by adapt_places, which tries once more
        return None
    took_s = time.perf_counter() - started
    result = Adapted(
        [(place, adapted)], Counter({Reason.ADAPTED: 1}), [adapter.mark], transform_s=took_s
    )
    if adapter.region is not None:
        _judge(adapter, query[None], result)
    return result


def is_in_use(route: Route, *, shadow: bool) -> bool:
    """Tell whether a route's adapter has a say in the request at hand."""
    return route.mode in {"on", "canary"} or (shadow and route.mode == "shadow")


def _position_of(place: Place) -> int:
    """Give the position of a place's search in a batch; 0 where the request is one search."""
    return int(place.path[1]) if place.path and place.path[0] in _BATCHES else 0


def _is_drawn(route: Route, place: Place, origin: Origin | None, drawn: dict[int, int]) -> bool:
    """Draw for a canary: the same query always alike, and all vectors of one search together.

    One number is drawn for a search, from 0 to 2^64, and each route holds its own share against it.
    The last bits of a text's vector depend on what it was embedded beside: it is drawn by the text.
    """
    if route.mode != "canary":
        return True
    search = _position_of(place)
    if search not in drawn:
        values = np.asarray(place.value, dtype=np.float32)
        query = values.tobytes() if origin is None else origin.to_bytes()
        drawn[search] = draw(query)
    return is_in_share(route, drawn[search])


def draw(query: bytes) -> int:
    """Draw a number for a query, from 0 to 2^64: the same bytes always alike."""
    return int.from_bytes(hashlib.blake2b(query, digest_size=8).digest(), "big")


def is_in_share(route: Route, drawn: int) -> bool:
    """Tell whether a canary adapts the query that a number was drawn for."""
    return drawn < route.share * 2.0**64


def _adapt_group(group: Sequence[tuple[Route, Place]], result: Adapted) -> None:
    """Adapt all vectors of one adapter at once; where that fails, each place alone."""
    places = [place for _, place in group]
    adapter = group[0][0].adapter.current  # a watched one may change meanwhile
    started = time.perf_counter()
    try:
        changes = list(zip(places, _transform(adapter, places, result), strict=True))
    except Exception:  # a query's fault, or ONNX Runtime's own types, without a common base
        changes = []
        for route, place in group:
            try:
                changes.append((place, _transform(adapter, [place], result)[0]))
            except Exception as error:
                _pass_or_refuse(route, place, error)
                result.decisions[Reason.ADAPTER_ERROR] += 1
    result.transform_s += time.perf_counter() - started
    if changes:
        result.changes.extend(changes)
        result.decisions.update(_reason_of(place) for place, _ in changes)
        result.marks.append(adapter.mark)


def _reason_of(place: Place) -> Reason:
    """Say what an adapted place is counted as."""
    is_target = place.role is Role.FEEDBACK_TARGET
    return Reason.ADAPTED_FEEDBACK if is_target else Reason.ADAPTED


def _transform(adapter: Adapter, places: Sequence[Place], result: Adapted) -> list[Matrix]:
    """Run one adapter over the vectors of some places, and see how far they are from training."""
    if len(places) == 1 and places[0].kind is Kind.DENSE:
        query = np.asarray(places[0].value, dtype=np.float32)
        adapted = [_checked(adapter.transform(query))]
        _judge(adapter, query[None], result)
        return adapted
    blocks = [np.atleast_2d(np.asarray(place.value, dtype=np.float32)) for place in places]
    rows = np.concatenate(blocks)
    changed = _checked(adapter.transform(rows))
    _judge(adapter, rows, result)
    pieces = np.split(changed, np.cumsum([len(block) for block in blocks])[:-1])
    return [
        piece if place.kind is Kind.MULTI else piece[0]
        for place, piece in zip(places, pieces, strict=True)
    ]


def _judge(adapter: Adapter, queries: Matrix, result: Adapted) -> None:
    """Count the queries that are far from those that the adapter was trained on."""
    if adapter.region is not None:
        result.n_judged += len(queries)
        result.n_far += int(np.count_nonzero(adapter.region.is_far(queries)))


def _checked(adapted: Matrix) -> Matrix:
    """Refuse what no index can be searched with."""
    flat = adapted.ravel()
    # One product says that every value is finite, unless it overflows.
    if not np.vdot(flat, flat) < np.inf and not np.isfinite(adapted).all():
        raise QueryError("the adapter answers with NaN or infinity")
    return adapted


def _pass_or_refuse(route: Route, place: Place, error: Exception) -> None:
    """Let a query go on as it came, where its route says so."""
    cause = describe_error(error)
    if not isinstance(error, QueryError):
        extra = {"adapter": route.adapter.mark, "cause": cause}
        logger.error("adapter failed", exc_info=error, extra=extra)
    if route.on_error == "refuse":
        raise RefusedError(f"{name_path(place)}: {cause}") from error
    logger.debug("query not adapted", extra={"collection": route.collection, "cause": cause})
