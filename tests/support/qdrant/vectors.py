"""Vectors and points: the wire's JSON -> the engine's objects, and back."""

from contextlib import suppress
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from tests.support.qdrant.errors import bad_format, bad_request, no_inference, wrong_input

DEFAULT = ""
Json = dict[str, Any]

_MAX_ID = 2**64 - 1


def read_id(value: Any) -> int | str:
    """Check what names a point: an unsigned integer or a UUID in any of its spellings."""
    if type(value) is int and 0 <= value <= _MAX_ID:
        return value
    with suppress(ValueError, TypeError, AttributeError):
        return str(UUID(value))
    raise bad_format(
        f"value {value} is not a valid point ID, valid values are either an unsigned integer or"
        " a UUID"
    )


def write_id(value: Any) -> int | str:
    return value if isinstance(value, int) else str(value)


def is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def asks_for_inference(value: Json) -> bool:
    """A Document, Image or InferenceObject, and not vectors that happen to be called `text`."""
    return isinstance(value.get("model"), str)


def read_vector(value: Any) -> Any:
    """One unnamed vector: a list of numbers, a list of lists, or indices with values."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        if "indices" in value and "values" in value:
            return _sparse(value)
        if asks_for_inference(value):
            raise no_inference()
    raise bad_format("data did not match any variant of untagged enum Vector")


def _sparse(value: Json) -> edge.SparseVector:
    return edge.SparseVector(value["indices"], value["values"])


def read_vectors(value: Any) -> Any:
    """All vectors of a point: one unnamed, or a table of named ones."""
    if isinstance(value, dict) and not asks_for_inference(value):
        return {name: read_vector(one) for name, one in value.items()}
    return read_vector(value)


def write_vector(value: Any) -> Any:
    """The JSON of one stored vector; float32 arrays, which orjson writes with float32 digits."""
    if isinstance(value, edge.SparseVector):
        return {"indices": value.indices, "values": np.asarray(value.values, np.float32)}
    return np.asarray(value, np.float32)


def write_vectors(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: write_vector(one) for name, one in value.items()}
    return write_vector(value)


class Space:
    """The vectors a collection has: their names, sizes and kinds."""

    def __init__(self, dense: dict[str, Json], sparse: dict[str, Json]) -> None:
        self.sizes = {name: params["size"] for name, params in dense.items()}
        self.multi = {name for name, params in dense.items() if params.get("multivector_config")}
        self.sparse = set(sparse)

    def check_points(self, points: list[Any]) -> None:
        """Refuse what the engine would refuse half-way through an update, after its log has it."""
        for point in points:
            vectors = point.vector
            if not isinstance(vectors, dict):
                vectors = {DEFAULT: vectors}
            for name, vector in vectors.items():
                self.check(name, vector)

    def check(self, name: str, vector: Any) -> None:
        """Raises what the server says of an unknown name, a wrong kind or a wrong size."""
        is_sparse = isinstance(vector, edge.SparseVector)
        if name not in self.sizes and name not in self.sparse:
            raise wrong_input(f"Not existing vector name error: {name}")
        if is_sparse != (name in self.sparse):
            raise wrong_input("Conversion between sparse and regular vectors failed")
        if is_sparse:
            return
        nested = bool(vector) and isinstance(vector[0], list)
        if nested and name not in self.multi:
            raise wrong_input("Conversion between multi and regular vectors failed")
        size = self.sizes[name]
        for row in vector if nested else (vector,):
            if len(row) != size:
                raise wrong_input(f"Vector dimension error: expected dim: {size}, got {len(row)}")

    def has(self, name: str) -> bool:
        return name in self.sizes or name in self.sparse


def average(positive: list[Any], negative: list[Any]) -> Any:
    """The vector that `average_vector` recommends by: mean(positive) * 2 - mean(negative).

    Source: avg_vector_for_recommendation, lib/collection/src/recommendations.rs (1.19).
    """
    if not positive:
        raise bad_request("At least one positive vector ID required with this strategy")
    centre = np.asarray(positive, np.float32).mean(axis=0)
    if negative:
        centre = centre + centre - np.asarray(negative, np.float32).mean(axis=0)
    return centre.tolist()
