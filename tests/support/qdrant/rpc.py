"""Qdrant's gRPC over the collections: Points, Collections and the health check."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from qdrant_client import grpc as messages
from qdrant_client.grpc import collections_service_pb2, points_service_pb2, qdrant_pb2

from tests.support.qdrant import grouping, legacy, rpc_read, rpc_write, updates
from tests.support.qdrant.access import refusal
from tests.support.qdrant.collection import Collection
from tests.support.qdrant.errors import WireError, from_engine
from tests.support.qdrant.record import Recorder
from tests.support.qdrant.registry import Registry
from tests.support.qdrant.rest import TITLE, VERSION

Json = dict[str, Any]
Fields = dict[str, Any]  # of the answer
Handler = Callable[[Registry, Any], Fields]

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),
)
# src/tonic/... From<StorageError> for Status: the same errors as REST under gRPC's names
_CODES = {
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    500: grpc.StatusCode.INTERNAL,
}


def _updated(collection: Collection, message: Any) -> Fields:
    waits = not message.HasField("wait") or message.wait
    result = {
        "operation_id": collection.operations,
        "status": "completed" if waits else "acknowledged",
    }
    return {"result": rpc_write.update_result(result)}


def _write(operation: str, registry: Registry, message: Any) -> Fields:
    collection = registry.find(message.collection_name)
    data = rpc_read.read_write(message)
    if operation.endswith("_payload"):
        data.setdefault("payload", {})
    updates.apply(collection, operation, data)
    return _updated(collection, message)


def _update_batch(registry: Registry, message: Any) -> Fields:
    collection = registry.find(message.collection_name)
    operations = [rpc_read.read_operation(one) for one in message.operations]
    updates.apply_batch(collection, {"operations": operations})
    return {"result": [_updated(collection, message)["result"]] * len(operations)}


def _create_index(registry: Registry, message: Any) -> Fields:
    collection = registry.find(message.collection_name)
    updates.create_index(collection, message.field_name, rpc_read.read_index(message))
    return _updated(collection, message)


def _delete_index(registry: Registry, message: Any) -> Fields:
    collection = registry.find(message.collection_name)
    updates.delete_index(collection, message.field_name)
    return _updated(collection, message)


def _create_vector(registry: Registry, message: Any) -> Fields:
    collection = registry.find(message.collection_name)
    kind = "dense" if message.HasField("dense_config") else "sparse"
    config = rpc_read.read_message(getattr(message, f"{kind}_config"))
    updates.create_vector(collection, message.vector_name, {kind: config})
    return _updated(collection, message)


def _delete_vector(registry: Registry, message: Any) -> Fields:
    collection = registry.find(message.collection_name)
    updates.delete_vector(collection, message.vector_name)
    return _updated(collection, message)


def _read(registry: Registry, message: Any) -> tuple[Collection, Json]:
    return registry.find(message.collection_name), rpc_read.read_message(message)


def _query(registry: Registry, message: Any) -> Fields:
    collection, data = _read(registry, message)
    return {"result": rpc_write.scored(collection.query(data))}


def _query_batch(registry: Registry, message: Any) -> Fields:
    collection, data = _read(registry, message)
    results = [collection.query(one) for one in data.get("query_points", [])]
    return {"result": rpc_write.batch(results)}


def _query_groups(registry: Registry, message: Any) -> Fields:
    return {"result": rpc_write.groups(grouping.query_groups(*_read(registry, message)))}


_LEGACY_READERS = {
    "search": rpc_read.read_search,
    "recommend": rpc_read.read_recommend,
    "discover": rpc_read.read_message,
}


def _legacy(verb: str, registry: Registry, message: Any) -> Fields:
    collection = registry.find(message.collection_name)
    points = legacy.answer(collection, verb, _LEGACY_READERS[verb](message))
    return {"result": rpc_write.scored(points)}


def _legacy_batch(verb: str, registry: Registry, message: Any) -> Fields:
    collection = registry.find(message.collection_name)
    requests = [_LEGACY_READERS[verb](one) for one in getattr(message, f"{verb}_points")]
    results = legacy.answer_batch(collection, verb, {"searches": requests})
    return {"result": rpc_write.batch(results)}


def _legacy_groups(verb: str, registry: Registry, message: Any) -> Fields:
    collection = registry.find(message.collection_name)
    data = legacy.answer_groups(collection, verb, _LEGACY_READERS[verb](message))
    return {"result": rpc_write.groups(data)}


def _get_points(registry: Registry, message: Any) -> Fields:
    collection, data = _read(registry, message)
    return {"result": rpc_write.retrieved(collection.retrieve({"ids": [], **data}))}


def _scroll(registry: Registry, message: Any) -> Fields:
    collection, data = _read(registry, message)
    page = collection.scroll(data)
    return {
        "result": rpc_write.retrieved(page["points"]),
        "next_page_offset": rpc_write.point_id(page["next_page_offset"]),
    }


def _count(registry: Registry, message: Any) -> Fields:
    collection, data = _read(registry, message)
    return {"result": messages.CountResult(**collection.count(data))}


def _facet(registry: Registry, message: Any) -> Fields:
    collection, data = _read(registry, message)
    return {"hits": rpc_write.facet_hits(collection.facet(data))}


def _pairs(registry: Registry, message: Any) -> Fields:
    return {"result": rpc_write.matrix_pairs(grouping.matrix_pairs(*_read(registry, message)))}


def _offsets(registry: Registry, message: Any) -> Fields:
    return {"result": rpc_write.matrix_offsets(grouping.matrix_offsets(*_read(registry, message)))}


def _get_collection(registry: Registry, message: Any) -> Fields:
    return {"result": rpc_write.collection_info(registry.find(message.collection_name).info())}


def _list_collections(registry: Registry, _message: Any) -> Fields:
    described = [messages.CollectionDescription(name=name) for name in registry.collections]
    return {"collections": described}


def _create_collection(registry: Registry, message: Any) -> Fields:
    registry.create(message.collection_name, rpc_read.read_config(message))
    return {"result": True}


def _update_collection(registry: Registry, message: Any) -> Fields:
    registry.find(message.collection_name).reconfigure(rpc_read.read_config(message))
    return {"result": True}


def _delete_collection(registry: Registry, message: Any) -> Fields:
    return {"result": registry.delete(message.collection_name)}


def _exists(registry: Registry, message: Any) -> Fields:
    exists = registry.exists(message.collection_name)
    return {"result": messages.CollectionExists(exists=exists)}


def _update_aliases(registry: Registry, message: Any) -> Fields:
    registry.change_aliases(rpc_read.read_message(message).get("actions", []))
    return {"result": True}


def _list_aliases(registry: Registry, _message: Any) -> Fields:
    return {"aliases": rpc_write.aliases(registry.list_aliases())}


def _collection_aliases(registry: Registry, message: Any) -> Fields:
    return {"aliases": rpc_write.aliases(registry.list_aliases(message.collection_name))}


def _health(_registry: Registry, _message: Any) -> Fields:
    return {"title": TITLE, "version": VERSION, "commit": "0" * 40}


_POINTS: dict[str, Handler] = {
    "Upsert": partial(_write, "upsert"),
    "Delete": partial(_write, "delete"),
    "UpdateVectors": partial(_write, "update_vectors"),
    "DeleteVectors": partial(_write, "delete_vectors"),
    "SetPayload": partial(_write, "set_payload"),
    "OverwritePayload": partial(_write, "overwrite_payload"),
    "DeletePayload": partial(_write, "delete_payload"),
    "ClearPayload": partial(_write, "clear_payload"),
    "UpdateBatch": _update_batch,
    "CreateFieldIndex": _create_index,
    "DeleteFieldIndex": _delete_index,
    "CreateVectorName": _create_vector,
    "DeleteVectorName": _delete_vector,
    "Get": _get_points,
    "Scroll": _scroll,
    "Count": _count,
    "Facet": _facet,
    "Query": _query,
    "QueryBatch": _query_batch,
    "QueryGroups": _query_groups,
    "SearchMatrixPairs": _pairs,
    "SearchMatrixOffsets": _offsets,
    "Search": partial(_legacy, "search"),
    "SearchBatch": partial(_legacy_batch, "search"),
    "SearchGroups": partial(_legacy_groups, "search"),
    "Recommend": partial(_legacy, "recommend"),
    "RecommendBatch": partial(_legacy_batch, "recommend"),
    "RecommendGroups": partial(_legacy_groups, "recommend"),
    "Discover": partial(_legacy, "discover"),
    "DiscoverBatch": partial(_legacy_batch, "discover"),
}
_COLLECTIONS: dict[str, Handler] = {
    "Get": _get_collection,
    "List": _list_collections,
    "Create": _create_collection,
    "Update": _update_collection,
    "Delete": _delete_collection,
    "CollectionExists": _exists,
    "UpdateAliases": _update_aliases,
    "ListAliases": _list_aliases,
    "ListCollectionAliases": _collection_aliases,
}
_SERVICES = (
    (points_service_pb2.DESCRIPTOR.services_by_name["Points"], _POINTS),
    (collections_service_pb2.DESCRIPTOR.services_by_name["Collections"], _COLLECTIONS),
    (qdrant_pb2.DESCRIPTOR.services_by_name["Qdrant"], {"HealthCheck": _health}),
)
_OPEN = "/qdrant.Qdrant/HealthCheck"


class _Method:
    """One RPC: bytes in, so that they can be recorded as they came, and a message out."""

    def __init__(self, path: str, request: type[Message], answer: type[Message], run: Handler):
        self.path = path
        self._request = request
        self._answer = answer
        self._run = run

    def bind(
        self, registry: Registry, recorder: Recorder, api_key: str | None
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def call(body: bytes, context: Any) -> bytes:
            metadata = context.invocation_metadata() or ()
            recorder.keep("grpc", self.path, self.path, metadata, body)
            refused = self.path != _OPEN and refusal(api_key, dict(metadata).get)
            if refused:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, refused)
            try:
                return self._answer_to(registry, body)
            except WireError as error:
                code = _CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
                await context.abort(code, error.message)
            raise AssertionError("abort raises")

        return call

    def _answer_to(self, registry: Registry, body: bytes) -> bytes:
        started = time.perf_counter()
        message = self._request.FromString(body)
        try:
            fields = self._run(registry, message)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise from_engine(error) from error
        if "time" in self._answer.DESCRIPTOR.fields_by_name:
            fields = {**fields, "time": time.perf_counter() - started}
        return self._answer(**fields).SerializeToString()


async def start_rpc(
    registry: Registry, recorder: Recorder, api_key: str | None, address: str
) -> tuple[grpc.aio.Server, int]:
    """Listen at ``address``; give the server and the port it got."""
    server = grpc.aio.server(options=_OPTIONS)
    for service, handlers in _SERVICES:
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                _Method(
                    f"/{service.full_name}/{name}",
                    GetMessageClass(service.methods_by_name[name].input_type),
                    GetMessageClass(service.methods_by_name[name].output_type),
                    handler,
                ).bind(registry, recorder, api_key)
            )
            for name, handler in handlers.items()
        }
        generic = grpc.method_handlers_generic_handler(service.full_name, methods)
        server.add_generic_rpc_handlers((generic,))
    port = server.add_insecure_port(address)
    await server.start()
    return server, port
