"""Stored document vectors out of a FAISS index: ``faiss:PATH?ids=FILE``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import SidecarError
from trimtab.faiss_files import (
    IndexFile,
    StoredVectors,
    check_numbers,
    cut_number,
    open_index,
    read_id_lines,
)
from trimtab_training.embeddings.store import BLOCK_ROWS, check_unique, read_ids
from trimtab_training.errors import DataError

SCHEME = "faiss:"
_DISTANCES = {0: "dot", 1: "euclid"}  # faiss.METRIC_INNER_PRODUCT and METRIC_L2
_FORM = "faiss:PATH?ids=FILE"


@dataclass(frozen=True)
class FaissSource:
    """A FAISS file whose vectors can be read back.

    Attributes:
        ids: One document id a row, in the order of the rows.
        dim: Values in a vector.
        lossy: True where the index keeps a compressed form, so that what is read differs from
            what was added.
        kind: Type of the index, for messages.
        distance: What it compares by: ``dot`` or ``euclid``.
    """

    ids: list[str]
    dim: int
    lossy: bool
    kind: str
    distance: str
    _stored: StoredVectors
    _file: IndexFile  # faiss frees the vectors with the index that was read, not with views of it

    @classmethod
    def open(cls, source: str) -> "FaissSource":
        """Open ``faiss:PATH`` or ``faiss:PATH?ids=FILE``, and check the ids of all rows.

        Line i of FILE is row i, or every line is ``NUMBER<TAB>ID`` with the index's own number;
        the latter is asked for where the index has no order of rows. Without FILE, the index's own
        numbers are the ids.

        Raises:
            DataError: faiss is missing, the file is no index, its vectors can't be read back, or
                the ids don't fit.
        """
        path, ids_path = _split(source)
        file = open_file(path)
        kind = type(file.core).__name__
        if ids_path is not None:
            ids = read_row_ids(ids_path, path, file)
        else:
            ids = [str(number) for number in file.numbers.tolist()]
            check_unique(ids, str(path))
        stored = StoredVectors(file)
        if not stored.can_give:
            way = "has a transform that can't be undone" if stored.can_read else "keeps none"
            raise DataError(
                f"a {kind} can't give its vectors back: {path} {way}; use the vectors it was made "
                "of"
            )
        metric = int(file.core.metric_type)
        if metric not in _DISTANCES:
            raise DataError(
                f"{path} compares by FAISS's metric {metric}; adapters are trained for inner "
                "product and L2"
            )
        return cls(ids, stored.dim, stored.is_lossy, kind, _DISTANCES[metric], stored, file)

    @property
    def flags(self) -> int | None:
        """Those that the file was opened with; see :func:`open_file`."""
        return self._file.flags

    def copy_to(self, matrix: NDArray[Any]) -> None:
        """Write every stored vector into a matrix of shape ``(rows, dim)``, block by block.

        Raises:
            DataError: This kind of index can't give its vectors back.
        """
        try:
            for start in range(0, len(self.ids), BLOCK_ROWS):
                rows = np.arange(start, min(start + BLOCK_ROWS, len(self.ids)))
                matrix[rows] = self._stored.read(rows)
        except RuntimeError as error:
            line = str(error).splitlines()[0]
            raise DataError(f"a {self.kind} can't give its vectors back: {line}") from error


def open_file(path: Path, flags: int | None = None) -> IndexFile:
    """Open a FAISS index file.

    Args:
        path: The file.
        flags: Those of an opening just before this one, which is not tried again.

    Raises:
        DataError: faiss is not installed, or the file is missing, no FAISS index, damaged, or
            holds no vectors.
    """
    with _speaking():
        file = open_index(path, flags)
    if not len(file):
        raise DataError(f"{path} is empty; expected at least one vector")
    return file


def read_row_ids(ids: Path, index: Path, file: IndexFile) -> list[str]:
    """Read the ids of an index's rows, in the order of the rows.

    Raises:
        DataError: They don't fit the index, or one stands twice.
    """
    lines = read_ids(ids)
    if len(lines) != len(file):
        raise DataError(f"{index} holds {len(file)} vectors, {ids} has {len(lines)} ids")
    with _speaking():
        rows = read_id_lines(lines, file, ids)
    if rows is None:
        return lines
    named = [""] * len(lines)
    for row, line in zip(rows.tolist(), lines, strict=True):
        named[row] = cut_number(line)
    check_unique(named, str(ids))
    return named


def require_numbers(path: Path, file: IndexFile) -> NDArray[np.int64]:
    """Give the number that an index answers with for each of its rows, no two of them equal.

    Raises:
        DataError: Two rows have one number.
    """
    with _speaking():
        check_numbers(file.numbers, path)
    return file.numbers


def _split(source: str) -> tuple[Path, Path | None]:
    """Take the name of a source apart."""
    path, _, options = source.removeprefix(SCHEME).partition("?")
    found: list[Path] = []
    for option in options.split("&") if options else []:
        key, _, value = option.partition("=")
        if key != "ids":
            raise DataError(f"{source}: unknown option {key!r}; expected {_FORM}")
        if not value:
            raise DataError(f"{source}: option 'ids' is empty; expected {_FORM}")
        found.append(Path(value))
    if len(found) > 1:
        raise DataError(f"{source}: option 'ids' stands {len(found)} times; expected {_FORM}")
    return Path(path), found[0] if found else None


@contextmanager
def _speaking() -> Iterator[None]:
    """Turn an error of the reader into one of this package."""
    try:
        yield
    except SidecarError as error:
        raise DataError(str(error)) from error
