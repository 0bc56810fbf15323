"""What a Qdrant collection says about its vectors, held against an adapter."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trimtab.errors import ConfigError
from trimtab.rewrite.policies import Policies
from trimtab.routing.routes import Aim

logger = logging.getLogger(__name__)

_DIRECTIONAL = {"cosine", "dot", "euclid"}
"""Distances that rank unit vectors alike."""


@dataclass(frozen=True, slots=True)
class IndexedVector:
    """One vector of a collection.

    Attributes:
        dim: Values in it; 0 for a sparse one.
        distance: ``cosine``, ``dot``, ``euclid`` or ``manhattan``.
        datatype: How Qdrant stores it: ``float32``, ``float16``, ``uint8``, ...
        is_multi: True where a point has many rows of it.
    """

    dim: int
    distance: str
    datatype: str
    is_multi: bool
    is_sparse: bool = False


SPARSE = IndexedVector(0, "dot", "float32", is_multi=False, is_sparse=True)
"""Any sparse vector: all that a route must know of one."""


class CollectionVectors(dict[str, IndexedVector]):
    """Vectors of a collection by name, the unnamed one under the empty name.

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


def read_datetime(written: object) -> float | None:
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
    return CollectionVectors(found, created_s=read_datetime(created_at))


def read_all_vectors(info: Any) -> CollectionVectors:
    """Read the vectors of a collection, sparse ones too; see :func:`read_vectors`."""
    dense = read_vectors(info)
    sparse = dict.fromkeys(info.config.params.sparse_vectors or (), SPARSE)
    return CollectionVectors(sparse | dense, created_s=dense.created_s)


def check_route(route: Aim, vectors: Mapping[str, IndexedVector]) -> None:
    """Refuse an adapter that can't serve a collection.

    Args:
        route: The adapter and the vector that it is meant for; of an encoder, too.
        vectors: The collection's, from :func:`read_all_vectors`.

    Raises:
        ConfigError: There is no such vector, it is sparse, it has other dims than the adapter
            gives, or it is stored as uint8.
    """
    vector = vectors.get(route.vector_name)
    if vector is None or vector.is_sparse:
        raise ConfigError(_explain_missing(route, vectors))
    name, dim_in, dim_out = route.manifest.name, route.manifest.dim_in, route.manifest.dim_out
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
    remark = compare_distance(route, vector)
    if remark:
        logger.warning(
            "the adapter was trained for another distance than the collection's",
            extra={
                "collection": route.collection,
                "trained": route.manifest.similarity,
                "found": vector.distance,
            },
        )


def _explain_missing(route: Aim, vectors: Mapping[str, IndexedVector]) -> str:
    """Say which dense vectors a collection has, where it lacks the one of a route."""
    collection, wanted = f"collection {route.collection!r}", route.vector_name
    dense = {name: each for name, each in sorted(vectors.items()) if not each.is_sparse}
    if not dense:
        return f"{collection} has no dense vectors: none that an adapter could serve"
    if wanted in vectors:
        fact = f"{route} is sparse, and an adapter serves dense ones"
    elif wanted:
        fact = f"{route} does not exist"
    else:
        fact = f"{collection} has no unnamed vector, and {route.table} names none"
    if set(dense) == {""}:
        return f"{fact}; its one dense vector has no name: leave the name out of {route.table}"
    fact = f"{fact}; the collection's dense vectors are: {', '.join(map(repr, dense))}"
    dim_out = route.manifest.dim_out
    fitting = [name for name, each in dense.items() if each.dim == dim_out]
    if not fitting:
        return f"{fact}; none of them has the {dim_out} values that the adapter gives"
    named = " or ".join(map(repr, fitting))
    return (
        f"{fact}; name one of {dim_out} values, which the adapter gives, in {route.table}: {named}"
    )


def compare_distance(route: Aim, vector: IndexedVector) -> str:
    """Say where an adapter was trained for another way of comparing vectors; empty where not."""
    manifest = route.manifest
    trained, found = manifest.similarity, vector.distance
    if trained == found or (manifest.normalised and {trained, found} <= _DIRECTIONAL):
        return ""
    return f"{route} compares by {found}; the adapter was trained for {trained}"


def find_idle_cause(route: Aim, vector: IndexedVector, policies: Policies) -> str:
    """Say why a route that fits its vector would adapt nothing; empty where it would."""
    if vector.is_multi and policies.multivector == "untouched":
        return (
            f"{route} holds many rows a point (a multivector), and queries of many rows pass "
            'untouched; set multivector = "rows" in [policies] if the adapter was trained for rows'
        )
    return ""
