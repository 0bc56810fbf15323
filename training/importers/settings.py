"""How an import is to be done."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

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
        min_clicks: Clicks that a relevant document has at least (pairwise: comparisons won).
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
        columns: Names of columns by role, where the usual names do not tell.
        header: Whether the first line of CSV and TSV names the columns.
        relevant_from: Scores below it are judged non-relevant (grade 0).
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
    relevant_from: float | None = None
    max_dropped: float = 0.1
    clicks: ClickSettings = field(default_factory=ClickSettings)
    force: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Give what differs from the defaults, clicks' settings among the others, as JSON."""
        changed = {**_changed(self, ImportSettings()), **_changed(self.clicks, ClickSettings())}
        changed.pop("clicks", None)
        return changed


def grade_from(grade: float, relevant_from: float | None) -> float:
    """Give a grade, or 0 where it is below what counts as relevant."""
    return grade if relevant_from is None or grade >= relevant_from else JUDGED_OTHERWISE


def _changed(settings: Any, defaults: Any) -> dict[str, Any]:
    """Give the fields that differ."""
    names = [one.name for one in fields(settings)]
    values = {name: getattr(settings, name) for name in names}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in values.items()
        if value != getattr(defaults, name)
    }
