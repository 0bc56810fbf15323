"""What a Qdrant collection says about its vectors, held against an adapter."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sidecar.errors import ConfigError
from sidecar.routes import Route

logger = logging.getLogger(__name__)

_DIRECTIONAL = {"cosine", "dot", "euclid"}
"""Distances that rank unit vectors alike."""


@dataclass(frozen=True, slots=True)
class IndexedVector:
    """One dense vector of a collection.

    Attributes:
        dim: Values in it.
        distance: ``cosine``, ``dot``, ``euclid`` or ``manhattan``.
        datatype: How Qdrant stores it: ``float32``, ``float16``, ``uint8``, ...
        is_multi: True where a point has many rows of it.
    """

    dim: int
    distance: str
    datatype: str
    is_multi: bool


class CollectionVectors(dict[str, IndexedVector]):
    """The dense vectors of a collection by name, the unnamed one under the empty name.

    Attributes:
        created_s: When the collection was made, in seconds since 1970; None where Qdrant does not
            say, as before 1.20 and for collections from before then.
    """

    def __init__(
        self, vectors: Mapping[str, IndexedVector], *, created_s: float | None = None
    ) -> None:
        """Take both."""
        super().__init__(vectors)
        self.created_s = created_s


def read_moment(written: object) -> float | None:
    """Read a moment as REST or the official client gives it; None where it is none.

    Args:
        written: RFC 3339, or what the client's models make of it.

    Returns:
        Seconds since 1970.
    """
    if isinstance(written, str):
        try:
            written = datetime.fromisoformat(written)
        except ValueError:
            return None
    if not isinstance(written, datetime):
        return None
    return (written if written.tzinfo else written.replace(tzinfo=UTC)).timestamp()


def read_vectors(info: Any) -> CollectionVectors:
    """Read the dense vectors of a collection.

    Args:
        info: What the official client's ``get_collection`` gives.

    Returns:
        The vectors by name, the unnamed one under the empty name.
    """
    vectors = info.config.params.vectors
    named = vectors if isinstance(vectors, Mapping) else {"": vectors} if vectors else {}
    found = {
        name: IndexedVector(
            dim=params.size,
            distance=params.distance.value.lower(),
            datatype=params.datatype.value if params.datatype else "float32",
            is_multi=params.multivector_config is not None,
        )
        for name, params in named.items()
    }
    created_at = getattr(info, "created_at", None)  # the client's models have it since 1.20
    return CollectionVectors(found, created_s=read_moment(created_at))


def check_route(route: Route, vectors: Mapping[str, IndexedVector]) -> None:
    """Refuse an adapter that can't serve a collection.

    Args:
        route: The adapter and the vector that it is meant for.
        vectors: The collection's, from :func:`read_vectors`.

    Raises:
        ConfigError: There is no such vector, it has other dims than the adapter gives, or it is
            stored as uint8.
    """
    vector = vectors.get(route.vector_name)
    name = route.adapter.manifest.name
    if vector is None:
        known = ", ".join(repr(each) for each in sorted(vectors)) or "none"
        raise ConfigError(f"{route} does not exist; the collection's dense vectors are: {known}")
    dim_in, dim_out = route.dims
    if vector.dim != dim_out:
        raise ConfigError(
            f"{route} has vectors of {vector.dim} values; adapter {name!r} takes {dim_in} and "
            f"gives {dim_out}; use the adapter that was trained for this collection"
        )
    if vector.datatype == "uint8":  # Qdrant casts a query's values too: src primitive.rs, 1.19
        raise ConfigError(
            f"{route} is stored as uint8, and Qdrant would cut adapted queries down to whole "
            "numbers from 0 to 255; an adapter needs a float collection"
        )
    _compare_distance(route, vector)


def _compare_distance(route: Route, vector: IndexedVector) -> None:
    """Warn where the adapter was trained for another way of comparing vectors."""
    manifest = route.adapter.manifest
    trained, found = manifest.similarity, vector.distance
    if trained == found or (manifest.normalised and {trained, found} <= _DIRECTIONAL):
        return
    logger.warning(
        "the adapter was trained for another distance than the collection's",
        extra={"collection": route.collection, "trained": trained, "found": found},
    )
