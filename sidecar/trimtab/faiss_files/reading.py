"""A FAISS file as faiss reads it: mapped where its type can be, inverted lists on disk found."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.errors import ConfigError, MissingExtraError

_NOT_FOUND = re.compile(r"could not open (.+) in mode ")  # OnDiskInvertedLists::do_mmap
_NOT_MAPPED = re.compile(
    "could not mmap|mmap only supported"
    "|could not load ArrayInvertedLists as|read to array not implemented"
)
_WHERE = re.compile(r"^Error in .+ at \S+:\d+: ")  # of faiss's own source
_OTHERS = {  # first bytes, and what to say of them
    b"\x1f\x8b": "it is gzipped; unpack it (gunzip)",
    b"PK\x03\x04": "it is a ZIP archive; unpack it",
    b"\x93NUMPY": "it is a NumPy array (.npy); write an index of it",
}
_TOO_SHORT = "it ends too early; copy it again, or write the index anew"
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16
_ID_MAPS = (b"IxMp", b"IxM2")
_FLAT = (b"IxFI", b"IxF2", b"IxFl")
_HEADER_BYTES = 33  # write_index_header: d, ntotal, two dummies, is_trained, metric_type
_HEAD_BYTES = 256


class MappingError(Exception):
    """A file can't be mapped here: its type can't be, or its file system can't. It may be read."""


def import_faiss() -> Any:
    """Import faiss when it is first needed.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("a FAISS index needs faiss: pip install faiss-cpu") from error
    return faiss


def is_plain(path: Path) -> bool:
    """Tell whether a file is a flat index, with or without an id map.

    faiss reads such a file by its sizes alone, and throws where they are wrong; all others have
    to be tried.

    Raises:
        ConfigError: There is no such file, or it is a binary index.
    """
    if not path.is_file():
        raise ConfigError(f"no FAISS index at {path}")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror or error}") from error
    if head.startswith(b"IB"):
        raise ConfigError(f"{path} is a binary index; expected one of float vectors")
    place = 0
    while head[place : place + 4] in _ID_MAPS:
        place += 4 + _HEADER_BYTES
        metric = int.from_bytes(head[place - 4 : place], "little")
        place += 4 if metric > 1 else 0  # other metrics than inner product and L2 have an argument
    return head[place : place + 4] in _FLAT


def list_ways(faiss: Any) -> list[int]:
    """List the flags to open a file with, the best first: mapped, then copied into memory.

    Never MMAP_IFC and IO_FLAG_MMAP at once: the latter leaves lists that are on disk already
    without their memory.
    """
    mapped = getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP)
    return [mapped | faiss.IO_FLAG_READ_ONLY, 0]


def read_file(path: Path, flags: int) -> Any:
    """Read a file in one way.

    Raises:
        ConfigError: It is no FAISS index, or its inverted lists are in a file that is not there,
            cut short, or not the only one of its name.
        MappingError: It can't be opened in this way; perhaps without flags.
    """
    faiss = import_faiss()
    try:
        owner = _read(faiss, path, flags)
    except (RuntimeError, MemoryError) as error:
        said = str(error) or "its sizes are wrong"
        if flags and _NOT_MAPPED.search(said):
            raise MappingError(said) from error
        if (elsewhere := _NOT_FOUND.search(said)) is None:
            raise ConfigError(f"{path} is not a FAISS index: {_explain(path, said)}") from error
        return _read_moved(path, flags, Path(elsewhere[1]))
    lists = _lists_on_disk(faiss, owner, path)
    if lists is not None:
        _check_lists(path, lists)
    return owner


def _explain(path: Path, said: str) -> str:
    """Say in a user's words why faiss can't read a file."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for start, words in _OTHERS.items():
        if head.startswith(start):
            return words
    if "read error in" in said:
        return _TOO_SHORT
    if "not recognized" in said:
        return f"it begins with {head[:4]!r}, which is no type of index that faiss knows"
    return _WHERE.sub("", said.splitlines()[0].rpartition("Error: ")[2])


