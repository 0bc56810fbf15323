"""Which point stands in which row of an index, both ways, in about 50 bytes a point.

Qdrant's ids are unsigned 64-bit numbers and UUIDs. Any other text becomes the UUIDv5 of itself,
so that it is the same on every machine, and the payload tells the text. In a file, only the one
spelling in which an answer would give the id back is a number or a UUID: no text is ever lost. On
the wire, an id is whatever Qdrant takes for one.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import ConfigError
from trimtab.faiss_collections.mapped_lines import Lines
from trimtab.faiss_collections.replies import bad_format
from trimtab.faiss_files import IndexFile, cut_number, read_id_lines

NAMESPACE = UUID("7b1f6c0e-3a0d-5c52-9f0b-5d7f2c3a9e41")
"""What text ids are hashed under; it never changes, or stored ids would."""

_MAX_NUMBER = 2**64 - 1
_NUMBER, _UUID = b"\x01", b"\x02"  # in this order, as Qdrant sorts: numbers before UUIDs
_KEY_BYTES = 17
_HYPHENATED = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_CANONICAL = re.compile(_HYPHENATED)
_SPELLINGS = re.compile(  # uuid 1.x, src/parser.rs: what Qdrant reads ids with
    rf"(?ia:{_HYPHENATED}|[0-9a-f]{{32}}|\{{{_HYPHENATED}\}})|urn:uuid:(?ia:{_HYPHENATED})"
)
_Keys = NDArray[np.bytes_]


class PointIds:
    """The ids of an index's rows.

    An id is kept as a key of 17 bytes, its kind and its value, which sort as Qdrant's ids do.
    """

    def __init__(
        self, keys: _Keys, where: str, text_of: Callable[[int], str] | None = None
    ) -> None:
        """Keep the ids of all rows.

        Args:
            keys: One key a row.
            where: Where they come from, for messages.
            text_of: Gives a row's id as it is written; None where all are numbers or UUIDs.

        Raises:
            ConfigError: An id stands twice.
        """
        self._keys = keys
        self._text_of = text_of
        self.order: NDArray[np.int64] = np.argsort(keys, kind="stable")
        self._sorted = keys[self.order]
        twice = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        if len(twice):
            example = _read_key(self._sorted[twice[0]])
            raise ConfigError(f"{where}: id {example} stands more than once; ids must be unique")

    @classmethod
    def of_numbers(cls, numbers: NDArray[np.int64], where: str) -> "PointIds":
        """Take the index's own numbers.

        Raises:
            ConfigError: One stands twice, or is negative.
        """
        if len(numbers) and numbers.min() < 0:
            raise ConfigError(f"{where}: id {numbers.min()} is negative; give a file of ids")
        return cls(_number_keys(numbers.astype(np.uint64)), where)

    @classmethod
    def read(cls, path: Path, file: IndexFile) -> "PointIds":
        """Read a file of ids: line i is the id of row i, or lines are ``NUMBER<TAB>ID``.

        Raises:
            ConfigError: It can't be read, has another number of lines, an empty one, or an id
                twice, or can't tell which rows it names.
        """
        lines = Lines.map(path)
        rows = read_id_lines(_decode(lines, path), file, path)
        cut = str if rows is None else cut_number
        places = range(len(lines)) if rows is None else np.argsort(rows)
        keys, has_text = bytearray(), False
        for line in _decode(lines, path):
            native = _native_key(cut(line))
            has_text = has_text or native is None
            keys += native or _text_key(cut(line))

        def text_of(row: int) -> str:
            return cut(lines[int(places[row])].decode())

        in_file = np.frombuffer(bytes(keys), f"S{_KEY_BYTES}")
        return cls(in_file[places], str(path), text_of if has_text else None)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._keys)

    def __getitem__(self, row: int) -> int | str:
        """Give the id of a row, as it stands on the wire."""
        return _read_key(self._keys[row])

    @property
    def has_texts(self) -> bool:
        """Tell whether some ids are texts that a payload has to carry."""
        return self._text_of is not None

    def text(self, row: int) -> str | None:
        """Give the text that a row's id was made of; None for numbers and UUIDs."""
        if self._text_of is None:
            return None
        text = self._text_of(row)
        return text if _native_key(text) is None else None

    def row(self, value: Any) -> int | None:
        """Find the row of an id from the wire; None where there is none.

        Raises:
            RequestError: It is no id.
        """
        wanted = _wire_keys(value)
        place = int(np.searchsorted(self._sorted, wanted)[0])
        if place < len(self) and self._sorted[place] == wanted[0]:
            return int(self.order[place])
        return None

    def rows(self, values: Iterable[Any]) -> list[int]:
        """Find the rows of those of some ids that exist."""
        return [row for row in map(self.row, values) if row is not None]

    def rows_of_texts(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Find the rows of many ids as a file writes them; -1 where there is none."""
        keys = b"".join(_native_key(text) or _text_key(text) for text in texts)
        wanted = np.frombuffer(keys, f"S{_KEY_BYTES}")
        if not len(self):
            return np.full(len(wanted), -1)
        places = np.minimum(np.searchsorted(self._sorted, wanted), len(self) - 1)
        return np.where(self._sorted[places] == wanted, self.order[places], -1)

    def place_from(self, value: Any) -> int:
        """Find where in ``order`` the ids from this one on begin."""
        return int(np.searchsorted(self._sorted, _wire_keys(value))[0])


def _decode(lines: Lines, path: Path) -> Iterator[str]:
    """Give every line as text."""
    for number, line in enumerate(lines, 1):
        if not line:
            raise ConfigError(f"{path}: line {number} is empty; expected one id a line")
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: line {number} is not UTF-8") from error


def _wire_keys(value: Any) -> _Keys:
    """Read an id as Qdrant does: a number, or a UUID in any of its spellings."""
    if type(value) is int and 0 <= value <= _MAX_NUMBER:
        key = _number_key(value)
    elif isinstance(value, str) and _SPELLINGS.fullmatch(value):
        key = _UUID + UUID(value).bytes
    else:
        raise bad_format(
            f"value {value} is not a valid point ID, valid values are either an unsigned integer "
            "or a UUID"
        )
    return np.frombuffer(key, f"S{_KEY_BYTES}")


def _native_key(text: str) -> bytes | None:
    """Read a file's id that is a number or a UUID; None for any other text."""
    if text.isascii() and text.isdigit() and (text[0] != "0" or text == "0"):
        number = int(text) if len(text) <= len(str(_MAX_NUMBER)) else _MAX_NUMBER + 1
        return _number_key(number) if number <= _MAX_NUMBER else None
    return _UUID + UUID(text).bytes if _CANONICAL.fullmatch(text) else None


def _number_key(number: int) -> bytes:
    """Write the key of a number."""
    return _NUMBER + number.to_bytes(8) + bytes(8)


def _text_key(text: str) -> bytes:
    """Hash a text into a UUID."""
    return _UUID + uuid5(NAMESPACE, text).bytes


def _number_keys(numbers: NDArray[np.uint64]) -> _Keys:
    """Write keys of numbers."""
    keys = np.zeros((len(numbers), _KEY_BYTES), np.uint8)
    keys[:, 0] = ord(_NUMBER)
    keys[:, 1:9] = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
    return keys.view(f"S{_KEY_BYTES}").reshape(-1)


def _read_key(key: bytes) -> int | str:
    """Read a key; numpy cuts zeros at the end of a text."""
    full = bytes(key).ljust(_KEY_BYTES, b"\0")
    if full[:1] == _NUMBER:
        return int.from_bytes(full[1:9])
    return str(UUID(bytes=full[1:]))
