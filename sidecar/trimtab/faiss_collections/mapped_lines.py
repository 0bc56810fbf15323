"""A text by line: a mapped file, so that its content is not in memory, with every line's place."""

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trimtab.errors import ConfigError

_BLOCK_BYTES = 1 << 24
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines:
    """The lines of one text, by number from 0."""

    def __init__(self, text: mmap.mmap | bytes) -> None:
        """Find the lines of a text."""
        self._text = text
        self._ends = _find_ends(text)

    @classmethod
    def map(cls, path: Path) -> "Lines":
        """Map a file: replace it by renaming another over it, never write into it.

        Raises:
            ConfigError: It can't be read.
        """
        try:
            with path.open("rb") as file:
                if not path.stat().st_size:  # which can't be mapped
                    return cls(b"")
                return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise ConfigError(f"can't read {path}: {error.strerror or error}") from error

    def __len__(self) -> int:
        """Count the lines; empty ones at the end are none."""
        return len(self._ends)

    def __getitem__(self, number: int) -> bytes:
        """Give one line without its line break."""
        start = int(self._ends[number - 1]) + 1 if number else 0
        line = self._text[start : int(self._ends[number])].removesuffix(b"\r")
        return line if number else line.removeprefix(_BYTE_ORDER_MARK)

    def __iter__(self) -> Iterator[bytes]:
        """Give every line."""
        return map(self.__getitem__, range(len(self)))


def _find_ends(text: mmap.mmap | bytes) -> np.ndarray:
    """Find where each line ends; leave out empty lines at the end of the file."""
    found = [
        np.flatnonzero(np.frombuffer(text[start : start + _BLOCK_BYTES], np.uint8) == ord("\n"))
        + start
        for start in range(0, len(text), _BLOCK_BYTES)
    ]
    if text and text[-1:] != b"\n":
        found.append(np.array([len(text)]))
    ends = np.concatenate(found) if found else np.zeros(0, np.int64)
    while len(ends):
        start = int(ends[-2]) + 1 if len(ends) > 1 else 0
        if text[start : int(ends[-1])].strip():
            break
        ends = ends[:-1]
    return ends
