"""The collections' answers -> gRPC messages, with qdrant-client's own converters."""

from typing import Any

import numpy as np
from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import RestToGrpc, payload_to_grpc
from qdrant_client.http import models as rest

Json = dict[str, Any]


def _vector(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return rest.SparseVector(indices=value["indices"], values=value["values"].tolist())


def _vectors(value: Any) -> messages.VectorsOutput:
    if isinstance(value, dict):
        value = {name: _vector(one) for name, one in value.items()}
    else:
        value = _vector(value)
    return RestToGrpc.convert_vector_struct_output(value)


def _parts(point: Json) -> Json:
    """What a scored and a retrieved point have in common."""
    parts: Json = {"id": RestToGrpc.convert_extended_point_id(point["id"])}
    if "payload" in point:
        parts["payload"] = payload_to_grpc(point["payload"])
    if "vector" in point:
        parts["vectors"] = _vectors(point["vector"])
    if "order_value" in point:
        parts["order_value"] = RestToGrpc.convert_order_value(point["order_value"])
    return parts


def scored(points: list[Json]) -> list[messages.ScoredPoint]:
    return [
        messages.ScoredPoint(score=point["score"], version=point["version"], **_parts(point))
        for point in points
    ]


def retrieved(points: list[Json]) -> list[messages.RetrievedPoint]:
    return [messages.RetrievedPoint(**_parts(point)) for point in points]


def batch(results: list[list[Json]]) -> list[messages.BatchResult]:
    return [messages.BatchResult(result=scored(points)) for points in results]


def groups(data: Json) -> messages.GroupsResult:
    return messages.GroupsResult(
        groups=[
            messages.PointGroup(
                id=RestToGrpc.convert_group_id(group["id"]),
                hits=scored(group["hits"]),
                lookup=retrieved([group["lookup"]])[0] if "lookup" in group else None,
            )
            for group in data["groups"]
        ]
    )


def update_result(data: Json) -> messages.UpdateResult:
    return RestToGrpc.convert_update_result(rest.UpdateResult(**data))


def collection_info(data: Json) -> messages.CollectionInfo:
    return RestToGrpc.convert_collection_info(rest.CollectionInfo(**data))


def point_id(value: Any) -> messages.PointId | None:
    return None if value is None else RestToGrpc.convert_extended_point_id(value)


def facet_hits(data: Json) -> list[messages.FacetHit]:
    return [
        messages.FacetHit(
            value=RestToGrpc.convert_facet_value(hit["value"]),
            count=hit["count"],
        )
        for hit in data["hits"]
    ]


def aliases(data: Json) -> list[messages.AliasDescription]:
    return [messages.AliasDescription(**one) for one in data["aliases"]]


def matrix_pairs(data: Json) -> messages.SearchMatrixPairs:
    pairs = [
        messages.SearchMatrixPair(a=point_id(pair["a"]), b=point_id(pair["b"]), score=pair["score"])
        for pair in data["pairs"]
    ]
    return messages.SearchMatrixPairs(pairs=pairs)


def matrix_offsets(data: Json) -> messages.SearchMatrixOffsets:
    ids = [point_id(one) for one in data["ids"]]
    return messages.SearchMatrixOffsets(**{**data, "ids": ids})
