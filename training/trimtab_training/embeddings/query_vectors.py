"""Query vectors that exist already: a ``.npy`` matrix, checked row by row and cast to float32.

For whoever embeds queries elsewhere: no encoder is needed then, neither to train nor to search.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.array_files import ArrayFileError, open_array
from trimtab_training.embeddings.encoders import Encoder, describe_encoder
from trimtab_training.embeddings.store import BLOCK_ROWS, UNIT_TOLERANCE, EncoderInfo, read_ids
from trimtab_training.errors import DataError
from trimtab_training.files import new_matrix

_SHOWN_ROWS = 10
UNKNOWN = "unknown"
"""Name of an encoder that nobody has named."""


@dataclass(frozen=True)
class QueryVectors:
    """A matrix of query vectors, known to be usable.

    Attributes:
        matrix: Shape ``(rows, dim)``, of any float type, memory-mapped.
        is_unit: True where all rows have unit length.
    """

    matrix: NDArray[Any]
    is_unit: bool

    @classmethod
    def open(cls, path: Path) -> "QueryVectors":
        """Open a matrix, or a single vector, and check every row.

        Raises:
            DataError: The file is missing or no ``.npy`` matrix of floats, or rows hold NaN,
                infinity or only zeros: with their numbers.
        """
        try:
            matrix = open_array(path)
        except ArrayFileError as error:
            raise DataError(f"can't read {path}: {error}; expected a .npy matrix") from error
        if matrix.ndim == 1:
            matrix = matrix[np.newaxis]
        if matrix.ndim != 2 or matrix.dtype.kind != "f" or not matrix.size:
            raise DataError(
                f"{path} has shape {matrix.shape} and type {matrix.dtype}; expected a matrix of "
                "floats (rows, dim), one query vector a row"
            )
        return cls(matrix, _check_rows(matrix, path))

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.matrix)

    @property
    def dim(self) -> int:
        """Values in a vector."""
        return int(self.matrix.shape[1])

    @property
    def is_cast(self) -> bool:
        """True where the file's floats are wider than the float32 that they become."""
        return self.matrix.dtype.itemsize > 4

    def read(self) -> NDArray[np.float32]:
        """Copy all vectors into memory, as float32."""
        return np.concatenate([block for _, block in _blocks(self.matrix)])

    def copy_to(self, target: Path) -> None:
        """Write the vectors as a float32 matrix, block by block."""
        copied = new_matrix(target, (len(self), self.dim))
        for start, block in _blocks(self.matrix):
            copied[start : start + len(block)] = block
        copied.flush()


@dataclass(frozen=True)
class NamedQueries:
    """Query vectors with their ids, and what is known of their encoder.

    Attributes:
        vectors: The vectors.
        ids: One id a row.
        encoder: What embedded them, where that is known; it is described, never asked.
    """

    vectors: QueryVectors
    ids: list[str]
    encoder: Encoder | None = None

    @classmethod
    def open(cls, path: Path, ids_path: Path, encoder: Encoder | None = None) -> "NamedQueries":
        """Open a matrix and the file of its ids, one a line.

        Raises:
            DataError: One can't be used, or they differ in number.
        """
        vectors, ids = QueryVectors.open(path), read_ids(ids_path)
        if len(ids) != len(vectors):
            raise DataError(f"{path} has {len(vectors)} rows, {ids_path} has {len(ids)} ids")
        return cls(vectors, ids, encoder)

    def match(self, query_ids: Sequence[str]) -> tuple[int, int]:
        """Hold the ids against a dataset's queries.

        Returns:
            Queries of the dataset that have no vector, and vectors of no query in it.

        Raises:
            DataError: No vector is of any query.
        """
        wanted, found = set(query_ids), set(self.ids)
        if wanted.isdisjoint(found):
            raise DataError(
                f"none of the {len(found)} query ids is one of the dataset's, which has "
                f"{len(wanted)}: {self.ids[0]!r} is not, one that is: {query_ids[0]!r}; check "
                "--query-ids"
            )
        return len(wanted - found), len(found - wanted)

    def describe(self) -> EncoderInfo:
        """Say what embedded them, as far as that is known; an empty fingerprint is not known."""
        dim, is_unit = self.vectors.dim, self.vectors.is_unit
        if self.encoder is None:
            return EncoderInfo(UNKNOWN, "", dim, normalised=is_unit)
        return describe_encoder(self.encoder, dim, normalised=is_unit)


def _blocks(matrix: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Go through a matrix in pieces: the first row's number, and the piece as float32."""
    for start in range(0, len(matrix), BLOCK_ROWS):
        with np.errstate(over="ignore", invalid="ignore"):  # what leaves float32 is refused as inf
            yield start, np.array(matrix[start : start + BLOCK_ROWS], dtype=np.float32)


def _check_rows(matrix: NDArray[Any], path: Path) -> bool:
    """Refuse rows that nothing can be searched with; say whether all have unit length."""
    not_finite: list[int] = []
    zero: list[int] = []
    is_unit = True
    for start, block in _blocks(matrix):
        squares = np.einsum("nd,nd->n", block, block, dtype=np.float64)
        not_finite += (start + np.flatnonzero(~np.isfinite(squares))).tolist()
        zero += (start + np.flatnonzero(squares == 0)).tolist()
        is_unit = is_unit and bool(np.all(np.abs(np.sqrt(squares) - 1) < UNIT_TOLERANCE))
    faults = [
        f"{_name_rows(rows)} {what}"
        for rows, what in (
            (not_finite, "NaN, infinity or more than float32 holds"),
            (zero, "only zeros"),
        )
        if rows
    ]
    if faults:
        raise DataError(
            f"{path}: {'; '.join(faults)} (of {len(matrix)} rows, counted from 0); embed these "
            "queries again, or leave their rows and ids out"
        )
    return is_unit


def _name_rows(rows: Sequence[int]) -> str:
    """Name some rows, and how many more there are."""
    if len(rows) == 1:
        return f"row {rows[0]} holds"
    shown = ", ".join(map(str, rows[:_SHOWN_ROWS]))
    more = f" and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
    return f"rows {shown}{more} hold"
