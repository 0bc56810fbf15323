"""What an index should find: its own vectors, checked against the embeddings' documents."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trimtab_training.data.qrels import name_some
from trimtab_training.embeddings.faiss_source import FaissSource
from trimtab_training.embeddings.store import VectorTable
from trimtab_training.errors import DataError
from trimtab_training.files import take_space
from trimtab_training.retrieval.exact_search import normalise

_SAME = 1e-3
"""Relative length of a difference that float16 may make; an 8-bit code makes ten times as much."""
_UNIT = 5e-3
_LOSSY_LENGTHS = (0.5, 1.25)
"""Mean length of unit vectors after coarse compression, which pulls them towards their mean."""
_OWN_SHARE = 0.9
"""A compressed vector's squared distance to its own document is below this share of others'."""


@dataclass(frozen=True)
class Reference:
    """The vectors that exact search compares with.

    Attributes:
        vectors: One a row of the index, in its order.
        is_lossy: True where the index keeps them compressed; these are then the documents.
        is_unit: True where the vectors in the index have unit length.
        flags: Those that its file was opened with; see :func:`open_file`.
    """

    vectors: VectorTable
    is_lossy: bool
    is_unit: bool
    flags: int | None


@contextmanager
def open_reference(source: str, documents: VectorTable, similarity: str) -> Iterator[Reference]:
    """Lay out what exact search compares with, in a temporary file.

    Raises:
        DataError: There is no such index, its vectors can't be read back, or it holds other
            documents than the embeddings.
    """
    stored = FaissSource.open(source)
    _check_ids(stored, documents, source)
    shape, flags = (len(stored.ids), stored.dim), stored.flags
    with tempfile.TemporaryFile() as file:
        take_space(file.fileno(), shape[0] * shape[1] * np.dtype(np.float32).itemsize)
        matrix = np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
        stored.copy_to(matrix)
        vectors = VectorTable(stored.ids, matrix, "documents")
        compared = _compare(vectors, documents, similarity)
        compared.check(source, keeps_floats=not stored.lossy)
        del stored  # its memory goes before the index is read again to be searched
        if compared.is_lossy:
            for start, block in vectors.blocks():
                ids = vectors.ids[start : start + len(block)]
                matrix[start : start + len(block)] = documents.take_ids(ids)
        yield Reference(vectors, compared.is_lossy, compared.is_unit, flags)


def as_compared(vectors: NDArray[np.float32], similarity: str) -> NDArray[np.float32]:
    """Give vectors unit length where cosine compares them; others stay as they are."""
    if similarity != "cosine":
        return np.ascontiguousarray(vectors)
    found: NDArray[np.float32] = normalise(torch.from_numpy(np.ascontiguousarray(vectors))).numpy()
    return found


def _check_ids(stored: FaissSource, documents: VectorTable, source: str) -> None:
    """Refuse an index of other documents."""
    if stored.dim != documents.dim:
        raise DataError(
            f"{source} holds vectors of {stored.dim} values, the embeddings' documents have "
            f"{documents.dim}; use the index of these documents"
        )
    for missing, owner, place in (
        (documents.rows.keys() - set(stored.ids), "the embeddings", source),
        (set(stored.ids) - documents.rows.keys(), source, "the embeddings"),
    ):
        if missing:
            raise DataError(
                f"{name_some(missing)} documents of {owner} are not in {place}; use the index of "
                "these documents, and name its rows with faiss:PATH?ids=FILE"
            )


@dataclass(frozen=True)
class _Compared:
    """How stored vectors stand to the documents of the same ids."""

    n_rows: int
    n_different: int  # rows that differ by more than rounding
    own_error: float  # squared distance to the document of the same id, in all
    other_error: float  # squared distance to the document of another row, in all
    mean_length: float
    furthest_from_unit: float

    @property
    def is_lossy(self) -> bool:
        """Tell whether rounding can't explain the difference."""
        return self.n_different > 0

    @property
    def is_unit(self) -> bool:
        """Tell whether the vectors had unit length when they were added."""
        if self.is_lossy:
            return _LOSSY_LENGTHS[0] < self.mean_length < _LOSSY_LENGTHS[1]
        return self.furthest_from_unit < _UNIT

    def check(self, source: str, *, keeps_floats: bool) -> None:
        """Refuse vectors that no compression of the documents could have made."""
        is_shuffled = self.n_rows > 1 and self.own_error > _OWN_SHARE * self.other_error
        if self.is_lossy and (keeps_floats or is_shuffled):
            raise DataError(
                f"{self.n_different} of {self.n_rows} vectors in {source} are not those that the "
                "embeddings have under the same ids; check the order of the ids, and the encoder"
            )


def _compare(stored: VectorTable, documents: VectorTable, similarity: str) -> _Compared:
    """Compare stored vectors with the documents, block by block; cosine leaves lengths aside."""
    n_different, own_error, other_error, lengths, furthest = 0, 0.0, 0.0, 0.0, 0.0
    for start, block in stored.blocks():
        length = np.linalg.norm(block, axis=1)
        lengths += float(length.sum())
        furthest = max(furthest, float(np.abs(length - 1).max()))
        ids = stored.ids[start : start + len(block)]
        found = as_compared(block, similarity)
        wanted = as_compared(documents.take_ids(ids), similarity)
        error = np.square(found - wanted).sum(axis=1)
        n_different += int((~(error <= _SAME**2 * np.square(wanted).sum(axis=1))).sum())
        own_error += float(error.sum())
        other_error += float(np.square(found - np.roll(wanted, 1, axis=0)).sum())
    n_rows = len(stored)
    return _Compared(n_rows, n_different, own_error, other_error, lengths / n_rows, furthest)
