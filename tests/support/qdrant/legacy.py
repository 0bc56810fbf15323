"""Requests of the endpoints before `points/query`, as the query that each of them means.

Still served by 1.19 (src/actix/api/search_api.rs, recommend_api.rs, discover_api.rs), though its
OpenAPI no longer lists them. They speak of `vector`, `positive`, `target`; answers are plain lists.
"""

from collections.abc import Callable
from typing import Any

from tests.support.qdrant.collection import Collection
from tests.support.qdrant.errors import bad_format, bad_request
from tests.support.qdrant.grouping import query_groups
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
    "lookup_from",
    "group_by",
    "group_size",
    "with_lookup",
)


def _shared(data: Json) -> Json:
    kept = {name: data[name] for name in _SHARED if data.get(name) is not None}
    return {**kept, "limit": read_limit(data, default=None)}


def search(data: Json) -> Json:
    vector, using = data.get("vector"), ""
    if isinstance(vector, dict):
        vector, using = vector.get("vector"), vector.get("name")
    if not isinstance(vector, (list, dict)):
        raise bad_format("data did not match any variant of untagged enum NamedVectorStruct")
    return {**_shared(data), "query": vector, "using": using}


def recommend(data: Json) -> Json:
    examples = {name: data.get(name) for name in ("positive", "negative", "strategy")}
    return {**_shared(data), "query": {"recommend": examples}, "using": data.get("using")}


def discover(data: Json) -> Json:
    target, context = data.get("target"), data.get("context") or []
    if target is None and not context:
        raise bad_request("target and/or context must be specified")
    query = (
        {"context": context}
        if target is None
        else {"discover": {"target": target, "context": context}}
    )
    return {**_shared(data), "query": query, "using": data.get("using")}


Translate = Callable[[Json], Json]
VERBS: dict[str, Translate] = {"search": search, "recommend": recommend, "discover": discover}


def answer(collection: Collection, verb: str, data: Json) -> list[Json]:
    return collection.query(VERBS[verb](data))


def answer_batch(collection: Collection, verb: str, data: Json) -> list[list[Json]]:
    return [answer(collection, verb, one) for one in data["searches"]]


def answer_groups(collection: Collection, verb: str, data: Json) -> Json:
    return query_groups(collection, VERBS[verb](data))
