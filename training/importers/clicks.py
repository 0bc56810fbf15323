"""Click logs to labels: position bias taken out, pairs without support left out, split by time."""

import json
import math
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.dataset import SPLITS
from training.errors import ConfigError, DataError
from training.importers.click_log import ClickLog, Search
from training.importers.corpora import add_corpus
from training.importers.propensity import (
    Exposures,
    Relevance,
    estimate_relevance,
    harvest_propensities,
    shrink,
)
from training.importers.settings import ClickSettings, ImportSettings
from training.importers.tally import Progress
from training.importers.writer import DatasetWriter

MAX_RANK = 100
_COMPACT_AT = 4_000_000
_LEAST_GRADE = 1e-4


def import_clicks(source: Path, writer: DatasetWriter, settings: ImportSettings) -> dict[str, Any]:
    """Read a log twice: for where time parts the splits, then for what was shown and clicked.

    Returns:
        For ``import.json``: under ``clicks``, the estimate's propensities, its prior, the cuts in
        time, and counts.

    Raises:
        DataError: The log can't be read, or does not tell position bias from relevance.
    """
    chosen = settings.clicks
    log = ClickLog(source, settings.for_rows(), header=settings.header)
    if chosen.min_dwell > 0:
        log.require_dwell()
    if settings.corpus is not None:
        add_corpus(settings.corpus, writer, settings)
    cuts = _time_cuts(log, chosen, writer.tally.progress)
    table = ExposureTable()
    facts: dict[str, Any] = {"estimate": chosen.estimate}
    facts |= {"splits_begin": [_write_time(cut) for cut in cuts]}
    facts |= _read(log, writer, table, cuts, settings)
    if settings.split == "train" and facts["searches"] and not facts["searches_by_split"][0]:
        raise DataError(
            "no search is before the dev split: the log's times do not part it; give --train-until"
        )
    writer.shares = [count / max(facts["searches"], 1) for count in facts["searches_by_split"]]
    propensities = _propensities(table, chosen, facts)
    for split in range(len(SPLITS)):
        exposures = table.exposures(split)
        if len(exposures):
            _add_labels(split, exposures, propensities, writer, chosen, facts)
    return {"clicks": facts}


class ExposureTable:
    """Counts of what was shown and clicked, added up whenever they are many."""

    def __init__(self) -> None:
        """Begin empty."""
        self._split, self._rank, self._clicked = array("b"), array("h"), array("b")
        self._query, self._document = array("q"), array("q")
        self._keys = np.empty((4, 0), np.int64)
        self._shown, self._clicks = np.empty(0), np.empty(0)

    def add(self, split: int, query: int, document: int, rank: int, clicked: bool) -> None:
        """Count one document shown."""
        self._split.append(split)
        self._query.append(query)
        self._document.append(document)
        self._rank.append(rank)
        self._clicked.append(clicked)
        if len(self._split) >= _COMPACT_AT:
            self._compact()

    def exposures(self, split: int) -> Exposures:
        """Give one split's counts."""
        self._compact()
        rows = self._keys[0] == split
        query, document, rank = self._keys[1:, rows]
        return Exposures(query, document, rank, self._shown[rows], self._clicks[rows])

    def _compact(self) -> None:
        """Add up rows of one key."""
        new = [np.array(one, np.int64) for one in (self._split, self._query, self._document)]
        new.append(np.array(self._rank, np.int64))
        if not len(new[0]):
            return
        keys = np.concatenate([self._keys, np.stack(new)], axis=1)
        shown = np.concatenate([self._shown, np.ones(len(new[0]))])
        clicks = np.concatenate([self._clicks, np.array(self._clicked, np.float64)])
        order = np.lexsort(keys[::-1])
        keys = keys[:, order]
        starts = np.flatnonzero(np.append(True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)))
        self._keys = keys[:, starts]
        self._shown = np.add.reduceat(shown[order], starts)
        self._clicks = np.add.reduceat(clicks[order], starts)
        for column in (self._split, self._rank, self._clicked, self._query, self._document):
            del column[:]


def compare_pairs(search: Search) -> Iterator[tuple[str, bool]]:
    """Yield who won and who lost against a document of the same search.

    A clicked document beats every document above it, and the one right below it, that was not
    clicked: people read from the top, so these were looked at and passed over.

    Source:
        Joachims, Granka, Pan, Hembrooke & Gay (2005), SIGIR, doi:10.1145/1076034.1076063:
        "click > skip above" and "click > no-click next".
    """
    order = sorted(search.shown, key=search.shown.__getitem__)
    for place, name in enumerate(order):
        if name not in search.clicked:
            continue
        for other in [*order[:place], *order[place + 1 : place + 2]]:
            if other not in search.clicked:
                yield name, True
                yield other, False


def _read(
    log: ClickLog,
    writer: DatasetWriter,
    table: ExposureTable,
    cuts: list[float],
    settings: ImportSettings,
) -> dict[str, Any]:
    """Count what the whole log shows."""
    chosen = settings.clicks
    n_searches, n_clicks = [0] * len(SPLITS), 0
    for place, search in log.searches(writer.tally):
        _judge_clicks(search, writer, place, chosen.min_dwell)
        n_clicks += len(search.clicked)
        split = SPLITS.index(settings.split)
        if search.time is not None and cuts:
            split = int(np.searchsorted(cuts, search.time, side="right"))
        n_searches[split] += 1
        query = writer.add_query(search.query, place)
        if chosen.estimate == "pairwise":
            for name, won in compare_pairs(search):
                table.add(split, query, writer.documents.number(name), 1, won)
            continue
        for name, rank in search.shown.items():
            if rank <= MAX_RANK:
                table.add(split, query, writer.documents.number(name), rank, name in search.clicked)
    return {"searches": sum(n_searches), "searches_by_split": n_searches, "clicks": n_clicks}


