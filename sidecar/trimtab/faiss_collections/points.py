"""One served collection: an index, the ids of its rows, and their payloads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_collections.arguments import read_vector_selector
from trimtab.faiss_collections.columns import Mask, Table
from trimtab.faiss_collections.filters import Filter
from trimtab.faiss_collections.ids import PointIds
from trimtab.faiss_collections.index import VectorIndex
from trimtab.faiss_collections.paths import PayloadSelector
from trimtab.faiss_collections.payloads import Payloads
from trimtab.faiss_collections.replies import Json, bad_format, not_served, wrong_input
from trimtab.settings import CollectionSettings
from trimtab.vectors import to_float32


class Points:
    """The points of a collection.

    Attributes:
        name: The collection's.
        index: Searches.
        ids: The points' ids by row, and back.
        table: The payloads by path.
    """

    def __init__(self, settings: CollectionSettings) -> None:
        """Open the files of a collection.

        Raises:
            ConfigError: One is missing or damaged, or they don't fit one another.
            MissingExtraError: A package that reads one is not installed.
        """
        self.name = settings.name
        self.index = VectorIndex(settings.index)
        self.ids = (
            PointIds.of_numbers(self.index.file.numbers, str(settings.index))
            if settings.ids is None
            else PointIds.read(settings.ids, self.index.file)
        )
        self._payloads = Payloads(self.ids, settings.payload)
        self.table = Table(self.index.size, self._payloads.scan)

    def describe(self) -> Json:
        """Write a collection's information in the form that Qdrant's clients read.

        What FAISS has no word for says that there is nothing of it; ``config.metadata`` tells what
        the index really is.
        """
        index = self.index
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
                    "full_scan_threshold": 10_000,
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
                "wal_config": {
                    "wal_capacity_mb": 1,
                    "wal_segments_ahead": 0,
                    "wal_retain_closed": 1,
                },
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

    def filter(self, data: Any) -> Mask | None:
        """Mark the rows that a filter lets pass; None where there is no filter."""
        return None if data is None else Filter(self.table, self.ids.rows).rows(data)

    def check_name(self, name: Any) -> None:
        """Refuse a vector name: a FAISS index has one vector, without a name."""
        if name not in ("", None):
            raise wrong_input(f"Not existing vector name error: {name}")

    def read_vector(self, value: Any) -> NDArray[np.float32]:
        """Read a dense vector from a request."""
        if isinstance(value, dict):
            if isinstance(value.get("model"), str):
                raise not_served("embedding a text or an image", "send its vector instead")
            raise wrong_input("Conversion between sparse and regular vectors failed")
        if not isinstance(value, list):
            raise bad_format("data did not match any variant of untagged enum VectorInput")
        if value and isinstance(value[0], list):
            raise wrong_input("Conversion between multi and regular vectors failed")
        try:
            vector = np.asarray(value)
        except ValueError as error:
            raise bad_format("expected an array of numbers") from error
        if len(vector) != self.index.dim:
            raise wrong_input(
                f"Vector dimension error: expected dim: {self.index.dim}, got {len(vector)}"
            )
        if vector.dtype.kind not in "fiu":
            raise bad_format("expected an array of numbers")
        floats = to_float32(vector)
        if not np.isfinite(floats).all():
            raise wrong_input("a value of the vector is too large for float32")
        return floats

    def write(self, rows: NDArray[np.int64], data: Json, *, payload: bool) -> list[Json]:
        """Write points with what a request wants of them.

        Args:
            rows: The points' rows.
            data: The request: ``with_payload`` and ``with_vector``.
            payload: Whether payloads are given where the request does not say.
        """
        selector = PayloadSelector(data.get("with_payload"), default=payload)
        wanted = read_vector_selector(data)
        for name in wanted if isinstance(wanted, list) else ():
            self.check_name(name)
        vectors = self.index.vectors(rows) if wanted and len(rows) else None
        records: list[Json] = []
        for place, row in enumerate(rows.tolist()):
            record: Json = {"id": self.ids[row]}
            if not selector.is_none:
                record["payload"] = self._payloads.select(row, selector)
            if vectors is not None:
                record["vector"] = vectors[place]
            records.append(record)
        return records

    def retrieve(self, values: Sequence[Any], data: Json) -> list[Json]:
        """Write the points of some ids, each once, those that exist."""
        rows = list(dict.fromkeys(self.ids.rows(values)))
        return self.write(np.array(rows, np.int64), data, payload=True)
