"""What a model file promises: the JSON that travels inside it, as a checked value.

``training.export`` writes it, everything at run time reads it. It is the only contract between
the two packages.
"""

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from sidecar.errors import ManifestError

SCHEMA_VERSION = 1
MAX_DIM = 65536
METADATA_KEY = "trimtab.manifest"
SIMILARITIES = ("cosine", "dot", "euclid")
USES = ("relevance", "migration")


@dataclass(frozen=True)
class EncoderCard:
    """The frozen text model whose query vectors the adapter takes.

    Attributes:
        name: Name of the model, as its provider writes it.
        fingerprint: Digest of its weights and prefixes.
        max_tokens: Longest input in tokens, or None where the provider decides.
        query_prefix: Text put before every query.
        document_prefix: Text put before every document.
    """

    name: str
    fingerprint: str
    max_tokens: int | None = None
    query_prefix: str = ""
    document_prefix: str = ""


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
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"the model's manifest is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ManifestError("the model's manifest is not a JSON object; export the model again")
        _check_schema(record.get("schema_version"))
        encoder = record.get("encoder")
        if not isinstance(encoder, dict):
            raise ManifestError("manifest field 'encoder' is missing or not an object")
        card = EncoderCard(**_checked(EncoderCard, encoder, "encoder."))
        manifest = cls(**_checked(cls, {**record, "encoder": card}, ""))
        _check_values(manifest)
        return manifest


def _check_schema(version: Any) -> None:
    """Refuse a manifest whose layout this version does not know."""
    if type(version) is not int or version < 1:
        raise ManifestError("manifest field 'schema_version' is missing or not a positive integer")
    if version > SCHEMA_VERSION:
        raise ManifestError(
            f"the model's manifest has schema {version}, this version reads up to "
            f"{SCHEMA_VERSION}; upgrade trimtab"
        )


_TYPES: dict[str, tuple[type, ...]] = {
    "dim_in": (int,),
    "dim_out": (int,),
    "schema_version": (int,),
    "normalised": (bool,),
    "stores_queries": (bool,),
    "max_tokens": (int, type(None)),
    "training": (dict,),
    "metrics": (dict,),
    "versions": (dict,),
    "encoder": (EncoderCard,),
}


def _checked(cls: type, record: dict[str, Any], path: str) -> dict[str, Any]:
    """Keep the known fields of a record, each of its type; later versions may add others."""
    known: dict[str, Any] = {}
    for item in fields(cls):
        if item.name not in record:
            if item.default is MISSING and item.default_factory is MISSING:
                raise ManifestError(f"manifest field '{path}{item.name}' is missing")
            continue
        value = record[item.name]
        expected = _TYPES.get(item.name, (str,))
        if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
            names = " or ".join(kind.__name__ for kind in expected)
            raise ManifestError(
                f"manifest field '{path}{item.name}' is {type(value).__name__}, expected {names}"
            )
        known[item.name] = value
    return known


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
