"""A FAISS index whose searches are adapted, and nothing else.

The index is used as it is handed over, so this module does not import faiss.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab.errors import ConfigError
from trimtab.model.adapter import Adapter

_NEVER_WRITTEN = ("Shards", "Replicas", "Gpu")
"""Parts of the names of FAISS's indexes that it can't write, and so not pickle (faiss 1.15)."""

_ASKS = ("search", "assign", "distance")
"""Parts of the names of FAISS's ways to ask: with pointers, or of what raw queries have found."""

_ASKS_NOTHING = {"search_type", "assign_indexes", "num_base_level_search_entrypoints"}
"""Settings of FAISS's indexes that are named alike (faiss 1.15)."""


class AdaptedIndex:
    """Wraps any FAISS index: queries are adapted, stored vectors never.

    Arguments bear FAISS's own names, so that calls by keyword keep working.

    ``search``, ``search_and_reconstruct``, ``range_search`` and ``assign`` adapt their queries;
    FAISS's other ways to ask are not there, so that no query goes raw unnoticed. Every other
    attribute is the index's own, read and written through, so ``add``, ``ntotal`` or ``nprobe``
    work as before. It can be pickled where the index can; the adapter travels as its model's bytes.

    Attributes:
        adapter: The adapter in front; set another one of the same width to replace it.
        inner: The wrapped index; set another one of the same width to replace it.
    """

    adapter: Adapter
    inner: Any

    def __init__(self, inner: Any, adapter: Adapter) -> None:
        """Put an adapter in front of an index.

        Raises:
            ConfigError: It is no index of float vectors, is adapted already, or holds vectors of
                another width than the adapter gives.
        """
        _check_fit(inner, adapter)
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

    def assign(self, x: ArrayLike, k: int, labels: Any = None) -> NDArray[np.int64]:
        """Search as :meth:`search` does, and give the row numbers alone."""
        rows: NDArray[np.int64] = self.inner.assign(self._adapt(x), k, labels)
        return rows

    def _adapt(self, queries: ArrayLike) -> NDArray[np.float32]:
        """Adapt queries into the matrix that FAISS wants."""
        return np.atleast_2d(self.adapter.transform(queries))

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process, or into a copy, with the index.

        Raises:
            ConfigError: FAISS can't write this kind of index.
        """
        kind = type(self.inner).__name__
        if any(part in kind for part in _NEVER_WRITTEN):
            raise ConfigError(
                f"FAISS can't write an {kind}, so it can't be copied or sent to another process; "
                "open the index there and put the adapter, which can travel, before it"
            )
        return dict(self.__dict__)

    def __getattr__(self, name: str) -> Any:
        """Give the index's own attribute."""
        # Not set yet, while copying or unpickling; and how the index is copied is not how this is.
        if name in {"inner", "adapter"} or name.startswith("__"):
            raise AttributeError(name)
        if name not in _ASKS_NOTHING and any(part in name for part in _ASKS):
            raise AttributeError(
                f"an AdaptedIndex has no {name}, which would search with raw queries; ask "
                f"index.inner.{name} with index.adapter.transform(queries)"
            )
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Replace the adapter or the index, or set the index's own attribute."""
        if name == "adapter":
            _check_fit(self.inner, value)
        elif name == "inner":
            _check_fit(value, self.adapter)
        else:
            setattr(self.inner, name, value)
            return
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """Name the adapter and the index."""
        return f"AdaptedIndex({self.adapter.manifest.name!r}, {type(self.inner).__name__})"


def _check_fit(inner: Any, adapter: Any) -> None:
    """Refuse what is no adapter or no index, and an adapter of another width than the index's."""
    if not isinstance(adapter, Adapter):
        raise ConfigError(
            f"the adapter is a {type(adapter).__name__}; expected an Adapter, such as "
            "Adapter.load('models/docs')"
        )
    if isinstance(inner, AdaptedIndex):
        raise ConfigError("this index is adapted already; adapt its queries once, in one place")
    if not isinstance(getattr(inner, "d", None), int) or "Binary" in type(inner).__name__:
        raise ConfigError(
            f"expected a FAISS index of float vectors, such as faiss.read_index('docs.faiss'), "
            f"not {type(inner).__name__}"
        )
    if inner.d != adapter.dim_out:
        raise ConfigError(
            f"the index holds vectors of {inner.d} values, the adapter gives "
            f"{adapter.dim_out}; use the adapter that was trained for this index"
        )
