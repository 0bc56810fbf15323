"""Stored document vectors out of a FAISS index: ``faiss:PATH?ids=FILE``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.embeddings import BLOCK_ROWS, check_unique, read_ids
from training.errors import DataError

SCHEME = "faiss:"


@dataclass(frozen=True)
class FaissSource:
    """A FAISS file whose vectors can be read back.

    Attributes:
        ids: One document id a row, in the order of the rows.
        dim: Values in a vector.
        lossy: True where the index keeps a compressed form, so that what is read differs from
            what was added.
        kind: Type of the index, for messages.
    """

    ids: list[str]
    dim: int
    lossy: bool
    kind: str
    _index: Any
    _owner: Any  # faiss frees the vectors with the index that was read, not with views of it

    @classmethod
    def open(cls, source: str) -> "FaissSource":
        """Open ``faiss:PATH`` or ``faiss:PATH?ids=FILE``, where line i of FILE is row i.

        Raises:
            DataError: faiss is missing, the file is no index, its vectors can't be read back, or
                the ids don't fit.
        """
        path, _, options = source.removeprefix(SCHEME).partition("?")
        ids_path = ""
        for option in options.split("&") if options else []:
            key, _, ids_path = option.partition("=")
            if key != "ids":
                raise DataError(f"{source}: unknown option {key!r}; expected faiss:PATH?ids=FILE")
            if not ids_path:
                raise DataError(f"{source}: option 'ids' is empty; expected faiss:PATH?ids=FILE")
        outer = read_index(Path(path))
        index, numbers = _unwrap(outer)
        kind = type(index).__name__
        if "FastScan" in kind and "IVF" in kind:  # faiss 1.15 crashes in reconstruct_n
            raise DataError(f"a {kind} can't give its vectors back; use the vectors it was made of")
        if ids_path:
            ids = read_ids(Path(ids_path))
        else:
            ids = [str(number) for number in numbers]
            check_unique(ids, path)
        if len(ids) != index.ntotal:
            raise DataError(f"{path} holds {index.ntotal} vectors, the id file has {len(ids)} ids")
        if index.ntotal == 0:
            raise DataError(f"{path} is empty; expected at least one vector")
        return cls(ids, index.d, _is_lossy(index), kind, index, outer)

    def copy_to(self, matrix: np.ndarray) -> None:
        """Write every stored vector into a matrix of shape ``(rows, dim)``, block by block.

        Raises:
            DataError: This kind of index can't give its vectors back.
        """
        try:
            if hasattr(self._index, "make_direct_map"):
                self._index.make_direct_map()
            for start in range(0, len(self.ids), BLOCK_ROWS):
                count = min(BLOCK_ROWS, len(self.ids) - start)
                matrix[start : start + count] = self._index.reconstruct_n(start, count)
        except RuntimeError as error:
            raise DataError(f"a {self.kind} can't give its vectors back: {error}") from error


def read_index(path: Path) -> Any:
    """Read a FAISS index file.

    Raises:
        DataError: faiss is not installed, or the file is missing or no FAISS index.
    """
    try:
        import faiss
    except ImportError as error:
        raise DataError("reading a FAISS index needs faiss: pip install faiss-cpu") from error
    if not path.is_file():
        raise DataError(f"no FAISS index at {path}")
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        raise DataError(f"{path} is not a FAISS index: {str(error).splitlines()[0]}") from error


def row_numbers(index: Any) -> list[int]:
    """Give the number that an index answers with for each of its rows, in their order."""
    return _unwrap(index)[1]


def _unwrap(outer: Any) -> tuple[Any, list[int]]:
    """Reach through an id map to the index that holds the vectors, and give the row numbers."""
    import faiss

    index = faiss.downcast_index(outer)
    if isinstance(index, (faiss.IndexIDMap, faiss.IndexIDMap2)):
        numbers: list[int] = faiss.vector_to_array(index.id_map).tolist()
        return faiss.downcast_index(index.index), numbers
    return index, list(range(index.ntotal))


def _is_lossy(index: Any) -> bool:
    """Tell whether an index keeps its vectors other than as the floats that were added."""
    import faiss

    exact = (faiss.IndexFlat, faiss.IndexHNSWFlat, faiss.IndexIVFFlat, faiss.IndexNSGFlat)
    return not isinstance(index, exact)
