"""Search logs as a stream of searches: what was asked, shown at which rank, and clicked.

A row is a whole search (``shown`` is a list) or one document shown (``document`` and ``rank``).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from training.errors import ConfigError
from training.importers.columns import (
    CLICK_ROLES,
    Columns,
    as_number,
    find_columns,
    require,
    value_of,
)
from training.importers.sources import files_by_split, read_rows
from training.importers.tally import Progress, Tally
from training.importers.texts import Text, Unusable, as_filled_text, as_name

_IDS = ("id", "_id", "doc_id", "docid", "document_id", "document")
_FRACTIONS_OF_SECOND = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # from, per second


@dataclass
class Search:
    """One search, or as much of it as is known.

    Attributes:
        query: What was asked.
        shown: Rank of every document shown, from 1.
        clicked: Seconds spent on every document clicked; None where the log does not say.
        time: When, in seconds since 1970, or None.
    """

    query: Text
    shown: dict[str, int] = field(default_factory=dict)
    clicked: dict[str, float | None] = field(default_factory=dict)
    time: float | None = None


class ClickLog:
    """A log that can be read more than once.

    Attributes:
        has_times: Whether its rows say when.
    """

    def __init__(
        self, source: Path, given: Mapping[str, tuple[str, ...]], *, header: bool = True
    ) -> None:
        """Find the log's files and columns.

        Raises:
            DataError: Nothing is there, or columns are missing.
        """
        self._header = header
        self._files = [path for _, path in files_by_split(source, 0)]
        self._columns: dict[Path, Columns] = {}
        for path in self._files:
            for _, record in read_rows(path, Tally(), header=header):
                self._columns[path] = _find(list(record), given, path)
                break
        self.has_times = all("time" in columns for columns in self._columns.values())

    def require_dwell(self) -> None:
        """Refuse a log that does not say how long a clicked document was looked at.

        Raises:
            ConfigError: It does not.
        """
        for path, columns in self._columns.items():
            if "dwell" not in columns:
                raise ConfigError(
                    f"--min-dwell, and {path.name} has no dwell column; --column dwell=NAME"
                )

    def times(self, progress: Progress) -> Iterator[float]:
        """Yield the time of every row that has one."""
        tally = Tally(progress=progress)
        for path, columns in self._columns.items():
            for _, record in read_rows(path, tally, header=self._header):
                try:
                    yield as_time(value_of(record, columns, "time"))
                except Unusable:
                    continue

    def searches(self, tally: Tally) -> Iterator[tuple[int, Search]]:
        """Yield every search with its place; rows that can't be used are dropped."""
        for path, columns in self._columns.items():
            if "shown" in columns:
                yield from self._whole(path, columns, tally)
            else:
                yield from self._gathered(path, columns, tally)

    def _whole(self, path: Path, columns: Columns, tally: Tally) -> Iterator[tuple[int, Search]]:
        """Read rows that are whole searches."""
        for place, record in read_rows(path, tally, header=self._header):
            try:
                search = _begin(record, columns)
                _read_lists(search, record, columns)
            except Unusable as reason:
                tally.drop(str(reason), place)
                continue
            yield place, search

    def _gathered(self, path: Path, columns: Columns, tally: Tally) -> Iterator[tuple[int, Search]]:
        """Gather rows that follow one another and are of one search."""
        current: Search | None = None
        key: Any = None
        start = 0
        for place, record in read_rows(path, tally, header=self._header):
            try:
                row = _begin(record, columns)
                _read_row(row, record, columns)
            except Unusable as reason:
                tally.drop(str(reason), place)
                continue
            search_id = value_of(record, columns, "search")
            row_key = None if search_id is None else (search_id, row.query)
            if current is not None and row_key is not None and row_key == key:
                current.shown |= {
                    name: r for name, r in row.shown.items() if name not in current.shown
                }
                current.clicked |= row.clicked
                continue
            if current is not None:
                yield start, current
            current, key, start = row, row_key, place
        if current is not None:
            yield start, current


