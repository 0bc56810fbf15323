"""What a served collection says about itself: ``GET /collections/{name}``."""

from trimtab.faiss_collections.index import VectorIndex
from trimtab.faiss_collections.replies import Json

_FULL_SCAN_THRESHOLD = 10_000


def describe(index: VectorIndex) -> Json:
    """Write a collection's information in the form that Qdrant's clients read.

    What FAISS has no word for says that there is nothing of it; ``config.metadata`` tells what the
    index really is.
    """
    graph = getattr(index.file.core, "hnsw", None)
    return {
        "status": "green",
        "optimizer_status": "ok",
        "indexed_vectors_count": index.size,
        "points_count": index.size,
        "segments_count": 1,
        "config": {
            "params": {
                "vectors": {"size": index.dim, "distance": index.distance, "on_disk": True},
                "shard_number": 1,
                "replication_factor": 1,
                "write_consistency_factor": 1,
                "on_disk_payload": True,
            },
            "hnsw_config": {
                "m": 0 if graph is None else int(graph.nb_neighbors(1)),
                "ef_construct": 0 if graph is None else int(graph.efConstruction),
                "full_scan_threshold": _FULL_SCAN_THRESHOLD,
                "max_indexing_threads": 0,
                "on_disk": True,
            },
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 1,
                "flush_interval_sec": 5,
                "max_optimization_threads": 0,
            },
            "wal_config": {"wal_capacity_mb": 1, "wal_segments_ahead": 0, "wal_retain_closed": 1},
            "quantization_config": None,
            "metadata": {
                "read_only": True,
                "faiss": index.file.kind,
                "gives_vectors": index.stored.can_give,
                "lossy": index.stored.is_lossy,
            },
        },
        "payload_schema": {},
        "update_queue": {"length": 0},
    }
