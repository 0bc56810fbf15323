"""Qdrant's query over one collection: the points nearest to a vector or a point, MMR, a prefetch.

Shapes: QueryInterface and Prefetch in Qdrant's OpenAPI (1.19) and qdrant-client 1.20.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_collections.arguments import (
    as_list,
    read_count,
    read_fields,
    read_limit,
    read_number,
    read_options,
)
from trimtab.faiss_collections.columns import Mask
from trimtab.faiss_collections.index import Found, SearchOptions
from trimtab.faiss_collections.points import Points
from trimtab.faiss_collections.replies import Json, bad_format, invalid, not_found, wrong_input

_DEFAULT_DIVERSITY = 0.5
_MOST_CANDIDATES = 16_384
"""Of MMR, whose cost is candidates times points chosen; as in Qdrant's lib/api, also implied."""


class Query:
    """Answers queries over one collection.

    Attributes:
        points: The collection.
        find: Finds another served collection by name, or refuses.
    """

    def __init__(self, points: Points, find: Callable[[Any], Points]) -> None:
        """Keep the collection, and how another one is found."""
        self.points = points
        self.find = find
        self._index = points.index

    def rank(self, data: Json, limit: int, inherited: Mask | None = None) -> Found:
        """Answer a query with its prefetches.

        Args:
            data: The request, or one prefetch.
            limit: Points to find.
            inherited: Rows that the filters above let pass; None for all.

        Returns:
            Rows with the scores that Qdrant shows, without the request's offset.
        """
        if data.get("shard_key") is not None:
            raise wrong_input(f"collection {self.points.name} has no shard keys")
        allowed = _both(inherited, self.points.filter(data.get("filter")))
        prefetches = as_list(data.get("prefetch"))
        if data.get("query") is None:
            if prefetches:
                raise wrong_input("Validation failed: cannot have prefetches without a query")
            return self._by_id(limit, allowed)
        nearest, mmr = _read_nearest(data["query"])
        vector, named = self._read_target(nearest, data)
        if named is not None:
            others = np.ones(self._index.size, np.bool_)
            others[named] = False
            allowed = _both(allowed, others)
        if prefetches:
            candidates = np.zeros(self._index.size, np.bool_)
            for each in prefetches:
                candidates[self.rank(read_fields(each), read_limit(each), allowed).rows] = True
            allowed = candidates
        if mmr is None:
            return self._search(vector, limit, allowed, data)
        return self._diverse(vector, mmr, limit, allowed, data)

    def _by_id(self, limit: int, allowed: Mask | None) -> Found:
        """Give points in the order of their ids, with the score that Qdrant gives unscored ones."""
        order = self.points.ids.order
        rows = (order if allowed is None else order[allowed[order]])[:limit]
        return Found(rows, np.ones(len(rows), np.float32))

    def _read_target(self, value: Any, data: Json) -> tuple[NDArray[np.float32], int | None]:
        """Read a vector, or a point to take it from, and the row of a point that is named so.

        A query does not find the points that it names.
        """
        self.points.check_name(data.get("using"))
        if not isinstance(value, int | str) or isinstance(value, bool):
            return self._index.prepare(self.points.read_vector(value)), None
        source = self.points
        if (lookup := data.get("lookup_from")) is not None:
            source = self.find(read_fields(lookup).get("collection"))
            source.check_name(lookup.get("vector"))
            if source.index.dim != self._index.dim:
                raise wrong_input(
                    f"Vector dimension error: expected dim: {self._index.dim}, "
                    f"got {source.index.dim}"
                )
        row = source.ids.row(value)
        if row is None:
            raise not_found(f"No point with id {value} found")
        vector = self._index.prepare(source.index.vectors(np.array([row]))[0])
        return vector, row if source is self.points else None

    def _search(
        self, vector: NDArray[np.float32], k: int, allowed: Mask | None, data: Json
    ) -> Found:
        """Find the nearest, those that pass the threshold.

        Candidates of a prefetch are all compared. The threshold cuts as the server's does
        (Distance::check_threshold in lib/segment/src/types.rs, 1.19): strictly, in float32, from
        the first point on that does not pass.
        """
        options = read_options(data.get("params"))
        if as_list(data.get("prefetch")):
            options = SearchOptions(exact=True)
        found = self._index.search(vector, k, allowed, options)
        if data.get("score_threshold") is None:
            return found
        threshold = np.float32(read_number(data, "score_threshold", 0.0))
        nearer = np.less if self._index.is_lower_better else np.greater
        kept = np.logical_and.accumulate(nearer(found.scores, threshold))
        return Found(found.rows[kept], found.scores[kept])

    def _diverse(
        self, vector: NDArray[np.float32], mmr: Any, limit: int, allowed: Mask | None, data: Json
    ) -> Found:
        """Choose among the nearest such as are far from one another (MMR).

        Source:
            Carbonell and Goldstein (1998), SIGIR, doi:10.1145/290941.291025, as in Qdrant's
            lib/shard/src/query/mmr.
        """
        diversity = read_number(mmr, "diversity", _DEFAULT_DIVERSITY)
        if not 0 <= diversity <= 1:
            raise invalid(f"diversity: value {diversity} invalid, must be from 0.0 to 1.0")
        implied = min(limit, _MOST_CANDIDATES)
        n_candidates = read_count(mmr, "candidates_limit", implied, 0, _MOST_CANDIDATES)
        found = self._search(vector, max(n_candidates, 1), allowed, data)
        self._index.require_vectors("MMR")
        block = self._index.stored.read_core(found.rows)
        worth = relevance = self._index.compare(vector, block)
        nearest: NDArray[np.float32] = np.full(len(block), -np.inf, np.float32)
        pending: NDArray[np.int64] = np.arange(len(block))
        chosen: list[int] = []
        while len(pending) and len(chosen) < limit:
            # The last of the best, and its place taken by the last one: as in the server's loop.
            best = len(pending) - 1 - int(np.argmax(worth[::-1]))
            chosen.append(int(pending[best]))
            picked = block[best].copy()
            for values in (pending, block, relevance, nearest):
                values[best] = values[-1]
            pending, block = pending[:-1], block[:-1]
            relevance, nearest = relevance[:-1], nearest[:-1]
            nearest = np.maximum(nearest, self._index.compare(picked, block))
            worth = (1 - diversity) * relevance - diversity * nearest
        return Found(found.rows[chosen], found.scores[chosen])


def _read_nearest(query: Any) -> tuple[Any, Any]:
    """Give the vector or id that a query asks to be near to, and its MMR."""
    if not isinstance(query, dict) or "indices" in query or isinstance(query.get("model"), str):
        return query, None
    if query.get("nearest") is None:
        raise bad_format("Expected some form of vector, id, or a type of query")
    return query["nearest"], query.get("mmr")


def _both(first: Mask | None, second: Mask | None) -> Mask | None:
    """Allow what two masks allow."""
    if first is None or second is None:
        return second if first is None else first
    return first & second
