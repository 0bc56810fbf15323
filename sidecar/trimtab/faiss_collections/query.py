"""Qdrant's universal query over one collection: nearest, examples, order, fusion, prefetches.

Shapes: QueryInterface and Prefetch in Qdrant's OpenAPI (1.19) and qdrant-client 1.20.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_collections import scoring
from trimtab.faiss_collections.arguments import (
    as_list,
    read_fields,
    read_limit,
    read_number,
    read_options,
    read_threshold,
)
from trimtab.faiss_collections.columns import Mask
from trimtab.faiss_collections.fusion import RANK_CONSTANT, fuse_ranks, fuse_scores
from trimtab.faiss_collections.index import Found, Score, SearchOptions
from trimtab.faiss_collections.order import Order
from trimtab.faiss_collections.points import Points
from trimtab.faiss_collections.replies import (
    Json,
    bad_format,
    bad_request,
    invalid,
    not_served,
    unknown_variant,
    wrong_input,
)

FindPoints = Callable[[Any], Points]
"""Another served collection by name, for ``lookup_from``."""

_DEFAULT_DIVERSITY = 0.5
_OTHER = {
    "formula": "a formula",
    "relevance_feedback": "relevance feedback",
    "text": "a BM25 text query",
}


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one level of a query found, best first.

    Attributes:
        found: Rows with the scores that Qdrant shows.
        order_values: What the rows were ordered by, for ``order_by``.
    """

    found: Found
    order_values: list[int | float] | None = None


@dataclass(slots=True)
class Level:
    """One level of a query while it is answered.

    Attributes:
        data: The request, or the prefetch.
        limit: Points wanted.
        allowed: Rows that may be found; None for all.
        sources: What the prefetches found; None where there are none.
        named: Rows of the points that the query names, which it does not find.
    """

    data: Json
    limit: int
    allowed: Mask | None
    sources: list[Found] | None = None
    named: list[int] = field(default_factory=list)

    @property
    def options(self) -> SearchOptions:
        """How thorough to be: candidates of a prefetch are all compared."""
        options = read_options(self.data.get("params"))
        return options if self.sources is None else SearchOptions(exact=True)


Answer = Callable[[Level], Ranking]


