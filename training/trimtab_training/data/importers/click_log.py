"""Search logs as a stream of searches: what was asked, shown at which rank, and clicked.

A row is a whole search (``shown`` is a list) or one document shown (``document`` and ``rank``).
Logs without ranks are read where the clicks are to be taken as they are (``counts``).
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from trimtab_training.data.importers.click_columns import find_click_columns
from trimtab_training.data.importers.click_survey import LogForm, LogSurvey
from trimtab_training.data.importers.click_values import (
    as_count,
    as_dwell,
    as_entry,
    as_identity,
    as_list,
    as_rank,
    dwell_in,
    dwell_of,
    flag_of,
    is_clicked,
    rank_of,
)
from trimtab_training.data.importers.columns import Columns, value_of
from trimtab_training.data.importers.gather import Found, Gatherer, Search
from trimtab_training.data.importers.json_rows import Row
from trimtab_training.data.importers.settings import ClickSettings
from trimtab_training.data.importers.sources import (
    files_by_split,
    left_aside,
    read_rows,
    sample_rows,
)
from trimtab_training.data.importers.tally import Progress, Tally
from trimtab_training.data.importers.texts import Text, Unusable, as_filled_text, as_name
from trimtab_training.data.importers.understood import SAMPLE_ROWS
from trimtab_training.errors import ConfigError, DataError


class ClickLog:
    """A log that can be read more than once.

    Attributes:
        source: Its file or folder.
        has_times: Whether its rows say when.
        is_parted: Whether its files' names, or ``split``, say of which split they are.
        left_aside: Names of a folder's files that are called like a split's and are not read.
        columns: The columns of every file's roles.
        names: All columns of every file's first rows.
        n_rows: How many rows these are.
    """

    def __init__(
        self,
        source: Path,
        given: Mapping[str, tuple[str, ...]],
        *,
        split: int = 0,
        header: bool = True,
        delimiter: str | None = None,
        chosen: ClickSettings | None = None,
    ) -> None:
        """Find the log's files and columns; ``split`` is that of a log which is one file.

        Raises:
            DataError: Nothing is there, or columns are missing.
        """
        self.source, self._given = source, given
        self._header, self._delimiter = header, delimiter
        self._chosen = chosen or ClickSettings()
        self.columns: dict[Path, Columns] = {}
        self.names: dict[Path, list[str]] = {}
        self.n_rows: dict[Path, int] = {}
        files = files_by_split(source, split)
        self._splits = {path: number for number, path in files}
        self.is_parted = any(self._splits.values())
        self.left_aside = left_aside(source, files)
        for path in self._splits:
            sample = sample_rows(path, header=header, delimiter=delimiter)
            if sample.rows:
                self.n_rows[path] = len(sample.rows)
                self.names[path] = list(sample.names)
                self.columns[path] = find_click_columns(sample, given, self._chosen, path)
        self.has_times = self._all_have_times()
        self._form: LogForm | None = None

    def _all_have_times(self) -> bool:
        """Tell whether rows say when; refuse a log of which one file does and another does not."""
        timed = {path.name: "time" in columns for path, columns in self.columns.items()}
        if len(set(timed.values())) > 1:
            raise DataError(
                f"{self.source}: {next(name for name in timed if timed[name])} has a column of "
                f"times, {next(name for name in timed if not timed[name])} has none that is known: "
                "call them alike, or say --column time= to do without"
            )
        return all(timed.values())

    def require_dwell(self) -> None:
        """Refuse a log that does not say how long a clicked document was looked at.

        Raises:
            ConfigError: It does not.
        """
        for path, columns in self.columns.items():
            if "dwell" not in columns:
                raise ConfigError(
                    f"--min-dwell, and {path.name} has no dwell column; --column dwell=NAME"
                )

    def require_times(self) -> None:
        """Refuse what is said of times where the log has none.

        Raises:
            ConfigError: Something is.
        """
        if any("time" in columns for columns in self.columns.values()):
            return
        for option, value in (
            ("--time-format", self._chosen.time_format),
            ("--time-zone", self._chosen.time_zone),
        ):
            if value is not None:
                raise ConfigError(
                    f"{option} needs times, and the log has no time column; --column time=NAME"
                )

    def form(self, progress: Progress = lambda _what, _done, _all: None) -> LogForm:
        """Look through the whole log, once, for what its values mean.

        Raises:
            DataError: Something in it can be read in two ways.
        """
        if self._form is None:
            survey, tally = LogSurvey(self._chosen), Tally(progress=progress)
            for path, columns in self.columns.items():
                for _, record in self._rows(path, tally):
                    survey.add(record, columns)
            self._form = survey.decide()
        return self._form

    def searches(self, tally: Tally) -> Iterator[Found]:
        """Yield every search with its place; rows that can't be used are dropped.

        Raises:
            DataError: The log can be read in two ways, or rows of a search stand too far apart.
        """
        form = self.form(tally.progress)
        gatherer = Gatherer(tally, self._columns_in_doubt())
        for path in self.columns:
            yield from self._read(path, self._rows(path, tally), form, gatherer)
        yield from gatherer.finish()

    def _columns_in_doubt(self) -> dict[str, str]:
        """Give what may tear the rows of a search id apart, unless the user named it, and the id's.

        A file whose columns have other names than the first's is of the same log.
        """
        roles = ["search", *(role for role in ("session", "query") if role not in self._given)]
        return {
            role: columns[role][0]
            for columns in reversed(self.columns.values())
            for role in roles
            if role in columns
        }

    def sample(self, path: Path) -> list[Search]:
        """Give the searches of a file's first rows, the last of them perhaps in part."""
        rows = islice(self._rows(path, Tally()), SAMPLE_ROWS)
        gatherer = Gatherer(Tally())
        found = [*self._read(path, rows, self.form(), gatherer), *gatherer.finish()]
        return [search for _, search in found]

    def _read(
        self, path: Path, rows: Iterator[Row], form: LogForm, gatherer: Gatherer
    ) -> Iterator[Found]:
        """Read rows of a file by what they are; those that are one document each are gathered."""
        columns, split, tally = self.columns[path], self._splits[path], gatherer.tally
        if "shown" not in columns and {"rank", "document"} <= columns.keys():
            yield from _gathered(rows, columns, form, split, gatherer)
            return
        read = _read_lists if "shown" in columns else _read_clicks
        for place, record in rows:
            try:
                search = _begin(record, columns, form, split)
                n_again = read(search, record, columns, form)
            except Unusable as reason:
                tally.drop(str(reason), place)
                continue
            if n_again:
                tally.note("a document again in one search: its first rank counts", place, n_again)
            yield place, search

    def _rows(self, path: Path, tally: Tally) -> Iterator[Row]:
        """Read a file's rows."""
        return read_rows(path, tally, header=self._header, delimiter=self._delimiter)


