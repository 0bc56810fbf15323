"""The door: a FAISS file is tried, opened and taken apart."""

import logging
from dataclasses import replace
from pathlib import Path

from trimtab.faiss_files.index_file import IndexFile, take_apart
from trimtab.faiss_files.reading import (
    MappingError,
    import_faiss,
    is_plain,
    list_ways,
    read_file,
)
from trimtab.faiss_files.trial import choose_way

logger = logging.getLogger(__name__)


def open_index(path: Path, flags: int | None = None) -> IndexFile:
    """Open an index file, mapped into memory where that can be done.

    All but flat indexes (with or without an id map) are opened in a child process first, once an
    opening; it takes about as long as importing faiss.

    Args:
        path: The file.
        flags: Those of an opening just before this one, which is not tried again.

    Raises:
        ConfigError: It is missing, no FAISS index, a binary one, damaged, or of a form whose
            vectors have no names.
        MissingExtraError: faiss is not installed.
    """
    faiss = import_faiss()
    if flags is None:
        flags = list_ways(faiss)[0] if is_plain(path) else choose_way(path)
    try:
        owner = read_file(path, flags)
    except MappingError:
        flags, owner = 0, read_file(path, 0)
    file = take_apart(owner, path)
    if not flags:
        logger.warning("this index can't be mapped and is in memory", extra={"index": str(path)})
    return replace(file, flags=flags)
