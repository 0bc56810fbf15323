"""JSON Lines of our own making: one object a line, and what is wrong named with its place."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trimtab.parsing import read_json
from trimtab_training.data.plain_text import explain_unreadable
from trimtab_training.errors import DataError

_TEXT = "a JSON object with a text '_id'"


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text file that are not empty, each behind its place.

    Raises:
        DataError: The file can't be read, or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path}:{number}", line.strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't read {path}: {explain_unreadable(path, error)}") from error


def parse_object(line: str | bytes, where: str, wanted: str, *, hint: str = "") -> dict[str, Any]:
    """Parse one line that must hold an object.

    Args:
        line: The line.
        where: Its place, for messages.
        wanted: What is expected there.
        hint: What to do about a line that is broken.

    Raises:
        DataError: It is not JSON, or holds something else.
    """
    try:
        record = read_json(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}{hint}") from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected {wanted}")
    return record


def parse_text(line: str, where: str) -> dict[str, Any]:
    """Parse a line of ``corpus.jsonl`` or ``queries.jsonl``; absent texts become empty.

    Raises:
        DataError: It has no ``_id``, or its texts are none.
    """
    record = parse_object(line, where, _TEXT)
    if not isinstance(record.get("_id"), str):
        raise DataError(f"{where}: expected {_TEXT}")
    for key in ("title", "text"):
        if not isinstance(record.setdefault(key, ""), str | None):
            raise DataError(f"{where}: {key!r} is {record[key]!r}, expected a text")
    return record


def read_texts(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of ``corpus.jsonl`` or ``queries.jsonl``.

    Raises:
        DataError: The file can't be read, or a line is malformed.
    """
    for where, line in text_lines(path):
        yield parse_text(line, where)


def is_synthetic(record: Mapping[str, Any]) -> bool:
    """Tell whether a line of a query file says that a model wrote the query."""
    metadata = record.get("metadata")
    return isinstance(metadata, dict) and metadata.get("synthetic") is True
