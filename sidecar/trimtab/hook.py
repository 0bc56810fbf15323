"""The search-time hook: a query as text or vector in, the adapted vector out."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab.encoders import EmbedTexts
from trimtab.errors import ConfigError, QueryError
from trimtab.model.adapter import Adapter
from trimtab.vectors import to_float32

if TYPE_CHECKING:
    from trimtab.text.encoder import TextEncoder

Query = str | Sequence[str] | ArrayLike

AsyncEmbedTexts = Callable[[Sequence[str]], Awaitable[ArrayLike]]
"""An :data:`~trimtab.encoders.EmbedTexts` that is awaited."""


class _Hook:
    """What the blocking and the asynchronous hook have in common."""

    _encoder: Any

    @property
    def adapter(self) -> "Adapter | TextEncoder":
        """The adapter, or an encoder with one in its file; may be set, for every later query."""
        return self._adapter

    @adapter.setter
    def adapter(self, adapter: "Adapter | TextEncoder") -> None:
        """Take another adapter."""
        if not isinstance(adapter, Adapter) and not _is_fused(adapter):
            raise ConfigError(
                f"the adapter is a {type(adapter).__name__}; expected an Adapter, such as "
                "Adapter.load('models/docs'), or a TextEncoder with an adapter in its file"
            )
        if isinstance(adapter, Adapter) and hasattr(self._encoder, "require_for"):
            self._encoder.require_for(adapter.manifest)
        self._adapter = adapter

    def _prefixed(self, texts: Sequence[str], adapter: Adapter) -> list[str]:
        """Put the prefix of queries before every text: the adapter's, a ``TextEncoder``'s own."""
        if self._encoder is None:
            raise ConfigError(
                f"the query is text, but this {type(self).__name__} has no encoder; pass encoder="
            )
        if not all(isinstance(text, str) for text in texts):
            raise QueryError("the query holds texts and something else; expected texts alone")
        is_ours = hasattr(self._encoder, "require_for")
        told = self._encoder.manifest if is_ours else adapter.manifest.encoder
        prefix = told.query_prefix
        return [prefix + text for text in texts]


class QueryHook(_Hook):
    """Adapt whatever a search function is given, just before it searches.

    A plain callable, so it fits wherever a framework lets a function touch the query. It can be
    pickled where its encoder can. :class:`AsyncQueryHook` is its asynchronous form.

    Attributes:
        adapter: The adapter; may be set.

    Example:
        >>> hook = QueryHook(Adapter.load("models/docs"), encoder=model.encode)  # doctest: +SKIP
        >>> index.search(hook("how do I cancel?")[None], 10)  # doctest: +SKIP
    """

    def __init__(
        self, adapter: "Adapter | TextEncoder", *, encoder: EmbedTexts | None = None
    ) -> None:
        """Join an adapter with the encoder of its queries.

        Args:
            adapter: The adapter to apply; or an encoder with an adapter in its file, which takes
                texts alone and needs no other encoder.
            encoder: Turns texts into embeddings; needed only where queries come as text. The
                query prefix that the manifest names is put before every text; of a ``TextEncoder``,
                its own, whatever the adapter knows of it.

        Raises:
            ConfigError: The adapter is none, or was trained on the queries of another encoder than
                this :class:`~trimtab.TextEncoder`.
        """
        self._encoder = _without_prefix(encoder)
        self.adapter = adapter

    def __call__(self, query: Query) -> NDArray[np.float32]:
        """Adapt one query or several.

        Args:
            query: A text, several texts, a vector ``(dim_in,)`` or a batch ``(n, dim_in)``.

        Returns:
            float32, shape ``(dim_out,)`` for one query, ``(n, dim_out)`` for several.

        Raises:
            ConfigError: The query is text and the hook has no encoder.
            QueryError: The vector can't be transformed (see :meth:`Adapter.transform`), or the
                encoder gives something else than a vector for each text.
        """
        query = _unpacked(query)
        if not isinstance(self.adapter, Adapter):
            return self.adapter.encode(_need_text(query))
        adapter = self.adapter.current
        if not _is_text(query):
            return adapter.transform(query)
        texts = self._prefixed([query] if isinstance(query, str) else query, adapter)
        return _adapt(adapter, query, texts, self._encoder(texts))


class AsyncQueryHook(_Hook):
    """Adapt as :class:`QueryHook` does, awaited; texts are embedded without blocking the loop.

    Attributes:
        adapter: The adapter; may be set.

    Example:
        >>> hook = AsyncQueryHook(Adapter.load("models/docs"), encoder=embed)  # doctest: +SKIP
        >>> vector = await hook("how do I cancel?")  # doctest: +SKIP
    """

    def __init__(
        self,
        adapter: "Adapter | TextEncoder",
        *,
        encoder: EmbedTexts | AsyncEmbedTexts | None = None,
    ) -> None:
        """Join an adapter with the encoder of its queries.

        Args:
            adapter: The adapter to apply; or an encoder with an adapter in its file.
            encoder: Turns texts into embeddings. One whose call is a coroutine is awaited; any
                other is called in a thread.
        """
        self._encoder = _without_prefix(encoder)
        self.adapter = adapter

    async def __call__(self, query: Query) -> NDArray[np.float32]:
        """Adapt one query or several; takes, gives and raises what :class:`QueryHook` does."""
        query = _unpacked(query)
        if not isinstance(self.adapter, Adapter):
            import asyncio

            return await asyncio.to_thread(self.adapter.encode, _need_text(query))
        adapter = self.adapter.current
        if not _is_text(query):
            return adapter.transform(query)
        texts = self._prefixed([query] if isinstance(query, str) else query, adapter)
        return _adapt(adapter, query, texts, await self._encode(texts))

    async def _encode(self, texts: Sequence[str]) -> Any:
        """Embed texts by the encoder's own async way, or in a thread."""
        encoder = self._encoder
        if any(map(inspect.iscoroutinefunction, (encoder, type(encoder).__call__))):
            return await encoder(texts)
        import asyncio  # a running loop has loaded it already

        embedded = await asyncio.to_thread(encoder, texts)
        return await embedded if inspect.isawaitable(embedded) else embedded


