"""Qdrant's gRPC over the collections: Points, Collections and the health check."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from qdrant_client.grpc import collections_service_pb2, points_service_pb2, qdrant_pb2

from tests.support.qdrant import legacy, rpc_read, rpc_write, updates
from tests.support.qdrant.access import refusal
from tests.support.qdrant.collection import Collection
from tests.support.qdrant.errors import WireError, from_engine
from tests.support.qdrant.grouping import query_groups
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
    501: grpc.StatusCode.UNIMPLEMENTED,
}


def _updated(collection: Collection, message: Any) -> Fields:
    waits = not message.HasField("wait") or message.wait
    result = {
        "operation_id": collection.operations,
        "status": "completed" if waits else "acknowledged",
    }
    return rpc_write.update_result(result)


def _write(operation: str, registry: Registry, message: Any) -> Fields:
    collection = registry.find(message.collection_name)
    updates.apply(collection, operation, rpc_read.read_write(message))
    return _updated(collection, message)


def _create_index(registry: Registry, message: Any) -> Fields:
    collection = registry.find(message.collection_name)
    updates.create_index(collection, message.field_name, rpc_read.index_type(message))
    return _updated(collection, message)


def _read(
    answer: Callable[[Collection, Json], Any],
    write: Callable[[Any], Fields],
    read: Callable[[Any], Json] = rpc_read.read_message,
) -> Handler:
    """A call that changes nothing: its message as JSON, answered, and the answer as a message."""

    def handle(registry: Registry, message: Any) -> Fields:
        return write(answer(registry.find(message.collection_name), read(message)))

    return handle


def _query_batch(collection: Collection, data: Json) -> list[list[Json]]:
    return [collection.query(one) for one in data["query_points"]]


def _legacy(verb: str, read: Callable[[Any], Json]) -> dict[str, Handler]:
    """A call older than Query, with its batch and its groups, as the query that it means."""

    def read_one(message: Any) -> Json:
        return legacy.VERBS[verb](read(message))

    def read_batch(message: Any) -> Json:
        return {"query_points": [read_one(one) for one in getattr(message, f"{verb}_points")]}

    name = verb.capitalize()
    return {
        name: _read(Collection.query, rpc_write.scored, read_one),
        f"{name}Batch": _read(_query_batch, rpc_write.batch, read_batch),
        f"{name}Groups": _read(query_groups, rpc_write.groups, read_one),
    }


def _create_collection(registry: Registry, message: Any) -> Fields:
    registry.create(message.collection_name, rpc_read.read_config(message))
    return {"result": True}


def _update_aliases(registry: Registry, message: Any) -> Fields:
    registry.change_aliases(rpc_read.read_message(message)["actions"])
    return {"result": True}


_POINTS: dict[str, Handler] = {
    "Upsert": partial(_write, "upsert"),
    "Delete": partial(_write, "delete"),
    "UpdateVectors": partial(_write, "update_vectors"),
    "SetPayload": partial(_write, "set_payload"),
    "CreateFieldIndex": _create_index,
    "Get": _read(Collection.retrieve, rpc_write.retrieved),
    "Scroll": _read(Collection.scroll, rpc_write.page),
    "Count": _read(Collection.count, rpc_write.count),
    "Facet": _read(Collection.facet, rpc_write.facet_hits),
    "Query": _read(Collection.query, rpc_write.scored),
    "QueryBatch": _read(_query_batch, rpc_write.batch),
    "QueryGroups": _read(query_groups, rpc_write.groups),
    **_legacy("search", rpc_read.read_search),
    **_legacy("recommend", rpc_read.read_recommend),
    **_legacy("discover", rpc_read.read_message),
}
del _POINTS["DiscoverGroups"]  # which Qdrant has not
_COLLECTIONS: dict[str, Handler] = {
    "Get": lambda registry, message: rpc_write.collection_info(
        registry.find(message.collection_name).info()
    ),
    "List": lambda registry, _: rpc_write.collections(registry.collections),
    "Create": _create_collection,
    "Delete": lambda registry, message: {"result": registry.delete(message.collection_name)},
    "CollectionExists": lambda registry, message: rpc_write.existence(
        registry.exists(message.collection_name)
    ),
    "UpdateAliases": _update_aliases,
    "ListAliases": lambda registry, _: rpc_write.aliases(registry.list_aliases()),
    "ListCollectionAliases": lambda registry, message: rpc_write.aliases(
        registry.list_aliases(message.collection_name)
    ),
}
_HEALTH = {"title": TITLE, "version": VERSION, "commit": "0" * 40}
_SERVICES: tuple[tuple[Any, dict[str, Handler]], ...] = (
    (points_service_pb2.DESCRIPTOR.services_by_name["Points"], _POINTS),
    (collections_service_pb2.DESCRIPTOR.services_by_name["Collections"], _COLLECTIONS),
    (qdrant_pb2.DESCRIPTOR.services_by_name["Qdrant"], {"HealthCheck": lambda *_: _HEALTH}),
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