def _read(faiss: Any, path: Path, flags: int) -> Any:
    """Let faiss read a file.

    IO_FLAG_MMAP maps inverted lists only; MMAP_IFC, since faiss 1.11, codes and graphs too. The
    latter takes a file whose last number lacks some bytes, and reads on behind its end: only the
    reader's place tells.
    """
    if not flags & getattr(faiss, "IO_FLAG_MMAP_IFC", 0) or not path.stat().st_size:
        return faiss.read_index(str(path), flags)
    try:
        content = np.memmap(path, np.uint8, "r")
    except OSError as error:  # not all file systems can
        raise MappingError(str(error)) from error
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(content), content.size)
    owner = faiss.read_index(reader, flags)
    if reader.rp_ > content.size:
        raise ConfigError(f"{path} is not a FAISS index: {_TOO_SHORT}")
    owner.referenced_objects = [content]  # faiss's own word for what must live as long
    return owner


def _read_moved(path: Path, flags: int, old: Path) -> Any:
    """Read a file whose inverted lists were moved together with it.

    IO_FLAG_ONDISK_SAME_DIR does the same, but can't map the rest and writes to stdout.
    """
    faiss = import_faiss()
    beside = path.with_name(old.name)
    if not beside.is_file():
        raise ConfigError(
            f"{path} keeps its inverted lists in {old}, which is not there, nor is {old.name} "
            "beside the index; move both files together"
        )
    owner = _read(faiss, path, flags | faiss.IO_FLAG_SKIP_IVF_DATA)
    lists = _lists_on_disk(faiss, owner, path)
    lists.filename = str(beside)
    _check_size(path, lists)
    lists.do_mmap()
    return owner


def _lists_on_disk(faiss: Any, index: Any, path: Path) -> Any:
    """Find the inverted lists that are in a file of their own; None where there are none."""
    lists = getattr(find_lists(faiss, index), "invlists", None)
    lists = None if lists is None else faiss.downcast_InvertedLists(lists)
    if lists is None or type(lists).__name__ != "OnDiskInvertedLists":  # absent on Windows
        return None
    return None if lists.filename == str(path) else lists  # IO_FLAG_MMAP makes those


def find_lists(faiss: Any, index: Any) -> Any:
    """Reach through everything that wraps inverted lists; None where there are none."""
    while index is not None:
        index = faiss.downcast_index(index)
        if isinstance(index, faiss.IndexIVF):
            return index
        for name in ("index", "base_index", "index_ivf"):
            if hasattr(index, name):
                index = getattr(index, name)
                break
        else:
            return None
    return None


def _check_lists(path: Path, lists: Any) -> None:
    """Refuse lists that are cut short, and lists that could be those of another index."""
    used, beside = Path(lists.filename), path.with_name(Path(lists.filename).name)
    _check_size(path, lists)
    if not beside.is_file() or beside.samefile(used):
        return
    if beside.stat().st_size == lists.totsize and not _look_alike(used, beside):
        raise ConfigError(
            f"{path} keeps its inverted lists in {used}, and {beside} has the same size and other "
            "content; remove the one that is not this index's"
        )


def _check_size(path: Path, lists: Any) -> None:
    """Refuse a file of lists that ends before they do: reading there would end the process."""
    size = Path(lists.filename).stat().st_size
    if size < lists.totsize:
        raise ConfigError(
            f"{lists.filename}, the inverted lists of {path}, has {size} bytes, expected "
            f"{lists.totsize}; it was cut short or belongs to another index"
        )


def _look_alike(one: Path, other: Path) -> bool:
    """Compare samples, spread over two large files of one size."""
    step = max(_SAMPLE_BYTES, one.stat().st_size // _SAMPLES)
    with one.open("rb") as left, other.open("rb") as right:
        for place in range(0, one.stat().st_size, step):
            left.seek(place)
            right.seek(place)
            if left.read(_SAMPLE_BYTES) != right.read(_SAMPLE_BYTES):
                return False
    return True
