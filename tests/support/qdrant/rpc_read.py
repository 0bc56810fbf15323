"""gRPC messages -> the JSON that REST would have carried, with qdrant-client's own converters.

One reader serves every request: it walks the fields that are set and reads each by its type.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel
from qdrant_client.conversions.conversion import GrpcToRest, grpc_to_payload

from tests.support.qdrant.errors import LACKING, lacking

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
    """Every field that is set, under its own name, but for what one shard has no use for."""
    data: Json = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.name in _IGNORED:
            continue
        if field.name in LACKING:
            raise lacking(field.name)
        data[field.name] = _reader(field)(value)
    return data


def _reader(field: FieldDescriptor) -> Callable[[Any], Any]:
    if field.name in _BY_NAME:
        return _BY_NAME[field.name]
    if field.message_type is None:
        return list if field.is_repeated else _same
    read = _BY_TYPE.get(field.message_type.name)
    if read is None:
        raise lacking(field.name)
    if not field.is_repeated:
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
    if (
        message.WhichOneof("variant") == "nearest"
        and message.nearest.WhichOneof("variant") == "dense"
    ):
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


_IGNORED = {"ReadConsistency", "WriteOrdering", "ShardKeySelector"}
_BY_TYPE: dict[str, Callable[[Any], Any]] = {
    "PointId": GrpcToRest.convert_point_id,
    "PointStruct": _point,
    "PointVectors": _point_vectors,
    "PointsSelector": _selector,
    "Query": _query,
    "PrefetchQuery": read_message,
    "QueryPoints": read_message,
    "Vector": _converted("convert_vector"),
    "TargetVector": lambda message: _example(message.single),
    "VectorExample": _example,
    "ContextExamplePair": read_message,
    "Filter": _converted("convert_filter"),
    "SearchParams": _converted("convert_search_params"),
    "WithPayloadSelector": _converted("convert_with_payload_selector"),
    "WithVectorsSelector": _converted("convert_with_vectors_selector"),
    "OrderBy": _converted("convert_order_by"),
    "AliasOperations": _converted("convert_alias_operations"),
    "VectorsConfig": _converted("convert_vectors_config"),
    "SparseVectorConfig": _converted("convert_sparse_vector_config"),
}


def _enum(name: str) -> Callable[[int], str]:
    convert = getattr(GrpcToRest, name)
    return lambda number: convert(number).value


_FIELD_TYPES = ("keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid")
_BY_NAME: dict[str, Callable[[Any], Any]] = {
    "payload": grpc_to_payload,
    "strategy": _enum("convert_recommend_strategy"),
}


def read_write(message: Message) -> Json:
    """A write on points: what its selector names is lifted to where REST has it."""
    data = read_message(message)
    selector = data.pop("points_selector", None)
    if selector is None and isinstance(data.get("points"), dict):
        selector = data.pop("points")
    return {**data, **(selector or {})}


def read_search(message: Any) -> Json:
    data = read_message(message)
    return {**data, "vector": {"name": message.vector_name, "vector": data.get("vector", [])}}


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


def index_type(message: Any) -> str:
    return _FIELD_TYPES[message.field_type]
