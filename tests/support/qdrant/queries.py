"""Queries: the wire's JSON -> the engine's, with every point id resolved to its stored vector.

Shapes: QueryInterface in Qdrant's OpenAPI (1.19) and `qdrant_client.http.models` (1.20).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import qdrant_edge as edge

from tests.support.qdrant.errors import (
    bad_format,
    bad_request,
    invalid,
    no_inference,
    unknown_variant,
)
from tests.support.qdrant.filters import read_filter, without
from tests.support.qdrant.vectors import asks_for_inference, average, is_id, read_id, read_vector

Json = dict[str, Any]
Lookup = Callable[[Any, str], Any]  # id, vector name -> stored vector

DEFAULT_LIMIT = 10
_RRF_K = 2
_DEFAULT_DIVERSITY = 0.5
_MOST_CANDIDATES = 16_384
_STRATEGIES = {
    "best_score": edge.Query.RecommendBestScore,
    "sum_scores": edge.Query.RecommendSumScores,
}
_FUSIONS = {"rrf": edge.Fusion.Rrf(_RRF_K), "dbsf": edge.Fusion.Dbsf()}
_DIRECTIONS = {"asc": edge.Direction.Asc, "desc": edge.Direction.Desc}


def _choose(kinds: dict[str, Any], value: Any) -> Any:
    if value not in kinds:
        raise unknown_variant(value, kinds)
    return kinds[value]


@dataclass
class Level:
    """One level of a query: which vector it searches and which of its points the query names."""

    using: str
    limit: int
    lookup: Lookup
    check: Callable[[str, Any], None]
    mentioned: list[Any] = field(default_factory=list)

    def vector(self, value: Any) -> Any:
        """A vector as given, or the stored one of the point that is named."""
        if is_id(value):
            point_id = read_id(value)
            vector = self.lookup(point_id, self.using)
            self.mentioned.append(point_id)
        else:
            vector = read_vector(value)
        self.check(self.using, vector)
        return vector

    def vectors(self, values: list[Any] | None) -> list[Any]:
        return [self.vector(value) for value in values or []]

    def pairs(self, value: Any) -> list[edge.ContextPair]:
        pairs = [value] if isinstance(value, dict) else value or []
        return [
            edge.ContextPair(self.vector(pair["positive"]), self.vector(pair["negative"]))
            for pair in pairs
        ]


def read_query(data: Any, level: Level) -> Any:
    """What scores the points of one level; None where nothing does."""
    if data is None:
        return None
    if isinstance(data, dict) and "indices" not in data:
        if asks_for_inference(data):
            raise no_inference()
        for name, read in _VARIANTS.items():
            if data.get(name) is not None:
                return read(data, level)
        raise bad_format("Expected some form of vector, id, or a type of query")
    return edge.Query.Nearest(level.vector(data), level.using)


def _nearest(data: Json, level: Level) -> Any:
    vector = level.vector(data["nearest"])
    mmr = data.get("mmr")
    if mmr is None:
        return edge.Query.Nearest(vector, level.using)
    diversity, n_candidates = mmr.get("diversity"), mmr.get("candidates_limit") or 0
    if n_candidates > _MOST_CANDIDATES:
        raise invalid(
            f"candidates_limit: value {n_candidates} invalid, must be {_MOST_CANDIDATES} or smaller"
        )
    return edge.Mmr(
        vector,
        1.0 - (_DEFAULT_DIVERSITY if diversity is None else diversity),
        n_candidates or level.limit,
        level.using,
    )


def _recommend(data: Json, level: Level) -> Any:
    given = data["recommend"]
    positive, negative = level.vectors(given.get("positive")), level.vectors(given.get("negative"))
    strategy = given.get("strategy") or "average_vector"
    if strategy == "average_vector":
        return edge.Query.Nearest(average(positive, negative), level.using)
    if not positive and not negative:
        raise bad_request("At least one positive or negative vector ID required with this strategy")
    examples = edge.RecommendQuery(positive, negative)
    return _choose(_STRATEGIES, strategy)(examples, level.using)


def _discover(data: Json, level: Level) -> Any:
    given = data["discover"]
    target = level.vector(given["target"])
    pairs = level.pairs(given.get("context"))
    return edge.Query.Discover(edge.DiscoverQuery(target, pairs), level.using)


def _context(data: Json, level: Level) -> Any:
    return edge.Query.Context(edge.ContextQuery(level.pairs(data["context"])), level.using)


def read_order(data: Any) -> edge.OrderBy:
    if isinstance(data, str):
        return edge.OrderBy(data)
    direction = _choose(_DIRECTIONS, data.get("direction") or "asc")
    return edge.OrderBy(data["key"], direction, data.get("start_from"))


def _fusion(data: Json, _level: Level) -> Any:
    return _choose(_FUSIONS, data["fusion"])


def _rrf(data: Json, _level: Level) -> Any:
    k = data["rrf"].get("k")
    return edge.Fusion.Rrf(_RRF_K if k is None else k, data["rrf"].get("weights"))


def _feedback(data: Json, level: Level) -> Any:
    given = data["relevance_feedback"]
    target = level.vector(given["target"])
    items = [
        edge.FeedbackItem(level.vector(item["example"]), item["score"])
        for item in given["feedback"]
    ]
    naive = given["strategy"]["naive"]
    strategy = edge.NaiveFeedbackStrategy(naive["a"], naive["b"], naive["c"])
    query = edge.FeedbackNaiveQuery(target, items, strategy)
    return edge.Query.FeedbackNaive(query, level.using)


def _formula(data: Json, _level: Level) -> edge.Formula:
    return edge.Formula(_expression(data["formula"]), data.get("defaults") or {})


def _expression(data: Any) -> edge.Expression:
    """A number, a variable, or a sum or product of expressions."""
    if isinstance(data, (int, float)):
        return edge.Expression.Constant(float(data))
    if isinstance(data, str):
        return edge.Expression.Variable(data)
    ((name, parts),) = data.items()
    return _EXPRESSIONS[name]([_expression(one) for one in parts])


_EXPRESSIONS = {"sum": edge.Expression.Sum, "mult": edge.Expression.Mult}
# In the order in which the server tries them (QueryInterface is untagged: first match wins).
_VARIANTS: dict[str, Callable[[Json, Level], Any]] = {
    "nearest": _nearest,
    "recommend": _recommend,
    "discover": _discover,
    "context": _context,
    "order_by": lambda data, _level: read_order(data["order_by"]),
    "fusion": _fusion,
    "rrf": _rrf,
    "formula": _formula,
    "relevance_feedback": _feedback,
}


def read_params(data: Json | None) -> edge.SearchParams | None:
    if not data:
        return None
    return edge.SearchParams(exact=bool(data.get("exact")))


def read_payload_selector(data: Any, default: bool) -> Any:
    """`with_payload`: yes or no, a list of fields, or what to include or exclude."""
    if data is None:
        return default
    if isinstance(data, dict):
        if data.get("include") is not None:
            return edge.PayloadSelector.Include(data["include"])
        return edge.PayloadSelector.Exclude(data["exclude"])
    return data


def read_vector_selector(data: Json) -> Any:
    value = data.get("with_vector", data.get("with_vectors"))
    return False if value is None else value


def read_limit(data: Json, default: int | None = DEFAULT_LIMIT) -> int:
    value = data.get("limit", data.get("top"))
    if value is None:
        if default is None:
            raise bad_format("missing field `limit`")
        return default
    if value == 0:
        raise invalid("limit: value 0 invalid, must be 1 or larger")
    return value


MakeLevel = Callable[[Json, int], Level]


def read_prefetches(value: Any, make_level: MakeLevel) -> list[edge.Prefetch] | None:
    if value is None:
        return None
    prefetches = value if isinstance(value, list) else [value]
    return [_prefetch(one, make_level) for one in prefetches]


def _prefetch(data: Json, make_level: MakeLevel) -> edge.Prefetch:
    limit = read_limit(data)
    level = make_level(data, limit)
    query = read_query(data.get("query"), level)
    return edge.Prefetch(
        limit,
        query,
        read_prefetches(data.get("prefetch"), make_level),
        read_params(data.get("params")),
        read_filter(without(data.get("filter"), level.mentioned)),
        data.get("score_threshold"),
    )


def read_request(data: Json, make_level: MakeLevel) -> edge.QueryRequest:
    """A whole `points/query` request."""
    limit = read_limit(data)
    level = make_level(data, limit)
    query = read_query(data.get("query"), level)
    return edge.QueryRequest(
        limit,
        data.get("offset") or 0,
        query,
        read_prefetches(data.get("prefetch"), make_level),
        read_vector_selector(data),
        read_payload_selector(data.get("with_payload"), default=False),
        read_filter(without(data.get("filter"), level.mentioned)),
        data.get("score_threshold"),
        read_params(data.get("params")),
    )
