"""Rows of documents shown to searches: which rows belong together.

A search shows a document at one rank and has one document a rank. Rows of one search id (or of one
session and query) that break this are of two searches, one after the other: a query asked again.
"""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from trimtab_training.data.importers.tally import Counted, Tally
from trimtab_training.data.importers.texts import Text, question_key
from trimtab_training.errors import DataError

MAX_OPEN = 50_000
"""Searches whose rows may stand between each other; about 2 kB each."""
PAUSE = 1_800.0
"""Seconds without a row that end a search of a session: the usual limit of a session."""
_FEW = 4  # searches open under one id; where there are more, it counts within sessions
_TORN = 0.01  # share of the ids whose rows may seem torn
_APART = "rows of a search id under another session or query, as of one search: kept apart"
_WAYS = {  # what to say where rows of one search id are under several sessions, or queries
    "session": "--column session= if {search!r} alone tells searches apart, --column "
    "session={name} if it counts within each",
    "query": "--column query=NAME if another column has what was asked, --column query={name} if "
    "each is a search of its own",
}
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


class _Key(NamedTuple):
    """What rows of one search have in common.

    Attributes:
        split: Number of the split.
        session: Id of the session, or None.
        search_id: Id of the search, or None.
        question: Digest of the query's text; without a search id, beside the query's id.
    """

    split: int
    session: object
    search_id: object
    question: object


class Gatherer:
    """Gathers rows, also where those of several searches stand between each other."""

    def __init__(self, tally: Tally, columns: Mapping[str, str] | None = None) -> None:
        """Begin; what is parted and what repeats is noted in the tally.

        Args:
            tally: Of the import.
            columns: Columns of the search's id, and of the session and the query where the user
                has not said that they tell rows of one id apart, by role.
        """
        self.tally = tally
        self._columns = columns or {}
        self._open: dict[_Key, _Open] = {}
        self._of_id: dict[tuple[int, object], list[_Key]] = {}  # open ones by split and search id
        self._loose: _Key | None = None  # rows without any id: only neighbours
        self._ended, self._places, self._n_ended = array("q"), array("q"), 0
        self._torn: dict[str, Counted] = {}  # searches that may be a part of another, by role

    def add(self, place: int, row: Search, search_id: object, session: object) -> Iterator[Found]:
        """Take a row; yield the searches that it shows to be complete.

        Args:
            place: Where it stands.
            row: Its search, with the one document that the row is about.
            search_id: Id of the search, or None; unique in a session at least.
            session: Id of the session, or user, or None.
        """
        key = self._find_key(row, search_id, session)
        is_loose = search_id is None and session is None
        if self._loose is not None and key != self._loose:
            yield from self._end(self._loose)
            self._loose = None
        if is_loose:
            self._loose = key
        current = self._open.get(key)
        if current is None:
            self._open[key] = _Open(place, row, has_id=search_id is not None, is_loose=is_loose)
            if search_id is not None:
                self._of_id.setdefault((key.split, search_id), []).append(key)
            if len(self._open) > MAX_OPEN:
                yield from self._end(next(iter(self._open)))
            return
        yield from current.take(place, row, self.tally)

    def finish(self) -> Iterator[Found]:
        """Yield what is still open.

        Raises:
            DataError: Rows of one search id stood too far apart to be gathered, or are those of
                one search under several sessions or queries.
        """
        for key in list(self._open):
            yield from self._end(key)
        _, first, counts = np.unique(self._ended, return_index=True, return_counts=True)
        again = np.unique(np.array(self._places, np.int64)[np.sort(first[counts > 1])])
        if len(again):
            raise DataError(
                f"rows of {len(again)} searches (the first at {self.tally.where(int(again[0]))}) "
                f"stand more than {MAX_OPEN:,} searches apart; sort the log by search, or say that "
                "the column is no search's id: --search-id none"
            )
        self._refuse_torn()

    def _refuse_torn(self) -> None:
        """Refuse ids of searches whose rows a session, or the query, would tear apart."""
        for role, torn in self._torn.items():
            n_ids, name = self._n_ended - torn.count, self._columns[role]
            if torn.count > _TORN * n_ids:
                ways = _WAYS[role].format(search=self._columns["search"], name=name)
                raise DataError(
                    f"{torn.count} of {n_ids} ids in {self._columns['search']!r} (the first at "
                    f"{self.tally.where(torn.first)}) have rows that together would be one search, "
                    f"and different values of {name!r} in them: say {ways}"
                )

    def _find_key(self, row: Search, search_id: object, session: object) -> _Key:
        """Give the key of a row's search; where a session is missing, that of its id's only one."""
        question = question_key(row.query.text)
        if search_id is None:
            return _Key(row.split, session, None, (question, row.query.name))
        key = _Key(row.split, session, search_id, question)
        group = self._of_id.get((row.split, search_id), [])
        if key in self._open or len(group) > _FEW:
            return key
        alike = [one for one in group if one.question == question]
        if len(alike) != 1 or None not in {session, alike[0].session}:
            return key
        self._open[alike[0]].is_joined = True
        if session is None:
            return alike[0]
        self._open[key] = self._open.pop(alike[0])
        group[group.index(alike[0])] = key
        return key

    def _end(self, key: _Key) -> Iterator[Found]:
        """Close a search; remember its id."""
        current = self._open.pop(key)
        if current.has_id:
            group = self._of_id[key.split, key.search_id]
            group.remove(key)
            self._count_torn(key, current, group)
            if not group:
                del self._of_id[key.split, key.search_id]
            self._n_ended += 1
            for one in {key, key._replace(session=None)} if current.is_joined else {key}:
                self._ended.append(hash(one))
                self._places.append(current.place)
        yield from current.close(self.tally)

    def _count_torn(self, key: _Key, current: "_Open", others: list[_Key]) -> None:
        """Count a search that may be a part of another one that is open under the same id."""
        for other in others if len(others) < _FEW else ():
            role = "session" if other.question == key.question else "query"
            sessions = {other.session, key.session}
            is_near = role == "session" or len(sessions) == 1 or None in sessions
            if role in self._columns and is_near and current.may_be_one_with(self._open[other]):
                torn = self._torn.setdefault(role, Counted(0, current.place))
                torn.count += 1
                self.tally.note(_APART, current.place)
                return


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

    Attributes:
        has_id: Whether a search id holds the rows together.
        is_joined: Whether some of them lack the session of the others.
    """

    def __init__(self, place: int, row: Search, *, has_id: bool, is_loose: bool) -> None:
        self.has_id, self.is_joined, self._is_loose = has_id, False, is_loose
        self._base = _Part(place, row)
        self._again: _Part | None = None
        self._last = row

    @property
    def place(self) -> int:
        """Where the search begins."""
        return self._base.place

    def may_be_one_with(self, other: "_Open") -> bool:
        """Tell rows that one search could have: of other ranks, or clicks on what it shows."""
        one, two = self._base.search, other._base.search
        shown, shared = one.shown | two.shown, one.shown.keys() & two.shown.keys()
        if any(one.shown[name] != two.shown[name] for name in shared):
            return False
        clicked = [shared & search.clicked.keys() for search in (one, two)]
        is_one_sided = shared in clicked and not all(clicked)
        return len(set(shown.values())) == len(shown) and (not shared or is_one_sided)

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
