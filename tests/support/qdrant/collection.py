"""One collection: an engine shard, its configuration, and every read the wire asks of it."""

from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge

from tests.support.qdrant import params
from tests.support.qdrant.errors import engine_errors, missing_point, not_found, wrong_input
from tests.support.qdrant.filters import read_filter
from tests.support.qdrant.queries import (
    Level,
    read_limit,
    read_order,
    read_payload_selector,
    read_request,
    read_vector_selector,
)
from tests.support.qdrant.vectors import DEFAULT, Space, read_id, write_id, write_vectors

Json = dict[str, Any]

_ORDER_WITH_OFFSET = (
    "Cannot use an `offset` when using `order_by`. The alternative for paging is to use"
    " `order_by.start_from` and a filter to exclude the IDs that you've already seen for the"
    " `order_by.start_from` value"
)


class Collection:
    """Owns the shard in ``folder``; JSON in, JSON out (vectors as float32 arrays)."""

    def __init__(self, folder: Path, config: Json) -> None:
        with engine_errors():
            prepared = params.read_collection(config)
            folder.mkdir()
            self.shard = edge.EdgeShard.create(str(folder), prepared)
        self.folder, self.config = folder, config
        self.schema: dict[str, str] = {}
        self.operations = 0
        self.space = Space(params.dense_vectors(config), params.sparse_vectors(config))

    def close(self) -> None:
        self.shard.close()

    # Reads

    def info(self) -> Json:
        state = self.shard.info()
        counts = {name: index.points for name, index in state.payload_schema.items()}
        return {
            "status": "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": state.indexed_vectors_count,
            "points_count": state.points_count,
            "segments_count": state.segments_count,
            "config": params.describe_collection(self.config),
            "payload_schema": {
                name: {"data_type": schema, "points": counts.get(name, 0)}
                for name, schema in self.schema.items()
            },
            "update_queue": {"length": 0},
        }

    def query(self, data: Json) -> list[Json]:
        with engine_errors():
            request = read_request(data, self._level)
            points = [_scored(point) for point in self.shard.query(request)]
        if isinstance(request.query, edge.Mmr) and not request.with_vector:
            for point in points:  # MMR fetched them for itself, and the engine leaves them in
                point.pop("vector", None)
        return points

    def _level(self, data: Json, limit: int) -> Level:
        return Level(data.get("using") or DEFAULT, limit, self.stored_vector, self.space.check)

    def stored_vector(self, point_id: Any, name: str) -> Any:
        if not self.space.has(name):
            raise wrong_input(f"Not existing vector name error: {name}")
        records = self.shard.retrieve([point_id], with_payload=False, with_vector=[name])
        if not records:
            raise missing_point(point_id)
        vectors = records[0].vector
        vector = vectors.get(name) if isinstance(vectors, dict) else vectors
        if not vector:
            raise not_found(f'Vector with name "{name}" for point')
        return vector

    def retrieve(self, data: Json) -> list[Json]:
        with engine_errors():
            ids = [read_id(point_id) for point_id in data["ids"]]
            return [_record(record) for record in self.shard.retrieve(ids, *self._selectors(data))]

    def scroll(self, data: Json) -> Json:
        order = data.get("order_by")
        if order is not None and data.get("offset") is not None:
            raise wrong_input(_ORDER_WITH_OFFSET)
        offset = data.get("offset")
        with_payload, with_vector = self._selectors(data)
        with engine_errors():
            records, following = self.shard.scroll(
                edge.ScrollRequest(
                    None if offset is None else read_id(offset),
                    read_limit(data),
                    read_filter(data.get("filter")),
                    with_payload,
                    with_vector,
                    order and read_order(order),
                )
            )
        return {
            "points": [_record(record) for record in records],
            "next_page_offset": None if following is None else write_id(following),
        }

    @staticmethod
    def _selectors(data: Json) -> tuple[Any, Any]:
        payload = read_payload_selector(data.get("with_payload"), default=True)
        return payload, read_vector_selector(data)

    def count(self, data: Json) -> Json:
        exact = data.get("exact")
        with engine_errors():
            request = edge.CountRequest(exact is not False, read_filter(data.get("filter")))
            return {"count": self.shard.count(request)}

    def facet(self, data: Json) -> Json:
        with engine_errors():
            request = edge.FacetRequest(
                data["key"],
                read_limit(data),
                bool(data.get("exact")),
                read_filter(data.get("filter")),
            )
            hits = self.shard.facet(request).hits
        return {"hits": [{"value": _facet_value(h.value), "count": h.count} for h in hits]}


def _facet_value(value: Any) -> Any:
    return value if isinstance(value, (bool, int, str)) else str(value)


def _record(record: Any) -> Json:
    return _with_parts({"id": write_id(record.id)}, record)


def _scored(point: Any) -> Json:
    head = {"id": write_id(point.id), "version": point.version, "score": np.float32(point.score)}
    return _with_parts(head, point)


def _with_parts(head: Json, point: Any) -> Json:
    if point.payload is not None:
        head["payload"] = point.payload
    if point.vector is not None:
        head["vector"] = write_vectors(point.vector)
    if point.order_value is not None:
        head["order_value"] = point.order_value
    return head
