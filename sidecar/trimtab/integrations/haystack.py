"""Haystack: a text embedder component, its queries adapted.

It stands where the text embedder stood in a pipeline, with the embedder inside::

    pipeline.add_component("embedder", AdaptedTextEmbedder(embedder, "models/docs"))

Document embedders stay as they are. Or both from one file, without torch:
``EncoderTextEmbedder`` and ``EncoderDocumentEmbedder``.
"""

import asyncio
from dataclasses import replace
from typing import Any, Self

from trimtab.errors import ConfigError, MissingExtraError
from trimtab.integrations.loaded import (
    AdapterOrPath,
    EncoderOrPath,
    HoldsAdapter,
    LoadedAdapter,
    load_behind,
    load_encoder,
)
from trimtab.text.encoder import TextEncoder

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.components.embedders.types import TextEmbedder
    from haystack.core.serialization import component_to_dict
except ImportError as error:
    raise MissingExtraError(
        "the Haystack integration needs haystack-ai: pip install 'trimtab[haystack]'"
    ) from error

META_KEY = "trimtab_adapter"
"""In an embedding's ``meta``: ``NAME@VERSION`` of the adapter that has adapted it."""


@component
class AdaptedTextEmbedder(HoldsAdapter):
    """A text embedder whose embeddings are adapted: for queries.

    Its inputs and outputs are the embedder's: ``text`` in, ``embedding`` and ``meta`` out. ``meta``
    says besides which adapter it was (``trimtab_adapter``).

    Attributes:
        adapter: The adapter; may be set.
        text_embedder: What is wrapped; its ``run`` still gives the raw embedding.

    Example:
        >>> embedder = AdaptedTextEmbedder(embedder, "models/docs")  # doctest: +SKIP
        >>> pipeline.add_component("embedder", embedder)  # doctest: +SKIP
        >>> pipeline.connect("embedder.embedding", "retriever.query_embedding")  # doctest: +SKIP
    """

    adapts_queries = True

    def __init__(self, text_embedder: TextEmbedder, adapter: AdapterOrPath) -> None:
        """Put an adapter behind a text embedder.

        Args:
            text_embedder: The component that embeds queries today, of the model that the stored
                documents were embedded with.
            adapter: An adapter, or the path of a model; only with a path can a pipeline be saved.

        Raises:
            ConfigError: This is no text embedder, or it adapts its embeddings already.
            ModelError: The model can't be used.
        """
        if not callable(getattr(text_embedder, "run", None)):
            raise ConfigError(
                f"expected a Haystack text embedder, not {type(text_embedder).__name__}; "
                "pass the component that embeds queries"
            )
        self.text_embedder = text_embedder
        self._loaded = load_behind(text_embedder, adapter)

    def warm_up(self) -> None:
        """Warm up the text embedder."""
        if hasattr(self.text_embedder, "warm_up"):
            self.text_embedder.warm_up()

    async def warm_up_async(self) -> None:
        """Warm up the text embedder, by its async way where it has one."""
        if hasattr(self.text_embedder, "warm_up_async"):
            await self.text_embedder.warm_up_async()
        else:
            self.warm_up()

    def close(self) -> None:
        """Release what the text embedder holds."""
        if hasattr(self.text_embedder, "close"):
            self.text_embedder.close()

    async def close_async(self) -> None:
        """Release what the text embedder holds, by its async way where it has one."""
        if hasattr(self.text_embedder, "close_async"):
            await self.text_embedder.close_async()
        else:
            self.close()

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str) -> dict[str, Any]:
        """Embed a query and adapt it.

        Args:
            text: The query.

        Returns:
            ``embedding``, ``dim_out`` numbers, and ``meta``.

        Raises:
            QueryError: The embedding can't be transformed; a wrong width, NaN or infinity.
        """
        return self._adapt(self.text_embedder.run(text=text))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, text: str) -> dict[str, Any]:
        """Embed as :meth:`run` does, without blocking the event loop.

        An embedder that knows no async way runs in a thread, as in Haystack's own components.
        """
        run_async = getattr(self.text_embedder, "run_async", None)
        if callable(run_async):
            return self._adapt(await run_async(text=text))
        return self._adapt(await asyncio.to_thread(self.text_embedder.run, text=text))

    def to_dict(self) -> dict[str, Any]:
        """Write the component down, the embedder inside it.

        Raises:
            ConfigError: The adapter was handed over in memory, so there is no path to write.
        """
        return default_to_dict(
            self,
            text_embedder=component_to_dict(self.text_embedder, "text_embedder"),
            adapter=self._loaded.saved_path(),
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make the component that :meth:`to_dict` has written down.

        Pipelines load classes of trusted packages only: name this one's module, as in
        ``Pipeline.load(file, allowed_modules=["trimtab.integrations.haystack"])``.
        """
        return default_from_dict(cls, data)

    def _adapt(self, embedded: dict[str, Any]) -> dict[str, Any]:
        """Put the adapted embedding into the embedder's answer."""
        loaded = LoadedAdapter(self.adapter.current)  # the one whose mark it is
        return {
            **embedded,
            "embedding": loaded.adapt(embedded["embedding"]),
            "meta": {**(embedded.get("meta") or {}), META_KEY: loaded.adapter.mark},
        }


class _FromFile:
    """What both embedders from an encoder's file have in common."""

    def __init__(self, path: EncoderOrPath) -> None:
        """Take an encoder, or load it.

        Args:
            path: The encoder's file or folder; with an encoder in memory, a pipeline can't be
                saved.

        Raises:
            ConfigError: It is neither an encoder nor a path.
            ModelError: The file can't be used.
        """
        self.encoder = load_encoder(path)
        self.path = None if isinstance(path, TextEncoder) else str(path)

    def to_dict(self) -> dict[str, Any]:
        """Write the component down.

        Raises:
            ConfigError: The encoder was handed over in memory, so there is no path to write.
        """
        if self.path is None:
            raise ConfigError(
                f"encoder {self.encoder.manifest.name} was handed over in memory, so it can't be "
                "saved; pass the path of its file instead"
            )
        return default_to_dict(self, path=self.path)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make the component that :meth:`to_dict` has written down."""
        return default_from_dict(cls, data)


@component
class EncoderTextEmbedder(_FromFile):
    """A text embedder from an encoder's file; queries adapted where an adapter is in it.

    Attributes:
        path: Where the encoder comes from; None for one that was handed over loaded.
        encoder: The encoder.

    Example:
        >>> embedder = EncoderTextEmbedder("models/docs/encoder.onnx")  # doctest: +SKIP
    """

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str) -> dict[str, Any]:
        """Embed a query: ``embedding``, and in ``meta`` the encoder."""
        manifest = self.encoder.manifest
        return {"embedding": self.encoder.encode(text).tolist(), "meta": {"model": manifest.name}}


@component
class EncoderDocumentEmbedder(_FromFile):
    """A document embedder from an encoder's file: raw, with the document prefix.

    Attributes:
        path: Where the encoder comes from; None for one that was handed over loaded.
        encoder: The encoder.
    """

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embed the contents of documents, which are copied."""
        texts = [document.content or "" for document in documents]
        rows = self.encoder.encode(texts, role="document").tolist()
        embedded = [replace(one, embedding=row) for one, row in zip(documents, rows, strict=True)]
        return {"documents": embedded, "meta": {"model": self.encoder.manifest.name}}
