"""A first look at all of a click log: what its times, ranks and clicks mean."""

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab_training.data.importers.click_values import (
    as_dwell,
    as_entry,
    as_list,
    flag_of,
    keys_of,
    rank_of,
    speaks_of_clicks,
    unread_rank,
)
from trimtab_training.data.importers.columns import Columns, as_number, value_of
from trimtab_training.data.importers.dates import as_zone
from trimtab_training.data.importers.settings import ClickSettings
from trimtab_training.data.importers.texts import Unusable
from trimtab_training.data.importers.times import Clock, TimeSurvey
from trimtab_training.errors import DataError

_COUNTS_FROM = 2.0  # clicks a clicked row; above, rows are sums over searches
_LONG = 3_600.0  # seconds, from which a dwell is none
_STRAY = 0.01  # share of searches whose clicks may look otherwise than all the others'


@dataclass(frozen=True)
class LogForm:
    """What a log's values mean.

    Attributes:
        clock: How its times are read.
        moments: The time of every row that has one, in seconds since 1970.
        first_rank: What it calls the first rank, 0 or 1.
        clicked: ``ids`` or ``mask``: what its lists of clicks hold.
    """

    clock: Clock
    moments: "array[float]"
    first_rank: int
    clicked: str

    def describe(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "times": self.clock.describe(),
            "ranks_from": self.first_rank,
            "clicked": self.clicked,
        }


