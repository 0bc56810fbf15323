"""The requests of the benchmark: the same 64 query vectors for everybody, as bytes."""

import numpy as np
import orjson
from numpy.typing import NDArray

COLLECTION, LIMIT, N_QUERIES, N_POINTS, SEED = "docs", 10, 64, 1000, 0
REST_PATH = f"/collections/{COLLECTION}/points/query"
GRPC_METHOD = "/qdrant.Points/Query"


def query_vectors(dim: int) -> NDArray[np.float32]:
    """Draw query vectors of unit length, as encoders give."""
    drawn = np.random.default_rng(SEED).standard_normal((N_QUERIES, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def document_vectors(dim: int) -> NDArray[np.float32]:
    """Draw the collection."""
    return np.random.default_rng(SEED + 1).standard_normal((N_POINTS, dim)).astype(np.float32)


def payload_of(number: int) -> dict[str, object]:
    """Make a point's payload, about 90 bytes."""
    return {"title": f"Document {number}: a heading of the usual length", "lang": "en", "page": 7}


def rest_bodies(dim: int) -> list[bytes]:
    """Write the queries as JSON, each float32 as short as can be."""
    return [rest_body(vector) for vector in query_vectors(dim)]


def rest_body(vector: NDArray[np.float32]) -> bytes:
    """Write one query as JSON."""
    return orjson.dumps(
        {"query": vector, "limit": LIMIT, "with_payload": True}, option=orjson.OPT_SERIALIZE_NUMPY
    )


def grpc_bodies(dim: int) -> list[bytes]:
    """Write the queries as messages."""
    return [grpc_body(vector) for vector in query_vectors(dim)]


def grpc_body(vector: NDArray[np.float32]) -> bytes:
    """Write one query as a message."""
    from qdrant_client import grpc as messages

    return messages.QueryPoints(
        collection_name=COLLECTION,
        query=messages.Query(
            nearest=messages.VectorInput(dense=messages.DenseVector(data=vector.tolist()))
        ),
        limit=LIMIT,
        with_payload=messages.WithPayloadSelector(enable=True),
    ).SerializeToString()


def static_answer() -> bytes:
    """Write an answer as Qdrant's to these queries, about 1.6 kB."""
    points = [
        {
            "id": number * 97,
            "version": number,
            "score": round(0.913 - number / 71, 7),
            "payload": payload_of(number * 97),
        }
        for number in range(LIMIT)
    ]
    return orjson.dumps({"result": {"points": points}, "status": "ok", "time": 0.000321})


def static_collection(dim: int) -> bytes:
    """Write what Qdrant says of the collection when asked."""
    params = {
        "vectors": {"size": dim, "distance": "Cosine"},
        "shard_number": 1,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": True,
    }
    result = {
        "status": "green",
        "optimizer_status": "ok",
        "indexed_vectors_count": 0,
        "points_count": N_POINTS,
        "segments_count": 1,
        "config": {"params": params},
        "payload_schema": {},
    }
    return orjson.dumps({"result": result, "status": "ok", "time": 0.0001})
