"""What Qdrant's API has and a served FAISS file has not: one table, one answer.

A request is looked through once, before it is answered: the rest of this package knows only what
is served.
"""

from collections.abc import Iterator
from typing import Any

from trimtab.faiss_collections.arguments import as_list
from trimtab.faiss_collections.replies import Json, not_served

_WAYS_OUT = "search it in process (`AdaptedIndex`), or load its vectors into Qdrant"
_ENDPOINTS = {
    ("POST", ("facet",)): "`facet`",
    ("POST", ("points", "recommend")): "`recommend`",
    ("POST", ("points", "recommend", "batch")): "`recommend`",
    ("POST", ("points", "recommend", "groups")): "`recommend`",
    ("POST", ("points", "discover")): "`discover`",
    ("POST", ("points", "discover", "batch")): "`discover`",
    ("POST", ("points", "search", "matrix", "pairs")): "a distance matrix",
    ("POST", ("points", "search", "matrix", "offsets")): "a distance matrix",
}
_QUERIES = {
    "recommend": "`recommend`",
    "discover": "`discover`",
    "context": "`context`",
    "order_by": "`order_by`",
    "sample": "`sample`",
    "fusion": "`fusion`",
    "rrf": "`rrf`",
    "formula": "a formula",
    "relevance_feedback": "relevance feedback",
    "text": "a BM25 text query",
}


def check_served(method: str, call: tuple[str, ...], data: Json) -> None:
    """Refuse a request for what a FAISS file is not served with.

    Args:
        method: The HTTP method.
        call: The path behind the collection's name.
        data: The body; what is malformed in it is left to whoever reads it.

    Raises:
        RequestError: It asks for something in the table; the message names it.
    """
    what = _ENDPOINTS.get((method, call)) or next(_find(call, data), None)
    if what is not None:
        raise not_served(what, _WAYS_OUT)


def _find(call: tuple[str, ...], data: Json) -> Iterator[str]:
    """Name what a body asks for."""
    if call == ("points", "scroll") and data.get("order_by") is not None:
        yield _QUERIES["order_by"]
    if call[:2] == ("points", "query"):
        for request in _objects(data.get("searches")) if call[2:] == ("batch",) else [data]:
            prefetches = _objects(request.get("prefetch"))
            for level in (request, *prefetches):
                yield from _find_variant(level.get("query"))
            if any(as_list(each.get("prefetch")) for each in prefetches):
                yield "a prefetch inside a prefetch"


def _find_variant(query: Any) -> Iterator[str]:
    """Name what a query is that is no vector, no id, not ``nearest`` and no text to embed."""
    if isinstance(query, dict) and query.get("nearest") is None and query.get("model") is None:
        yield from (words for name, words in _QUERIES.items() if query.get(name) is not None)


def _objects(value: Any) -> list[Json]:
    """Give the objects among one thing or a list of them."""
    return [each for each in as_list(value) if isinstance(each, dict)]
