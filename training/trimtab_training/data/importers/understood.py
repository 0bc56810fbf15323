"""What an import made of its files: told as it starts, of a sample, and kept in ``import.json``.

A file can be well formed and mean something else than it was taken for. Only who asked can tell,
and only if shown: which column has which role, what the first rows will be, and how grades and
times lie.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SAMPLE_ROWS = 1_000
N_EXAMPLES = 3
_N_CHARACTERS = 200
_N_VALUES = 12
_N_BARS = 10


@dataclass(frozen=True)
class Reading:
    """One file as its first rows are understood.

    Attributes:
        file: The file's name.
        what: What it holds: ``pairs``, ``labels``, ``queries``, ``documents``, ``searches``.
        columns: Names of the columns (or tags) in use, by role; ``{"query": ("frage",)}``.
        unused: Names of the others.
        n_rows: Rows that were looked at.
        examples: The first of them that can be used, as they will be stored, as JSON.
        grades: Grades of the labels in these rows.
        times: Moments in these rows, in seconds since 1970.
        notes: What else was decided about the file, in words.
    """

    file: str
    what: str
    columns: Mapping[str, Sequence[str]]
    unused: Sequence[str] = ()
    n_rows: int = 0
    examples: Sequence[Mapping[str, Any]] = ()
    grades: Sequence[float] = ()
    times: Sequence[float] = ()
    notes: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON, long texts cut."""
        record: dict[str, Any] = {
            "file": _printable(self.file),
            "what": self.what,
            "columns": {role: [_printable(one) for one in of] for role, of in self.columns.items()},
            "unused": [_printable(name) for name in self.unused],
            "rows": self.n_rows,
            "examples": [_cut(example) for example in self.examples[:N_EXAMPLES]],
        }
        if len(self.grades):
            record["grades"] = count_grades(self.grades)
        if len(self.times):
            record["times"] = _span(min(self.times), max(self.times))
        if self.notes:
            record["notes"] = [_printable(note) for note in self.notes]
        return record


Announce = Callable[[dict[str, Any]], None]
"""Told of every file as soon as its sample was read: what ``Reading.as_dict`` gives."""


class Understood:
    """Everything that one import made of its files."""

    def __init__(self, announce: Announce = lambda _reading: None) -> None:
        """Begin; say whom to tell as files are opened."""
        self._announce = announce
        self._files: list[dict[str, Any]] = []
        self._used: set[tuple[str, str]] = set()
        self._grades: list[dict[str, Any]] = []
        self._first, self._last = math.inf, -math.inf

    def file(self, reading: Reading) -> None:
        """Tell how a file is read, before it is."""
        record = reading.as_dict()
        self._files.append(record)
        self._used |= {(reading.what, name) for of in reading.columns.values() for name in of}
        self._announce(record)

    def uses(self, column: str, what: Iterable[str]) -> bool:
        """Tell whether a column of this name, or a tag, has a role in a file of one of these."""
        return any((one, column) in self._used for one in what)

    def times(self, moments: Iterable[float]) -> None:
        """Note when something happened, in seconds since 1970; of the whole, not of a sample."""
        for moment in moments:
            self._first, self._last = min(self._first, moment), max(self._last, moment)

    def grades(self, grades: ArrayLike) -> None:
        """Note the grades of all labels that are written."""
        self._grades = count_grades(grades)

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON: every file's sample, then grades and times of the whole."""
        record: dict[str, Any] = {"files": self._files, "grades": self._grades}
        if self._first <= self._last:
            record["times"] = _span(self._first, self._last)
        return record


def count_grades(grades: ArrayLike) -> list[dict[str, Any]]:
    """Count every grade, or, of many different ones, those between equally wide steps.

    Returns:
        In ascending order, ``{"grade", "count"}`` or ``{"from", "to", "count"}``.
    """
    values, counts = np.unique(np.asarray(grades, np.float64), return_counts=True)
    if len(values) <= _N_VALUES:
        return [
            {"grade": value, "count": count}
            for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        ]
    bars, edges = np.histogram(values, bins=_N_BARS, weights=counts)
    return [
        {"from": round(low, 6), "to": round(high, 6), "count": int(count)}
        for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), bars, strict=True)
    ]


def _span(first: float, last: float) -> dict[str, str]:
    """Write two moments in UTC."""
    return {"first": _moment(first), "last": _moment(last)}


def _moment(seconds: float) -> str:
    """Write a moment in UTC, or the bare number where no calendar reaches."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s since 1970"


def _cut(value: Any) -> Any:
    """Make an example fit for a screen and for JSON."""
    if isinstance(value, Mapping):
        return {_printable(str(key)): _cut(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(one) for one in value]
    if isinstance(value, str):
        text = _printable(value)
        return text if len(text) <= _N_CHARACTERS else text[: _N_CHARACTERS - 1] + "…"
    return value


def _printable(text: str) -> str:
    """Escape what UTF-8 can't write."""
    return text.encode(errors="backslashreplace").decode()