def _is_fused(model: Any) -> bool:
    """Tell an encoder with an adapter in its file."""
    from trimtab.text.encoder import TextEncoder  # which most hooks can do without

    return isinstance(model, TextEncoder) and model.adapter is not None


def _without_prefix(encoder: Any) -> Any:
    """Take a ``TextEncoder`` itself for its ``encode``, which puts the prefix once more."""
    owner = getattr(encoder, "__self__", None)
    is_encode = hasattr(owner, "require_for") and encoder == getattr(owner, "encode", None)
    return owner if is_encode else encoder


def _unpacked(query: Query) -> Query:
    """Take an array of texts for the texts."""
    if isinstance(query, np.ndarray) and query.dtype.kind in "OU":
        texts: Query = query.tolist()
        return texts
    return query


def _need_text(query: Query) -> str | Sequence[str]:
    """Refuse a vector where texts are taken alone."""
    if not _is_text(query):
        raise ConfigError(
            "the query is a vector, and this hook's encoder takes texts; give the text, or use "
            "the adapter alone: QueryHook(Adapter.load(...))"
        )
    return query


def _is_text(query: Query) -> TypeGuard[str | Sequence[str]]:
    """Tell texts from vectors."""
    if isinstance(query, str):
        return True
    return isinstance(query, (list, tuple)) and bool(query) and isinstance(query[0], str)


def _adapt(
    adapter: Adapter, query: Query, texts: Sequence[str], embedded: Any
) -> NDArray[np.float32]:
    """Adapt what texts were embedded as: one vector for one text, a batch for several.

    Raises:
        ConfigError: The encoder is asynchronous, and was called by the blocking hook.
        QueryError: It gave something else than one vector for each text.
    """
    if inspect.isawaitable(embedded):
        if inspect.iscoroutine(embedded):
            embedded.close()
        raise ConfigError("the encoder is asynchronous; use AsyncQueryHook with it")
    try:
        vectors = to_float32(embedded)
    except Exception as error:  # also of tensors on a GPU, or with gradients
        raise QueryError(
            f"the encoder gave a {type(embedded).__name__} that is no array of numbers; "
            f"expected shape ({len(texts)}, {adapter.dim_in})"
        ) from error
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise QueryError(
            f"the encoder gave shape {vectors.shape} for {len(texts)} texts; expected "
            f"({len(texts)}, {adapter.dim_in}), one vector for each"
        )
    return adapter.transform(vectors[0] if isinstance(query, str) else vectors)
