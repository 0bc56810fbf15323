"""The query encoder at search time: texts in, embeddings out, by ONNX Runtime and ``tokenizers``.

Never torch or transformers. The time is that of the session and of splitting the text into tokens:
nothing else happens to a single query.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import (
    ConfigError,
    IntegrityError,
    ManifestError,
    MissingExtraError,
    QueryError,
)
from trimtab.model.manifest import Manifest
from trimtab.model.onnx_file import OUTPUT_NAME, naming_file
from trimtab.model.session import make_session, one_line
from trimtab.text.encoder_file import (
    EMBEDDING_NAME,
    IDS_NAME,
    MASK_NAME,
    EncoderFile,
    check_encoder,
    read_encoder_file,
    resolve_encoder_path,
)
from trimtab.text.encoder_manifest import EncoderManifest, Role

logger = logging.getLogger(__name__)

_TOKENS_AT_ONCE = 2048
"""Tokens of a batch, padding included: on a CPU the time is their number."""

_PROBES = ("a", "two words and some more of them")
_OF_ONE_PROCESS = ("_session", "_tokenizer")


class Embedded(NamedTuple):
    """A text's embedding.

    Attributes:
        vector: float32, shape ``(dim,)``.
        n_tokens: Tokens that were read of the text.
    """

    vector: NDArray[np.float32]
    n_tokens: int


class TextEncoder:
    """An encoder of texts, from one file; safe to use from any number of threads.

    Make one with :meth:`load` or :meth:`from_bytes`. It can be copied and pickled; the file's
    bytes travel. A file may hold an adapter behind the encoder: its queries come adapted, its
    documents never.

    Attributes:
        manifest: What the file says about the encoder.
        adapter: What it says about the adapter behind it; None without one.
        has_raw: False for a file that was tuned for queries and gives nothing else.
        version: First 12 hex digits of the file's SHA-256.

    Example:
        >>> encoder = TextEncoder.load("models/docs/encoder.onnx")  # doctest: +SKIP
        >>> encoder.encode(["how do I cancel?"])  # doctest: +SKIP
    """

    def __init__(self, file: EncoderFile, *, n_threads: int = 1) -> None:
        """Make a session from a checked file; callers use :meth:`load`."""
        self.manifest: EncoderManifest = file.manifest
        self.adapter: Manifest | None = file.adapter
        self.has_raw: bool = file.has_raw
        self.version: str = hashlib.sha256(file.content).hexdigest()[:12]
        self._content = file.content
        self._tokenizer_json = file.tokenizer
        self._n_threads = n_threads
        self._prepare()
        self._check_answers()

    def _prepare(self) -> None:
        """Make what belongs to one process."""
        self._tokenizer = _make_tokenizer(self._tokenizer_json, self.manifest.max_tokens)
        self._session = self._make_session()

    def _make_session(self) -> Any:
        """Make what runs the graph."""
        return make_session(self._content, n_threads=self._n_threads)

    @classmethod
    def load(cls, path: str | Path, *, n_threads: int = 1) -> Self:
        """Load an encoder's file, or the ``encoder.onnx`` in a folder.

        Args:
            path: The file, or its folder.
            n_threads: Threads that one call may use.

        Raises:
            MissingExtraError: ``tokenizers`` is not installed.
            ModelError: There is no such file, or it can't be read.
            IntegrityError: The file is damaged, oversized, or holds what an encoder never needs.
            ManifestError: A manifest is missing, from a newer schema, or at odds with the graph.
        """
        file = resolve_encoder_path(path)
        with naming_file(file):
            encoder = cls(read_encoder_file(file), n_threads=n_threads)
        logger.info(
            "encoder loaded", extra={"encoder": encoder.manifest.name, "version": encoder.version}
        )
        return encoder

    @classmethod
    def from_bytes(cls, content: bytes, *, n_threads: int = 1) -> Self:
        """Load an encoder from memory, bytes of any kind, with the same checks as :meth:`load`."""
        return cls(check_encoder(bytes(content)), n_threads=n_threads)

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process, or into a copy, as the file's bytes."""
        return {name: value for name, value in vars(self).items() if name not in _OF_ONE_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make session and tokenizer again."""
        self.__dict__.update(state)
        self._prepare()

    @property
    def mark(self) -> str:
        """``NAME@VERSION`` of the adapter in the file, in ASCII; empty without one."""
        return "" if self.adapter is None else f"{quote(self.adapter.name)}@{self.version}"

    @property
    def dim(self) -> int:
        """Values in a raw embedding."""
        return self.manifest.dim

    def encode(
        self, texts: str | Sequence[str], *, role: Role = "query", raw: bool = False
    ) -> NDArray[np.float32]:
        """Embed texts, with the role's prefix before each.

        Args:
            texts: One text or several; what is longer than ``manifest.max_tokens`` is cut off.
            role: ``query`` or ``document``.
            raw: True for queries as the encoder alone gives them, where an adapter stands behind
                it.

        Returns:
            float32, shape ``(n, dim)``, in the order of the texts; ``(dim,)`` for one text. Adapted
            queries have the adapter's ``dim_out`` values.

        Raises:
            QueryError: Something in it is no text, there is no such role, or the file embeds
                adapted queries alone.
        """
        try:
            several = [texts] if isinstance(texts, str) else list(texts)
        except TypeError as error:
            raise QueryError(f"not a text: a {type(texts).__name__}; expected str") from error
        if not all(isinstance(text, str) for text in several):
            raise QueryError(f"not a text: {_describe(several)}; expected str")
        prefix = self.manifest.prefix(role)
        is_adapted = self.adapter is not None and role == "query" and not raw
        prefixed = [prefix + text for text in several] if prefix else several
        rows = self._embed(prefixed, OUTPUT_NAME if is_adapted else EMBEDDING_NAME)
        return rows[0] if isinstance(texts, str) else rows

    def require_for(self, adapter: Manifest) -> None:
        """Refuse to stand before an adapter that was trained on another encoder's queries.

        Raises:
            ConfigError: It was, as far as is known.
        """
        if not self.manifest.is_encoder_of(adapter):
            raise ConfigError(
                f"{self.manifest.name} ({self.dim} values, query prefix "
                f"{self.manifest.query_prefix!r}) is another encoder than the one that adapter "
                f"{adapter.name} was trained on: {adapter.encoder.name} ({adapter.dim_in} values, "
                f"query prefix {adapter.encoder.query_prefix!r}); embed queries with that one, its "
                "pooling and tokenizer as they were"
            )

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts as they are, raw: what a :class:`~trimtab.QueryHook` calls its encoder for.

        Returns:
            float32, shape ``(n, dim)``.
        """
        return self._embed(list(texts), EMBEDDING_NAME)

    def embed(self, texts: Sequence[str], *, adapted: bool = False) -> list[Embedded]:
        """Embed texts as they are, and count their tokens.

        Args:
            texts: The texts, prefixes in place.
            adapted: True for what the adapter behind the encoder gives, where there is one.
        """
        tokens = self._tokens(list(texts))
        output = OUTPUT_NAME if adapted and self.adapter is not None else EMBEDDING_NAME
        rows = self._embed_tokens(tokens, output)
        return [Embedded(row, len(found)) for row, found in zip(rows, tokens, strict=True)]

    def tokens(self, text: str) -> list[int]:
        """Split a text, as it is, into the ids of tokens that the encoder reads."""
        return self._tokens([text])[0]

    def _embed(self, texts: list[str], output: str) -> NDArray[np.float32]:
        """Embed texts whose prefixes are in place."""
        return self._embed_tokens(self._tokens(texts), output)

    def _embed_tokens(self, tokens: list[list[int]], output: str) -> NDArray[np.float32]:
        """Embed texts that are split into tokens."""
        if output == EMBEDDING_NAME and not self.has_raw:
            raise QueryError(
                f"this file embeds queries alone, tuned from {self.manifest.name}; embed documents "
                "with that encoder itself"
            )
        if len(tokens) == 1:
            return self._run(tokens, output)
        rows = np.empty((len(tokens), self._dim_of(output)), dtype=np.float32)
        for places in self._batches(tokens):
            rows[places] = self._run([tokens[place] for place in places], output)
        return rows

    def _dim_of(self, output: str) -> int:
        """Give the width of an output."""
        if output == OUTPUT_NAME and self.adapter is not None:
            return self.adapter.dim_out
        return self.dim

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        """Split texts into the ids of tokens.

        In a batch, even a batch of one: only so ``tokenizers`` lets go of the interpreter.
        """
        if self.manifest.lowercase:
            texts = [text.lower() for text in texts]
        try:
            return [found.ids for found in self._tokenizer.encode_batch_fast(texts)]
        except (TypeError, ValueError) as error:
            raise QueryError(f"not a text: {_describe(texts)}; expected str") from error
        except BaseException as error:  # the library panics beside Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise QueryError(f"the tokenizer can't split the text: {one_line(error)}") from error

    @property
    def _is_alone(self) -> bool:
        """Tell whether each text is run alone.

        Rounding to 8 bits goes by the largest value of a batch, so that there a text would depend
        on its neighbours.
        """
        return self.manifest.precision == "int8"

    def _batches(self, tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Group texts of like length, shortest first."""
        batch: list[int] = []
        for place in sorted(range(len(tokens)), key=lambda place: len(tokens[place])):
            is_full = (len(batch) + 1) * len(tokens[place]) > _TOKENS_AT_ONCE
            if batch and (self._is_alone or is_full):
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    def _run(self, tokens: Sequence[Sequence[int]], output: str) -> NDArray[np.float32]:
        """Run the graph on one batch, the shorter texts filled up and masked."""
        width = max(1, *map(len, tokens))  # a text may hold no token at all
        ids = np.full((len(tokens), width), self.manifest.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        found = self._session.run([output], {IDS_NAME: ids, MASK_NAME: mask})
        embedded: NDArray[np.float32] = found[0]
        return embedded

    def _check_answers(self) -> None:
        """Run the graph on two texts, and hold the answers against the manifest."""
        outputs = [EMBEDDING_NAME] if self.has_raw else []
        outputs += [OUTPUT_NAME] if self.adapter is not None else []
        for output in outputs:
            try:
                tokens = self._tokens(list(_PROBES))
                alone = np.concatenate([self._run([one], output) for one in tokens])
                both = alone if self._is_alone else self._run(tokens, output)
            except Exception as error:  # ONNX Runtime raises its own types, without a common base
                raise IntegrityError(f"the encoder can't be run: {one_line(error)}") from error
            if both.shape != (len(_PROBES), self._dim_of(output)):
                raise ManifestError(
                    f"the graph answers with shape {both.shape}, the manifest says "
                    f"({len(_PROBES)}, {self._dim_of(output)}); export the encoder again"
                )
            told = self.manifest if output == EMBEDDING_NAME else self.adapter
            self._check_rows(both, alone, is_unit=told is not None and told.normalised)

    def _check_rows(
        self, both: NDArray[np.float32], alone: NDArray[np.float32], *, is_unit: bool
    ) -> None:
        """Refuse answers that no index could be searched with."""
        if not np.isfinite(both).all():
            raise IntegrityError("the encoder answers a plain text with NaN or infinity")
        lengths = np.linalg.norm(alone, axis=1)
        far = 1.0 - np.einsum("nd,nd->n", both, alone) / (lengths * np.linalg.norm(both, axis=1))
        if not (far < _MIXING).all():
            raise IntegrityError("the encoder mixes the texts of a batch; each must stand alone")
        if is_unit and not np.allclose(lengths, 1.0, atol=1e-3):
            raise ManifestError(
                "the manifest says that vectors have unit length, the graph gives "
                f"{lengths[0]:.4g}; export the encoder again"
            )


_MIXING = 1e-4
"""How far, as 1 - cosine, a text in a batch may be from itself alone."""


def _make_tokenizer(text: str, max_tokens: int) -> Any:
    """Make the tokenizer that a file holds.

    Raises:
        MissingExtraError: ``tokenizers`` is not installed.
        IntegrityError: The library can't read it.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("texts need tokenizers: pip install 'trimtab[text]'") from error
    try:
        tokenizer = Tokenizer.from_str(text)
    except BaseException as error:  # the library raises Exception itself, and panics beside it
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise IntegrityError(f"the file's tokenizer can't be read: {one_line(error)}") from error
    limit = (tokenizer.truncation or {}).get("max_length")
    if max_tokens <= tokenizer.num_special_tokens_to_add(is_pair=False):
        raise IntegrityError(
            f"the file reads {max_tokens} tokens of a text, and its tokenizer alone adds "
            f"{tokenizer.num_special_tokens_to_add(is_pair=False)}; export the encoder again"
        )
    if limit != max_tokens or tokenizer.padding is not None:
        raise IntegrityError(
            f"the file's tokenizer cuts texts at {limit} tokens, the manifest says {max_tokens}; "
            "export the encoder again"
        )
    return tokenizer


def _describe(texts: Sequence[Any]) -> str:
    """Name the first of some texts that is none."""
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            return f"number {place} is a {type(text).__name__}"
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            return f"number {place} holds half a surrogate pair, which no encoding can write"
    return "the tokenizer refuses it"
