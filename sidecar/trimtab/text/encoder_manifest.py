"""What an encoder's file promises: the JSON that travels inside it, as a checked value.

``trimtab export-encoder`` writes it, beside the tokenizer, everything at run time reads it.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from trimtab.errors import ManifestError, QueryError
from trimtab.model.encoder_probe import probes_agree
from trimtab.model.manifest import MAX_DIM, Manifest

ENCODER_KEY = "trimtab.encoder"
TOKENIZER_KEY = "trimtab.tokenizer"
SCHEMA_VERSION = 1
MAX_TOKENS = 65536

Role = Literal["query", "document"]
Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class EncoderManifest:
    """An encoder's description of itself.

    Attributes:
        name: Name of the model, as whoever made it writes it.
        fingerprint: Digest of its weights and prefixes, as ``encoder.json`` of embeddings has it.
        dim: Values in an embedding.
        normalised: True where every embedding has unit length.
        max_tokens: Tokens that are read of a text, special ones included; the rest is cut off.
        query_prefix: Text put before every query.
        document_prefix: Text put before every document.
        lowercase: True where texts are lower-cased before they are split into tokens.
        pad_id: Token that fills up the shorter texts of a batch; it is masked.
        pooling: How the vectors of tokens become one, as in ``mean`` or ``cls + mean``.
        precision: ``float32``, or ``int8`` where the weights of products are rounded.
        loss: What the rounding was measured to cost; empty for ``float32``.
        versions: Versions of the packages that made the file.
        created: When, ISO 8601 in UTC.
        probe: What the encoder gives for a few texts before any rounding
            (``model.encoder_probe``), as ``encoder.json`` has it; empty where it is not known.
        schema_version: Layout of this record.
    """

    name: str
    fingerprint: str
    dim: Annotated[int, Meta(ge=1, le=MAX_DIM)]
    normalised: bool
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
    query_prefix: str = ""
    document_prefix: str = ""
    lowercase: bool = False
    pad_id: Annotated[int, Meta(ge=0)] = 0
    pooling: str = ""
    precision: Precision = "float32"
    loss: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    probe: str = field(default="", repr=False)
    schema_version: int = SCHEMA_VERSION

    def prefix(self, role: Role) -> str:
        """Give what is put before every text of a role.

        Raises:
            QueryError: There is no such role.
        """
        if role == "query":
            return self.query_prefix
        if role == "document":
            return self.document_prefix
        raise QueryError(f"role is {role!r}; expected 'query' or 'document'")

    def is_encoder_of(self, adapter: Manifest) -> bool:
        """Tell whether an adapter was trained on this encoder's queries, as far as is known."""
        theirs = adapter.encoder.fingerprint
        is_same = not theirs or theirs == self.fingerprint
        is_same = is_same and probes_agree(self.probe, adapter.encoder.probe)
        return is_same and adapter.dim_in == self.dim

    def to_json(self) -> str:
        """Write the manifest as JSON with sorted keys, so that equal manifests are equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "EncoderManifest":
        """Read a manifest and check every field that the runtime relies on.

        Raises:
            ManifestError: Not JSON, a newer schema, a field missing or of the wrong type, or a
                value that the runtime does not know.
        """
        from trimtab.parsing import MisfitError, parse  # 15 ms that `import trimtab` can do without

        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"the encoder's manifest is not JSON: {error}") from error
        version = record.get("schema_version") if isinstance(record, dict) else None
        if type(version) is not int or version < 1:
            raise ManifestError("the encoder's manifest has no schema_version; export it again")
        if version > SCHEMA_VERSION:
            raise ManifestError(
                f"the encoder's manifest has schema {version}, this version reads up to "
                f"{SCHEMA_VERSION}; upgrade trimtab"
            )
        try:  # later versions may add keys
            return parse(record, cls, allow_unknown=True)
        except MisfitError as error:
            raise ManifestError(f"the encoder's manifest: {error}") from error
