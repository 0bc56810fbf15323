"""The vectors that an index keeps: read back by row, and whether that is possible at all."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_files.index_file import IndexFile, can_read_lists
from trimtab.faiss_files.reading import import_faiss

Matrix = NDArray[np.float32]

_SAMPLE_ROWS = 256
_UNIT_TOLERANCE = 1e-3
_LOSSY_UNIT_TOLERANCE = 0.05  # a compressed unit vector is a little off the sphere


class StoredVectors:
    """Reads vectors back, as the index that searches has them or as they were added.

    Attributes:
        can_read: False where this kind of index can't give its vectors back.
        can_give: False where it can't, or a transform before it can't be undone.
        is_lossy: True where what is read differs from what was added.
        dim: Values in a vector as it was added.
    """

    def __init__(self, file: IndexFile) -> None:
        """Find out what an index can give back; an index of lists gets a map of its rows."""
        faiss = import_faiss()
        self._core = file.core
        self._chain = file.chain
        self._labels = file.labels
        self.dim = int(file.chain[0].d_in if file.chain else file.core.d)
        self._matrix = _view(faiss, file.core)
        self.can_read = self._matrix is not None or self._try_to_read(faiss)
        is_undone = all(_can_undo(faiss, step) for step in file.chain)
        self.can_give = self.can_read and is_undone and self._try(self.read)
        exact = (faiss.IndexFlat, faiss.IndexHNSWFlat, faiss.IndexIVFFlat, faiss.IndexNSGFlat)
        refined = isinstance(file.core, faiss.IndexRefineFlat)
        loses = any(
            step.d_out < step.d_in or isinstance(step, faiss.NormalizationTransform)
            for step in file.chain
        )
        self.is_lossy = loses or not (refined or isinstance(file.core, exact))

    def _try_to_read(self, faiss: Any) -> bool:
        """Make a map of an index of lists, and try it."""
        try:
            if isinstance(self._core, faiss.IndexIVF):
                if not can_read_lists(self._core):
                    return False
                dense, sparse = faiss.DirectMap.Array, faiss.DirectMap.Hashtable
                self._core.set_direct_map_type(dense if self._labels is None else sparse)
        except RuntimeError:
            return False
        return self._try(self.read_core)

    def _try(self, read: Callable[[NDArray[np.int64]], Matrix]) -> bool:
        """Tell whether the first vector can be read, where there is one."""
        try:
            read(np.arange(min(1, self._core.ntotal)))
        except RuntimeError:
            return False
        return True

    def read_core(self, rows: NDArray[np.int64]) -> Matrix:
        """Read vectors as the searching index has them, shape ``(rows, dim of the index)``."""
        if self._matrix is not None:
            return self._matrix[rows]
        labels = rows if self._labels is None else self._labels[rows]
        found: Matrix = self._core.reconstruct_batch(labels)
        return found

    def read_block(self, start: int, stop: int) -> Matrix:
        """Read consecutive vectors; a view where the index keeps them as they are."""
        if self._matrix is not None:
            return self._matrix[start:stop]
        return self.read_core(np.arange(start, stop))

    def read(self, rows: NDArray[np.int64]) -> Matrix:
        """Read vectors back into the form in which they were added; asks for ``can_give``."""
        vectors = np.ascontiguousarray(self.read_core(rows))
        for step in reversed(self._chain):
            vectors = step.reverse_transform(vectors)
        return vectors

    def transform(self, queries: Matrix) -> Matrix:
        """Carry queries into the space of the searching index, shape ``(n, its dim)``."""
        for step in self._chain:
            queries = step.apply(queries)
        return queries

    def look_normalised(self) -> bool:
        """Tell whether a sample of the vectors has unit length; none of what has no direction."""
        n_rows = int(self._core.ntotal)
        if not n_rows or not self.can_read:
            return False
        sample = np.unique(np.linspace(0, n_rows - 1, _SAMPLE_ROWS).astype(np.int64))
        lengths = np.linalg.norm(self.read_core(sample), axis=1)
        lengths = lengths[np.isfinite(lengths) & (lengths > 0)]
        off = _LOSSY_UNIT_TOLERANCE if self.is_lossy else _UNIT_TOLERANCE
        return bool(len(lengths) and np.abs(lengths - 1).max() <= off)


def _can_undo(faiss: Any, step: Any) -> bool:
    """Tell whether a transform can be undone.

    faiss undoes a matrix by transposing it, and takes every one that it has read from a file for
    orthonormal, whitening (``PCAW``) too.
    """
    if not isinstance(step, faiss.LinearTransform):
        return True
    matrix = faiss.vector_to_array(step.A).reshape(step.d_out, step.d_in).astype(np.float64)
    if step.d_out > step.d_in:
        matrix = matrix.T
    return bool(np.abs(matrix @ matrix.T - np.eye(len(matrix))).max() < _UNIT_TOLERANCE)


def _view(faiss: Any, core: Any) -> Matrix | None:
    """View the vectors of an index that keeps plain floats in one piece."""
    if isinstance(core, faiss.IndexHNSWFlat):
        core = faiss.downcast_index(core.storage)
    # Panorama indexes are an IndexFlat too, and keep their floats in another order.
    if type(core) not in {faiss.IndexFlat, faiss.IndexFlatIP, faiss.IndexFlatL2} or not core.ntotal:
        return None
    flat = faiss.rev_swig_ptr(core.get_xb(), core.ntotal * core.d)
    matrix: Matrix = flat.reshape(core.ntotal, core.d)
    return matrix
