"""Writes: the wire's JSON -> the engine's update operations."""

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from tests.support.qdrant.collection import Collection
from tests.support.qdrant.errors import (
    bad_format,
    bad_request,
    engine_errors,
    unknown_variant,
    wrong_input,
)
from tests.support.qdrant.filters import read_filter
from tests.support.qdrant.params import (
    dense_vectors,
    pick,
    read_dense,
    read_index,
    read_sparse,
    sparse_vectors,
)
from tests.support.qdrant.vectors import read_id, read_vectors

Json = dict[str, Any]
U = edge.UpdateOperation

_MODES = {
    "upsert": edge.UpdateMode.Upsert,
    "insert_only": edge.UpdateMode.InsertOnly,
    "update_only": edge.UpdateMode.UpdateOnly,
}


def apply(collection: Collection, name: str, data: Json) -> None:
    """Apply one operation, called as in `points/batch`: upsert, delete, set_payload, …"""
    if name not in _OPERATIONS:
        raise unknown_variant(name, _OPERATIONS)
    with engine_errors():
        _OPERATIONS[name](collection, data)
    collection.operations += 1


def apply_batch(collection: Collection, data: Json) -> None:
    for operation in data["operations"]:
        given = {name: value for name, value in operation.items() if value is not None}
        if len(given) != 1:
            raise bad_format("data did not match any variant of untagged enum UpdateOperation")
        ((name, value),) = given.items()
        apply(collection, name, value)


def _upsert(collection: Collection, data: Json) -> None:
    points = [
        edge.Point(read_id(point["id"]), read_vectors(point["vector"]), point.get("payload"))
        for point in _points_of(data)
    ]
    collection.space.check_points(points)
    condition = read_filter(data.get("update_filter"))
    collection.shard.update(U.upsert_points(points, condition, _mode(data)))


def _mode(data: Json) -> edge.UpdateMode | None:
    mode = data.get("update_mode")
    if mode is not None and mode not in _MODES:
        raise unknown_variant(mode, _MODES)
    return mode and _MODES[mode]


def _points_of(data: Json) -> list[Json]:
    """The points of an upsert in either form, a list of points or a table of columns."""
    if data.get("points") is not None:
        return data["points"]
    batch = data["batch"]
    ids, vectors = batch["ids"], batch["vectors"]
    payloads = batch.get("payloads") or [None] * len(ids)
    if isinstance(vectors, dict):
        columns = vectors
        if any(len(column) != len(ids) for column in columns.values()):
            raise bad_request("number of ids and vectors must be equal")
        vectors = [{name: column[i] for name, column in columns.items()} for i in range(len(ids))]
    if len(vectors) != len(ids) or len(payloads) != len(ids):
        raise bad_request("number of ids, vectors and payloads must be equal")
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
    condition = read_filter(data.get("update_filter"))
    collection.shard.update(U.update_vectors(points, condition))


def _select(
    collection: Collection,
    data: Json | list[Any],
    by_ids: Callable[[list[Any]], Any],
    by_filter: Callable[[edge.Filter], Any],
) -> None:
    """Update the points that a selector names, by id or by filter."""
    if isinstance(data, list):
        data = {"points": data}
    if data.get("points") is not None:
        operation = by_ids([read_id(point_id) for point_id in data["points"]])
    elif data.get("filter") is not None:
        operation = by_filter(read_filter(data["filter"]) or edge.Filter())
    else:
        raise bad_format("data did not match any variant of untagged enum PointsSelector")
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


def _overwrite_payload(collection: Collection, data: Json) -> None:
    payload, key = data["payload"], data.get("key")
    _select(
        collection,
        data,
        lambda ids: U.overwrite_payload(ids, payload, key),
        lambda where: U.overwrite_payload_by_filter(where, payload, key),
    )


def _delete_payload(collection: Collection, data: Json) -> None:
    keys = data["keys"]
    _select(
        collection,
        data,
        lambda ids: U.delete_payload(ids, keys),
        lambda where: U.delete_payload_by_filter(where, keys),
    )


def _clear_payload(collection: Collection, data: Json) -> None:
    _select(collection, data, U.clear_payload, U.clear_payload_by_filter)


_OPERATIONS: dict[str, Callable[[Collection, Json], None]] = {
    "upsert": _upsert,
    "delete": _delete,
    "update_vectors": _update_vectors,
    "delete_vectors": _delete_vectors,
    "set_payload": _set_payload,
    "overwrite_payload": _overwrite_payload,
    "delete_payload": _delete_payload,
    "clear_payload": _clear_payload,
}


def create_index(collection: Collection, field_name: str, schema: str | Json | None) -> None:
    if schema is None:
        schema = _guess_type(collection, field_name)
    if not isinstance(schema, str):
        schema = {name: value for name, value in schema.items() if value is not None}
    with engine_errors():
        operation = U.create_field_index(field_name, read_index(schema))
        collection.shard.update(operation)
    collection.schema[field_name] = schema
    collection.operations += 1
    collection.save()


def _guess_type(collection: Collection, field_name: str) -> str:
    """The type of a field's first value, where the request doesn't name one."""
    present = {"must_not": [{"is_empty": {"key": field_name}}]}
    points = collection.scroll({"limit": 1, "filter": present})["points"]
    value = points and points[0]["payload"].get(field_name)
    for kind, name in ((bool, "bool"), (int, "integer"), (float, "float"), (str, "keyword")):
        if isinstance(value, kind):
            return name
    raise bad_request("cannot infer field data type")


def delete_index(collection: Collection, field_name: str) -> None:
    with engine_errors():
        collection.shard.update(U.delete_field_index(field_name))
    collection.schema.pop(field_name, None)
    collection.operations += 1
    collection.save()


def create_vector(collection: Collection, name: str, data: Json) -> None:
    """Add a named vector to a collection that has points already (1.18)."""
    if collection.space.has(name):
        raise wrong_input(f"Vector with name {name} already exists")
    with engine_errors():
        if data.get("dense"):
            collection.shard.update(_new_dense(name, data["dense"]))
            _keep_vectors(collection, "vectors", {name: data["dense"]})
        else:
            collection.shard.update(_new_sparse(name, data["sparse"] or {}))
            _keep_vectors(collection, "sparse_vectors", {name: data["sparse"] or {}})


def _new_dense(name: str, data: Json) -> Any:
    made = read_dense(data)
    return U.create_dense_vector(
        name, made.size, made.distance, made.multivector_config, made.datatype
    )


def _new_sparse(name: str, data: Json) -> Any:
    made = read_sparse({**data, "index": pick(data, "datatype")})
    return U.create_sparse_vector(name, made.modifier, made.datatype)


def _keep_vectors(collection: Collection, kind: str, added: Json) -> None:
    read = dense_vectors if kind == "vectors" else sparse_vectors
    collection.config = {**collection.config, kind: {**read(collection.config), **added}}
    _renew(collection)


def delete_vector(collection: Collection, name: str) -> None:
    if not collection.space.has(name):
        raise wrong_input(f"Not existing vector name error: {name}")
    with engine_errors():
        collection.shard.update(U.delete_vector_name(name))
    dense = {n: p for n, p in dense_vectors(collection.config).items() if n != name}
    sparse = {n: p for n, p in sparse_vectors(collection.config).items() if n != name}
    collection.config = {**collection.config, "vectors": dense, "sparse_vectors": sparse}
    _renew(collection)


def _renew(collection: Collection) -> None:
    collection.operations += 1
    collection.save()
    collection.read_space()
