"""A second look through the official Qdrant client: asked for deeper, put in order, and cut.

One query becomes one deeper query that brings its vectors along: the best documents of the first
search are scored anew, and the caller gets as many of them as were asked for, in the new order.
"""

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient

from trimtab.errors import ConfigError
from trimtab.model.adapter import Adapter
from trimtab.model.second_look import SecondLook
from trimtab.routing.routes import Routes
from trimtab.vectors import to_float32

Outcome = Literal[
    "taken",
    "no_second_look",
    "other_query",
    "batch",
    "groups",
    "no_route",
    "off",
    "shadow",
    "canary",
    "opted_out",
    "already_adapted",
    "other_distance",
    "unknown_distance",
    "score_threshold",
    "no_vectors",
]
"""What became of a query: looked at twice, or why not. ``other_query``: it was no single dense
vector that the adapter takes, or had a prefetch; ``batch`` and ``groups``: it was asked by another
method; ``no_route`` to ``already_adapted``: nothing was adapted, as
:class:`~trimtab.rewrite.policies.Reason` has it; ``other_distance``: the collection compares by
none that angles tell; ``unknown_distance``: Qdrant did not say by which; ``no_vectors``: it gave a
document without its vector."""

_SCORES: dict[str, Callable[[float], float]] = {
    "cosine": lambda score: score,
    "dot": lambda score: score,
    "euclid": lambda score: math.sqrt(max(0.0, 2 - 2 * score)),  # of unit vectors; least is best
}
"""What a collection's distance makes of a cosine."""

_DEFAULT_LIMIT = 10
_WANTED = (bool, list, tuple, type(None))
_NAMES = tuple(inspect.signature(QdrantClient.query_points).parameters)[5:]
"""Arguments of ``query_points`` behind ``self``, collection, query, vector and prefetch."""


@dataclass(frozen=True)
class BareQuery:
    """A query that is one dense vector and nothing else, adapted.

    Attributes:
        raw: The vector that the caller gave.
        vector: The adapted one.
        adapter: What adapted it.
        using: Name of the vector that is searched.
    """

    raw: NDArray[np.float32]
    vector: NDArray[np.float32]
    adapter: Adapter
    using: str


@dataclass(frozen=True)
class DeeperQuery:
    """A query that brings more than its caller wants, for a second look.

    Attributes:
        arguments: What to call ``query_points`` with, besides collection, query and vector.
    """

    arguments: Mapping[str, Any]
    _query: BareQuery
    _distance: str
    _look: SecondLook
    _first: int
    _limit: int
    _with_vectors: Any

    @classmethod
    def of(
        cls, query: BareQuery, distance: str, values: Sequence[Any], named: Mapping[str, Any]
    ) -> "DeeperQuery | Outcome":
        """Ask for more, or say why not.

        Args:
            query: The query.
            distance: How the collection compares; empty where that is not known.
            values: Arguments of ``query_points`` by position, from ``query_filter`` on.
            named: Those by name.
        """
        look = query.adapter.second_look
        if look is None:
            return "no_second_look"
        if distance not in _SCORES:
            return "other_distance" if distance else "unknown_distance"
        by_place = dict(zip(_NAMES, values, strict=False))
        given = {**by_place, **named}
        if given.get("score_threshold") is not None:  # of which documents pass, no order tells
            return "score_threshold"
        first, limit = _whole(given.get("offset") or 0), _whole(given.get("limit", _DEFAULT_LIMIT))
        wanted = given.get("with_vectors", False)
        is_clear = by_place.keys().isdisjoint(named) and isinstance(wanted, _WANTED)
        if first is None or limit is None or min(first, limit - 1) < 0 or not is_clear:
            return "other_query"  # the official client, or Qdrant, says what is wrong with it
        deeper = {
            **given,
            "offset": None,
            "limit": max(look.depth, first + limit),
            "with_vectors": _with(wanted, query.using),
        }
        return cls(deeper, query, distance, look, first, limit, wanted)

    def cut(self, response: Any) -> tuple[Any, Outcome]:
        """Look again at what was found; give as much of it as the caller wants."""
        points = list(response.points)
        best = points[: self._look.depth]
        vectors = [_stored(point.vector, self._query.using) for point in best]
        outcome: Outcome = "no_vectors"
        dim = self._query.adapter.dim_out
        if all(vector is not None and vector.shape == (dim,) for vector in vectors):
            outcome = "taken"
            points[: len(best)] = self._in_order(best, vectors) if best else []
        chosen = points[self._first : self._first + self._limit]
        cut = [
            point.model_copy(update={"vector": _only(point.vector, self._with_vectors)})
            for point in chosen
        ]
        return response.model_copy(update={"points": cut}), outcome

    def _in_order(self, points: Sequence[Any], vectors: Sequence[Any]) -> list[Any]:
        """Score points anew, the best first."""
        query = self._query
        scores = self._look.rescore(query.raw, query.vector, np.stack(vectors))
        order = np.argsort(-scores, kind="stable").tolist()
        as_qdrant = _SCORES[self._distance]
        return [
            points[row].model_copy(update={"score": as_qdrant(float(scores[row]))}) for row in order
        ]


def check_any(routes: Routes) -> None:
    """Refuse a second look where no route's model has one.

    Raises:
        ConfigError: None has.
        ModelError: One is damaged.
    """
    if not any([route.adapter.second_look for route in routes]):  # each is read, and so checked
        raise ConfigError(
            "no model among the routes has a second look; fit one with 'rescore = 100' in the "
            "recipe, or leave second_look out"
        )


def _whole(value: Any) -> int | None:
    """Take a whole number of any kind; None where it is none."""
    try:
        return operator.index(value)
    except TypeError:
        return None


def _with(wanted: Any, using: str) -> Any:
    """Ask for a vector besides those that the caller wants."""
    if wanted is True or not using:  # the vector without a name comes with all others alone
        return True
    names = [] if wanted in (None, False) else list(wanted)
    return names if using in names else [*names, using]


def _only(vector: Any, wanted: Any) -> Any:
    """Leave of a point's vectors those that the caller wants."""
    if wanted is True or vector is None:
        return vector
    names = [] if wanted in (None, False) else list(wanted)
    if not names or not isinstance(vector, Mapping):
        return None if not names else vector
    return {name: vector[name] for name in names if name in vector}


def _stored(vector: Any, using: str) -> NDArray[np.float32] | None:
    """Take a point's dense vector of a name, or None where there is none."""
    found = vector.get(using) if isinstance(vector, Mapping) else vector
    try:
        return None if found is None else to_float32(found)
    except (TypeError, ValueError):
        return None
