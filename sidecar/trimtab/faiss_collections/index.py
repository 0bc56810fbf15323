"""Search in one FAISS index, with what Qdrant's queries ask: filters and exactness."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import ConfigError
from trimtab.faiss_collections.columns import Mask
from trimtab.faiss_collections.replies import not_served
from trimtab.faiss_files import IndexFile, Matrix, StoredVectors, import_faiss, open_index
from trimtab.faiss_files.threads import one_thread

Scores = NDArray[np.float32]

_BLOCK_ROWS = 8192
_FEW_ROWS = 10_000
"""So few rows are compared one by one sooner than an index is asked to leave the others out."""
_GRAPH_SHARE = 0.1
"""A graph loses its way where a filter lets less than this share pass."""
_SPARE = 64
"""So many rows in the way are searched past, which any index can, rather than filtered out."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How thorough a search is.

    Attributes:
        exact: True to compare with every vector.
        hnsw_ef: Candidates of a graph search; for inverted lists, lists to visit.
        nprobe: Inverted lists to visit.
    """

    exact: bool = False
    hnsw_ef: int | None = None
    nprobe: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Rows with the scores that Qdrant shows, best first."""

    rows: NDArray[np.int64]
    scores: Scores


def _searches_by_metric(faiss: Any, core: Any) -> bool:
    """Tell whether faiss searches an index by the metric that it names.

    Of L1, only indexes of plain floats know anything (faiss' wiki, "MetricType and distances"):
    scalar quantisers raise, product quantisers give inner products. LSH gives Hamming distances.
    """
    if isinstance(core, faiss.IndexRefine):
        parts = (faiss.downcast_index(core.base_index), faiss.downcast_index(core.refine_index))
        return all(_searches_by_metric(faiss, part) for part in parts)
    if isinstance(core, faiss.IndexPreTransform):
        return _searches_by_metric(faiss, faiss.downcast_index(core.index))
    if core.metric_type == faiss.METRIC_L1:
        plain = (faiss.IndexFlat, faiss.IndexHNSWFlat, faiss.IndexIVFFlat, faiss.IndexNSGFlat)
        return isinstance(core, (*plain, faiss.IndexNNDescentFlat))
    return not isinstance(core, faiss.IndexLSH)


