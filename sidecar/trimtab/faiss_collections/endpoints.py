"""What each path and verb of Qdrant's REST API gives for a served collection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.faiss_collections.arguments import as_list, read_count, read_fields, read_limit
from trimtab.faiss_collections.facets import count_values
from trimtab.faiss_collections.groups import Grouping
from trimtab.faiss_collections.info import describe
from trimtab.faiss_collections.legacy import read_legacy
from trimtab.faiss_collections.order import Order
from trimtab.faiss_collections.points import Points
from trimtab.faiss_collections.query import FindPoints, Query, Ranking
from trimtab.faiss_collections.replies import (
    Json,
    RequestError,
    bad_format,
    bad_request,
    not_found,
    wrong_input,
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


def _query(call: Call) -> Json:
    """Answer one query."""
    return {"points": _ranked(call, call.data)}


def _query_batch(call: Call) -> list[Json]:
    """Answer several queries."""
    return [{"points": _ranked(call, read_fields(each))} for each in _searches(call)]


def _searches(call: Call) -> list[Any]:
    """Read the requests of a batch."""
    searches = call.data.get("searches")
    if not isinstance(searches, list):
        raise bad_format("missing field `searches`")
    return searches


def _ranked(call: Call, data: Json) -> list[Json]:
    """Answer one query with its points."""
    offset = read_count(data, "offset", 0, least=0)
    limit = read_limit(data)
    ranking = Query(call.points, call.find).rank(data, limit + offset)
    return _write_ranking(call.points, ranking, data, offset)


def _write_ranking(points: Points, ranking: Ranking, data: Json, offset: int = 0) -> list[Json]:
    """Write points with their scores."""
    rows, scores = ranking.found.rows[offset:], ranking.found.scores[offset:]
    records = points.write(rows, data, payload=False)
    for place, record in enumerate(records):
        record["version"] = VERSION
        record["score"] = np.float32(scores[place])
        if ranking.order_values is not None:
            record["order_value"] = ranking.order_values[offset + place]
    return records


def _query_groups(call: Call) -> Json:
    """Answer one query by groups."""
    return _grouped(call, call.data)


def _grouped(call: Call, data: Json) -> Json:
    """Answer one query by groups, each with the point that it is called after if asked for."""
    grouping = Grouping(call.points, data)
    groups: list[Json] = [
        {"id": value, "hits": _write_ranking(call.points, Ranking(found), data)}
        for value, found in grouping.rank(Query(call.points, call.find))
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
    """Give points page by page, in the order of their ids or of a payload field."""
    limit, points = read_limit(call.data), call.points
    offset, allowed = call.data.get("offset"), points.filter(call.data.get("filter"))
    if call.data.get("order_by") is not None:
        if offset is not None:
            raise wrong_input(
                "Cannot use an `offset` when using `order_by`. The alternative for paging is to "
                "use `order_by.start_from` and a filter to exclude the IDs that you've already "
                "seen for the `order_by.start_from` value"
            )
        rows, values = Order(points, call.data["order_by"]).first(limit, allowed)
        records = points.write(rows, call.data, payload=True)
        for record, value in zip(records, values, strict=True):
            record["order_value"] = value
        return {"points": records, "next_page_offset": None}
    order = points.ids.order[points.ids.place_from(offset) if offset is not None else 0 :]
    rows = order[: limit + 1] if allowed is None else order[allowed[order]][: limit + 1]
    following = points.ids[int(rows[limit])] if len(rows) > limit else None
    records = points.write(rows[:limit], call.data, payload=True)
    return {"points": records, "next_page_offset": following}


def _count(call: Call) -> Json:
    """Count points."""
    allowed = call.points.filter(call.data.get("filter"))
    return {"count": call.points.index.size if allowed is None else int(allowed.sum())}


def _facet(call: Call) -> Json:
    """Count the points of each value of a payload field."""
    allowed = call.points.filter(call.data.get("filter"))
    column = call.points.column(call.data.get("key"))
    return {"hits": count_values(column, allowed, read_limit(call.data))}


def _legacy(verb: str) -> Endpoint:
    """Answer one request of the endpoints before ``points/query``."""
    return lambda call: _ranked(call, read_legacy(verb, call.data))


def _legacy_batch(verb: str) -> Endpoint:
    """Answer several of them."""
    return lambda call: [
        _ranked(call, read_legacy(verb, read_fields(each))) for each in as_list(_searches(call))
    ]


def _legacy_groups(verb: str) -> Endpoint:
    """Answer one of them by groups."""
    return lambda call: _grouped(call, read_legacy(verb, call.data))


ENDPOINTS: dict[tuple[str, tuple[str, ...]], Endpoint] = {
    ("GET", ()): lambda call: describe(call.points),
    ("GET", ("exists",)): lambda _call: {"exists": True},
    ("GET", ("aliases",)): lambda _call: {"aliases": []},
    ("POST", ("facet",)): _facet,
    ("POST", ("points",)): _retrieve,
    ("GET", ("points", "{id}")): _get_point,
    ("POST", ("points", "scroll")): _scroll,
    ("POST", ("points", "count")): _count,
    ("POST", ("points", "query")): _query,
    ("POST", ("points", "query", "batch")): _query_batch,
    ("POST", ("points", "query", "groups")): _query_groups,
    ("POST", ("points", "search")): _legacy("search"),
    ("POST", ("points", "search", "batch")): _legacy_batch("search"),
    ("POST", ("points", "search", "groups")): _legacy_groups("search"),
    ("POST", ("points", "recommend")): _legacy("recommend"),
    ("POST", ("points", "recommend", "batch")): _legacy_batch("recommend"),
    ("POST", ("points", "recommend", "groups")): _legacy_groups("recommend"),
    ("POST", ("points", "discover")): _legacy("discover"),
    ("POST", ("points", "discover", "batch")): _legacy_batch("discover"),
}


def find_endpoint(method: str, call: tuple[str, ...]) -> tuple[Endpoint | None, str]:
    """Find what answers a path behind a collection's name, and the point's id in it."""
    if method == "GET" and len(call) == 2 and call[0] == "points":
        return ENDPOINTS["GET", ("points", "{id}")], call[1]
    return ENDPOINTS.get((method, call)), ""
