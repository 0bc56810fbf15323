"""What a model file promises: the JSON that travels inside it, as a checked value.

``trimtab_training.export.onnx_export`` writes it, everything at run time reads it. It is the only
contract between the two packages.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import ManifestError
from trimtab.model.packed_matrix import pack_matrix, unpack_matrix

SCHEMA_VERSION = 1
MAX_DIM = 65536
MAX_CENTROIDS = 32
METADATA_KEY = "trimtab.manifest"
SECOND_LOOK_KEY = "trimtab.second_look"
SIMILARITIES = ("cosine", "dot", "euclid")
USES = ("relevance", "migration")
_UNIT_TOLERANCE = 5e-3  # float16 rounding of a unit vector stays below 1e-3


@dataclass(frozen=True)
class EncoderCard:
    """The frozen text model whose query vectors the adapter takes.

    Attributes:
        name: Name of the model, as its provider writes it.
        fingerprint: Digest of its weights and prefixes; empty where it is not known.
        max_tokens: Longest input in tokens, or None where the provider decides.
        query_prefix: Text put before every query.
        document_prefix: Text put before every document.
        probe: What it gives for a few texts (``model.encoder_probe``); empty where not known.
    """

    name: str
    fingerprint: str
    max_tokens: int | None = None
    query_prefix: str = ""
    document_prefix: str = ""
    probe: str = field(default="", repr=False)


@dataclass(frozen=True)
class QueryRegion:
    """Where the training queries lie, to tell queries far from them by (``model.query_region``).

    Attributes:
        n_centroids: Number of centroids, 1 to 32.
        dim: Values in a centroid; those of a query vector.
        centroids: Unit vectors, packed (``model.packed_matrix``).
        threshold: Least cosine similarity with the best centroid that still counts as near.
        share: Share of queries like the training queries that fall below the threshold.
    """

    n_centroids: int
    dim: int
    centroids: str = field(repr=False)
    threshold: float
    share: float

    @classmethod
    def pack(
        cls, centroids: NDArray[np.float32], *, threshold: float, share: float
    ) -> "QueryRegion":
        """Write down a region, checked as a reader would.

        Args:
            centroids: Unit vectors, shape ``(n, dim)``; stored as float16.
            threshold: Cosine similarity, -1 to 1.
            share: Between 0 and 1.

        Raises:
            ManifestError: A value is out of its range.
        """
        n_centroids, dim = centroids.shape
        region = cls(n_centroids, dim, pack_matrix(centroids), threshold, share)
        region.unpack()
        return region

    def unpack(self) -> NDArray[np.float32]:
        """Read the centroids, and check every value.

        Returns:
            Unit vectors, shape ``(n_centroids, dim)``.

        Raises:
            ManifestError: A value is out of its range, or the centroids are damaged.
        """
        self._check_numbers()
        try:
            rows = unpack_matrix(self.centroids, (self.n_centroids, self.dim))
        except ValueError as error:
            raise _damaged(str(error)) from error
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        if not np.all(np.abs(lengths - 1) < _UNIT_TOLERANCE):
            raise _damaged("holds rows that are not of unit length")
        unit: NDArray[np.float32] = rows / lengths[:, np.newaxis]
        return unit

    def _check_numbers(self) -> None:
        """Refuse numbers out of their range; NaN is in none."""
        for name, value, low, high in (
            ("n_centroids", self.n_centroids, 1, MAX_CENTROIDS),
            ("dim", self.dim, 1, MAX_DIM),
            ("threshold", self.threshold, -1, 1),
            ("share", self.share, 0, 1),
        ):
            if not low <= value <= high:
                raise ManifestError(
                    f"manifest field 'query_region.{name}' is {value}, expected {low} to {high}"
                )


@dataclass(frozen=True)
class Manifest:
    """A model's description of itself.

    Attributes:
        name: Short name of the model, as shown in logs and headers.
        kind: Adapter kind, such as ``linear``, or ``module:Class`` for a user's own.
        use: ``relevance`` (queries already live in the index's space) or ``migration``.
        dim_in: Values in a query vector.
        dim_out: Values in an adapted query.
        similarity: How the index compares vectors: ``cosine``, ``dot`` or ``euclid``.
        normalised: True where every adapted query has unit length.
        encoder: The encoder of the queries.
        stores_queries: True where the model holds vectors of training queries.
        training: What it was trained on: content hashes, sizes, seed, recipe.
        metrics: Base and adapted metrics on the test split, or empty where not measured.
        versions: Versions of the packages that made it.
        created: When, ISO 8601 in UTC.
        query_region: Where the training queries lie, or None where that is not known.
        schema_version: Layout of this record.
    """

    name: str
    kind: str
    use: str
    dim_in: int
    dim_out: int
    similarity: str
    normalised: bool
    encoder: EncoderCard
    stores_queries: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    query_region: QueryRegion | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Write the manifest as JSON with sorted keys, so that equal manifests are equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read a manifest and check every field that the runtime relies on.

        Raises:
            ManifestError: Not JSON, a newer schema, a field missing or of the wrong type, or a
                value that the runtime does not know.
        """
        from trimtab.parsing import MisfitError, parse  # 15 ms that `import trimtab` can do without

        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"the model's manifest is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ManifestError("the model's manifest is not a JSON object; export the model again")
        _check_schema(record.get("schema_version"))
        try:  # later versions may add keys
            manifest = parse(
                record, cls, allow_unknown=True, show=lambda value: type(value).__name__
            )
        except MisfitError as error:
            where = f"field '{error.path}'" if error.path else "as a whole"
            fact = _NO_OBJECT.get(error.path, error.fact)
            raise ManifestError(f"manifest {where} {fact}") from error
        _check_values(manifest)
        return manifest


_NO_OBJECT = {
    "encoder": "is missing or not an object",
    "query_region": "is not an object; export the model again",
}


def _check_schema(version: Any) -> None:
    """Refuse a manifest whose layout this version does not know."""
    if type(version) is not int or version < 1:
        raise ManifestError("manifest field 'schema_version' is missing or not a positive integer")
    if version > SCHEMA_VERSION:
        raise ManifestError(
            f"the model's manifest has schema {version}, this version reads up to "
            f"{SCHEMA_VERSION}; upgrade trimtab"
        )


def _damaged(fact: str) -> ManifestError:
    """Say what is wrong with stored centroids."""
    return ManifestError(
        f"manifest field 'query_region.centroids' {fact}; copy or export the model again"
    )


def _check_values(manifest: Manifest) -> None:
    """Refuse values that no version of the runtime could act on."""
    if manifest.similarity not in SIMILARITIES:
        raise ManifestError(
            f"manifest field 'similarity' is {manifest.similarity!r}, "
            f"expected one of {SIMILARITIES}"
        )
    if manifest.use not in USES:
        raise ManifestError(f"manifest field 'use' is {manifest.use!r}, expected one of {USES}")
    if not (1 <= manifest.dim_in <= MAX_DIM and 1 <= manifest.dim_out <= MAX_DIM):
        raise ManifestError(
            f"manifest dims are {manifest.dim_in} and {manifest.dim_out}, expected 1 to {MAX_DIM}"
        )
    if manifest.query_region is not None:
        manifest.query_region.unpack()
        if manifest.query_region.dim != manifest.dim_in:
            raise ManifestError(
                f"manifest field 'query_region.dim' is {manifest.query_region.dim}, "
                f"expected the model's {manifest.dim_in}"
            )