class VectorIndex:
    """A FAISS index over rows 0 to ``size``.

    Attributes:
        file: The index in its parts.
        stored: Its vectors.
        size: Rows.
        dim: Values in a query.
        distance: Qdrant's word for how vectors are compared: ``Cosine``, ``Dot``, ``Euclid`` or
            ``Manhattan``.
        is_lower_better: True for the latter two.
    """

    def __init__(self, path: Path) -> None:
        """Open an index file.

        Raises:
            ConfigError: It is no index that can be served.
            MissingExtraError: faiss is not installed.
        """
        faiss = import_faiss()
        self._faiss = faiss
        self.file: IndexFile = open_index(path)
        self._core = self.file.core
        self.stored = StoredVectors(self.file)
        self.size = int(self._core.ntotal)
        self.dim = self.stored.dim
        metric = self._core.metric_type
        known = {faiss.METRIC_L2: "Euclid", faiss.METRIC_L1: "Manhattan"}
        if metric != faiss.METRIC_INNER_PRODUCT and metric not in known:
            raise ConfigError(
                f"{path} compares vectors by a metric that Qdrant has not; expected inner product, "
                "L2 or L1"
            )
        if not _searches_by_metric(faiss, self._core):
            raise ConfigError(
                f"{path}: faiss searches {self.file.kind} by another measure than the "
                f"{known.get(metric, 'inner product')} that it names, or not at all; for L1, "
                "expected Flat, HNSW, NSG or IVF with plain vectors, for others any but LSH"
            )
        self.is_lower_better = metric in known
        self.distance = known.get(metric) or ("Cosine" if self.stored.look_normalised() else "Dot")

    def prepare(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Carry a query of shape ``(dim,)`` into the space of the searching index."""
        if self.distance == "Cosine":
            length = np.linalg.norm(query)
            query = np.asarray(query / length, np.float32) if length else query
        prepared: NDArray[np.float32] = self.stored.transform(np.ascontiguousarray(query[None]))[0]
        return prepared

    def compare(self, query: NDArray[np.float32], block: Matrix) -> Scores:
        """Give the similarities of a prepared query with vectors of the searching index.

        Higher is better: an inner product, or a distance made negative (squared, for Euclid).
        """
        if not self.is_lower_better:
            products: Scores = block @ query
            return products
        gaps = block - query
        distances: Scores = (np.square if self.distance == "Euclid" else np.abs)(gaps).sum(axis=1)
        return -distances

    def search(
        self, query: NDArray[np.float32], k: int, allowed: Mask | None, options: SearchOptions
    ) -> Found:
        """Find the rows nearest to a prepared query.

        As many rows as there are come back: where an approximate search finds too few, a
        thorough one follows.

        Args:
            query: From :meth:`prepare`.
            k: Rows to find.
            allowed: Rows that may be found; None for all.
            options: How thorough to be.
        """
        n_allowed = self.size if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, n_allowed)
        if not k:
            return Found(np.zeros(0, np.int64), np.zeros(0, np.float32))
        if self._prefers_scan(k, n_allowed, options):
            return self._scan(query, k, allowed)
        found = self._ask(query, k, allowed, options)
        if found is not None and len(found.rows) == k:
            return found
        if self.stored.can_read:
            return self._scan(query, k, allowed)
        found = self._ask(query, k, allowed, SearchOptions(exact=True)) or found
        if found is None:
            raise not_served(
                f"a filtered search in {self.file.kind}",
                "leave out the filter, or serve an index that keeps its vectors (Flat, HNSW, IVF)",
            )
        return found

    def _prefers_scan(self, k: int, n_allowed: int, options: SearchOptions) -> bool:
        """Tell where comparing one by one is the better search."""
        if not self.stored.can_read:
            return False
        if n_allowed < self.size - _SPARE:
            is_graph = isinstance(self._core, self._faiss.IndexHNSW)
            if n_allowed <= _FEW_ROWS or (is_graph and n_allowed < self.size * _GRAPH_SHARE):
                return True
        would_miss_some = options.exact and not self._is_exhaustive()
        return would_miss_some or k * 8 > self.size > _BLOCK_ROWS

    def _is_exhaustive(self) -> bool:
        """Tell whether the index itself can compare with every vector."""
        faiss = self._faiss
        if isinstance(self._core, faiss.IndexIVF):  # a graph of centroids may miss a list
            return isinstance(faiss.downcast_index(self._core.quantizer), faiss.IndexFlat)
        return isinstance(self._core, faiss.IndexFlatCodes)

    def _scan(self, query: NDArray[np.float32], k: int, allowed: Mask | None) -> Found:
        """Compare rows one by one and keep the best."""
        rows = np.arange(self.size) if allowed is None else np.flatnonzero(allowed)
        parts = []
        for start in range(0, len(rows), _BLOCK_ROWS):
            part = rows[start : start + _BLOCK_ROWS]
            if allowed is None:  # a view, where the index has the vectors as they are
                block = self.stored.read_block(start, start + len(part))
            else:
                block = self.stored.read_core(part)
            parts.append(self.compare(query, block))
        scores = np.concatenate(parts)
        if not (is_comparable := np.isfinite(scores)).all():  # NaN would sort as the best
            rows, scores = rows[is_comparable], scores[is_comparable]
        if k < len(scores):
            best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
            rows, scores = rows[best], scores[best]
        order = np.lexsort((rows, -scores))
        scores = scores[order]
        return self._show(rows[order], -scores if self.is_lower_better else scores)

    def _show(self, rows: NDArray[np.int64], scores: Scores) -> Found:
        """Turn FAISS's scores into Qdrant's, which takes the root for Euclid."""
        return Found(rows, np.sqrt(np.maximum(scores, 0)) if self.distance == "Euclid" else scores)

    def require_vectors(self, what: str) -> None:
        """Refuse what needs stored vectors where they can't be read."""
        if not self.stored.can_read:
            raise not_served(
                f"{what} in {self.file.kind}, which can't give its vectors back,",
                "ask by vector without `exact`, or serve an index that keeps its vectors (Flat, "
                "HNSW, IVF)",
            )

    def vectors(self, rows: NDArray[np.int64]) -> Matrix:
        """Read vectors back as they were added, as well as the index knows them."""
        self.require_vectors("giving vectors")
        if not self.stored.can_give:
            raise not_served(
                f"giving vectors of {self.file.kind}, whose transform can't be undone,",
                "ask by vector and without `with_vector`",
            )
        return self.stored.read(rows)

    def _ask(
        self, query: NDArray[np.float32], k: int, allowed: Mask | None, options: SearchOptions
    ) -> Found | None:
        """Let faiss search; None where it can't leave rows out."""
        n_barred = 0 if allowed is None else self.size - int(np.count_nonzero(allowed))
        selector = None
        if allowed is not None and n_barred > _SPARE:
            selector, n_barred = self._select(allowed), 0
        try:
            with one_thread():
                params = self._params(self._core, selector, options)
                scores, labels = self._core.search(query[None], k + n_barred, params=params)
        except RuntimeError:
            if selector is None:
                raise
            return None
        is_found = (labels[0] != -1) & np.isfinite(scores[0])  # numbers of one's own may be < 0
        rows, scores = labels[0][is_found], scores[0][is_found]
        if self.file.labels is not None:
            rows = np.searchsorted(self.file.labels, rows)
        if allowed is not None and n_barred:
            kept = np.flatnonzero(allowed[rows])[:k]
            rows, scores = rows[kept], scores[kept]
        return self._show(rows, scores)

    def _select(self, allowed: Mask) -> Any:
        """Write rows as faiss wants them."""
        if self.file.labels is not None:
            return self._faiss.IDSelectorBatch(self.file.labels[allowed])
        return self._faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))

    def _params(self, index: Any, selector: Any, options: SearchOptions) -> Any:
        """Write what a search is told, in the form of the index's type; None for nothing."""
        faiss = self._faiss
        given: dict[str, Any] = {} if selector is None else {"sel": selector}
        if isinstance(index, faiss.IndexRefine):
            base = self._params(faiss.downcast_index(index.base_index), selector, options)
            factor = index.k_factor
            return faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=base)
        if isinstance(index, faiss.IndexIVF):
            wanted = index.nlist if options.exact else options.nprobe or options.hnsw_ef
            given["nprobe"] = min(wanted or index.nprobe, index.nlist)
            return faiss.SearchParametersIVF(**given)
        if isinstance(index, faiss.IndexHNSW):
            given["efSearch"] = min(options.hnsw_ef or index.hnsw.efSearch, self.size)
            return faiss.SearchParametersHNSW(**given)
        if isinstance(index, faiss.IndexPreTransform):  # before the base of a refined index
            return self._params(faiss.downcast_index(index.index), selector, options)
        return faiss.SearchParameters(**given) if given else None