def as_time(value: Any) -> float:
    """Take a moment: ISO 8601 (UTC where no zone is given), or a number since 1970.

    Numbers are seconds, milliseconds, microseconds or nanoseconds, told apart by their size.

    Raises:
        Unusable: It is neither.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, str) and not re.fullmatch(r"\s*[0-9.]+\s*", value):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise Unusable("time is neither ISO 8601 nor a number") from error
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    number = as_number(value, "time")
    for least, per_second in _FRACTIONS_OF_SECOND:
        if number >= least:
            return number / per_second
    return number


def _find(names: list[str], given: Mapping[str, tuple[str, ...]], path: Path) -> Columns:
    """Find a log's columns and check that they are enough."""
    columns = find_columns(names, CLICK_ROLES, given)
    shape = ("shown", "clicked") if "shown" in columns else ("document", "rank", "clicked")
    require(columns, ("query", *shape), names, str(path))
    return columns


def _begin(record: Mapping[str, Any], columns: Columns) -> Search:
    """Take what belongs to the search as a whole."""
    name = value_of(record, columns, "query_id")
    text = as_filled_text(value_of(record, columns, "query"), "query")
    query = Text(text, "", None if name is None else as_name(name, "query id"))
    time = as_time(value_of(record, columns, "time")) if "time" in columns else None
    return Search(query, time=time)


def _read_row(search: Search, record: Mapping[str, Any], columns: Columns) -> None:
    """Take the one document that a row is about."""
    name = as_name(value_of(record, columns, "document"), "document id")
    search.shown[name] = _as_rank(value_of(record, columns, "rank"))
    if as_number(value_of(record, columns, "clicked") or 0, "clicked") > 0:
        search.clicked[name] = _as_dwell(value_of(record, columns, "dwell"))


def _read_lists(search: Search, record: Mapping[str, Any], columns: Columns) -> None:
    """Take the documents shown, in order or with ranks, and those clicked."""
    shown = _as_list(value_of(record, columns, "shown"), "shown")
    ranks = _as_list(value_of(record, columns, "ranks"), "ranks") if "ranks" in columns else None
    if ranks is not None and len(ranks) != len(shown):
        raise Unusable("shown and ranks differ in length")
    for place, value in enumerate(shown):
        name, of = _as_entry(value)
        rank = of.get("rank", of.get("position")) if ranks is None else ranks[place]
        search.shown.setdefault(name, place + 1 if rank is None else _as_rank(rank))
        if of.get("clicked"):
            search.clicked[name] = _as_dwell(of.get("dwell", of.get("dwell_s")))
    if not search.shown:
        raise Unusable("nothing was shown")
    clicked = _as_list(value_of(record, columns, "clicked"), "clicked")
    dwell = _dwell_of(value_of(record, columns, "dwell"), clicked)
    for place, value in enumerate(clicked):
        name, of = _as_entry(value)
        search.clicked[name] = _as_dwell(of.get("dwell", of.get("dwell_s", dwell[place])))


def _as_list(value: Any, what: str) -> list[Any]:
    """Take a list; of text, one that is written as JSON or parted by bars or blanks."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            return [part.strip() for part in value.split("|")] if "|" in value else value.split()
        try:
            value = json.loads(value)
        except ValueError as error:
            raise Unusable(f"{what} is not a list") from error
    if not isinstance(value, list):
        raise Unusable(f"{what} is not a list")
    return value


def _as_entry(value: Any) -> tuple[str, Mapping[str, Any]]:
    """Take an entry of a list: an id, or an object with one."""
    if isinstance(value, dict):
        name = next((value[key] for key in _IDS if value.get(key) is not None), None)
        return as_name(name, "document id"), value
    return as_name(value, "document id"), {}


def _as_rank(value: Any) -> int:
    """Take a rank, which counts from 1."""
    number = as_number(value, "rank")
    if number < 1 or not number.is_integer():
        raise Unusable("rank is not a whole number from 1")
    return int(number)


def _as_dwell(value: Any) -> float | None:
    """Take seconds, or None where the log does not say."""
    return None if value is None or value == "" else as_number(value, "dwell")


def _dwell_of(value: Any, clicked: list[Any]) -> list[Any]:
    """Give the seconds of every click: a list in its order, an object by id, or one number."""
    if isinstance(value, dict):
        return [value.get(one) for one in clicked]
    if isinstance(value, int | float):
        return [value] * len(clicked)
    seconds = _as_list(value, "dwell")
    if seconds and len(seconds) != len(clicked):
        raise Unusable("clicked and dwell differ in length")
    return seconds or [None] * len(clicked)
