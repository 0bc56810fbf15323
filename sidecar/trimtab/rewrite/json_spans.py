"""JSON read into values that know where in the text they stand.

A body is changed by cutting out the bytes of a vector and putting others in: key order, spacing,
the spelling of every other number, repeated and unknown keys stay byte for byte. That takes the
place of each array, which no JSON library gives, so this module reads the structure itself, with
regular expressions doing the work on long runs. One pass, however deep the nesting.

Only the structure is checked. A body that is wrong in a string or a number that nobody looks at
goes on as it came, and Qdrant answers what it always did.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import MalformedError, MissingExtraError, TooLargeError

try:
    import orjson
except ImportError as error:  # numbers to text and back, ten times as fast as json
    raise MissingExtraError("REST bodies need orjson: pip install 'trimtab[server]'") from error

MAX_DEPTH = 128
"""serde_json, Qdrant's parser, refuses deeper bodies (its ``remaining_depth``)."""

MAX_VALUES = 250_000
"""Values of a body, the numbers of vectors not counted; a search in a large batch has about 30."""

_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SPACE = re.compile(rb"[ \t\n\r]*")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# possessive: millions of escapes cost no memory
_WORD = re.compile(rb'[^ \t\n\r,\[\]{}:"]+')
_LETTERS = (b"t", b"f", b"n")  # of true, false and null
_NESTING = (b"[", b"{", b"}", b'"')


@dataclass(frozen=True, slots=True)
class FlatArray:
    """An array without strings, arrays or objects in it, not yet parsed.

    Attributes:
        start: Position of its ``[``.
        end: Position after its ``]``.
        text: Its bytes.
    """

    start: int
    end: int
    text: bytes

    def items(self) -> list[Any]:
        """Parse the items.

        Raises:
            MalformedError: It is no JSON.
        """
        items: list[Any] = parse_token(self.text)
        return items

    def floats(self) -> "FloatSpan":
        """Parse the items as a vector.

        Raises:
            MalformedError: Something in it is not a number.
        """
        if any(letter in self.text for letter in _LETTERS):
            raise MalformedError(f"the array at byte {self.start} holds more than numbers")
        with np.errstate(over="ignore"):  # beyond float32 a number is infinite, as for Qdrant
            return FloatSpan(self.start, self.end, np.array(self.items(), dtype=np.float32))