class Query:
    """Answers queries over one collection."""

    def __init__(self, points: Points, find: FindPoints) -> None:
        """Keep the points, and how those of another collection are found."""
        self._points = points
        self._index = points.index
        self._find = find

    def rank(self, data: Any, limit: int, inherited: Mask | None = None) -> Ranking:
        """Answer a query with its prefetches.

        Args:
            data: The request, or one prefetch.
            limit: Points to find.
            inherited: Rows that the filters above let pass; None for all.

        Returns:
            The ranking, without the request's offset.

        Raises:
            RequestError: The query is malformed, or can't be answered by this index.
        """
        if not isinstance(data, dict):
            raise bad_format("invalid type: expected struct Prefetch")
        if data.get("shard_key") is not None:
            raise wrong_input(f"collection {self._points.name} has no shard keys")
        allowed = _both(inherited, self._points.filter(data.get("filter")))
        level = Level(data, limit, allowed)
        answer = self._read(level)
        if level.named:
            free = np.ones(self._index.size, np.bool_)
            free[level.named] = False
            level.allowed = _both(level.allowed, free)
        prefetches = as_list(data.get("prefetch"))
        if prefetches:
            level.sources = [
                self.rank(each, read_limit(each), level.allowed).found for each in prefetches
            ]
        return answer(level)

    def _read(self, level: Level) -> Answer:
        """Read what scores the points."""
        data = level.data.get("query")
        if data is None:
            if as_list(level.data.get("prefetch")):
                raise wrong_input("Validation failed: cannot have prefetches without a query")
            return self._by_id
        if not isinstance(data, dict) or "indices" in data or isinstance(data.get("model"), str):
            return self._nearest({"nearest": data}, level)
        for name, read in _VARIANTS.items():
            if data.get(name) is not None:
                return read(self, data, level)
        for name, words in _OTHER.items():
            if data.get(name) is not None:
                raise not_served(words, "ask for the nearest vectors instead")
        raise bad_format("Expected some form of vector, id, or a type of query")

    def _nearest(self, data: Json, level: Level) -> Answer:
        """Read a vector to be near to."""
        vector = self._vector(data["nearest"], level)
        mmr = data.get("mmr")
        if mmr is None:
            return lambda at: Ranking(self._search(vector, at.limit, at))
        return lambda at: self._diverse(vector, mmr, at)

    def _search(self, vector: NDArray[np.float32], k: int, level: Level) -> Found:
        """Find the nearest, and show their scores."""
        allowed = _candidates(level, self._index.size)
        found = self._index.search(vector, k, allowed, level.options)
        return self._cut(Found(found.rows, self._index.present(found.scores)), level)

    def _cut(self, found: Found, level: Level) -> Found:
        """Drop what does not pass the threshold.

        As the server does (Distance::check_threshold in lib/segment/src/types.rs, 1.19): strictly,
        by the distance's own direction even where a score by examples has the other one, and from
        the first point on that does not pass.
        """
        nearer = np.less if self._index.distance in {"Euclid", "Manhattan"} else np.greater
        return _cut(found, read_threshold(level.data), nearer)

    def _diverse(self, vector: NDArray[np.float32], mmr: Any, level: Level) -> Ranking:
        """Choose among the nearest such as differ."""
        diversity = read_number(mmr, "diversity", _DEFAULT_DIVERSITY)
        if not 0 <= diversity <= 1:
            raise invalid(f"diversity: value {diversity} invalid, must be from 0.0 to 1.0")
        n_candidates = int(read_number(mmr, "candidates_limit", level.limit))
        found = self._search(vector, max(n_candidates, 1), level)
        self._index.require_vectors("MMR")
        block = self._index.stored.read_core(found.rows)
        relevance = self._index.compare(vector, block)
        chosen = scoring.diversify(self._index, relevance, block, diversity, level.limit)
        return Ranking(Found(found.rows[chosen], found.scores[chosen]))

    def _recommend(self, data: Json, level: Level) -> Answer:
        """Read examples to be near to and far from."""
        given = read_fields(data["recommend"])
        read = self._raw_vector
        positive = [read(each, level) for each in as_list(given.get("positive"))]
        negative = [read(each, level) for each in as_list(given.get("negative"))]
        strategy = given.get("strategy") or "average_vector"
        if strategy == "average_vector":
            if not positive:
                raise bad_request("At least one positive vector ID required with this strategy")
            centre = self._index.prepare(scoring.average(positive, negative))
            return lambda at: Ranking(self._search(centre, at.limit, at))
        if strategy not in _STRATEGIES:
            raise unknown_variant(strategy, ["average_vector", *_STRATEGIES])
        if not positive and not negative:
            raise bad_request("At least one positive or negative vector ID required")
        prepare = self._index.prepare
        return self._by_score(
            _STRATEGIES[strategy](
                self._index, list(map(prepare, positive)), list(map(prepare, negative))
            )
        )

    def _discover(self, data: Json, level: Level) -> Answer:
        """Read a target, and pairs that say where to look."""
        given = read_fields(data["discover"])
        target = self._vector(given.get("target"), level)
        pairs = self._pairs(given.get("context"), level)
        return self._by_score(scoring.discover(self._index, target, pairs))

    def _context(self, data: Json, level: Level) -> Answer:
        """Read pairs that say where to look."""
        return self._by_score(scoring.context(self._index, self._pairs(data["context"], level)))

    def _pairs(self, data: Any, level: Level) -> list[scoring.Pair]:
        """Read pairs of a positive and a negative example."""
        return [
            scoring.Pair(
                self._vector(read_fields(pair).get("positive"), level),
                self._vector(read_fields(pair).get("negative"), level),
            )
            for pair in as_list(data)
        ]

    def _by_score(self, score: Score) -> Answer:
        """Compare every vector that is allowed."""

        def answer(level: Level) -> Ranking:
            found = self._index.scan(score, level.limit, _candidates(level, self._index.size))
            return Ranking(self._cut(found, level))

        return answer

    def _order_by(self, data: Json, _level: Level) -> Answer:
        """Read a path to order by."""
        order = Order(self._points, data["order_by"])

        def answer(level: Level) -> Ranking:
            rows, values = order.first(level.limit, _candidates(level, self._index.size))
            return Ranking(_all_alike(rows), values)

        return answer

    def _fusion(self, data: Json, level: Level) -> Answer:
        """Read how rankings are made one."""
        self._require_prefetch(level, "Fusion")
        fuse = {"rrf": fuse_ranks, "dbsf": fuse_scores}.get(data["fusion"])
        if fuse is None:
            raise unknown_variant(data["fusion"], ["rrf", "dbsf"])
        return lambda at: _fused(fuse(at.sources or []), at)

    def _rrf(self, data: Json, level: Level) -> Answer:
        """Read the constant and the weights of reciprocal ranks."""
        self._require_prefetch(level, "Rrf")
        k, weights = (
            read_number(data["rrf"], "k", RANK_CONSTANT),
            read_fields(data["rrf"]).get("weights"),
        )
        if weights is not None and len(weights) != len(as_list(level.data["prefetch"])):
            raise wrong_input("rrf.weights must have one number for each prefetch")
        if k < 1:
            raise invalid(f"rrf.k: value {k} invalid, must be 1 or larger")
        return lambda at: _fused(fuse_ranks(at.sources or [], k, weights), at)

    @staticmethod
    def _require_prefetch(level: Level, what: str) -> None:
        """Refuse to fuse nothing."""
        if not as_list(level.data.get("prefetch")):
            raise wrong_input(f"Validation failed: cannot apply {what} without prefetches")

    def _sample(self, data: Json, _level: Level) -> Answer:
        """Read that any points will do."""
        if data["sample"] != "random":
            raise unknown_variant(data["sample"], ["random"])

        def answer(level: Level) -> Ranking:
            allowed = _candidates(level, self._index.size)
            rows = np.arange(self._index.size) if allowed is None else np.flatnonzero(allowed)
            n_chosen = min(level.limit, len(rows))
            chosen = np.random.default_rng().choice(rows, n_chosen, replace=False)
            return Ranking(_all_alike(chosen))

        return answer

    def _by_id(self, level: Level) -> Ranking:
        """Give points in the order of their ids."""
        order = self._points.ids.order
        rows = order if level.allowed is None else order[level.allowed[order]]
        return Ranking(_all_alike(rows[: level.limit]))

    def _vector(self, value: Any, level: Level) -> NDArray[np.float32]:
        """Read a vector, or a point to take it from, and carry it into the index's space."""
        return self._index.prepare(self._raw_vector(value, level))

    def _raw_vector(self, value: Any, level: Level) -> NDArray[np.float32]:
        """Read a vector, or a point to take it from."""
        self._points.check_name(level.data.get("using"))
        if not isinstance(value, int | str) or isinstance(value, bool):
            return self._points.read_vector(value)
        lookup = level.data.get("lookup_from")
        if lookup is None:
            vector = self._points.vector_of(value)
            level.named += self._points.ids.rows([value])
            return vector
        other = self._find(read_fields(lookup).get("collection"))
        other.check_name(lookup.get("vector"))
        if other.index.dim != self._index.dim:
            raise wrong_input(
                f"Vector dimension error: expected dim: {self._index.dim}, got {other.index.dim}"
            )
        if other is self._points:
            level.named += self._points.ids.rows([value])
        return other.vector_of(value)


