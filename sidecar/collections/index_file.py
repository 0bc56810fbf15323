"""A FAISS index file, opened and taken apart: id map, transforms, and the index that searches."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidecar.errors import ConfigError, MissingExtraError

logger = logging.getLogger(__name__)

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class IndexFile:
    """An index in its parts. Rows are counted in the order in which vectors were added.

    Attributes:
        core: The index behind id maps and transforms.
        chain: Transforms that a query passes on its way to ``core``, in their order.
        numbers: What the file calls each row.
        labels: What ``core`` calls each row, ascending; None where that is the row itself.
        kind: Names of the index types, outermost first.
        owner: The index as it was read; faiss frees all parts with it.
        has_own_numbers: True where the caller who filled it chose the numbers.
    """

    core: Any
    chain: tuple[Any, ...]
    numbers: NDArray[np.int64]
    labels: NDArray[np.int64] | None
    kind: str
    owner: Any
    has_own_numbers: bool


def open_index(path: Path) -> IndexFile:
    """Open an index file, mapped into memory where its type can be.

    Raises:
        ConfigError: It is missing, no FAISS index, a binary one, or of a form that has no rows.
        MissingExtraError: faiss is not installed.
    """
    faiss = import_faiss()
    owner = _read(faiss, path)
    core = faiss.downcast_index(owner)
    chain: list[Any] = []
    numbers: NDArray[np.int64] | None = None
    kinds = [type(core).__name__]
    while True:
        if isinstance(core, faiss.IndexIDMap | faiss.IndexIDMap2):
            if numbers is not None or chain:
                raise ConfigError(f"{path}: an id map inside {kinds[0]} is not supported")
            numbers = faiss.vector_to_array(core.id_map).astype(np.int64)
        elif isinstance(core, faiss.IndexPreTransform):
            steps = range(core.chain.size())
            chain += [faiss.downcast_VectorTransform(core.chain.at(step)) for step in steps]
        else:
            break
        core = faiss.downcast_index(core.index)
        kinds.append(type(core).__name__)
    labels = _labels(faiss, core, path)
    if labels is not None and numbers is not None:
        raise ConfigError(f"{path}: {kinds[-1]} has numbers of its own under an id map")
    has_own = numbers is not None or labels is not None
    if numbers is None:
        numbers = np.arange(core.ntotal) if labels is None else labels
    return IndexFile(core, tuple(chain), numbers, labels, " > ".join(kinds), owner, has_own)


def import_faiss() -> Any:
    """Import faiss when it is first needed.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("[[collection]] needs faiss: pip install faiss-cpu") from error
    return faiss


def _read(faiss: Any, path: Path) -> Any:
    """Read a file, into memory only where nothing else works."""
    if not path.is_file():
        raise ConfigError(f"no FAISS index at {path}")
    # IO_FLAG_MMAP alone maps inverted lists only; MMAP_IFC, since faiss 1.11, codes and graphs too.
    # Its value is no bit of IO_FLAG_MMAP's, so the two can't be combined.
    ways = [
        flag | faiss.IO_FLAG_READ_ONLY
        for flag in (getattr(faiss, "IO_FLAG_MMAP_IFC", 0), faiss.IO_FLAG_MMAP)
        if flag
    ]
    for flags in ways:
        index = _attempt(faiss.read_index, path, flags)
        if not isinstance(index, RuntimeError):
            return index
    index = _attempt(faiss.read_index, path, 0)
    if isinstance(index, RuntimeError):
        if not isinstance(_attempt(faiss.read_index_binary, path, 0), RuntimeError):
            raise ConfigError(f"{path} is a binary index; only indexes of float vectors are served")
        reason = str(index).splitlines()[0].rpartition("Error: ")[2]
        raise ConfigError(f"{path} is not a FAISS index: {reason}") from index
    logger.warning("this index can't be mapped and is in memory", extra={"index": str(path)})
    return index


def _attempt(read: Callable[[str, int], Any], path: Path, flags: int) -> Any:
    """Give what a reader gives, or its error."""
    try:
        return read(str(path), flags)
    except RuntimeError as error:
        return error


def _labels(faiss: Any, core: Any, path: Path) -> NDArray[np.int64] | None:
    """Give what an index with inverted lists calls its rows; None where they are 0, 1, 2, ..."""
    if not isinstance(core, faiss.IndexIVF):
        return None
    lists = core.invlists
    parts = [
        faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).copy()
        for number in range(core.nlist)
        if lists.list_size(number)
    ]
    labels = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
    if np.array_equal(labels, np.arange(len(labels))):
        return None
    if (labels[1:] == labels[:-1]).any():
        raise ConfigError(f"{path}: two vectors have one number; numbers must be unique")
    return np.asarray(labels, np.int64)
