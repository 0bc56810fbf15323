"""FastEmbed: a ``TextEmbedding``, its queries adapted.

One line changes in an application::

    model = AdaptedTextEmbedding(model, "models/docs")

Where the Qdrant client embeds by FastEmbed itself (``models.Document``), it makes its own models:
put ``trimtab.AdaptedQdrantClient`` before the client instead.
"""

import pickle
from collections.abc import Iterable
from typing import Any

from trimtab.errors import ConfigError, MissingExtraError
from trimtab.integrations.loaded import (
    AdapterOrPath,
    HoldsAdapter,
    LoadedAdapter,
    refuse_adapted,
)
from trimtab.vectors import check_dim

try:
    from fastembed import TextEmbedding
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
        refuse_adapted(model)
        self._loaded = LoadedAdapter(adapter)
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
