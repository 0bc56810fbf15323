"""What each path and verb of Qdrant's REST API gives for a served collection."""

from collections.abc import Callable
from typing import Any

import numpy as np

from trimtab.faiss_collections.arguments import (
    read_count,
    read_fields,
    read_legacy,
    read_limit,
    read_list,
)
from trimtab.faiss_collections.groups import rank_groups
from trimtab.faiss_collections.index import Found
from trimtab.faiss_collections.points import Points
from trimtab.faiss_collections.query import Query
from trimtab.faiss_collections.replies import Json, RequestError, bad_request, not_found

_NUMBER_DIGITS = 20  # of the largest 64-bit number; more of them are a UUID without its hyphens

Endpoint = Callable[[Query, Json], Any]
"""Answers a request about the collection of a query, by the request's body."""


def _rank(query: Query, data: Json) -> list[Json]:
    """Answer one query with its points."""
    offset = read_count(data, "offset", 0, least=0)
    found = query.rank(data, read_limit(data) + offset)
    return _write_found(query.points, Found(found.rows[offset:], found.scores[offset:]), data)


def _write_found(points: Points, found: Found, data: Json) -> list[Json]:
    """Write points with their scores; in an index file, they were never updated: version 0."""
    records = points.write(found.rows, data, payload=False)
    for record, score in zip(records, found.scores, strict=True):
        record |= {"version": 0, "score": np.float32(score)}
    return records


def _rank_groups(query: Query, data: Json) -> Json:
    """Answer one query by groups, each with the point that it is called after if asked for."""
    groups: list[Json] = [
        {"id": value, "hits": _write_found(query.points, found, data)}
        for value, found in rank_groups(query, data)
    ]
    if (lookup := data.get("with_lookup")) is not None:
        lookup = {"collection": lookup} if isinstance(lookup, str) else read_fields(lookup)
        other = query.find(lookup.get("collection"))
        for group in groups:
            group.update(_look_up(other, group["id"], lookup))
    return {"groups": groups}


def _look_up(points: Points, value: Any, lookup: Json) -> Json:
    """Find the point that a group is called after; a text that is no id names none."""
    try:
        row = points.ids.row(value)
    except RequestError:
        return {}
    return {} if row is None else {"lookup": points.retrieve([value], lookup)[0]}


def _get_point(points: Points, name: str) -> Json:
    """Give one point, with its vector where the index can give it back."""
    is_number = name.isascii() and name.isdigit() and len(name) <= _NUMBER_DIGITS
    value: Any = int(name) if is_number else name
    try:
        row = points.ids.row(value)
    except RequestError as error:
        raise bad_request(f'Can not recognize "{name}" as point id') from error
    if row is None:
        raise not_found(f"Point with id {name} does not exists!")
    return points.retrieve([value], {"with_vector": points.index.stored.can_give})[0]


def _scroll(query: Query, data: Json) -> Json:
    """Give points page by page, in the order of their ids."""
    limit, points = read_limit(data), query.points
    offset, allowed = data.get("offset"), points.filter(data.get("filter"))
    order = points.ids.order[points.ids.place_from(offset) if offset is not None else 0 :]
    rows = order[: limit + 1] if allowed is None else order[allowed[order]][: limit + 1]
    following = points.ids[int(rows[limit])] if len(rows) > limit else None
    records = points.write(rows[:limit], data, payload=True)
    return {"points": records, "next_page_offset": following}


def _count(query: Query, data: Json) -> Json:
    """Count points."""
    allowed = query.points.filter(data.get("filter"))
    return {"count": query.points.index.size if allowed is None else int(allowed.sum())}


ENDPOINTS: dict[tuple[str, tuple[str, ...]], Endpoint] = {
    ("GET", ()): lambda query, _data: query.points.describe(),
    ("GET", ("exists",)): lambda _query, _data: {"exists": True},
    ("GET", ("aliases",)): lambda _query, _data: {"aliases": []},
    ("POST", ("points",)): lambda query, data: query.points.retrieve(read_list(data, "ids"), data),
    ("POST", ("points", "scroll")): _scroll,
    ("POST", ("points", "count")): _count,
    ("POST", ("points", "query")): lambda query, data: {"points": _rank(query, data)},
    ("POST", ("points", "query", "batch")): lambda query, data: [
        {"points": _rank(query, read_fields(each))} for each in read_list(data, "searches")
    ],
    ("POST", ("points", "query", "groups")): _rank_groups,
    ("POST", ("points", "search")): lambda query, data: _rank(query, read_legacy(data)),
    ("POST", ("points", "search", "batch")): lambda query, data: [
        _rank(query, read_legacy(read_fields(each))) for each in read_list(data, "searches")
    ],
    ("POST", ("points", "search", "groups")): lambda query, data: _rank_groups(
        query, read_legacy(data)
    ),
}


def find_endpoint(method: str, call: tuple[str, ...]) -> Endpoint | None:
    """Find what answers a path behind a collection's name."""
    if method == "GET" and len(call) == 2 and call[0] == "points":
        return lambda query, _data: _get_point(query.points, call[1])
    return ENDPOINTS.get((method, call))
