"""gRPC messages -> the JSON that REST would have carried, with qdrant-client's own converters.

One reader serves every request: it walks the fields that are set and reads each by its type.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel
from qdrant_client.conversions.conversion import GrpcToRest, grpc_to_payload

from tests.support.qdrant.errors import bad_format, wrong_input

Json = dict[str, Any]


def dump(value: Any) -> Any:
    """A pydantic model, or a list or a table of them, as plain JSON values."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, dict):
        return {name: dump(one) for name, one in value.items()}
    if isinstance(value, list) and value and not isinstance(value[0], (int, float)):
        return [dump(one) for one in value]
    return value


def read_message(message: Message) -> Json:
    """Every field that is set and has a meaning here, under its own name."""
    data: Json = {}
    for field, value in message.ListFields():
        read = _reader(field)
        if read is not None:
            data[field.name] = read(value)
    return data


def _reader(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    if field.name in _BY_NAME:
        return _BY_NAME[field.name]
    if field.message_type is None:
        return list if field.is_repeated else _same
    read = _BY_TYPE.get(field.message_type.name)
    if read is None or not field.is_repeated:
        return read
    return lambda values: [read(value) for value in values]


def _same(value: Any) -> Any:
    return value


def read_vectors(message: Any) -> Any:
    """A point's vectors; none at all is what the server takes for a point without vectors."""
    if message.WhichOneof("vectors_options") is None:
        return {}
    return dump(GrpcToRest.convert_vectors(message))


def _point(message: Any) -> Json:
    return {
        "id": GrpcToRest.convert_point_id(message.id),
        "vector": read_vectors(message.vectors),
        "payload": grpc_to_payload(message.payload),
    }


def _point_vectors(message: Any) -> Json:
    return {
        "id": GrpcToRest.convert_point_id(message.id),
        "vector": read_vectors(message.vectors),
    }


def _query(message: Any) -> Any:
    variant = message.WhichOneof("variant")
    if variant is None:
        raise wrong_input("Malformed field: query is empty")
    if variant == "nearest" and message.nearest.WhichOneof("variant") == "dense":
        return list(message.nearest.dense.data)  # the busy path: no models in between
    return dump(GrpcToRest.convert_query(message))


def _example(message: Any) -> Any:
    kind = message.WhichOneof("example")
    if kind == "id":
        return GrpcToRest.convert_point_id(message.id)
    return dump(GrpcToRest.convert_vector(message.vector))


def _selector(message: Any) -> Json:
    return dump(GrpcToRest.convert_points_selector(message))


def _converted(name: str) -> Callable[[Any], Any]:
    convert = getattr(GrpcToRest, name)
    return lambda message: dump(convert(message))


_BY_TYPE: dict[str, Callable[[Any], Any]] = {
    "PointId": GrpcToRest.convert_point_id,
    "PointStruct": _point,
    "PointVectors": _point_vectors,
    "PointsSelector": _selector,
    "VectorsSelector": lambda message: list(message.names),
    "Query": _query,
    "PrefetchQuery": read_message,
    "QueryPoints": read_message,
    "Vector": _converted("convert_vector"),
    "SparseIndices": lambda message: list(message.data),
    "TargetVector": lambda message: _example(message.single),
    "VectorExample": _example,
    "ContextExamplePair": read_message,
    "Filter": _converted("convert_filter"),
    "SearchParams": _converted("convert_search_params"),
    "WithPayloadSelector": _converted("convert_with_payload_selector"),
    "WithVectorsSelector": _converted("convert_with_vectors_selector"),
    "LookupLocation": _converted("convert_lookup_location"),
    "WithLookup": _converted("convert_with_lookup"),
    "OrderBy": _converted("convert_order_by"),
    "AliasOperations": _converted("convert_alias_operations"),
    "VectorsConfig": _converted("convert_vectors_config"),
    "VectorsConfigDiff": _converted("convert_vectors_config_diff"),
    "SparseVectorConfig": _converted("convert_sparse_vector_config"),
    "HnswConfigDiff": _converted("convert_hnsw_config_diff"),
    "OptimizersConfigDiff": _converted("convert_optimizers_config_diff"),
    "WalConfigDiff": _converted("convert_wal_config_diff"),
    "CollectionParamsDiff": _converted("convert_collection_params_diff"),
    "StrictModeConfig": _converted("convert_strict_mode_config"),
    "QuantizationConfig": _converted("convert_quantization_config"),
    "QuantizationConfigDiff": _converted("convert_quantization_config_diff"),
    "PayloadIndexParams": _converted("convert_payload_schema_params"),
    "MultiVectorConfig": _converted("convert_multivector_config"),
}


def _enum(name: str) -> Callable[[int], str]:
    convert = getattr(GrpcToRest, name)
    return lambda number: convert(number).value


_FIELD_TYPES = ("keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid")
_BY_NAME: dict[str, Callable[[Any], Any]] = {
    "payload": grpc_to_payload,
    "metadata": grpc_to_payload,
    "update_mode": _enum("convert_update_mode"),
    "strategy": _enum("convert_recommend_strategy"),
    "sharding_method": _enum("convert_sharding_method"),
    "distance": _enum("convert_distance"),
    "datatype": _enum("convert_datatype"),
    "modifier": _enum("convert_modifier"),
    "field_type": lambda number: _FIELD_TYPES[number],
}


def read_write(message: Message) -> Json:
    """A write on points: what its selector names is lifted to where REST has it."""
    data = read_message(message)
    selector = data.pop("points_selector", None)
    if selector is None and isinstance(data.get("points"), dict):
        selector = data.pop("points")
    if "vectors" in data:
        data["vector"] = data.pop("vectors")
    return {**data, **(selector or {})}


# The operations of UpdateBatch under the names of REST's points/batch
_OPERATIONS = {
    "delete_points": "delete",
    "delete_deprecated": "delete",
    "clear_payload_deprecated": "clear_payload",
}


def read_operation(message: Any) -> Json:
    name = message.WhichOneof("operation")
    if name is None:
        raise bad_format("Operation is missing")
    inner = getattr(message, name)
    if name.endswith("_deprecated"):
        return {_OPERATIONS[name]: _selector(inner)}
    data = read_write(inner)
    if name.endswith("_payload"):
        data.setdefault("payload", {})
    return {_OPERATIONS.get(name, name): data}


def read_search(message: Any) -> Json:
    data = read_message(message)
    vector: Any = data.get("vector", [])
    if message.HasField("sparse_indices"):
        vector = {"indices": data["sparse_indices"], "values": vector}
    return {**data, "vector": {"name": message.vector_name, "vector": vector}}


def read_recommend(message: Any) -> Json:
    data = read_message(message)
    for name in ("positive", "negative"):
        data[name] = [*data.get(name, []), *data.get(f"{name}_vectors", [])]
    return data


_CONFIGS = {
    "vectors_config": "vectors",
    "sparse_vectors_config": "sparse_vectors",
}


def read_config(message: Message) -> Json:
    """What creates or changes a collection."""
    data = read_message(message)
    data.pop("collection_name", None)
    return {_CONFIGS.get(name, name): value for name, value in data.items()}


def read_index(message: Any) -> Any:
    """The schema of a payload index: its parameters where there are any, else its type."""
    if message.HasField("field_index_params"):
        return read_message(message)["field_index_params"]
    if message.HasField("field_type"):
        return _FIELD_TYPES[message.field_type]
    return None
