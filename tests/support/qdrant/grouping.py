"""What the server builds from several searches: groups, and distance matrices."""

from typing import Any

from qdrant_client.local.payload_value_extractor import value_by_key

from tests.support.qdrant.collection import Collection
from tests.support.qdrant.errors import WireError, invalid
from tests.support.qdrant.filters import also, only
from tests.support.qdrant.vectors import plain

Json = dict[str, Any]

__all__ = ["matrix_offsets", "matrix_pairs", "query_groups"]

_GROUPS = 10
_GROUP_SIZE = 3
_SAMPLE = 10
_NEIGHBOURS = 3


def query_groups(collection: Collection, data: Json) -> Json:
    """The best points of each value of a payload field.

    One search over every point that has the field, where the server asks again and again until
    the groups are full: the same answer whenever the server's is exact. Prefetches get
    `group_size` times their limit, as on the server (lib/collection/src/grouping/group_by.rs).
    """
    group_by = data["group_by"]
    size, n_groups = data.get("group_size") or _GROUP_SIZE, data.get("limit") or _GROUPS
    everything = max(1, collection.shard.info().points_count)
    request = {
        **data,
        "prefetch": _widen(data.get("prefetch"), size),
        "filter": also(data.get("filter"), {"must_not": [{"is_empty": {"key": group_by}}]}),
        "limit": everything,
        "offset": 0,
        "with_payload": {"include": [group_by]},
        "with_vector": False,
        "with_vectors": False,
    }
    groups: dict[Any, list[Json]] = {}
    for point in collection.query(request):
        for group_id in _group_ids(point["payload"], group_by):
            hits = groups.setdefault((type(group_id), group_id), [])
            if len(hits) < size:
                hits.append(point)
    chosen = list(groups.items())[:n_groups]
    _fill(collection, data, [point for _, hits in chosen for point in hits])
    answer = [{"id": key[1], "hits": hits} for key, hits in chosen]
    if data.get("with_lookup"):
        _look_up(collection, data["with_lookup"], answer)
    return {"groups": answer}


def _widen(prefetch: Any, times: int) -> Any:
    if prefetch is None:
        return None
    if isinstance(prefetch, list):
        return [_widen(one, times) for one in prefetch]
    limit = prefetch.get("limit") or 10
    inner = _widen(prefetch.get("prefetch"), times)
    return {**prefetch, "limit": limit * times, "prefetch": inner}


def _group_ids(payload: Json, group_by: str) -> list[Any]:
    """A point joins one group for each value; a value of another type keeps it out of all."""
    values = value_by_key(payload, group_by) or []
    if any(type(value) not in (int, str) for value in values):
        return []
    return list(dict.fromkeys(values))


def _fill(collection: Collection, data: Json, points: list[Json]) -> None:
    """Give the chosen points the payload and vectors that the request asked for."""
    with_payload = data.get("with_payload")
    selection = {
        "ids": list({point["id"]: None for point in points}),
        "with_payload": False if with_payload is None else with_payload,
        "with_vector": data.get("with_vector", data.get("with_vectors")),
    }
    records = {record["id"]: record for record in collection.retrieve(selection)}
    for point in points:
        point.pop("payload", None)
        point.update(records[point["id"]])


def _look_up(collection: Collection, lookup: str | Json, groups: list[Json]) -> None:
    if isinstance(lookup, str):
        lookup = {"collection": lookup}
    other = collection.find(lookup["collection"])
    with_payload = lookup.get("with_payload")
    for group in groups:
        selection = {
            "ids": [group["id"]],
            "with_payload": True if with_payload is None else with_payload,
            "with_vector": lookup.get("with_vectors", lookup.get("with_vector")),
        }
        found = _retrieve_if_id(other, selection)
        if found:
            group["lookup"] = found[0]


def _retrieve_if_id(other: Collection, selection: Json) -> list[Json]:
    """A group may be called something that no point can be called."""
    try:
        return other.retrieve(selection)
    except WireError:
        return []


def _matrix(collection: Collection, data: Json) -> tuple[list[Any], list[list[Json]]]:
    """Sampled points in order of id, and the nearest of the others to each."""
    using = data.get("using") or ""
    sample, limit = data.get("sample") or _SAMPLE, data.get("limit") or _NEIGHBOURS
    if sample < 2:
        raise invalid(f"sample: value {sample} invalid, must be 2 or larger")
    points = collection.query(
        {
            "query": {"sample": "random"},
            "limit": sample,
            "filter": also(data.get("filter"), {"has_vector": using}),
            "with_vector": [using],
        }
    )
    if len(points) < 2:
        return [], []
    points.sort(key=lambda point: (isinstance(point["id"], str), point["id"]))
    ids = [point["id"] for point in points]
    rows = []
    for point in points:
        vectors = point["vector"]
        vector = vectors[using] if isinstance(vectors, dict) and using in vectors else vectors
        others = [other for other in ids if other != point["id"]]
        request = {
            "query": _as_query(vector),
            "using": using,
            "limit": limit,
            "filter": only(None, others),
        }
        rows.append(collection.query(request))
    return ids, rows


def _as_query(vector: Any) -> Any:
    if isinstance(vector, dict):
        return {"indices": vector["indices"], "values": plain(vector["values"])}
    return plain(vector)


def matrix_pairs(collection: Collection, data: Json) -> Json:
    ids, rows = _matrix(collection, data)
    return {
        "pairs": [
            {"a": point_id, "b": near["id"], "score": near["score"]}
            for point_id, row in zip(ids, rows, strict=True)
            for near in row
        ]
    }


def matrix_offsets(collection: Collection, data: Json) -> Json:
    ids, rows = _matrix(collection, data)
    position = {point_id: i for i, point_id in enumerate(ids)}
    return {
        "offsets_row": [i for i, row in enumerate(rows) for _ in row],
        "offsets_col": [position[near["id"]] for row in rows for near in row],
        "scores": [near["score"] for row in rows for near in row],
        "ids": ids,
    }
