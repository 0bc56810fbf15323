"""A FAISS index taken apart: id map, transforms, and the index that searches."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import ConfigError
from trimtab.faiss_files.reading import find_lists, import_faiss

_NOTHING = -1
"""What faiss answers with where it has found too few."""


@dataclass(frozen=True, slots=True)
class IndexFile:
    """An index in its parts. Rows are counted in the order in which vectors were added.

    Where the caller's own numbers stand in inverted lists (``labels``), that order is not known,
    and rows are counted by number.

    Attributes:
        core: The index behind id maps and transforms.
        chain: Transforms that a query passes on its way to ``core``, in their order.
        numbers: What the file calls each row; those of an id map may stand twice.
        labels: What ``core`` calls each row, ascending; None where that is the row itself.
        kind: Names of the index types, outermost first.
        owner: The index as it was read; faiss frees all parts with it.
        has_own_numbers: True where the caller who filled it chose the numbers.
        flags: Those that its file was opened with; None where it is from no file.
    """

    core: Any
    chain: tuple[Any, ...]
    numbers: NDArray[np.int64]
    labels: NDArray[np.int64] | None
    kind: str
    owner: Any
    has_own_numbers: bool
    flags: int | None = None

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.numbers)


def take_apart(owner: Any, path: Path) -> IndexFile:
    """Find the parts of an index, and what it calls its rows.

    Raises:
        ConfigError: Vectors or lists are missing, or its numbers don't tell one row from another.
    """
    faiss = import_faiss()
    core = faiss.downcast_index(owner)
    chain: list[Any] = []
    numbers: NDArray[np.int64] | None = None
    kinds = [type(core).__name__]
    while True:
        if isinstance(core, faiss.IndexIDMap | faiss.IndexIDMap2):
            if numbers is not None:
                raise ConfigError(f"{path}: an id map inside another is not supported")
            numbers = faiss.vector_to_array(core.id_map).astype(np.int64)
        elif isinstance(core, faiss.IndexPreTransform):
            steps = range(core.chain.size())
            chain += [faiss.downcast_VectorTransform(core.chain.at(step)) for step in steps]
        else:
            break
        core = faiss.downcast_index(core.index)
        kinds.append(type(core).__name__)
    _check_parts(faiss, core, path)
    labels = _read_labels(faiss, core, path)
    has_own = numbers is not None or labels is not None
    if numbers is None:
        numbers = np.arange(core.ntotal) if labels is None else labels
    elif labels is not None or len(numbers) != core.ntotal:
        raise ConfigError(
            f"{path}: its id map does not fit the {kinds[-1]} under it (FAISS leaves them so after "
            "remove_ids on inverted lists), and names other vectors; build the index anew"
        )
    return IndexFile(core, tuple(chain), numbers, labels, " > ".join(kinds), owner, has_own)


def _check_parts(faiss: Any, core: Any, path: Path) -> None:
    """Refuse an index that was written without a part of it, or whose parts differ in size."""
    if isinstance(core, faiss.IndexRefine):
        base = faiss.downcast_index(core.base_index)
        while isinstance(base, faiss.IndexPreTransform):
            base = faiss.downcast_index(base.index)
        if isinstance(base, faiss.IndexIDMap | faiss.IndexIDMap2):
            raise ConfigError(f"{path}: an id map inside {type(core).__name__} is not supported")
        parts = [base, faiss.downcast_index(core.refine_index)]
    else:
        parts = [core]
    for part in parts:
        if hasattr(part, "storage") and part.storage is None:
            raise ConfigError(f"{path} was written without its vectors (IO_FLAG_SKIP_STORAGE)")
        counts = [part.ntotal, part.storage.ntotal if hasattr(part, "storage") else core.ntotal]
        is_short = isinstance(part, faiss.IndexFlatCodes) and (
            part.codes.size() < part.ntotal * part.code_size  # Panorama fills up its last batch
        )
        if is_short or any(count != core.ntotal for count in counts):
            raise ConfigError(
                f"{path} says {core.ntotal} vectors and has more or fewer in its parts; it is "
                "damaged, or a part was changed by itself"
            )


def _read_labels(faiss: Any, core: Any, path: Path) -> NDArray[np.int64] | None:
    """Give what an index with inverted lists calls its rows; None where they are 0, 1, 2, ..."""
    holder = find_lists(faiss, core)
    if holder is None:
        return None
    lists = holder.invlists
    if lists is None:
        raise ConfigError(f"{path} was written without its inverted lists; write it with them")
    parts = [
        faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).copy()
        for number in range(holder.nlist)
        if lists.list_size(number)
    ]
    labels = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
    if len(labels) != core.ntotal:
        raise ConfigError(
            f"{path} says {core.ntotal} vectors, its inverted lists hold {len(labels)}: equal "
            f"vectors kept once, or a damaged file; expected every vector in a list"
        )
    if np.array_equal(labels, np.arange(len(labels))):
        return None
    check_numbers(labels, path)
    if not isinstance(core, faiss.IndexIVF):
        raise ConfigError(
            f"{path}: the inverted lists inside {type(core).__name__} have numbers of their own, "
            "which are not its rows; build the index anew"
        )
    return np.asarray(labels, np.int64)


def check_numbers(numbers: NDArray[np.int64], path: Path) -> None:
    """Refuse numbers that don't tell one vector from another.

    Raises:
        ConfigError: Two vectors have one number, or one has the number that says "nothing found".
    """
    ascending = np.sort(numbers)
    twice = ascending[1:][ascending[1:] == ascending[:-1]]
    if len(twice):
        raise ConfigError(
            f"{path}: {len(np.unique(twice))} numbers stand twice, such as {twice[0]} (FAISS hands "
            "numbers out again once vectors were removed and others added); numbers must be "
            "unique: build it anew, with numbers of your own"
        )
    if _NOTHING in ascending:
        raise ConfigError(
            f"{path}: a vector has the number -1, by which FAISS says that it found nothing; build "
            "it anew, with other numbers"
        )


def can_read_lists(core: Any) -> bool:
    """Tell whether vectors in inverted lists may be asked for; faiss 1.15 crashes in some."""
    return "FastScan" not in type(core).__name__
