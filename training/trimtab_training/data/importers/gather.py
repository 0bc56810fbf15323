"""Rows of documents shown to searches: which rows belong together.

A search shows a document at one rank and has one document a rank. Rows of one search id (or of one
session and query) that break this are of two searches, one after the other: a query asked again.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.texts import Text
from trimtab_training.errors import DataError

MAX_OPEN = 50_000
"""Searches whose rows may stand between each other; about 2 kB each."""
PAUSE = 1_800.0
"""Seconds without a row that end a search of a session: the usual limit of a session."""
_PARTED = "a search id that showed two documents at a rank: parted there"
_REPEATED = "a row again that its search has: taken for its click, or for the same"


@dataclass
class Search:
    """One search, or as much of it as is known.

    Attributes:
        query: What was asked.
        shown: Rank of every document shown, from 1.
        clicked: Seconds spent on every document clicked; None where the log does not say.
        time: When, in seconds since 1970, or None.
        weight: Clicks that each document clicked stands for, where a row is a sum.
        split: Number of the split that its file is of.
    """

    query: Text
    shown: dict[str, int] = field(default_factory=dict)
    clicked: dict[str, float | None] = field(default_factory=dict)
    time: float | None = None
    weight: float = 1.0
    split: int = 0


Found = tuple[int, Search]
"""Where a search begins, and the search."""


class Gatherer:
    """Gathers rows, also where those of several searches stand between each other."""

    def __init__(self, tally: Tally) -> None:
        """Begin; what is parted and what repeats is noted in the tally."""
        self.tally = tally
        self._open: dict[tuple[object, ...], _Open] = {}
        self._loose: tuple[object, ...] | None = None  # rows without any id: only neighbours
        self._ended, self._places = array("q"), array("q")

    def add(self, place: int, row: Search, search_id: object, session: object) -> Iterator[Found]:
        """Take a row; yield the searches that it shows to be complete.

        Args:
            place: Where it stands.
            row: Its search, with the one document that the row is about.
            search_id: Id of the search, or None; unique in a session at least.
            session: Id of the session, or user, or None.
        """
        key = (row.split, session, search_id, row.query)
        is_loose = search_id is None and session is None
        if self._loose is not None and key != self._loose:
            yield from self._end(self._loose)
            self._loose = None
        if is_loose:
            self._loose = key
        current = self._open.get(key)
        if current is None:
            self._open[key] = _Open(place, row, has_id=search_id is not None, is_loose=is_loose)
            if len(self._open) > MAX_OPEN:
                yield from self._end(next(iter(self._open)))
            return
        yield from current.take(place, row, self.tally)

    def finish(self) -> Iterator[Found]:
        """Yield what is still open.

        Raises:
            DataError: Rows of one search id stood too far apart to be gathered.
        """
        for key in list(self._open):
            yield from self._end(key)
        keys, counts = np.unique(np.frombuffer(self._ended, np.int64), return_counts=True)
        again = int((counts > 1).sum())
        if again:
            first = int(np.isin(self._ended, keys[counts > 1]).argmax())
            raise DataError(
                f"rows of {again} searches (the first at {self.tally.where(self._places[first])}) "
                f"stand more than {MAX_OPEN:,} searches apart; sort the log by search, or say that "
                "the column is no search's id: --search-id none"
            )

    def _end(self, key: tuple[object, ...]) -> Iterator[Found]:
        """Close a search; remember its id."""
        current = self._open.pop(key)
        if current.has_id:
            self._ended.append(hash(key))
            self._places.append(current.place)
        yield from current.close(self.tally)


class _Part:
    """Rows that are of one search, as far as can be told."""

    def __init__(self, place: int, row: Search) -> None:
        self.place, self.search = place, row
        self._ranks = set(row.shown.values())

    def has(self, name: str, rank: int) -> bool:
        """Tell a document that was shown, at this rank."""
        return self.search.shown.get(name) == rank

    def admits(self, name: str, rank: int) -> bool:
        """Tell whether a document could have been shown here, too."""
        return name not in self.search.shown and rank not in self._ranks

    def add(self, row: Search, rank: int) -> None:
        """Take in a row."""
        self.search.shown |= row.shown
        self.search.clicked |= row.clicked
        self._ranks.add(rank)


class _Open:
    """A search whose rows may still come, and rows that repeat some of it.

    What is repeated may be the query asked again, or an event log's rows for clicks.
    """

    def __init__(self, place: int, row: Search, *, has_id: bool, is_loose: bool) -> None:
        self.has_id, self._is_loose = has_id, is_loose
        self._base = _Part(place, row)
        self._again: _Part | None = None
        self._last = row

    @property
    def place(self) -> int:
        """Where the search begins."""
        return self._base.place

    def take(self, place: int, row: Search, tally: Tally) -> Iterator[Found]:
        """Add a row to the search, or begin the next one."""
        ((name, rank),) = row.shown.items()
        newest = self._again or self._base
        if self._has_paused(row):
            yield from self._next(place, row, tally)
        elif newest.admits(name, rank):
            if self._again is not None and self._base.admits(name, rank):
                newest = self._base if self._take_back(tally) else newest
            newest.add(row, rank)
        elif not newest.has(name, rank):
            if self.has_id:
                tally.note(_PARTED, place)
            yield from self._next(place, row, tally)
        elif self.has_id and name in self._last.shown:
            tally.note(_REPEATED, place)
            newest.search.clicked |= row.clicked
        else:
            if self._again is not None and not self._take_back(tally):
                yield self._base.place, self._base.search
                self._base = self._again
                self._note_parted(tally)
            self._again = _Part(place, row)
        self._last = row

    def close(self, tally: Tally) -> Iterator[Found]:
        """Yield the search, and what came after it if that is another one."""
        again = None if self._again is None or self._take_back(tally) else self._again
        yield self._base.place, self._base.search
        if again is not None:
            self._note_parted(tally)
            yield again.place, again.search

    def _note_parted(self, tally: Tally) -> None:
        """Count a search id that was several searches'."""
        if self.has_id and self._again is not None:
            tally.note(_PARTED, self._again.place)

    def _has_paused(self, row: Search) -> bool:
        """Tell a row long after the last one, where no id holds the two together."""
        if self.has_id or row.time is None or self._last.time is None:
            return False
        return abs(row.time - self._last.time) > PAUSE

    def _next(self, place: int, row: Search, tally: Tally) -> Iterator[Found]:
        """Begin the next search."""
        yield from self.close(tally)
        self._base, self._again = _Part(place, row), None

    def _take_back(self, tally: Tally) -> bool:
        """Take repeated rows for the search's own where they are; else they are a new search's."""
        base, again = self._base.search, self._again
        if again is None:
            return True
        shown, clicked = again.search.shown, again.search.clicked
        is_own = all(base.shown.get(name) == rank for name, rank in shown.items())
        if self.has_id:
            is_copy = all((name in base.clicked) == (name in clicked) for name in shown)
            is_own = is_own and (is_copy or len(clicked) == len(shown))
        else:
            are_clicks = len(clicked) == len(shown) and not base.clicked.keys() & clicked.keys()
            is_own = is_own and are_clicks and len(base.shown) > 1 and not self._is_loose
        if is_own:
            tally.note(_REPEATED, again.place, len(shown))
            base.clicked |= clicked
            self._again = None
        return is_own
