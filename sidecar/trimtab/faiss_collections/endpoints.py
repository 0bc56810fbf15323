"""What each path and verb of Qdrant's REST API gives for a served collection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.faiss_collections.arguments import (
    read_count,
    read_fields,
    read_legacy,
    read_limit,
    read_searches,
)
from trimtab.faiss_collections.groups import rank_groups
from trimtab.faiss_collections.index import Found
from trimtab.faiss_collections.info import describe
from trimtab.faiss_collections.points import Points
from trimtab.faiss_collections.query import FindPoints, Query
from trimtab.faiss_collections.replies import (
    Json,
    RequestError,
    bad_format,
    bad_request,
    not_found,
)

VERSION = 0
"""Qdrant numbers the updates of a point; the points of an index file have none."""
_NUMBER_DIGITS = 20  # of the largest 64-bit number; more of them are a UUID without its hyphens


@dataclass(frozen=True, slots=True)
class Call:
    """One request about a served collection.

    Attributes:
        points: The collection.
        find: Finds another one by name.
        data: The body.
        name: What the path names beyond the collection: a point's id.
    """

    points: Points
    find: FindPoints
    data: Json
    name: str = ""


Endpoint = Callable[[Call], Any]


def _rank(call: Call, data: Json) -> list[Json]:
    """Answer one query with its points."""
    offset = read_count(data, "offset", 0, least=0)
    found = Query(call.points, call.find).rank(data, read_limit(data) + offset)
    return _write_found(call.points, Found(found.rows[offset:], found.scores[offset:]), data)


def _write_found(points: Points, found: Found, data: Json) -> list[Json]:
    """Write points with their scores."""
    records = points.write(found.rows, data, payload=False)
    for record, score in zip(records, found.scores, strict=True):
        record |= {"version": VERSION, "score": np.float32(score)}
    return records


def _rank_groups(call: Call, data: Json) -> Json:
    """Answer one query by groups, each with the point that it is called after if asked for."""
    groups: list[Json] = [
        {"id": value, "hits": _write_found(call.points, found, data)}
        for value, found in rank_groups(call.points, Query(call.points, call.find), data)
    ]
    lookup = data.get("with_lookup")
    if lookup is not None:
        lookup = {"collection": lookup} if isinstance(lookup, str) else read_fields(lookup)
        other = call.find(lookup.get("collection"))
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


def _retrieve(call: Call) -> list[Json]:
    """Give points by their ids."""
    values = call.data.get("ids")
    if not isinstance(values, list):
        raise bad_format("missing field `ids`")
    return call.points.retrieve(values, call.data)


def _get_point(call: Call) -> Json:
    """Give one point, with its vector where the index can give it back."""
    points = call.points
    is_number = call.name.isascii() and call.name.isdigit() and len(call.name) <= _NUMBER_DIGITS
    value: Any = int(call.name) if is_number else call.name
    try:
        row = points.ids.row(value)
    except RequestError as error:
        raise bad_request(f'Can not recognize "{call.name}" as point id') from error
    if row is None:
        raise not_found(f"Point with id {call.name} does not exists!")
    return points.retrieve([value], {"with_vector": points.index.stored.can_give})[0]


def _scroll(call: Call) -> Json:
    """Give points page by page, in the order of their ids."""
    limit, points = read_limit(call.data), call.points
    offset, allowed = call.data.get("offset"), points.filter(call.data.get("filter"))
    order = points.ids.order[points.ids.place_from(offset) if offset is not None else 0 :]
    rows = order[: limit + 1] if allowed is None else order[allowed[order]][: limit + 1]
    following = points.ids[int(rows[limit])] if len(rows) > limit else None
    records = points.write(rows[:limit], call.data, payload=True)
    return {"points": records, "next_page_offset": following}


def _count(call: Call) -> Json:
    """Count points."""
    allowed = call.points.filter(call.data.get("filter"))
    return {"count": call.points.index.size if allowed is None else int(allowed.sum())}


ENDPOINTS: dict[tuple[str, tuple[str, ...]], Endpoint] = {
    ("GET", ()): lambda call: describe(call.points),
    ("GET", ("exists",)): lambda _call: {"exists": True},
    ("GET", ("aliases",)): lambda _call: {"aliases": []},
    ("POST", ("points",)): _retrieve,
    ("GET", ("points", "{id}")): _get_point,
    ("POST", ("points", "scroll")): _scroll,
    ("POST", ("points", "count")): _count,
    ("POST", ("points", "query")): lambda call: {"points": _rank(call, call.data)},
    ("POST", ("points", "query", "batch")): lambda call: [
        {"points": _rank(call, each)} for each in read_searches(call.data)
    ],
    ("POST", ("points", "query", "groups")): lambda call: _rank_groups(call, call.data),
    ("POST", ("points", "search")): lambda call: _rank(call, read_legacy(call.data)),
    ("POST", ("points", "search", "batch")): lambda call: [
        _rank(call, read_legacy(each)) for each in read_searches(call.data)
    ],
    ("POST", ("points", "search", "groups")): lambda call: _rank_groups(
        call, read_legacy(call.data)
    ),
}


def find_endpoint(method: str, call: tuple[str, ...]) -> tuple[Endpoint | None, str]:
    """Find what answers a path behind a collection's name, and the point's id in it."""
    if method == "GET" and len(call) == 2 and call[0] == "points":
        return ENDPOINTS["GET", ("points", "{id}")], call[1]
    return ENDPOINTS.get((method, call)), ""