@dataclass(slots=True)  # unfrozen: made for every query
class FloatSpan:
    """A vector and where it stands in the text.

    Attributes:
        start: Position of its ``[``.
        end: Position after its ``]``.
        values: float32, shape ``(n,)``.
    """

    start: int
    end: int
    values: NDArray[np.float32]

    def __len__(self) -> int:
        """Count the values."""
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Give the values to numpy."""
        return np.array(self.values, dtype=dtype, copy=copy)


_NONE_REPEATED: frozenset[str] = frozenset()


class JsonObject(dict[str, Any]):
    """An object and where it stands in the text.

    Attributes:
        start: Position of its ``{``.
        end: Position after its ``}``.
        repeated: Keys that stand in it twice; Qdrant refuses that where it knows the key.
    """

    __slots__ = ("end", "repeated", "start")
    start: int
    end: int
    repeated: frozenset[str]


def parse_token(token: bytes) -> Any:
    """Parse one string, number, constant or flat array.

    Raises:
        MalformedError: It is none.
    """
    try:
        return orjson.loads(token)
    except ValueError as error:
        raise MalformedError(f"not JSON: {error}") from error


def _parse_word(word: bytes) -> Any:
    """Parse a number or a constant; a number that no float can hold is infinite, as for serde."""
    try:
        return parse_token(word)
    except MalformedError:
        if _NUMBER.fullmatch(word):
            return float(word)
        raise


def read_json(body: bytes) -> Any:
    """Read a body's structure.

    Args:
        body: JSON text.

    Returns:
        Objects as :class:`JsonObject`, arrays as lists or :class:`FlatArray`, strings as the bytes
        they are written in with their quotes, numbers and constants as Python has them.

    Raises:
        MalformedError: It is no JSON, or nested deeper than Qdrant reads.
        TooLargeError: It has so many values that reading them would keep others waiting.
    """
    reader = _Reader(body)
    value = reader.value(0)
    reader.skip_space()
    if reader.position != len(body):
        raise MalformedError(f"text after the end of the JSON, at byte {reader.position}")
    return value


class Span(Protocol):
    """Something that knows where in the text it stands."""

    @property
    def start(self) -> int:
        """Position of its first byte."""

    @property
    def end(self) -> int:
        """Position after its last byte."""


def write_floats(body: bytes, edits: Sequence[tuple[Span, NDArray[np.float32]]]) -> bytes:
    """Put vectors where something else stands, and leave every other byte.

    Args:
        body: The text that the spans were read from.
        edits: Each span with what is to stand there, float32, shape ``(n,)``, finite.

    Returns:
        The new text.
    """
    if len(edits) == 1:
        span, values = edits[0]
        return b"".join((body[: span.start], _dump(values), body[span.end :]))
    pieces, position = [], 0
    for span, values in sorted(edits, key=lambda edit: edit[0].start):
        pieces += [body[position : span.start], _dump(values)]
        position = span.end
    return b"".join([*pieces, body[position:]])


def _dump(values: NDArray[np.float32]) -> bytes:
    """Write a vector, each number as short as gives the same float32 again."""
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)


class _Reader:
    """Reads values one after the other.

    Attributes:
        position: Where the next token begins.
    """

    def __init__(self, body: bytes) -> None:
        """Begin at the start."""
        self.position = 0
        self._body = body
        self._n_values = 0

    def skip_space(self) -> None:
        """Go to the next token."""
        if self._body[self.position : self.position + 1] > b" ":
            return
        match = _SPACE.match(self._body, self.position)
        self.position = match.end() if match else self.position

    def value(self, depth: int) -> Any:
        """Read one value of any kind."""
        self._n_values += 1
        if self._n_values > MAX_VALUES:
            raise TooLargeError(f"the request has more than {MAX_VALUES} values")
        self.skip_space()
        first = self._body[self.position : self.position + 1]
        if first == b"{":
            return self._object(self._deeper(depth))
        if first == b"[":
            return self._flat_array() or self._array(self._deeper(depth))
        if first == b'"':
            return self._token(_STRING)
        return _parse_word(self._token(_WORD))

    def _flat_array(self) -> FlatArray | None:
        """Take an array of numbers and constants alone, found by its end, not walked through."""
        start = self.position
        end = self._body.find(b"]", start) + 1
        if not end or any(self._body.find(sign, start + 1, end) != -1 for sign in _NESTING):
            return None
        self.position = end
        return FlatArray(start, end, self._body[start:end])

    def _deeper(self, depth: int) -> int:
        """Go one level down, as far as Qdrant would."""
        if depth == MAX_DEPTH:
            raise MalformedError(f"nested deeper than {MAX_DEPTH} levels")
        return depth + 1

    def _object(self, depth: int) -> JsonObject:
        """Read an object from its brace on."""
        found = JsonObject()
        found.start = self.position
        repeated: set[str] = set()
        for _ in self._items(b"}"):
            key = self._key()
            value = self.value(depth)
            if key in found:
                repeated.add(key)
            found[key] = value
        found.end = self.position
        found.repeated = frozenset(repeated) if repeated else _NONE_REPEATED
        return found

    def _array(self, depth: int) -> list[Any]:
        """Read an array from its bracket on."""
        return [self.value(depth) for _ in self._items(b"]")]

    def _items(self, end: bytes) -> Iterator[None]:
        """Stop before every item; the caller reads it. Stop for good behind the closing token."""
        self.position += 1
        self.skip_space()
        if self._take(end):
            return
        while True:
            yield
            self.skip_space()
            if self._take(end):
                return
            if not self._take(b","):
                raise self._error("',' or '" + end.decode() + "'")

    def _key(self) -> str:
        """Read a key and its colon."""
        self.skip_space()
        written = self._token(_STRING)
        self.skip_space()
        if not self._take(b":"):
            raise self._error("':'")
        key: str = parse_token(written)
        return key

    def _token(self, pattern: re.Pattern[bytes]) -> bytes:
        """Take what a pattern matches here."""
        match = pattern.match(self._body, self.position)
        if match is None:
            raise self._error("a value" if pattern is _WORD else "a string")
        self.position = match.end()
        return match.group()

    def _take(self, token: bytes) -> bool:
        """Take one byte if it is this one."""
        if self._body.startswith(token, self.position):
            self.position += 1
            return True
        return False

    def _error(self, expected: str) -> MalformedError:
        """Say what was expected here."""
        return MalformedError(f"not JSON: expected {expected} at byte {self.position}")