def _gathered(
    rows: Iterator[Row], columns: Columns, form: LogForm, split: int, gatherer: Gatherer
) -> Iterator[Found]:
    """Gather rows that are one document each; what is open stays so for the log's next file."""
    for place, record in rows:
        try:
            row = _begin(record, columns, form, split)
            _read_row(row, record, columns, form)
            search_id = as_identity(value_of(record, columns, "search"), "search id")
            session = as_identity(value_of(record, columns, "session"), "session")
        except Unusable as reason:
            gatherer.tally.drop(str(reason), place)
            continue
        yield from gatherer.add(place, row, search_id, session)


def _begin(record: Mapping[str, Any], columns: Columns, form: LogForm, split: int) -> Search:
    """Take what belongs to the search as a whole."""
    name = value_of(record, columns, "query_id")
    text = as_filled_text(value_of(record, columns, "query"), "query")
    query = Text(text, "", None if name is None else as_name(name, "query id"))
    time = form.clock.read(value_of(record, columns, "time")) if "time" in columns else None
    return Search(query, time=time, split=split)


def _read_row(search: Search, record: Mapping[str, Any], columns: Columns, form: LogForm) -> None:
    """Take the one document that a row is about."""
    name = as_name(value_of(record, columns, "document"), "document id")
    search.shown[name] = as_rank(value_of(record, columns, "rank"), form.first_rank)
    if as_count(value_of(record, columns, "clicked")) > 0:
        search.clicked[name] = as_dwell(value_of(record, columns, "dwell"))


def _read_clicks(search: Search, record: Mapping[str, Any], columns: Columns, _: LogForm) -> int:
    """Take what was clicked; where the log does not say, the document of the row was, once.

    Returns:
        How many documents stand there again, as ``_read_lists``; none is ever shown twice.
    """
    clicked = value_of(record, columns, "clicked")
    dwell = value_of(record, columns, "dwell")
    if "document" not in columns:
        names = as_list(clicked, "clicked")
        for value, seconds in zip(names, dwell_of(dwell, names), strict=True):
            name, of = as_entry(value)
            search.clicked[name] = dwell_in(of, seconds)
    else:
        name = as_name(value_of(record, columns, "document"), "document id")
        search.weight = as_count(clicked) if "clicked" in columns else 1.0
        if search.weight > 0:
            search.clicked[name] = as_dwell(dwell)
        else:
            search.shown[name] = 1
    search.shown |= dict.fromkeys(search.clicked, 1)
    return 0


def _read_lists(search: Search, record: Mapping[str, Any], columns: Columns, form: LogForm) -> int:
    """Take the documents shown, in order or with ranks, and those clicked.

    Returns:
        How many documents were shown again.
    """
    shown = as_list(value_of(record, columns, "shown"), "shown")
    if not shown:
        raise Unusable("nothing was shown")
    ranks = as_list(value_of(record, columns, "ranks"), "ranks") if "ranks" in columns else None
    if ranks is not None and len(ranks) != len(shown):
        raise Unusable("shown and ranks differ in length")
    names = []
    for place, value in enumerate(shown):
        name, of = as_entry(value)
        rank = rank_of(of) if ranks is None else ranks[place]
        names.append(name)
        search.shown.setdefault(name, place + 1 if rank is None else as_rank(rank, form.first_rank))
        if is_clicked(of):
            search.clicked[name] = dwell_in(of)
    if len(set(search.shown.values())) < len(search.shown):
        raise Unusable("two documents of a search have one rank")
    clicked = as_list(value_of(record, columns, "clicked"), "clicked")
    dwell = dwell_of(value_of(record, columns, "dwell"), clicked)
    if form.clicked == "mask":
        clicked, dwell = _unmasked(clicked, dwell, names)
    for value, seconds in zip(clicked, dwell, strict=True):
        name, of = as_entry(value)
        search.clicked[name] = dwell_in(of, seconds)
    return len(names) - len(search.shown)


def _flag(value: Any) -> bool:
    """Take yes or no."""
    flag = flag_of(value)
    if flag is None:
        raise Unusable("clicked is neither yes nor no")
    return flag


def _unmasked(mask: list[Any], dwell: list[Any], names: list[str]) -> tuple[list[Any], list[Any]]:
    """Give the documents that a mask marks, and their seconds."""
    if mask and len(mask) != len(names):
        raise Unusable("clicked, a mask, and shown differ in length")
    marked = [place for place, value in enumerate(mask) if _flag(value)]
    return [names[place] for place in marked], [dwell[place] for place in marked]
