"""Rows out of JSON: a value a line, an array, values one after another, lists under a key.

An array is cut into its elements as it is read, so its size does not matter; an object that holds
the rows is read whole.
"""

import json
import re
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from trimtab_training.data.importers.columns import PAIR_ROLES, plain_name
from trimtab_training.data.importers.lines import LINE_LIMIT, open_text, read_lines
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.texts import Unreadable
from trimtab_training.errors import DataError

Row = tuple[int, dict[str, Any]]
"""Where a row stands, and its values by column. Columns without names are called 1, 2, 3, ..."""

_CHUNK = 1 << 18  # characters
_BLANK = re.compile(r"[ \t\r\n]*")
_DEPTH = 3  # how deep in an object rows are looked for
_TEXTS = {*PAIR_ROLES["query"], "text", "contents", "content", "body", "passage"}


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; what stands twice in it under one key, with different values, is no value."""
    record = dict(pairs)
    if len(record) < len(pairs):
        for key, value in pairs:
            if value != record[key]:
                record[key] = Unreadable("stands twice in its row, with different values")
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=_with_each_key_once)


def read_json(path: Path, tally: Tally) -> Iterator[Row]:
    """Yield every row of a JSON file, whichever of the usual forms it has.

    A row's place is its line, or in a file that is not cut by lines its number.

    Raises:
        DataError: The file is not JSON, or holds rows in several places.
    """
    return _read_lines(path, tally) if _is_lines(path) else _read_values(path, tally)


def load_json(path: Path) -> Any:
    """Read a file that is one JSON value.

    Raises:
        DataError: It can't be read or is no JSON.
    """
    try:
        with open_text(path) as file:
            return _DECODER.decode(file.read())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error


def _is_lines(path: Path) -> bool:
    """Tell one row a line from values that stand across lines, by the first two lines."""
    lines = (line.strip() for _, line in read_lines(path, Tally()) if line.strip())
    first = next(lines, b"")
    if _is_array_of_rows(first):
        return False
    is_only = next(lines, None) is None
    value = _parse(first)
    if value is None:  # broken, or the beginning of a value that goes on
        return not is_only and first[-1:] not in b"{[,"
    return isinstance(value, list) or not is_only


def _is_array_of_rows(line: bytes) -> bool:
    """Tell an array of rows from a row that is an array."""
    value = _parse(line)
    if isinstance(value, list):
        return all(isinstance(one, dict | list) for one in value)
    return value is None and re.match(rb"\[\s*(?:[\[{]|$)", line) is not None


def _parse(line: bytes) -> Any:
    """Parse JSON, perhaps with the comma that parted it from the next line; None where it is none.

    Bytes that are not UTF-8 stay what they are, as lone surrogates.
    """
    text = line.decode("utf-8", "surrogateescape").strip().removesuffix(",")
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _as_record(value: Any) -> dict[str, Any] | None:
    """Give an object's values by name, an array's by number."""
    if isinstance(value, list):
        return {str(number): item for number, item in enumerate(value, start=1)}
    return value if isinstance(value, dict) else None


def _read_lines(path: Path, tally: Tally) -> Iterator[Row]:
    """Read one JSON object, or array, a line."""
    for place, line in read_lines(path, tally):
        if line.strip():
            yield from _as_row(_parse(line), place, tally)


def _read_values(path: Path, tally: Tally) -> Iterator[Row]:
    """Read arrays of rows, or objects, one after another."""
    place = tally.open(path)
    with open_text(path) as file:
        values = _Values(file, path)
        while mark := values.peek():
            rows = values.elements() if mark == "[" else _rows_in(values, path)
            for value in rows:
                place += 1
                yield from _as_row(value, place, tally)


def _as_row(value: Any, place: int, tally: Tally) -> Iterator[Row]:
    """Count a row; give it, or drop what is none."""
    tally.row()
    record = _as_record(value)
    if record is None:
        tally.drop("not a JSON object", place)
    else:
        yield place, record


class _Values:
    """Cuts JSON values out of a text as it comes."""

    def __init__(self, file: TextIOWrapper, path: Path) -> None:
        """Begin at the start of a text."""
        self._file, self._path = file, path
        self._text, self._at, self._line = "", 0, 1
        self.n_taken = 0

    def peek(self) -> str:
        """Give the next mark that is not blank; at the end, nothing."""
        while True:
            found = _BLANK.match(self._text, self._at)
            self._at = self._at if found is None else found.end()
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def take(self, limit: int | None = None) -> Any:
        """Parse the next value, of at most so many characters."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if limit is not None and len(self._text) - self._at > limit:
                    raise self._broken(
                        "a value of over 64 MB, or one that is not closed"
                    ) from error
                if not self._fill():
                    raise self._broken(getattr(error, "msg", "too deep")) from error
                continue
            if end == len(self._text) and self._fill():
                continue  # a number may go on
            self._at = end
            self.n_taken += 1
            return value

    def elements(self) -> Iterator[Any]:
        """Take the elements of an array, one after another."""
        self._at += 1
        while (mark := self.peek()) != "]":
            if mark == ",":
                self._at += 1
            elif mark:
                yield self.take(LINE_LIMIT)
            else:
                raise self._broken("an array that is not closed")
            if self.peek() not in {",", "]"} and mark != ",":
                raise self._broken("expected a comma or the end of the array")
        self._at += 1

    def _fill(self) -> bool:
        """Read on; double what is held, so that a long value costs no more than twice."""
        more = self._file.read(max(_CHUNK, len(self._text) - self._at))
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)

    def _broken(self, what: str) -> DataError:
        """Say where a text is no JSON."""
        line = self._line + self._text.count("\n", 0, self._at)
        return DataError(
            f"{self._path} is not JSON: {what}, in the value that begins in line {line}"
        )


