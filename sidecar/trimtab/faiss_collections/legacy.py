"""Requests of the endpoints before ``points/query``, as the query that each of them means.

Qdrant 1.19 still serves them: src/actix/api/{search,recommend,discover}_api.rs.
"""

from collections.abc import Callable

from trimtab.faiss_collections.replies import Json, bad_format, bad_request


def read_legacy(verb: str, data: Json) -> Json:
    """Read a request to ``points/search``, ``points/recommend`` or ``points/discover``.

    Raises:
        RequestError: It is malformed.
    """
    if data.get("limit", data.get("top")) is None:
        raise bad_format("missing field `limit`")
    return {**data, "prefetch": None, **_VERBS[verb](data)}


def _search(data: Json) -> Json:
    """Read a vector, with or without the name of the one that it is compared with."""
    given = data.get("vector")
    vector, using = given, None
    if isinstance(given, dict):
        vector, using = given.get("vector"), given.get("name")
    if not isinstance(vector, list | dict):
        raise bad_format("data did not match any variant of untagged enum NamedVectorStruct")
    return {"query": vector, "using": using}


def _recommend(data: Json) -> Json:
    """Read examples."""
    examples = {name: data.get(name) for name in ("positive", "negative", "strategy")}
    return {"query": {"recommend": examples}}


def _discover(data: Json) -> Json:
    """Read a target, pairs, or both."""
    target, pairs = data.get("target"), data.get("context") or []
    if target is None and not pairs:
        raise bad_request("target and/or context must be specified")
    if target is None:
        return {"query": {"context": pairs}}
    return {"query": {"discover": {"target": target, "context": pairs}}}


_VERBS: dict[str, Callable[[Json], Json]] = {
    "search": _search,
    "recommend": _recommend,
    "discover": _discover,
}
