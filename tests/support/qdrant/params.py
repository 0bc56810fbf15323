"""Collections and payload indexes: the wire's JSON -> the engine's configuration, and reports."""

from typing import Any

import qdrant_edge as edge

from tests.support.qdrant.errors import unknown_variant
from tests.support.qdrant.vectors import DEFAULT

Json = dict[str, Any]

_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "uint8": edge.VectorStorageDatatype.Uint8,
}
_DISTANCES = {
    "Cosine": edge.Distance.Cosine,
    "Euclid": edge.Distance.Euclid,
    "Dot": edge.Distance.Dot,
    "Manhattan": edge.Distance.Manhattan,
}
_INDEXES = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "geo": edge.PayloadSchemaType.Geo,
    "bool": edge.PayloadSchemaType.Bool,
    "datetime": edge.PayloadSchemaType.Datetime,
}
_HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0}
_OPTIMIZERS = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
}
_WAL = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}


def _choose(kinds: dict[str, Any], value: Any) -> Any:
    if value not in kinds:
        raise unknown_variant(value, kinds)
    return kinds[value]


def _read_dense(data: Json) -> edge.EdgeVectorParams:
    multi = data.get("multivector_config")
    return edge.EdgeVectorParams(
        data["size"],
        _choose(_DISTANCES, data["distance"]),
        multivector_config=multi and edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
        datatype=data.get("datatype") and _choose(_DATATYPES, data["datatype"]),
    )


def _read_sparse(data: Json) -> edge.EdgeSparseVectorParams:
    is_idf = data.get("modifier") == "idf"
    return edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf if is_idf else None)


def dense_vectors(config: Json) -> dict[str, Json]:
    """The dense vectors of a collection by name; the unnamed one is ``""``."""
    vectors = config.get("vectors") or {}
    if isinstance(vectors.get("distance"), str):
        return {DEFAULT: vectors}
    return vectors


def sparse_vectors(config: Json) -> dict[str, Json]:
    return {name: params or {} for name, params in (config.get("sparse_vectors") or {}).items()}


def read_collection(config: Json) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors={name: _read_dense(params) for name, params in dense_vectors(config).items()},
        sparse_vectors={name: _read_sparse(p) for name, p in sparse_vectors(config).items()},
    )


def describe_collection(config: Json) -> Json:
    """The `config` of a collection's info: its vectors, and the server's defaults."""
    params = {
        "vectors": config.get("vectors") or {},
        "shard_number": 1,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": True,
    }
    if config.get("sparse_vectors"):
        params["sparse_vectors"] = config["sparse_vectors"]
    return {
        "params": params,
        "hnsw_config": _HNSW | {"on_disk": False},
        "optimizer_config": _OPTIMIZERS,
        "wal_config": _WAL,
    }


def read_index(schema: str) -> edge.PayloadSchemaType:
    """A payload index, by the name of its type."""
    return _choose(_INDEXES, schema)
