"""LlamaIndex: any embedding model, its queries adapted.

Takes the place of ``AdapterEmbeddingModel`` of ``llama-index-embeddings-adapter``, without torch::

    embed_model = AdaptedEmbedding(embed_model, "models/docs")

Or both from one file::

    embed_model = EncoderEmbedding("models/docs/encoder.onnx")
"""

import asyncio
from typing import Any, ClassVar, Self

from trimtab.errors import ConfigError, MissingExtraError
from trimtab.integrations.loaded import (
    AdapterOrPath,
    EncoderOrPath,
    HoldsAdapter,
    LoadedAdapter,
    load_behind,
    load_encoder,
)
from trimtab.model.adapter import Adapter
from trimtab.text.encoder import TextEncoder

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
    from llama_index.core.bridge.pydantic import (
        BaseModel,
        Field,
        PrivateAttr,
        SerializeAsAny,
        model_serializer,
    )
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.embeddings.loading import load_embed_model
    from pydantic import SerializationInfo, SerializerFunctionWrapHandler
except ImportError as error:
    raise MissingExtraError(
        "the LlamaIndex integration needs llama-index-core: pip install 'trimtab[llama-index]'"
    ) from error

_SHARED = ("embed_batch_size", "num_workers", "callback_manager")
_OPTIONS = frozenset({*_SHARED, "model_name", "rate_limiter"})


