"""Requests of the endpoints before `points/query`, as the query that each of them means.

Still served by 1.19 (src/actix/api/search_api.rs, recommend_api.rs, discover_api.rs), though its
OpenAPI no longer lists them. They speak of `vector`, `positive`, `target`; answers are plain lists.
"""

from collections.abc import Callable
from typing import Any

from tests.support.qdrant.queries import read_limit

Json = dict[str, Any]

_SHARED = (
    "filter",
    "params",
    "score_threshold",
    "offset",
    "with_payload",
    "with_vector",
    "with_vectors",
    "group_by",
    "group_size",
)


def _shared(data: Json) -> Json:
    kept = {name: data[name] for name in _SHARED if data.get(name) is not None}
    return {**kept, "limit": read_limit(data, default=None)}


def search(data: Json) -> Json:
    vector, using = data.get("vector"), ""
    if isinstance(vector, dict):
        vector, using = vector.get("vector"), vector.get("name")
    return {**_shared(data), "query": vector, "using": using}


def recommend(data: Json) -> Json:
    examples = {name: data.get(name) for name in ("positive", "negative", "strategy")}
    return {**_shared(data), "query": {"recommend": examples}, "using": data.get("using")}


def discover(data: Json) -> Json:
    query = {"discover": {"target": data["target"], "context": data.get("context") or []}}
    return {**_shared(data), "query": query, "using": data.get("using")}


VERBS: dict[str, Callable[[Json], Json]] = {
    "search": search,
    "recommend": recommend,
    "discover": discover,
}