def _rows_in(values: _Values, path: Path) -> Iterator[Any]:
    """Give the rows that an object holds, where it is all that the file has; else the object."""
    is_first = not values.n_taken
    value = values.take()
    if values.peek() == ",":
        raise DataError(f"{path} is not JSON: a comma between two values outside of an array")
    if not is_first or values.peek() or not isinstance(value, dict):
        return iter((value,))
    return _unwrap(value, path)


def _unwrap(value: dict[str, Any], path: Path) -> Iterator[Any]:
    """Find the rows in the one object that a file holds; it may be a row itself."""
    if any(isinstance(one, str) and plain_name(name) in _TEXTS for name, one in value.items()):
        return iter((value,))
    rows = _by_column(value)
    if rows is not None:
        return rows
    lists = _lists_of_objects(value)
    if len(lists) > 1:
        raise DataError(
            f"{path} holds rows under {' and '.join(lists)}; write those that you mean to a file "
            f"of their own (jq -c '{next(iter(lists))}[]')"
        )
    return iter(next(iter(lists.values()), [value]))


def _by_column(value: dict[str, Any]) -> Iterator[Any] | None:
    """Read a table as pandas and datasets write it in one object, or None.

    Source:
        pandas, ``DataFrame.to_json(orient=...)``: ``split``, ``columns`` (its default), ``index``;
        ``datasets.Dataset.to_dict`` gives lists by column.
    """
    names, data, of = value.get("columns"), value.get("data"), list(value.values())
    if isinstance(names, list) and isinstance(data, list):
        return (dict(zip(map(str, names), row, strict=False)) for row in data)
    if of and all(isinstance(one, list) for one in of):
        items = next(zip(*of, strict=False), ())
        is_table = len({len(one) for one in of}) == 1
        if is_table and items and not all(isinstance(item, dict) for item in items):
            return (dict(zip(value, row, strict=True)) for row in zip(*of, strict=True))
    if of and all(isinstance(one, dict) for one in of):
        if all(name.isdigit() for name in value):
            return iter(of)
        keys = of[0].keys()
        if keys and all(one.keys() == keys for one in of) and all(key.isdigit() for key in keys):
            return ({name: one[key] for name, one in value.items()} for key in keys)
    return None


def _lists_of_objects(value: dict[str, Any]) -> dict[str, list[Any]]:
    """Find the lists of objects in an object, by their path, where it is least deep."""
    level = {f".{key}": one for key, one in value.items()}
    for _ in range(_DEPTH):
        found = {
            path: one
            for path, one in level.items()
            if isinstance(one, list) and one and all(isinstance(item, dict) for item in one)
        }
        if found:
            return found
        level = {
            f"{path}.{key}": inner
            for path, one in level.items()
            if isinstance(one, dict)
            for key, inner in one.items()
        }
    return {}