class AdaptedEmbedding(HoldsAdapter, BaseEmbedding):
    """An embedding model whose queries are adapted and whose texts are not.

    Goes wherever an embedding model goes: into a ``VectorStoreIndex``, a retriever, ``Settings``.
    Queries are ``get_query_embedding``, ``get_agg_embedding_from_queries`` and their async ways;
    everything else is passed on as it is. A cache or a rate limiter that ``base_embed_model`` has
    is used. Safe to use from several threads where the wrapped model is.

    Attributes:
        adapter: The adapter; may be set.
        base_embed_model: What is wrapped; its queries still give raw embeddings.
        transform_query: False passes queries on as they are, too.

    Example:
        >>> embed_model = AdaptedEmbedding(OpenAIEmbedding(), "models/docs")  # doctest: +SKIP
        >>> VectorStoreIndex.from_vector_store(store, embed_model)  # doctest: +SKIP
    """

    adapts_queries: ClassVar[bool] = True

    base_embed_model: SerializeAsAny[BaseEmbedding] = Field(
        description="Embeds queries, which are adapted then, and texts, which are not."
    )
    transform_query: bool = Field(default=True, description="Whether queries are adapted.")
    _loaded: LoadedAdapter = PrivateAttr()

    def __init__(
        self,
        base_embed_model: BaseEmbedding,
        adapter: AdapterOrPath,
        *,
        transform_query: bool = True,
        **options: Any,
    ) -> None:
        """Put an adapter behind an embedding model's queries.

        Args:
            base_embed_model: The model that the stored texts were embedded with.
            adapter: An adapter, or the path of a model; only a path can be written by ``to_dict``
                and read again.
            transform_query: False passes queries on as they are, too.
            options: ``embed_batch_size``, ``num_workers``, ``callback_manager``, which are the base
                model's unless given; ``model_name``; ``rate_limiter``.

        Raises:
            ConfigError: This is no embedding model, it adapts its queries already, or an option is
                unknown.
            ModelError: The adapter's model can't be used.
        """
        if not isinstance(base_embed_model, BaseEmbedding):
            raise ConfigError(
                f"expected a LlamaIndex BaseEmbedding, not {type(base_embed_model).__name__}"
            )
        _check_options(options)
        loaded = load_behind(base_embed_model, adapter)
        fields: dict[str, Any] = {name: getattr(base_embed_model, name) for name in _SHARED}
        fields["model_name"] = _name(base_embed_model, loaded.adapter)
        fields |= {"base_embed_model": base_embed_model, "transform_query": transform_query}
        super().__init__(**{**fields, **options})
        self._loaded = loaded

    @classmethod
    def class_name(cls) -> str:
        """Name the class in what is saved."""
        return "AdaptedEmbedding"

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Make the model that ``to_dict`` has written down.

        Args:
            data: What was written.
            kwargs: What replaces parts of it: ``base_embed_model=model`` where LlamaIndex can't
                make the base model from its record.

        Raises:
            ConfigError: It can't, and none was given.
        """
        record = {**data, **kwargs}
        record["base_embed_model"] = _make_base(record.get("base_embed_model"))
        kept = {key: value for key, value in record.items() if value is not None}
        kept.pop("class_name", None)
        return cls(**kept)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a cache is refused as it is at first."""
        if name == "embeddings_cache":
            _refuse_cache(value)
        super().__setattr__(name, value)

    @property
    def adapter(self) -> Adapter:
        """The adapter; set an adapter or a path to replace it, whole, for every later query."""
        return self._loaded.adapter

    @adapter.setter
    def adapter(self, adapter: AdapterOrPath) -> None:
        """Put another adapter of the same widths in its place; a name that names it changes."""
        newer = self._replaced(adapter)
        if self.model_name == _name(self.base_embed_model, self._loaded.adapter):
            self.model_name = _name(self.base_embed_model, newer.adapter)
        self._loaded = newer

    def to_payload(self) -> dict[str, Any]:
        """Describe the model to callbacks, with its adapter."""
        return {**super().to_payload(), "adapter": self.adapter.mark}

    @model_serializer(mode="wrap")
    def custom_model_dump(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        """Write down what makes the same model again; the adapter as the path that it came from."""
        adapter = self._loaded.path or self.adapter.mark
        return {**handler(self), "adapter": adapter, "class_name": self.class_name()}

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process whole; callbacks and the limiter of rates stay behind."""
        return _travel(self)

    def _get_query_embedding(self, query: str) -> Embedding:
        """Embed a query and adapt it."""
        base = self.base_embed_model
        embed = base.get_query_embedding if _keeps(base) else base._get_query_embedding
        return self._adapt(embed(query))

    async def _aget_query_embedding(self, query: str) -> Embedding:
        """Embed a query and adapt it."""
        base = self.base_embed_model
        embed = base.aget_query_embedding if _keeps(base) else base._aget_query_embedding
        return self._adapt(await embed(query))

    def _get_text_embedding(self, text: str) -> Embedding:
        """Embed a text."""
        base = self.base_embed_model
        embed = base.get_text_embedding if _keeps(base) else base._get_text_embedding
        return embed(text)

    async def _aget_text_embedding(self, text: str) -> Embedding:
        """Embed a text."""
        base = self.base_embed_model
        embed = base.aget_text_embedding if _keeps(base) else base._aget_text_embedding
        return await embed(text)

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        """Embed a batch of texts."""
        base = self.base_embed_model
        embed = base.get_text_embedding_batch if _keeps(base) else base._get_text_embeddings
        return embed(texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        """Embed a batch of texts."""
        base = self.base_embed_model
        embed = base.aget_text_embedding_batch if _keeps(base) else base._aget_text_embeddings
        return await embed(texts)

    def _adapt(self, embedding: Embedding) -> Embedding:
        """Adapt a query, unless that is switched off."""
        return self._loaded.adapt(embedding) if self.transform_query else embedding


def _keeps(base: BaseEmbedding) -> bool:
    """Tell whether a model has a cache or a limiter, which only its public methods use.

    Where it has none, the others are called, as LlamaIndex's own wrapper does: then each call is
    one event for callbacks, and tokens are counted once.
    """
    return base.embeddings_cache is not None or base.rate_limiter is not None


def _refuse_cache(cache: Any) -> None:
    """Refuse a cache, which would mix queries with texts."""
    if cache is not None:
        raise ConfigError(
            "LlamaIndex's cache knows an embedding by its text alone and would give an adapted "
            "query for a document; give embeddings_cache to base_embed_model instead"
        )


def _check_options(options: dict[str, Any]) -> None:
    """Refuse a cache and unknown options."""
    _refuse_cache(options.pop("embeddings_cache", None))
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise ConfigError(
            f"AdaptedEmbedding takes no {', '.join(unknown)}; expected base_embed_model, adapter, "
            f"transform_query, {', '.join(sorted(_OPTIONS))}"
        )


def _make_base(record: Any) -> BaseEmbedding:
    """Make a base model from its record."""
    if isinstance(record, BaseEmbedding):
        return record
    try:
        return load_embed_model(record or {})
    except ValueError as error:
        raise ConfigError(
            f"LlamaIndex can't make the base model from its record ({error}); "
            "pass from_dict(data, base_embed_model=model)"
        ) from error


def _name(base: BaseEmbedding, adapter: Adapter) -> str:
    """Name a base model with its adapter."""
    return f"{base.model_name}+{adapter.mark}"


def _travel(model: BaseEmbedding) -> tuple[Any, ...]:
    """Give what makes a model again, as ``__reduce__`` does.

    LlamaIndex's own way would leave out, with a line in the log, whatever can't travel, and load
    the rest by the paths that it finds.
    """
    state = BaseModel.__getstate__(model)
    state["__dict__"] = {**state["__dict__"], "callback_manager": None, "rate_limiter": None}
    return _reopen, (type(model), state)


def _reopen(kind: type[BaseEmbedding], state: dict[Any, Any]) -> BaseEmbedding:
    """Make a model again in the process that it was sent to."""
    model = kind.__new__(kind)
    BaseModel.__setstate__(model, state)
    model.callback_manager = CallbackManager([])
    return model


class EncoderEmbedding(BaseEmbedding):
    """An embedding model from an encoder's file; queries adapted where an adapter is in it.

    Attributes:
        path: Where the encoder came from; ``to_dict`` writes it down, and it is loaded from there.
            ``NAME@VERSION`` of one in memory, which can't be loaded again.

    Example:
        >>> embed_model = EncoderEmbedding("models/docs/encoder.onnx")  # doctest: +SKIP
    """

    path: str = Field(description="The encoder's file, or its folder.")
    _encoder: TextEncoder = PrivateAttr()

    def __init__(self, path: EncoderOrPath, **options: Any) -> None:
        """Take an encoder, or load it.

        Args:
            path: The encoder's file or folder; an encoder in memory can't be written by ``to_dict``
                and read again.
            options: Of LlamaIndex's ``BaseEmbedding``.

        Raises:
            ConfigError: It is neither an encoder nor a path, or a cache would mix queries with
                texts.
            ModelError: The file can't be used.
        """
        encoder = load_encoder(path)
        _check_cache(options.get("embeddings_cache"), encoder)
        in_memory = isinstance(path, TextEncoder)
        told = f"{encoder.manifest.name}@{encoder.version}" if in_memory else str(path)
        super().__init__(**{"model_name": encoder.manifest.name, "path": told, **options})
        self._encoder = encoder

    @classmethod
    def class_name(cls) -> str:
        """Name the class in what is saved."""
        return "EncoderEmbedding"

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a cache is refused as it is at first."""
        if name == "embeddings_cache":
            _check_cache(value, self._encoder)
        super().__setattr__(name, value)

    @property
    def encoder(self) -> TextEncoder:
        """The encoder; texts are embedded raw, each role with its prefix."""
        return self._encoder

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process whole; callbacks and the limiter of rates stay behind."""
        return _travel(self)

    def _get_query_embedding(self, query: str) -> Embedding:
        """Embed a query."""
        numbers: Embedding = self._encoder.encode(query).tolist()
        return numbers

    async def _aget_query_embedding(self, query: str) -> Embedding:
        """Embed a query in a thread."""
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> Embedding:
        """Embed a text."""
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        """Embed a batch of texts."""
        rows: list[Embedding] = self._encoder.encode(texts, role="document").tolist()
        return rows

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        """Embed a batch of texts in a thread."""
        return await asyncio.to_thread(self._get_text_embeddings, texts)


def _check_cache(cache: Any, encoder: TextEncoder) -> None:
    """Refuse a cache where queries are embedded otherwise than texts."""
    has_one_way = encoder.adapter is None and (
        encoder.manifest.query_prefix == encoder.manifest.document_prefix
    )
    if cache is not None and not has_one_way:
        raise ConfigError(
            "LlamaIndex's cache knows an embedding by its text alone and would give a query "
            f"for a document, which {encoder.manifest.name} embeds otherwise; leave "
            "embeddings_cache out"
        )
