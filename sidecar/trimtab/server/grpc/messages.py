"""What the sidecar reads in Qdrant's gRPC messages beside query vectors.

Which methods there are, what Qdrant says of its collections, and the order of the points in its
answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from trimtab.errors import IntegrityError, MalformedError, UpstreamError
from trimtab.model.protobuf_fields import read_fields
from trimtab.rewrite.qdrant_grpc import GrpcMethod, match_method
from trimtab.rewrite.qdrant_messages import SERVICES, messages
from trimtab.routing.route_book import Question
from trimtab.routing.vector_schema import SPARSE, CollectionVectors, IndexedVector
from trimtab.server.rankings import Ranking, of_groups

_SERVERLESS = "/qdrant.serverless.CollectionsService/"
_SERVERLESS_CALLS = ("CreateCollection", "DeleteCollection", "GetCollection", "ListCollections")
"""Of qdrant-client 1.20; older ones, which this version runs with too, do not know them."""

_CHANGING = {
    "/qdrant.Collections/Create",
    "/qdrant.Collections/Update",
    "/qdrant.Collections/Delete",
    "/qdrant.Points/CreateVectorName",
    "/qdrant.Points/DeleteVectorName",
    f"{_SERVERLESS}CreateCollection",
    f"{_SERVERLESS}DeleteCollection",
}
_CHANGING_ALL = {"/qdrant.Collections/UpdateAliases"}
_HEALTH = "/grpc.health.v1.Health/Check"
_FIRST_IS_TEXT_1 = b"\x0a"  # field 1, length-delimited: `collection_name` of every such request


@dataclass(frozen=True, slots=True)
class Method:
    """A method that takes one message and gives one.

    Attributes:
        path: As gRPC names it: ``/qdrant.Points/Query``.
        kind: ``query``, ``write`` or ``other``.
        vectors: The method, where it can carry vectors.
        forgets: True where Qdrant may say otherwise of its collections once it has answered.
    """

    path: str
    kind: str = "other"
    vectors: GrpcMethod | None = None
    invalidates: bool = False


def known_methods() -> list[Method]:
    """Give the methods with one message each way: those that the official client knows, and health.

    Any other may be one as well, and passes as a stream, which takes a little longer.
    """
    services = [
        service for module in SERVICES for service in module.DESCRIPTOR.services_by_name.values()
    ]
    paths = [
        f"/{service.full_name}/{method.name}"
        for service in services
        for method in service.methods
        if not (method.client_streaming or method.server_streaming)
    ]
    paths += [_SERVERLESS + name for name in _SERVERLESS_CALLS]
    return [_describe(path) for path in (*paths, _HEALTH)]


def _describe(path: str) -> Method:
    """Describe one method."""
    vectors = match_method(path)
    kind = "other" if vectors is None else "write" if vectors.is_write else "query"
    return Method(path, kind, vectors, invalidates=path in _CHANGING | _CHANGING_ALL)


def changed_collection(method: Method, content: bytes) -> str | None:
    """Give the collection that a request changes; None where it may be any."""
    changes_all = method.path.endswith(tuple(_CHANGING_ALL))  # whatever stands before it
    return None if changes_all else peek_collection(content) or None


def peek_collection(content: bytes) -> str:
    """Read the collection's name without the rest of a request; empty where it does not come first.

    Every known writer puts it first. Nothing but a count and a cache may depend on it.
    """
    if not content.startswith(_FIRST_IS_TEXT_1):
        return ""
    try:
        _, _, value = next(read_fields(memoryview(content)))
    except IntegrityError:
        return ""
    return bytes(value).decode(errors="replace") if isinstance(value, memoryview) else ""


def write_question(question: Question) -> tuple[str, bytes]:
    """Give the method and the message that ask a question."""
    if question.method == "get_aliases":
        return "/qdrant.Collections/ListAliases", b""
    request = messages.GetCollectionInfoRequest(**question.arguments)
    return "/qdrant.Collections/Get", request.SerializeToString()


def read_answer(
    question: Question, content: bytes
) -> Mapping[str, IndexedVector] | Mapping[str, str]:
    """Read Qdrant's answer to a question, as ``server.qdrant_answers`` does of JSON.

    Raises:
        UpstreamError: It is no such answer.
    """
    try:
        if question.method == "get_aliases":
            aliases = messages.ListAliasesResponse.FromString(content).aliases
            return {each.alias_name: each.collection_name for each in aliases}
        info = messages.GetCollectionInfoResponse.FromString(content).result
    except DecodeError as error:
        raise UpstreamError(f"Qdrant's answer to {question.method} is new to us") from error
    vectors = info.config.params.vectors_config
    sparse = dict.fromkeys(info.config.params.sparse_vectors_config.map, SPARSE)
    if vectors.WhichOneof("config") == "params":
        found = {"": _read_vector(vectors.params)}
    else:
        found = {name: _read_vector(params) for name, params in vectors.params_map.map.items()}
    return CollectionVectors(sparse | found, created_s=_read_creation(info))


def _read_creation(info: Any) -> float | None:
    """Read when a collection was made: ``created_at``, field 13 since 1.20."""
    if "created_at" not in info.DESCRIPTOR.fields_by_name or not info.HasField("created_at"):
        return None
    moment = info.created_at
    return float(moment.seconds + moment.nanos * 1e-9)


def _read_vector(params: Any) -> IndexedVector:
    """Read one vector's description."""
    datatypes, distances = messages.Datatype.DESCRIPTOR, messages.Distance.DESCRIPTOR
    datatype = _name(datatypes, params.datatype)
    return IndexedVector(
        dim=params.size,
        distance=_name(distances, params.distance),
        datatype="float32" if datatype == "default" else datatype,
        is_multi=params.HasField("multivector_config"),
    )


def _name(enum: Any, number: int) -> str:
    """Name the value of an enum, which may be a newer Qdrant's."""
    value = enum.values_by_number.get(number)
    return f"number {number}" if value is None else str(value.name).lower()


_ANSWERS: dict[str, Any] = {
    "Query": messages.QueryResponse,
    "QueryBatch": messages.QueryBatchResponse,
    "QueryGroups": messages.QueryGroupsResponse,
    "Search": messages.SearchResponse,
    "SearchBatch": messages.SearchBatchResponse,
    "SearchGroups": messages.SearchGroupsResponse,
    "Recommend": messages.RecommendResponse,
    "RecommendBatch": messages.RecommendBatchResponse,
    "RecommendGroups": messages.RecommendGroupsResponse,
    "Discover": messages.DiscoverResponse,
    "DiscoverBatch": messages.DiscoverBatchResponse,
}


def read_rankings(name: str, content: bytes) -> list[Ranking]:
    """Read the ranked ids out of Qdrant's answer to a query.

    Args:
        name: The method's name in the service ``Points``.
        content: The answer.

    Returns:
        One ranking for each search; of groups, the points of all groups in their order
        (:func:`of_groups`).

    Raises:
        MalformedError: It is no such answer.
    """
    try:
        answer = _ANSWERS[name].FromString(content)
    except DecodeError as error:
        raise MalformedError(f"not an answer to {name}: {error}") from error
    if name.endswith("Batch"):
        return [_ids(each.result) for each in answer.result]
    if name.endswith("Groups"):
        return [of_groups(_ids(group.hits) for group in answer.result.groups)]
    return [_ids(answer.result)]


def _ids(points: Any) -> list[str]:
    """Write points' ids as REST does."""
    return [str(getattr(point.id, point.id.WhichOneof("point_id_options"))) for point in points]
