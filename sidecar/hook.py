"""The search-time hook: a query as text or vector in, the adapted vector out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sidecar.adapter import Adapter
from sidecar.encoders import TextEncoder
from sidecar.errors import ConfigError

Query = str | Sequence[str] | ArrayLike


class QueryHook:
    """Adapt whatever a search function is given, just before it searches.

    A plain callable, so it fits wherever a framework lets a function touch the query.

    Example:
        >>> hook = QueryHook(Adapter.load("models/docs"), encoder=model.encode)  # doctest: +SKIP
        >>> index.search(hook("how do I cancel?")[None], 10)  # doctest: +SKIP
    """

    def __init__(self, adapter: Adapter, *, encoder: TextEncoder | None = None) -> None:
        """Join an adapter with the encoder of its queries.

        Args:
            adapter: The adapter to apply.
            encoder: Turns texts into embeddings; needed only where queries come as text. The
                query prefix that the manifest names is put before every text.
        """
        self.adapter = adapter
        self._encoder = encoder

    def __call__(self, query: Query) -> NDArray[np.float32]:
        """Adapt one query or several.

        Args:
            query: A text, several texts, a vector ``(dim_in,)`` or a batch ``(n, dim_in)``.

        Returns:
            float32, shape ``(dim_out,)`` for one query, ``(n, dim_out)`` for several.

        Raises:
            ConfigError: The query is text and the hook has no encoder.
            QueryError: The vector can't be transformed; see :meth:`Adapter.transform`.
        """
        if isinstance(query, str):
            return self.adapter.transform(self._encode([query])[0])
        if isinstance(query, (list, tuple)) and query and isinstance(query[0], str):
            return self.adapter.transform(self._encode(query))
        return self.adapter.transform(query)

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts behind the prefix that the adapter was trained with."""
        if self._encoder is None:
            raise ConfigError("the query is text, but this QueryHook has no encoder; pass encoder=")
        prefix = self.adapter.manifest.encoder.query_prefix
        return np.asarray(self._encoder([prefix + text for text in texts]), dtype=np.float32)
