"""Text to embeddings, offline: a local model, an endpoint, or any callable.

Every encoder takes texts as they are and puts its prefix before them; its fingerprint and its probe
tell it from others.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab.encoders import EndpointSettings, OpenAIEncoder
from trimtab.errors import SidecarError
from trimtab_training.embeddings.store import EncoderInfo
from trimtab_training.errors import EncoderError

Role = Literal["query", "document"]


@runtime_checkable
class Encoder(Protocol):
    """What embeds texts for training.

    Attributes:
        name: Name of the model.
        fingerprint: Digest of its weights, or its name, and of its prefixes.
        max_tokens: Longest input in tokens, or None where the provider decides.
        query_prefix: Text put before every query.
        document_prefix: Text put before every document.
        n_workers: Batches that may be under way at once.
    """

    name: str
    fingerprint: str
    max_tokens: int | None
    query_prefix: str
    document_prefix: str
    n_workers: int

    @property
    def probe(self) -> str:
        """What it gives for a few texts (:func:`trimtab.model.encoder_probe.pack_probe`).

        Empty where that is not asked.
        """
        ...

    def batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Group texts, by their places, into batches that are cheap to encode together."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed one batch of texts, prefixes in place: shape ``(n, dim)``."""
        ...


def with_prefix(encoder: Encoder, role: Role, texts: Sequence[str]) -> list[str]:
    """Put the role's prefix before every text."""
    prefix = encoder.query_prefix if role == "query" else encoder.document_prefix
    return [prefix + text for text in texts]


def describe_encoder(encoder: Encoder, dim: int, *, normalised: bool) -> EncoderInfo:
    """Write down an encoder for ``encoder.json``."""
    return EncoderInfo(
        name=encoder.name,
        fingerprint=encoder.fingerprint,
        dim=dim,
        normalised=normalised,
        max_tokens=encoder.max_tokens,
        query_prefix=encoder.query_prefix,
        document_prefix=encoder.document_prefix,
        probe=encoder.probe,
    )


def fingerprint_of(core: str, query_prefix: str, document_prefix: str) -> str:
    """Digest what decides an encoder's output; without prefixes, the model's own digest."""
    if not query_prefix and not document_prefix:
        return core
    text = json.dumps([core, query_prefix, document_prefix])
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class EndpointEncoder:
    """Any OpenAI-compatible embeddings endpoint, several requests at once."""

    max_tokens: int | None = None
    probe = ""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        query_prefix: str = "",
        document_prefix: str = "",
        batch_size: int = 64,
        n_workers: int = 4,
    ) -> None:
        """Open the endpoint.

        Raises:
            EncoderError: The settings can't be used.
        """
        try:
            self._endpoint = OpenAIEncoder(settings)
        except SidecarError as error:
            raise EncoderError(str(error)) from error
        self.name = settings.model
        self.query_prefix, self.document_prefix = query_prefix, document_prefix
        self.n_workers, self._batch_size = n_workers, batch_size
        core = f"endpoint:{settings.model}:{settings.dimensions or 'full'}"
        self.fingerprint = fingerprint_of(core, query_prefix, document_prefix)

    def batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Group texts in their order."""
        return _fixed_batches(len(texts), self._batch_size)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed one batch, tried again after failures that may pass."""
        try:
            return self._endpoint(texts)
        except SidecarError as error:
            raise EncoderError(str(error)) from error


class CallableEncoder:
    """Any function from texts to vectors; the caller names it and vouches for it."""

    max_tokens: int | None = None
    n_workers = 1
    probe = ""

    def __init__(
        self,
        function: Callable[[list[str]], ArrayLike],
        *,
        name: str,
        fingerprint: str,
        query_prefix: str = "",
        document_prefix: str = "",
        batch_size: int = 64,
    ) -> None:
        """Wrap a function; ``fingerprint`` must change whenever its output would."""
        self._function, self._batch_size = function, batch_size
        self.name = name
        self.query_prefix, self.document_prefix = query_prefix, document_prefix
        self.fingerprint = fingerprint_of(fingerprint, query_prefix, document_prefix)

    def batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Group texts in their order."""
        return _fixed_batches(len(texts), self._batch_size)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Call the function on one batch.

        Raises:
            EncoderError: It gives something other than one vector a text.
        """
        try:
            found = self._function(list(texts))
            with np.errstate(over="ignore"):  # what leaves float32 is refused as inf
                vectors = np.asarray(found, dtype=np.float32)
        except ValueError as error:
            raise EncoderError(f"encoder {self.name} gave no matrix: {error}") from error
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise EncoderError(
                f"encoder {self.name} gave shape {vectors.shape} for {len(texts)} texts; "
                "expected (n, dim)"
            )
        return vectors


def _fixed_batches(n_texts: int, batch_size: int) -> Iterator[list[int]]:
    """Group places in their order."""
    for start in range(0, n_texts, batch_size):
        yield list(range(start, min(start + batch_size, n_texts)))
