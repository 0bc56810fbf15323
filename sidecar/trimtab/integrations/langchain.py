"""LangChain: any ``Embeddings``, its queries adapted.

One line changes in an application::

    embeddings = AdaptedEmbeddings(embeddings, "models/docs")

Or both from one file, without torch::

    embeddings = EncoderEmbeddings("models/docs/encoder.onnx")
"""

import asyncio

from trimtab.errors import ConfigError, MissingExtraError
from trimtab.integrations.loaded import (
    AdapterOrPath,
    EncoderOrPath,
    HoldsAdapter,
    load_behind,
    load_encoder,
)

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise MissingExtraError(
        "the LangChain integration needs langchain-core: pip install 'trimtab[langchain]'"
    ) from error


class AdaptedEmbeddings(HoldsAdapter, Embeddings):
    """LangChain embeddings whose queries are adapted and whose documents are not.

    Goes wherever embeddings go: into a vector store, old or new, which then retrieves by adapted
    queries, blocking and asynchronously. Safe to use from several threads where the wrapped
    embeddings are.

    Attributes:
        adapter: The adapter; may be set.
        embeddings: What is wrapped; its ``embed_query`` still gives the raw embedding.

    Example:
        >>> embeddings = AdaptedEmbeddings(embeddings, "models/docs")  # doctest: +SKIP
        >>> store = QdrantVectorStore(client, "docs", embeddings)  # doctest: +SKIP
    """

    adapts_queries = True

    def __init__(self, embeddings: Embeddings, adapter: AdapterOrPath) -> None:
        """Put an adapter behind the queries' embedding.

        Args:
            embeddings: The embeddings that the stored documents were made with.
            adapter: An adapter, or the path of a model.

        Raises:
            ConfigError: These are no embeddings, or they adapt their queries already.
            ModelError: The model can't be used.
        """
        if not isinstance(embeddings, Embeddings):
            raise ConfigError(
                f"expected LangChain Embeddings, not {type(embeddings).__name__}; "
                "pass the object that your vector store embeds with"
            )
        self.embeddings = embeddings
        self._loaded = load_behind(embeddings, adapter)

    def embed_query(self, text: str) -> list[float]:
        """Embed a query and adapt it: ``dim_out`` numbers.

        Raises:
            QueryError: The embedding can't be transformed; a wrong width, NaN or infinity.
        """
        return self._loaded.adapt(self.embeddings.embed_query(text))

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a query as :meth:`embed_query` does, by the wrapped embeddings' own async way."""
        return self._loaded.adapt(await self.embeddings.aembed_query(text))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents; they are never adapted."""
        return self.embeddings.embed_documents(texts)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents; they are never adapted."""
        return await self.embeddings.aembed_documents(texts)

    def __repr__(self) -> str:
        """Name the adapter and the embeddings."""
        return f"AdaptedEmbeddings({self.adapter.mark!r}, {type(self.embeddings).__name__})"


class EncoderEmbeddings(Embeddings):
    """LangChain embeddings from an encoder's file; queries adapted where an adapter is in it.

    Attributes:
        encoder: The encoder; documents are embedded raw, each role with its prefix.

    Example:
        >>> embeddings = EncoderEmbeddings("models/docs/encoder.onnx")  # doctest: +SKIP
    """

    def __init__(self, encoder: EncoderOrPath) -> None:
        """Take an encoder, or load it.

        Raises:
            ConfigError: It is neither an encoder nor a path.
            ModelError: The file can't be used.
        """
        self.encoder = load_encoder(encoder)

    def embed_query(self, text: str) -> list[float]:
        """Embed a query."""
        numbers: list[float] = self.encoder.encode(text).tolist()
        return numbers

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents, raw."""
        rows: list[list[float]] = self.encoder.encode(texts, role="document").tolist()
        return rows

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a query in a thread."""
        return await asyncio.to_thread(self.embed_query, text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents in a thread."""
        return await asyncio.to_thread(self.embed_documents, texts)
