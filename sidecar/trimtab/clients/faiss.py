"""A FAISS index whose searches are adapted, and nothing else.

The index is used as it is handed over, so this module does not import faiss.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab.errors import ConfigError
from trimtab.model.adapter import Adapter
from trimtab.model.session import one_line
from trimtab.vectors import as_floats

if TYPE_CHECKING:
    from trimtab.model.second_look import SecondLook

logger = logging.getLogger(__name__)

Found = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]
"""Scores, rows and stored vectors: ``(n, k)``, ``(n, k)`` and ``(n, k, dim)``."""

_DOCUMENTS_AT_ONCE = 25_600
"""Of several queries, whose stored vectors are held at a time: 300 MB of 3,072 values."""
_NOT_FOUND = -1
"""FAISS's row where there are fewer documents than asked for; ids may be any other number."""
_METRIC_INNER_PRODUCT, _METRIC_L2 = 0, 1  # faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2

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

    With ``second_look=True``, ``search`` and ``search_and_reconstruct`` score the best documents
    anew, as the model's file says (:class:`trimtab.model.second_look.SecondLook`), and put them in
    that order; their scores are then the second look's, as distances where the index has distances.

    Attributes:
        adapter: The adapter in front; set another one of the same width to replace it.
        inner: The wrapped index; set another one of the same width to replace it.
    """

    adapter: Adapter
    inner: Any
    _looks_twice = False  # also of one that an older version has pickled
    _told_of = ""

    def __init__(self, inner: Any, adapter: Adapter, *, second_look: bool = False) -> None:
        """Put an adapter in front of an index.

        Args:
            inner: The index.
            adapter: The adapter.
            second_look: Whether the best documents are looked at again.

        Raises:
            ConfigError: It is no index of float vectors, is adapted already, or holds vectors of
                another width than the adapter gives; or a second look is asked for and the model
                has none, or the index can't give its vectors (told by the first search of one
                that is empty yet).
        """
        _check_fit(inner, adapter, second_look=second_look)
        object.__setattr__(self, "_looks_twice", second_look)
        object.__setattr__(self, "_told_of", "")
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
        # What is wrong with other arguments, FAISS says itself.
        if self._looks_twice and k > 0 and "R" not in options:
            scores, rows = self._search_twice(x, k, options, ("D", "I"))[:2]
        else:
            scores, rows = self.inner.search(self._adapt(x), k, **options)
        return scores, rows

    def search_and_reconstruct(self, x: ArrayLike, k: int, **options: Any) -> Any:
        """Search as :meth:`search` does; FAISS adds the stored vectors of what was found."""
        if self._looks_twice and k > 0:
            return self._search_twice(x, k, options, ("D", "I", "R"))
        return self.inner.search_and_reconstruct(self._adapt(x), k, **options)

    def _search_twice(
        self, x: ArrayLike, k: int, options: dict[str, Any], wanted: Sequence[str]
    ) -> tuple[NDArray[Any], ...]:
        """Search, and look at the best documents again; give what is wanted by FAISS's letters."""
        into = {letter: options.pop(letter, None) for letter in wanted}
        adapter = self.adapter.current
        queries = np.atleast_2d(as_floats(x))
        depth = max(k, adapter.second_look.depth if adapter.second_look else 1)
        step = max(1, _DOCUMENTS_AT_ONCE // depth)
        found = [  # of a search without them, no part's vectors stay
            self._search_part(adapter, part, k, options)[: len(wanted)]
            for part in np.split(queries, range(step, len(queries), step))
        ]
        joined = tuple(map(np.concatenate, zip(*found, strict=True)))
        for values, given in zip(joined, into.values(), strict=True):
            if given is not None:
                given[:] = values
        return joined

    def _search_part(
        self, adapter: Adapter, queries: NDArray[np.float32], k: int, options: dict[str, Any]
    ) -> Found:
        """Search with some queries, and look at the best documents again."""
        adapted, look = adapter.transform(queries), adapter.second_look
        if look is None:  # a newer model than the one that the index was made with
            self._tell_of_none(adapter)
            return self._find(adapted, k, 0, options)
        found = self._find(adapted, max(k, look.depth), look.depth, options)
        is_distance = self.inner.metric_type == _METRIC_L2
        return _look_again(look, queries, adapted, found, k, is_distance=is_distance)

    def _find(
        self, adapted: NDArray[np.float32], k: int, depth: int, options: dict[str, Any]
    ) -> Found:
        """Search by adapted queries, and have the stored vectors of the best ``depth`` for sure.

        Raises:
            ConfigError: The index, empty when it was handed over, can't give vectors.
        """
        try:
            found: Found = self.inner.search_and_reconstruct(adapted, k, **options)
            _fill_in(self.inner, found, depth)
        except Exception:  # FAISS raises RuntimeError, its Python part others
            _check_vectors(self.inner)
            raise
        return found

    def _tell_of_none(self, adapter: Adapter) -> None:
        """Say in the log, once for a model, that it has no second look."""
        if adapter.mark != self._told_of:
            object.__setattr__(self, "_told_of", adapter.mark)
            logger.warning(
                "the model has no second look: searches go without", extra={"adapter": adapter.mark}
            )

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
            _check_fit(self.inner, value, second_look=self._looks_twice)
        elif name == "inner":
            _check_fit(value, self.adapter, second_look=self._looks_twice)
        else:
            setattr(self.inner, name, value)
            return
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """Name the adapter and the index."""
        return f"AdaptedIndex({self.adapter.manifest.name!r}, {type(self.inner).__name__})"


def _fill_in(inner: Any, found: Found, depth: int) -> None:
    """Ask for stored vectors that a search has not brought: of some ids FAISS leaves them out."""
    _, rows, vectors = found
    is_missing = (rows != _NOT_FOUND) & ~np.isfinite(vectors).all(axis=2)
    for query, place in np.argwhere(is_missing[:, :depth]).tolist():
        vectors[query, place] = inner.reconstruct(int(rows[query, place]))


def _look_again(
    look: "SecondLook",
    queries: NDArray[np.float32],
    adapted: NDArray[np.float32],
    found: Found,
    k: int,
    *,
    is_distance: bool,
) -> Found:
    """Put the best documents of a search in the order of a second look.

    Those past its depth, and what FAISS has not found, stay behind them as they were; so does one
    whose stored vector is no vector.
    """
    scores, rows, vectors = found
    seen = vectors[:, : look.depth]
    is_scored = (rows[:, : look.depth] != _NOT_FOUND) & np.isfinite(seen).all(axis=2)
    anew = look.rescore(
        queries, adapted, np.where(is_scored[:, :, np.newaxis], seen, np.float32(0))
    )
    order = np.argsort(np.where(is_scored, -anew, np.inf), axis=1, kind="stable")
    # Of unit vectors, a distance says what a cosine says.
    scores[:, : look.depth] = np.where(
        is_scored, 2 - 2 * anew if is_distance else anew, scores[:, : look.depth]
    )
    behind = np.tile(np.arange(order.shape[1], rows.shape[1]), (len(rows), 1))
    order = np.hstack([order, behind])[:, :k]
    return (
        np.take_along_axis(scores, order, axis=1),
        np.take_along_axis(rows, order, axis=1),
        np.take_along_axis(vectors, order[:, :, np.newaxis], axis=1),
    )


def _check_look(inner: Any, adapter: Adapter) -> None:
    """Refuse a second look where the model has none, or the index can't give stored vectors."""
    if adapter.second_look is None:
        raise ConfigError(
            f"model {adapter.mark} has no second look; fit it with 'rescore = 100' in the recipe, "
            "or leave second_look out"
        )
    if inner.metric_type not in {_METRIC_INNER_PRODUCT, _METRIC_L2}:
        raise ConfigError(
            f"the index compares by FAISS's metric {inner.metric_type}; a second look wants inner "
            "products or L2"
        )
    _check_vectors(inner)


def _check_vectors(inner: Any) -> None:
    """Refuse a second look where the index can't give stored vectors; an empty one may yet."""
    if not inner.ntotal:
        return
    try:
        _fill_in(inner, inner.search_and_reconstruct(np.zeros((1, inner.d), np.float32), 1), 1)
    except Exception as error:  # FAISS raises RuntimeError, its Python part others
        raise ConfigError(
            f"a second look wants stored vectors, which this {type(inner).__name__} can't give "
            f"({one_line(error)}); of an IndexIDMap, make an IndexIDMap2; of an IVF index with ids "
            "before it, faiss.extract_index_ivf(index).make_direct_map(); or leave second_look out"
        ) from error


def _check_fit(inner: Any, adapter: Any, *, second_look: bool) -> None:
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
    if second_look:
        _check_look(inner, adapter)
