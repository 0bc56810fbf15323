"""What the server builds from several searches: groups."""

from typing import Any

from qdrant_client.local.payload_value_extractor import value_by_key

from tests.support.qdrant.collection import Collection
from tests.support.qdrant.filters import also

Json = dict[str, Any]

_GROUPS = 10
_GROUP_SIZE = 3


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
    return {"groups": [{"id": key[1], "hits": hits} for key, hits in chosen]}


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