def _judge_clicks(search: Search, writer: DatasetWriter, place: int, min_dwell: float) -> None:
    """Take away clicks that say nothing; count them."""
    for name, dwell in list(search.clicked.items()):
        if name not in search.shown:
            writer.tally.leave_out("a click on a document that was not shown", place)
            del search.clicked[name]
        elif dwell is not None and dwell < min_dwell:
            writer.tally.leave_out("a click shorter than --min-dwell", place)
            del search.clicked[name]


def _write_time(cut: float) -> str | None:
    """Write a moment in UTC."""
    return datetime.fromtimestamp(cut, UTC).isoformat() if math.isfinite(cut) else None


def _time_cuts(log: ClickLog, chosen: ClickSettings, progress: Progress) -> list[float]:
    """Find the times at which dev and test begin, in seconds since 1970; none without times."""
    if not log.has_times:
        if chosen.train_until or chosen.dev_until:
            raise ConfigError("--train-until needs times, and the log has no time column")
        return []
    if chosen.train_until is not None:
        return sorted([chosen.train_until, chosen.dev_until or chosen.train_until])
    times = np.fromiter(log.times(progress), np.float64)
    if not len(times):
        return []
    test = 1 - chosen.test_share
    return [
        float(np.quantile(times, share)) if share < 1 else math.inf
        for share in (test - chosen.dev_share, test)
    ]


def _propensities(
    table: ExposureTable, chosen: ClickSettings, facts: dict[str, Any]
) -> NDArray[np.float64]:
    """Take, read or estimate how likely each rank is looked at."""
    if chosen.estimate == "pairwise":
        return np.ones(1)
    if chosen.propensities is not None:
        values = _read_propensities(chosen.propensities)
        facts["propensities"] = values.tolist()
        return values
    train = table.exposures(0)
    found = harvest_propensities(train, int(train.rank.max(initial=1)))
    known = ~np.isnan(found.values)
    if known.sum() < 2:
        raise DataError(
            "the log does not tell position bias from relevance: before the dev split, only "
            f"{found.swapped_clicks.sum():.0f} clicks are on documents that one query found at "
            "different ranks, and two ranks with 10 each are needed; give --propensities FILE, or "
            "--estimate pairwise"
        )
    facts["propensities"] = [
        None if np.isnan(value) else round(float(value), 4) for value in found.values
    ]
    facts["swapped_clicks"] = found.swapped_clicks.round(1).tolist()
    return found.values


def _read_propensities(path: Path) -> NDArray[np.float64]:
    """Read a JSON array: the propensity of rank 1, 2, ..."""
    try:
        values = np.array(json.loads(path.read_text(encoding="utf-8")), np.float64)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"can't read propensities from {path}: {error}; expected a JSON array, rank 1 first"
        ) from error
    if values.ndim != 1 or not len(values) or not ((values > 0) & (values <= 1)).all():
        raise DataError(f"{path}: expected numbers over 0, at most 1, one a rank, rank 1 first")
    return values


def _add_labels(
    split: int,
    exposures: Exposures,
    propensities: NDArray[np.float64],
    writer: DatasetWriter,
    chosen: ClickSettings,
    facts: dict[str, Any],
) -> None:
    """Turn one split's counts into labels."""
    found = estimate_relevance(
        exposures, propensities, clip=chosen.clip, inverse=chosen.estimate == "ips"
    )
    if not found.clicks.sum():
        return
    if chosen.estimate == "examined":
        found, prior, mean = shrink(found)
        facts.setdefault("prior", {})[SPLITS[split]] = {"examinations": prior, "mean": mean}
    relevant, judged = judge(found, chosen)
    for rows, grades in (
        (relevant, np.clip(found.relevance[relevant], _LEAST_GRADE, 1).round(4)),
        (judged & ~relevant, np.zeros(int((judged & ~relevant).sum()))),
    ):
        for query, document, grade in zip(
            found.query[rows].tolist(), found.document[rows].tolist(), grades.tolist(), strict=True
        ):
            writer.labels.add(split, query, document, grade, -1)
    n_open = int((~judged & ~relevant).sum())
    if n_open:
        writer.tally.leave_out("a pair with too few clicks or examinations to judge", -1, n_open)


def judge(found: Relevance, chosen: ClickSettings) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Say which pairs are relevant, and which were looked at enough to be called otherwise.

    Relevant: clicked often enough, and near enough to the query's best such document (pairwise:
    won more comparisons than it lost). Otherwise judged: examined often enough.
    """
    relevant = found.clicks >= chosen.min_clicks
    if chosen.estimate == "pairwise":
        return relevant & (found.relevance > 0.5), found.examined >= chosen.min_examined
    best = np.zeros(int(found.query.max(initial=0)) + 1)
    np.maximum.at(best, found.query[relevant], found.relevance[relevant])
    relevant &= found.relevance >= chosen.relevant_share * best[found.query]
    return relevant, found.examined >= chosen.min_examined
