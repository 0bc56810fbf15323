"""Writes: the wire's JSON -> the engine's update operations."""

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from tests.support.qdrant.collection import Collection
from tests.support.qdrant.errors import engine_errors, unknown_variant, wrong_input
from tests.support.qdrant.filters import read_filter
from tests.support.qdrant.params import read_index
from tests.support.qdrant.vectors import read_id, read_vectors

Json = dict[str, Any]
U = edge.UpdateOperation


def apply(collection: Collection, name: str, data: Json) -> None:
    """Apply one operation, called as in `points/batch`: upsert, delete, set_payload, …"""
    if name not in _OPERATIONS:
        raise unknown_variant(name, _OPERATIONS)
    with engine_errors():
        _OPERATIONS[name](collection, data)
    collection.operations += 1


def apply_batch(collection: Collection, data: Json) -> None:
    for operation in data["operations"]:
        ((name, value),) = operation.items()
        apply(collection, name, value)


def _upsert(collection: Collection, data: Json) -> None:
    points = [
        edge.Point(read_id(point["id"]), read_vectors(point["vector"]), point.get("payload"))
        for point in _points_of(data)
    ]
    collection.space.check_points(points)
    collection.shard.update(U.upsert_points(points))


def _points_of(data: Json) -> list[Json]:
    """The points of an upsert in either form, a list of points or a table of columns."""
    if data.get("points") is not None:
        return data["points"]
    batch = data["batch"]
    ids, vectors = batch["ids"], batch["vectors"]
    payloads = batch.get("payloads") or [None] * len(ids)
    if isinstance(vectors, dict):
        columns = vectors
        vectors = [{name: column[i] for name, column in columns.items()} for i in range(len(ids))]
    return [
        {"id": point_id, "vector": vector, "payload": payload}
        for point_id, vector, payload in zip(ids, vectors, payloads, strict=True)
    ]


def _update_vectors(collection: Collection, data: Json) -> None:
    points = [
        edge.PointVectors(read_id(point["id"]), read_vectors(point["vector"]))
        for point in data["points"]
    ]
    collection.space.check_points(points)
    collection.shard.update(U.update_vectors(points))


def _select(
    collection: Collection,
    data: Json,
    by_ids: Callable[[list[Any]], Any],
    by_filter: Callable[[edge.Filter], Any],
) -> None:
    """Update the points that a selector names, by id or by filter."""
    if data.get("points") is not None:
        operation = by_ids([read_id(point_id) for point_id in data["points"]])
    else:
        operation = by_filter(read_filter(data["filter"]) or edge.Filter())
    collection.shard.update(operation)


def _delete(collection: Collection, data: Json) -> None:
    _select(collection, data, U.delete_points, U.delete_points_by_filter)


def _delete_vectors(collection: Collection, data: Json) -> None:
    names = data["vector"]
    for name in names:
        if not collection.space.has(name):
            raise wrong_input(f"Not existing vector name error: {name}")
    _select(
        collection,
        data,
        lambda ids: U.delete_vectors(ids, names),
        lambda where: U.delete_vectors_by_filter(where, names),
    )


def _set_payload(collection: Collection, data: Json) -> None:
    payload, key = data["payload"], data.get("key")
    _select(
        collection,
        data,
        lambda ids: U.set_payload(ids, payload, key),
        lambda where: U.set_payload_by_filter(where, payload, key),
    )


def _delete_payload(collection: Collection, data: Json) -> None:
    keys = data["keys"]
    _select(
        collection,
        data,
        lambda ids: U.delete_payload(ids, keys),
        lambda where: U.delete_payload_by_filter(where, keys),
    )


_OPERATIONS: dict[str, Callable[[Collection, Json], None]] = {
    "upsert": _upsert,
    "delete": _delete,
    "update_vectors": _update_vectors,
    "delete_vectors": _delete_vectors,
    "set_payload": _set_payload,
    "delete_payload": _delete_payload,
}


def create_index(collection: Collection, field_name: str, schema: str) -> None:
    with engine_errors():
        collection.shard.update(U.create_field_index(field_name, read_index(schema)))
    collection.schema[field_name] = schema
    collection.operations += 1