def _both(first: Mask | None, second: Mask | None) -> Mask | None:
    """Allow what two masks allow."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


def _candidates(level: Level, n_rows: int) -> Mask | None:
    """Give the rows that a level chooses from: those of its prefetches, where it has some."""
    if level.sources is None:
        return level.allowed
    mask = np.zeros(n_rows, np.bool_)
    for source in level.sources:
        mask[source.rows] = True
    return _both(mask, level.allowed)


def _fused(found: Found, level: Level) -> Ranking:
    """Cut a fused ranking to what is wanted."""
    cut = _cut(found, read_threshold(level.data), np.greater_equal)
    return Ranking(Found(cut.rows[: level.limit], cut.scores[: level.limit]))


def _cut(found: Found, threshold: float | None, passes: Callable[[Any, Any], Any]) -> Found:
    """Drop what follows the first that does not pass, in float32 as the server compares."""
    if threshold is None:
        return found
    kept = np.logical_and.accumulate(passes(found.scores, np.float32(threshold)))
    return Found(found.rows[kept], found.scores[kept])


def _all_alike(rows: NDArray[np.int64]) -> Found:
    """Give every row the score that Qdrant gives where nothing was scored."""
    return Found(rows, np.ones(len(rows), np.float32))


_STRATEGIES = {"best_score": scoring.best_score, "sum_scores": scoring.sum_scores}
# In the order in which the server tries them: QueryInterface is untagged, the first match wins.
_VARIANTS: dict[str, Callable[[Query, Json, Level], Answer]] = {
    "nearest": Query._nearest,
    "recommend": Query._recommend,
    "discover": Query._discover,
    "context": Query._context,
    "order_by": Query._order_by,
    "fusion": Query._fusion,
    "rrf": Query._rrf,
    "sample": Query._sample,
}
