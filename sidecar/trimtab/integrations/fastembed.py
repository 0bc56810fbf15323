"""FastEmbed: a ``TextEmbedding``, its queries adapted.

One line changes in an application::

    model = AdaptedTextEmbedding(model, "models/docs")

Where the Qdrant client embeds by FastEmbed itself (``models.Document``), it makes its own models:
put ``trimtab.AdaptedQdrantClient`` before the client instead.

FastEmbed runs an encoder's file itself, too: :func:`add_encoder`.
"""

import json
import pickle
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trimtab.errors import ConfigError, MissingExtraError
from trimtab.integrations.loaded import (
    AdapterOrPath,
    HoldsAdapter,
    load_behind,
)
from trimtab.text.encoder_file import FILE_NAME, read_encoder_file, resolve_encoder_path
from trimtab.vectors import check_dim

try:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType
    from fastembed.common.types import NumpyArray
except ImportError as error:
    raise MissingExtraError(
        "the FastEmbed integration needs fastembed: pip install 'trimtab[fastembed]'"
    ) from error


class AdaptedTextEmbedding(HoldsAdapter, TextEmbedding):
    """A FastEmbed model whose ``query_embed`` is adapted; ``embed`` and ``passage_embed`` are not.

    Made from a model that exists; both share what is loaded. Only a model that has loaded nothing
    yet (``lazy_load=True``) can be sent to another process.

    Attributes:
        adapter: The adapter; may be set.
        inner: The model that was handed over; its ``query_embed`` still gives raw embeddings.

    Example:
        >>> model = AdaptedTextEmbedding(TextEmbedding(), "models/docs")  # doctest: +SKIP
        >>> query = next(iter(model.query_embed("money back?")))  # doctest: +SKIP
    """

    adapts_queries = True

    def __init__(self, model: TextEmbedding, adapter: AdapterOrPath) -> None:
        """Put an adapter behind the queries' embedding.

        Args:
            model: The model that the stored documents were embedded with.
            adapter: An adapter, or the path of a model.

        Raises:
            ConfigError: This is no text embedding model, or it adapts its queries already.
            DimensionError: The model gives another width than the adapter wants.
            ModelError: The adapter's model can't be used.
        """
        if not isinstance(model, TextEmbedding):
            raise ConfigError(f"expected a fastembed.TextEmbedding, not {type(model).__name__}")
        self._loaded = load_behind(model, adapter)
        check_dim(model.embedding_size, self.adapter.dim_in)
        self.__dict__.update(model.__dict__)
        self.inner = model

    def query_embed(self, query: str | Iterable[str], **kwargs: Any) -> Iterable[NumpyArray]:
        """Embed one query or several and adapt each: float32, shape ``(dim_out,)``.

        Yields:
            One adapted query a text, in their order.
        """
        for embedding in self.inner.query_embed(query, **kwargs):
            yield self.adapter.transform(embedding)

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process, where the model can.

        Raises:
            ConfigError: It can't: FastEmbed has loaded it.
        """
        try:
            pickle.dumps(self.inner)
        except Exception as error:  # ONNX Runtime's session, or whatever else is held
            raise ConfigError(
                f"FastEmbed's {self.model_name} is loaded and can't be copied or sent to another "
                "process; make it there, or with lazy_load=True here"
            ) from error
        return dict(self.__dict__)

    def __repr__(self) -> str:
        """Name the adapter and the model."""
        return f"AdaptedTextEmbedding({self.adapter.mark!r}, {self.model_name!r})"


def add_encoder(name: str, encoder: str | Path, folder: str | Path) -> TextEmbedding:
    """Make an encoder's file a model of FastEmbed's, which runs it by itself.

    FastEmbed has one way to embed: a file with an adapter in it gives adapted vectors for whatever
    it is asked, so keep such a model for queries. It puts no prefix before a text.

    Args:
        name: What FastEmbed is to call it, as in ``models.Document(text=..., model=name,
            options={"specific_model_path": folder})``, which the Qdrant client embeds by it.
        encoder: The encoder's file or folder.
        folder: Where FastEmbed finds its files; they are written there, once it has taken the name.

    Returns:
        The model; elsewhere in the process ``TextEmbedding(name, specific_model_path=folder)``.

    Raises:
        ConfigError: The encoder needs a prefix, or FastEmbed knows another model of that name.
        ModelError: The file can't be used.
    """
    read = read_encoder_file(resolve_encoder_path(encoder))
    manifest = read.manifest
    if manifest.query_prefix or manifest.document_prefix or manifest.lowercase:
        raise ConfigError(
            f"encoder {manifest.name} puts {manifest.query_prefix!r} before queries and "
            f"{manifest.document_prefix!r} before documents, or lower-cases them, which FastEmbed "
            "would not; use trimtab.TextEncoder"
        )
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as beside:
        _write_tokenizer(Path(beside), read.tokenizer, manifest.max_tokens, manifest.pad_id)
        (Path(beside) / FILE_NAME).write_bytes(read.content)
        try:
            TextEmbedding.add_custom_model(
                model=name,
                pooling=PoolingType.DISABLED,
                normalization=False,
                sources=ModelSource(hf=name),
                dim=manifest.dim if read.adapter is None else read.adapter.dim_out,
                model_file=FILE_NAME,
            )
        except ValueError as error:
            raise ConfigError(f"FastEmbed can't take model {name!r}: {error}") from error
        for file in Path(beside).iterdir():
            file.replace(place / file.name)
    return TextEmbedding(name, specific_model_path=str(place))


def _write_tokenizer(folder: Path, tokenizer: str, max_tokens: int, pad_id: int) -> None:
    """Write the files that FastEmbed reads about a tokenizer."""
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    pad = next((word for word, number in _vocabulary(tokenizer) if number == pad_id), "[PAD]")
    for name, record in {
        "config": {"pad_token_id": pad_id},
        "tokenizer_config": {"model_max_length": max_tokens, "pad_token": pad},
        "special_tokens_map": {"pad_token": pad},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")


def _vocabulary(tokenizer: str) -> list[tuple[str, int]]:
    """Give the words of a tokenizer with their numbers."""
    from tokenizers import Tokenizer

    return list(Tokenizer.from_str(tokenizer).get_vocab().items())
