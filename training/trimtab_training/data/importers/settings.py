"""How an import is to be done."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

_OF_TEXTS = ("id", "title", "text")
JUDGED_OTHERWISE = 0.0  # the grade of a document that was judged, and not relevant


@dataclass(frozen=True)
class ClickSettings:
    """How clicks become labels.

    Attributes:
        estimate: ``examined``: clicks over expected examinations, shrunk; ``ips``: inverse
            propensity scores; ``pairwise``: comparisons within a search; ``counts``: clicks as
            they are, where the log has no ranks.
        propensities: JSON array, rank 1 first, where they are known; else the log tells.
        clip: Least propensity, from 0 to 1.
        min_clicks: Clicks that a relevant document has at least.
        min_examined: Expected examinations (pairwise: comparisons) that a document has at least to
            be judged non-relevant.
        relevant_share: Estimate that a relevant document has at least, as a share of the query's
            best.
        min_dwell: Seconds; shorter clicks count as none.
        dev_share: Share of the searches, by time, of the dev split.
        test_share: The same of the test split: the last.
        train_until: End of the train split, in seconds since 1970, instead of the shares.
        dev_until: End of the dev split; without it there is none.
        clicked: ``ids`` or ``mask`` (one flag a document shown) where lists of clicks can be both.
        ranks_from: Rank of the first document, 0 or 1, where the log can be read both ways.
        search_id: Column of the search's id, or ``none`` where what looks like one is not.
        time_format: A unit (``s``, ``ms``, ``us``, ``ns``), ``excel``, or a strptime pattern, where
            the times can be read in two ways.
        time_zone: Zone of times that have none; UTC by default.
    """

    estimate: str = "examined"
    propensities: Path | None = None
    clip: float = 0.1
    min_clicks: float = 2.0
    min_examined: float = 10.0
    relevant_share: float = 0.1
    min_dwell: float = 0.0
    dev_share: float = 0.1
    test_share: float = 0.2
    train_until: float | None = None
    dev_until: float | None = None
    clicked: str | None = None
    ranks_from: int | None = None
    search_id: str | None = None
    time_format: str | None = None
    time_zone: str | None = None


@dataclass(frozen=True)
class ImportSettings:
    """What the user says about a source.

    Attributes:
        corpus: Documents with ids, where the source has none, or to map its texts onto.
        queries: Queries with ids, where the source has none.
        split: Split of a source that is one file: ``train``, ``dev`` or ``test``.
        split_by: Make a test split by ``document`` or ``query`` where there is none.
        merge_queries: Join queries of one text, whatever its case and outer punctuation.
        columns: Names of columns by role, where the usual names do not tell; no name where no
            column has the role.
        header: Whether the first line of CSV and TSV names the columns.
        delimiter: What parts the columns of CSV and TSV, where the file does not tell.
        lists: Whether cells that are spelled as lists are lists, where only some are.
        relevant_from: Scores below it are judged non-relevant (grade 0).
        grades: What each class is worth, where scores are classes; keys as ``class_key`` has them.
        max_dropped: Share of rows that may be dropped, from 0 to 1.
        clicks: How clicks become labels.
        force: Replace a folder that no import made.
    """

    corpus: Path | None = None
    queries: Path | None = None
    split: str = "train"
    split_by: str | None = None
    merge_queries: bool = False
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    header: bool = True
    delimiter: str | None = None
    lists: bool | None = None
    relevant_from: float | None = None
    grades: dict[str, float] = field(default_factory=dict)
    max_dropped: float = 0.1
    clicks: ClickSettings = field(default_factory=ClickSettings)
    force: bool = False

    def for_rows(self) -> dict[str, tuple[str, ...]]:
        """Give the columns of pairs, or of a log: all but those of the corpus beside it."""
        if self.corpus is None:
            return self.columns
        return {role: of for role, of in self.columns.items() if role not in _OF_TEXTS}

    def for_texts(self, what: str = "") -> dict[str, tuple[str, ...]]:
        """Give the columns of a file of texts.

        Args:
            what: ``query`` or ``document``, where a column that is given for one of them is meant
                for this file: its text, or with ``_id`` its id.
        """
        given = {role: of for role, of in self.columns.items() if role in _OF_TEXTS}
        if what:
            for role, name in (("text", what), ("id", f"{what}_id")):
                given |= {role: self.columns[name]} if name in self.columns else {}
        return given

    def as_dict(self) -> dict[str, Any]:
        """Give what differs from the defaults, clicks' settings among the others, as JSON."""
        changed = {**_changed(self, ImportSettings()), **_changed(self.clicks, ClickSettings())}
        changed.pop("clicks", None)
        return changed


def grade_from(grade: float, relevant_from: float | None) -> float:
    """Give a grade, or 0 where it is below what counts as relevant.

    Where that is 0 or less, as for logits, grades are counted from it, so that it is 1 itself: a
    grade of 0 or less is a document that is not relevant.
    """
    if relevant_from is None or grade >= relevant_from > 0:
        return grade
    return grade - relevant_from + 1.0 if grade >= relevant_from else JUDGED_OTHERWISE


def class_key(value: Any) -> str:
    """Write a class as ``--grades`` names it: 1, 1.0 and "1" are one, and so are Yes and yes."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip().casefold()
    return text.removesuffix(".0") if text.removesuffix(".0").lstrip("-").isdigit() else text


def _changed(settings: Any, defaults: Any) -> dict[str, Any]:
    """Give the fields that differ."""
    names = [one.name for one in fields(settings)]
    values = {name: getattr(settings, name) for name in names}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in values.items()
        if value != getattr(defaults, name)
    }