class LogSurvey:
    """What all rows of a log say about its form, added up."""

    def __init__(self, chosen: ClickSettings) -> None:
        """Begin; what the user says is not asked of the log."""
        self._chosen = chosen
        zone = None if chosen.time_zone is None else as_zone(chosen.time_zone)
        self._times = TimeSurvey(chosen.time_format, zone)
        self._ranks: Counter[int] = Counter()  # of 0 and 1
        self._forms: Counter[str] = Counter()  # of lists of clicks
        self._n_clicked, self._clicks = 0, 0.0
        self._least_ranks: dict[float, float] = {}  # by page
        self._dwell = array("d")
        self._unread_rank: str | None = None  # a key of documents shown
        self._clicks_are_said = False  # by a column, or by a key of theirs
        self._keys: dict[str, None] = {}  # theirs, where clicks are not said

    def add(self, record: Mapping[str, Any], columns: Columns) -> None:
        """Look at a row."""
        if "time" in columns:
            self._times.add(value_of(record, columns, "time"))
        if "shown" in columns:
            try:
                self._add_lists(record, columns)
            except Unusable:
                self._forms["unusable"] += 1
        elif "rank" in columns:
            self._add_rank(value_of(record, columns, "rank"))
            self._add_count(value_of(record, columns, "clicked"))
            self._add_page(value_of(record, columns, "page"), value_of(record, columns, "rank"))
        if self._chosen.min_dwell > 0:
            self._add_dwell(value_of(record, columns, "dwell"))

    def decide(self) -> LogForm:
        """Tell the log's form.

        Raises:
            DataError: Something in it can be read in two ways.
        """
        self._refuse_unread()
        self._refuse_counts()
        self._refuse_pages()
        self._refuse_milliseconds()
        clock = self._times.decide()
        return LogForm(clock, self._times.moments(clock), self._first_rank(), self._clicked())

    def _add_rank(self, value: Any) -> None:
        """Count the two ranks that tell where ranks begin."""
        try:
            rank = as_number(value, "rank")
        except Unusable:
            return
        if rank <= 1 and rank.is_integer():
            self._ranks[int(rank)] += 1

    def _add_page(self, page: Any, rank: Any) -> None:
        """Keep the least rank of each page of results."""
        try:
            number, least = as_number(page, "page"), as_number(rank, "rank")
        except Unusable:
            return
        self._least_ranks[number] = min(least, self._least_ranks.get(number, least))

    def _add_dwell(self, value: Any) -> None:
        """Keep how long documents were looked at."""
        try:
            values = [value] if isinstance(value, int | float) else as_list(value, "dwell")
            self._dwell.extend(one for one in map(as_dwell, values) if one is not None)
        except Unusable:
            return

    def _add_count(self, value: Any) -> None:
        """Add up clicks."""
        try:
            clicks = as_number(value, "clicked") if flag_of(value) is None else flag_of(value)
        except Unusable:
            return
        if clicks:
            self._n_clicked += 1
            self._clicks += clicks

    def _add_lists(self, record: Mapping[str, Any], columns: Columns) -> None:
        """Look at a row that is a whole search."""
        shown = [as_entry(one) for one in as_list(value_of(record, columns, "shown"), "shown")]
        for rank in as_list(value_of(record, columns, "ranks"), "ranks"):
            self._add_rank(rank)
        for _, entry in shown:
            if entry and rank_of(entry) is not None:
                self._add_rank(rank_of(entry))
        if shown:
            self._add_keys([entry for _, entry in shown], columns)
            ranks = as_list(value_of(record, columns, "ranks"), "ranks") or [rank_of(shown[0][1])]
            self._add_page(value_of(record, columns, "page"), 1 if ranks[0] is None else ranks[0])
        if "clicked" in columns and shown:
            clicked = as_list(value_of(record, columns, "clicked"), "clicked")
            self._forms[_form_of(clicked, {name for name, _ in shown}, len(shown))] += 1

    def _add_keys(self, entries: list[Mapping[str, Any]], columns: Columns) -> None:
        """Look at what documents shown have beside their ids."""
        if not self._clicks_are_said:
            self._clicks_are_said = "clicked" in columns or any(map(speaks_of_clicks, entries))
            self._keys.update((key, None) for entry in entries for key in entry)
        is_ranked = "ranks" in columns or any(rank_of(entry) is not None for entry in entries)
        if not is_ranked and self._unread_rank is None:
            self._unread_rank = unread_rank(entries)

    def _refuse_unread(self) -> None:
        """Refuse documents shown whose ranks or clicks have a name that is not known."""
        if self._unread_rank is not None and self._chosen.estimate != "counts":
            raise DataError(
                f"documents shown have {self._unread_rank!r}, and are not in its order: call it "
                "rank if it is their rank; take it away if they are in the order of ranks"
            )
        if self._keys and not self._clicks_are_said:
            raise DataError(
                "no column looks like clicked, and no key of the documents shown, which have "
                f"{keys_of(self._keys)}; call the key clicked, or say which column it is: --column "
                "clicked=NAME"
            )

    def _refuse_counts(self) -> None:
        """Refuse rows that are sums: no rank is that of all their searches."""
        if self._clicks > _COUNTS_FROM * self._n_clicked:
            raise DataError(
                f"clicked holds {self._clicks / self._n_clicked:.3g} clicks a clicked row: a count "
                "over several searches, or something else than clicks; expected yes or no of one "
                "search, or --estimate counts, which takes no ranks"
            )

    def _refuse_pages(self) -> None:
        """Refuse ranks that begin anew on each page of results: they are not those of a search."""
        first, *others = sorted(self._least_ranks) or [0.0]
        for page in others:
            if self._least_ranks[page] <= self._least_ranks[first]:
                raise DataError(
                    f"ranks begin anew on each page: page {page:g} has rank "
                    f"{self._least_ranks[page]:g}, as page {first:g}; write ranks over all pages "
                    "of a search, or say --column page= if that is no page of its results"
                )

    def _refuse_milliseconds(self) -> None:
        """Refuse seconds that can't be: half of them over an hour."""
        median = sorted(self._dwell)[len(self._dwell) // 2] if self._dwell else 0.0
        if median > _LONG > self._chosen.min_dwell:
            raise DataError(
                f"half of the dwell times are {median:g} or more, which would be over an hour: "
                "milliseconds? Write seconds, or give --min-dwell in the column's unit: "
                f"--min-dwell {1000 * self._chosen.min_dwell:g}"
            )

    def _first_rank(self) -> int:
        """Tell whether ranks count from 0 or from 1."""
        if self._chosen.ranks_from is not None:
            return self._chosen.ranks_from
        zeros, ones = self._ranks[0], self._ranks[1]
        if zeros and zeros < ones:
            raise DataError(
                f"{zeros} documents have rank 0 and {ones} rank 1: ranks count from 0 in some "
                "searches, or 0 is none; say which: --ranks-from 0, or --ranks-from 1, which drops "
                "rank 0"
            )
        return 0 if zeros else 1

    def _clicked(self) -> str:
        """Tell ids from a mask."""
        if self._chosen.clicked is not None:
            return self._chosen.clicked
        n_ids, n_masks, n_either = (self._forms[form] for form in ("ids", "mask", "either"))
        if n_masks > _STRAY * n_ids and n_ids > _STRAY * n_masks:
            raise DataError(
                f"clicked is a list of ids in {n_ids} searches, and a mask, with 0 or 1 for every "
                f"document shown, in {n_masks}; say which: --clicked ids or --clicked mask"
            )
        if n_either and not n_ids and not n_masks:
            raise DataError(
                "clicked can be a list of ids, or a mask, with 0 or 1 for every document shown; "
                "say which: --clicked ids or --clicked mask"
            )
        return "mask" if n_masks > n_ids else "ids"


def _form_of(clicked: list[Any], shown: set[str], n_shown: int) -> str:
    """Say what a list of clicks can be."""
    if not clicked:
        return "empty"
    is_mask = len(clicked) == n_shown and all(_is_flag(one) for one in clicked)
    if any(isinstance(one, bool) for one in clicked):
        return "mask" if is_mask else "unusable"
    names = [as_entry(one)[0] for one in clicked]
    is_ids = shown.issuperset(names) and not (is_mask and len(set(names)) < len(names))
    if is_mask:
        return "either" if is_ids else "mask"
    return "ids" if is_ids else "unusable"


def _is_flag(value: Any) -> bool:
    """Tell what a mask can hold; an empty text is no flag."""
    return not isinstance(value, dict) and value not in ("", None) and flag_of(value) is not None
