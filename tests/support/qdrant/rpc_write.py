"""The collections' answers -> fields of gRPC messages, with qdrant-client's own converters."""

from collections.abc import Iterable
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


def _scored(points: list[Json]) -> list[messages.ScoredPoint]:
    return [
        messages.ScoredPoint(score=point["score"], version=point["version"], **_parts(point))
        for point in points
    ]


def _retrieved(points: list[Json]) -> list[messages.RetrievedPoint]:
    return [messages.RetrievedPoint(**_parts(point)) for point in points]


def scored(points: list[Json]) -> Json:
    return {"result": _scored(points)}


def retrieved(points: list[Json]) -> Json:
    return {"result": _retrieved(points)}


def page(data: Json) -> Json:
    following = data["next_page_offset"]
    offset = None if following is None else RestToGrpc.convert_extended_point_id(following)
    return {"result": _retrieved(data["points"]), "next_page_offset": offset}


def batch(results: list[list[Json]]) -> Json:
    return {"result": [messages.BatchResult(result=_scored(points)) for points in results]}


def groups(data: Json) -> Json:
    made = [
        messages.PointGroup(
            id=RestToGrpc.convert_group_id(group["id"]), hits=_scored(group["hits"])
        )
        for group in data["groups"]
    ]
    return {"result": messages.GroupsResult(groups=made)}


def count(data: Json) -> Json:
    return {"result": messages.CountResult(**data)}


def facet_hits(data: Json) -> Json:
    hits = [
        messages.FacetHit(value=RestToGrpc.convert_facet_value(hit["value"]), count=hit["count"])
        for hit in data["hits"]
    ]
    return {"hits": hits}


def update_result(data: Json) -> Json:
    return {"result": RestToGrpc.convert_update_result(rest.UpdateResult(**data))}


def collection_info(data: Json) -> Json:
    return {"result": RestToGrpc.convert_collection_info(rest.CollectionInfo(**data))}


def collections(names: Iterable[str]) -> Json:
    return {"collections": [messages.CollectionDescription(name=name) for name in names]}


def existence(exists: bool) -> Json:
    return {"result": messages.CollectionExists(exists=exists)}


def aliases(data: Json) -> Json:
    return {"aliases": [messages.AliasDescription(**one) for one in data["aliases"]]}
