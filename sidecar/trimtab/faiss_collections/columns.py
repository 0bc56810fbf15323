"""The values under one path of all payloads, arranged so that a condition is a few array steps.

A column is built by one scan, when a filter first asks for its path, and then kept.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_collections.datetimes import read_moment
from trimtab.faiss_collections.paths import find_values, read_path
from trimtab.faiss_collections.replies import Json

Mask = NDArray[np.bool_]
Scan = Callable[[], Iterable[tuple[int, Json]]]

_KEPT = 64
"""Columns of one collection that are kept; a path beyond that costs a scan."""


class Column:
    """The values of one path.

    Attributes:
        distinct: Each different value once; what can't be matched by value (objects, arrays in
            arrays) stands as one None.
        rows: Row of each occurrence, ascending; a value counts once in a row.
        codes: Position in ``distinct`` of each occurrence, a row's in the payload's order.
        has_filled: By row: some value is neither null nor an empty array.
        has_empty: By row: some value is either.
        has_null: By row: some value is null, or an array that holds one.
        has_whole: By row: some value is neither.
        counted_rows: Rows that have the path at all, one for each value it selects.
        counts: Items of each of these values.
    """

    def __init__(self, n_rows: int, scan: Iterable[tuple[int, Json]], key: str) -> None:
        """Collect the values under a path."""
        path = read_path(key)
        self.n_rows = n_rows
        self._codes_by_value: dict[tuple[type, Any], int] = {}
        self.distinct: list[Any] = []
        self.has_filled, self.has_empty, self.has_null, self.has_whole = (
            np.zeros(n_rows, np.bool_) for _ in range(4)
        )
        rows: list[int] = []
        codes: list[int] = []
        counted: list[tuple[int, int]] = []
        for row, payload in scan:
            present: dict[int, None] = {}
            for value in find_values(payload, path):
                items = value if isinstance(value, list) else [value]
                counted.append((row, 0 if value is None else len(items)))
                is_filled = value is not None and bool(items)
                (self.has_filled if is_filled else self.has_empty)[row] = True
                (self.has_null if None in items else self.has_whole)[row] = True
                present |= dict.fromkeys(self._code(item) for item in items if item is not None)
            rows += [row] * len(present)
            codes += present
        by_row = np.argsort(np.array(rows, np.int64), kind="stable")
        self.rows = np.array(rows, np.int64)[by_row]
        self.codes = np.array(codes, np.int64)[by_row]
        pairs = np.array(counted, np.int64).reshape(-1, 2)
        self.counted_rows, self.counts = pairs[:, 0], pairs[:, 1]

    def _code(self, value: Any) -> int:
        """Number a value; types keep apart what Python takes for equal: True, 1 and 1.0."""
        key = (type(value), value) if isinstance(value, str | int | float) else (object, None)
        code = self._codes_by_value.setdefault(key, len(self.distinct))
        if code == len(self.distinct):
            self.distinct.append(key[1])
        return code

    def code(self, value: Any) -> int | None:
        """Find the number of a value; None where no payload has it."""
        return self._codes_by_value.get((type(value), value))

    def where(self, chosen: Mask) -> Mask:
        """Mark the rows that have one of the chosen distinct values."""
        mask = np.zeros(self.n_rows, np.bool_)
        mask[self.rows[chosen[self.codes]]] = True
        return mask

    def choose(self, is_chosen: Callable[[Any], bool]) -> Mask:
        """Ask each distinct value."""
        return np.fromiter(map(is_chosen, self.distinct), np.bool_, len(self.distinct))

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """The distinct values as numbers; NaN for what is none."""
        values = [value if type(value) in {int, float} else None for value in self.distinct]
        return np.array(values, np.float64)  # makes NaN of None

    @cached_property
    def moments(self) -> NDArray[np.float64]:
        """The distinct values as microseconds since 1970; NaN for what is no date."""
        values = [read_moment(each) if isinstance(each, str) else None for each in self.distinct]
        return np.array(values, np.float64)


class Table:
    """Payloads with their columns; also the objects in an array of theirs."""

    def __init__(self, n_rows: int, scan: Scan) -> None:
        """Keep how the payloads are read.

        Args:
            n_rows: Rows, with or without a payload.
            scan: Gives each row's number and payload; may leave out rows without one.
        """
        self.n_rows = n_rows
        self._scan = scan
        self._column = lru_cache(_KEPT)(lambda key: Column(n_rows, scan(), key))
        self._parts = lru_cache(_KEPT)(self._split)
        # One scan at a time: two threads would only wait for the same GIL, and scan twice.
        self._lock = threading.Lock()

    def column(self, key: str) -> Column:
        """Give the column of a path."""
        with self._lock:
            return self._column(key)

    def parts(self, key: str) -> "tuple[Table, NDArray[np.int64]]":
        """Give the objects of the arrays under a path as rows, and the row that each is part of."""
        with self._lock:
            return self._parts(key)

    def _split(self, key: str) -> "tuple[Table, NDArray[np.int64]]":
        """Make a table of array items; ``data`` and ``data[]`` mean the same."""
        path = read_path(key)
        steps = path if path[-1] is None else (*path, None)

        def items() -> Iterator[tuple[int, Json]]:
            for row, payload in self._scan():
                for item in find_values(payload, steps):
                    if isinstance(item, dict):
                        yield row, item

        parents = np.array([row for row, _ in items()], np.int64)
        return Table(len(parents), lambda: enumerate(item for _, item in items())), parents
