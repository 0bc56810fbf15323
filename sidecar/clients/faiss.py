"""A FAISS index whose searches are adapted, and nothing else.

The index is used as it is handed over, so this module does not import faiss.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sidecar.adapter import Adapter
from sidecar.errors import ConfigError


class AdaptedIndex:
    """Wraps any FAISS index: queries are adapted, stored vectors never.

    Arguments bear FAISS's own names, so that calls by keyword keep working.

    ``search``, ``search_and_reconstruct`` and ``range_search`` adapt their queries; every other
    attribute is the index's own, read and written through, so ``add``, ``ntotal`` or ``nprobe``
    work as before.

    Attributes:
        adapter: The adapter in front.
        inner: The wrapped index.
    """

    adapter: Adapter
    inner: Any

    def __init__(self, inner: Any, adapter: Adapter) -> None:
        """Put an adapter in front of an index.

        Raises:
            ConfigError: The index holds vectors of another width than the adapter gives.
        """
        if inner.d != adapter.dim_out:
            raise ConfigError(
                f"the index holds vectors of {inner.d} values, the adapter gives "
                f"{adapter.dim_out}; use the adapter that was trained for this index"
            )
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "adapter", adapter)

    def search(
        self, x: ArrayLike, k: int, **options: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search for the ``k`` nearest documents of each adapted query.

        Args:
            x: Raw query vectors, shape ``(n, dim_in)``, or one of shape ``(dim_in,)``.
            k: Documents to find for each query.
            options: Passed on to the index: ``params=faiss.SearchParameters...``, ``D``, ``I``.

        Returns:
            Scores and row numbers, each of shape ``(n, k)``, as FAISS gives them.
        """
        scores, rows = self.inner.search(self._adapt(x), k, **options)
        return scores, rows

    def search_and_reconstruct(self, x: ArrayLike, k: int, **options: Any) -> Any:
        """Search as :meth:`search` does; FAISS adds the stored vectors of what was found."""
        return self.inner.search_and_reconstruct(self._adapt(x), k, **options)

    def range_search(self, x: ArrayLike, thresh: float, **options: Any) -> Any:
        """Find every document within a threshold of each adapted query, as FAISS gives them.

        Adapted queries have other scores than raw ones: set the threshold anew. `trimtab
        evaluate` reports by how much they are shifted.
        """
        return self.inner.range_search(self._adapt(x), thresh, **options)

    def _adapt(self, queries: ArrayLike) -> NDArray[np.float32]:
        """Adapt queries into the matrix that FAISS wants."""
        return np.atleast_2d(self.adapter.transform(queries))

    def __getattr__(self, name: str) -> Any:
        """Give the index's own attribute."""
        if name in {"inner", "adapter"}:  # not set yet: while copying or unpickling
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the index's own attribute."""
        setattr(self.inner, name, value)

    def __repr__(self) -> str:
        """Name the adapter and the index."""
        return f"AdaptedIndex({self.adapter.manifest.name!r}, {type(self.inner).__name__})"
