"""Click logs to labels: position bias taken out, pairs without support left out, split by time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.parsing import read_json
from trimtab_training.data.importers.click_log import ClickLog
from trimtab_training.data.importers.click_splits import (
    DEV,
    count_dev,
    join_dev,
    most_queries,
    shares_of,
    time_cuts,
    write_time,
)
from trimtab_training.data.importers.corpora import add_corpus
from trimtab_training.data.importers.exposure_table import ExposureTable
from trimtab_training.data.importers.gather import Search
from trimtab_training.data.importers.labels import Labels
from trimtab_training.data.importers.propensity import (
    Relevance,
    estimate_relevance,
    harvest_propensities,
    shrink,
)
from trimtab_training.data.importers.settings import ClickSettings, ImportSettings
from trimtab_training.data.importers.texts import Unusable
from trimtab_training.data.importers.understood import Reading
from trimtab_training.data.importers.writer import DatasetWriter
from trimtab_training.data.plain_text import explain_unreadable
from trimtab_training.data.qrels import SPLITS
from trimtab_training.data.splits import MIN_DEV_QUERIES
from trimtab_training.errors import DataError

MAX_RANK = 100
_LEAST_GRADE = 1e-4
_STRAY = 0.01  # share of documents shown that were not clicked, up to which a log has clicks alone
_FEW = 10  # documents shown that tell nothing of the kind
_MOST = 0.9  # of the searches, from which ids that are new in each are no queries'
_IDS_OF_A_TEXT = 2  # ids of queries that one text has at most, on average
_RANKLESS = {"counts", "pairwise"}  # estimates that need no propensities


def import_clicks(source: Path, writer: DatasetWriter, settings: ImportSettings) -> dict[str, Any]:
    """Read a log twice: for what its values mean, then for what was shown and clicked.

    Returns:
        For ``import.json``: under ``clicks``, how the log is read, the estimate's propensities, its
        prior, the cuts in time, and counts.

    Raises:
        DataError: The log can't be read, can be read in two ways, or does not tell position bias
            from relevance.
    """
    chosen = settings.clicks
    log = ClickLog(
        source,
        settings.for_rows(),
        split=SPLITS.index(settings.split),
        header=settings.header,
        delimiter=settings.delimiter,
        chosen=chosen,
    )
    if chosen.min_dwell > 0:
        log.require_dwell()
    log.require_times()
    if settings.corpus is not None:
        add_corpus(settings.corpus, writer, settings)
    form = log.form(writer.tally.progress)
    _tell(log, writer)
    cuts = time_cuts(log, chosen)
    table = ExposureTable(ExposureTable() if chosen.estimate == "pairwise" else None)
    facts: dict[str, Any] = {"estimate": chosen.estimate, "read": form.describe()}
    facts |= {"splits_begin": [write_time(cut) for cut in cuts]}
    facts |= _read(log, writer, table, cuts, settings)
    if cuts and facts["searches"] and not facts["searches_by_split"][0]:
        raise DataError(
            "no search is before the dev split: the log's times do not part it; give --train-until"
        )
    labels = _settle(table, writer, settings, facts)
    for row in zip(*(column.tolist() for column in _columns(labels)), strict=True):
        writer.labels.add(*row)
    return {"clicks": facts}


def _tell(log: ClickLog, writer: DatasetWriter) -> None:
    """Say how each file is understood, with the first searches as they are read."""
    form = log.form()
    notes = [f"left aside: {name}" for name in log.left_aside]
    notes += [f"{what.replace('_', ' ')}: {of}" for what, of in form.describe().items()]
    for path, columns in log.columns.items():
        searches = log.sample(path)
        used = {name for names in columns.values() for name in names}
        writer.understood.file(
            Reading(
                file=path.name,
                what="searches",
                columns=columns,
                unused=[name for name in log.names[path] if name not in used],
                n_rows=log.n_rows[path],
                examples=[_example(one) for one in searches],
                times=[one.time for one in searches if one.time is not None],
                notes=notes,
            )
        )
    writer.understood.times(form.moments)


def _example(search: Search) -> dict[str, Any]:
    """Show a search as it is read."""
    time = {} if search.time is None else {"time": write_time(search.time)}
    return {
        "query": search.query.text, "shown": search.shown, "clicked": list(search.clicked), **time,
    }  # fmt: skip


def _settle(
    table: ExposureTable, writer: DatasetWriter, settings: ImportSettings, facts: dict[str, Any]
) -> Labels:
    """Make labels; where the dev split would be too small to judge, its searches join train."""
    chosen, counts = settings.clicks, facts["searches_by_split"]
    may_join = bool(facts["splits_begin"]) and counts[DEV] > 0
    if may_join and (most := most_queries(table.clicks.exposures(DEV), chosen)) < MIN_DEV_QUERIES:
        join_dev(table, facts, most)
        may_join = False
    writer.shares = shares_of(facts)
    labels = _labels(table, writer, chosen, facts)
    if may_join:
        n_dev = count_dev(labels, writer)
        if n_dev < MIN_DEV_QUERIES:
            join_dev(table, facts, n_dev)
            writer.shares = shares_of(facts)
            labels = _labels(table, writer, chosen, facts)
    if facts["n_open"]:
        what = "a pair with too few clicks or examinations to judge"
        writer.tally.leave_out(what, -1, facts.pop("n_open"))
    facts.pop("n_open", None)
    return labels


def _labels(
    table: ExposureTable, writer: DatasetWriter, chosen: ClickSettings, facts: dict[str, Any]
) -> Labels:
    """Turn all counts into labels."""
    propensities = _propensities(table, chosen, facts)
    facts["n_open"] = 0
    facts.pop("prior", None)
    parts = [
        _labels_of(split, table, propensities, chosen, facts)
        for split in range(len(SPLITS))
        if len(table.exposures(split))
    ]
    columns = [_columns(part) for part in parts if part is not None]
    if not columns:
        return Labels(*(np.empty(0, kind) for kind in (np.int8, int, int, np.float64, int)))
    return Labels(*(np.concatenate(of) for of in zip(*columns, strict=True)))


def _columns(labels: Labels) -> tuple[NDArray[Any], ...]:
    """Give the columns of labels in their order."""
    return labels.split, labels.query, labels.document, labels.grade, labels.place


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
        below = [one for one in order[place + 1 : place + 2] if _is_next(search, name, one)]
        for other in [*order[:place], *below]:
            if other not in search.clicked:
                yield name, True
                yield other, False


def _is_next(search: Search, name: str, other: str) -> bool:
    """Tell the document right below another one, where ranks may have gaps."""
    return search.shown[other] <= search.shown[name] + 1


def _read(
    log: ClickLog,
    writer: DatasetWriter,
    table: ExposureTable,
    cuts: list[float],
    settings: ImportSettings,
) -> dict[str, Any]:
    """Count what the whole log shows."""
    chosen = settings.clicks
    n_searches, n_clicks, n_lost = [0] * len(SPLITS), 0.0, 0
    lost: tuple[str, ...] = ()
    n_taken = n_shown = n_passed = 0
    for place, search in log.searches(writer.tally):
        try:
            writer.check_ids(search.query, (), place)
        except Unusable as reason:
            writer.tally.drop(str(reason), place)
            n_taken += 1
            continue
        n_shown += len(search.shown)
        n_passed += len(search.shown.keys() - search.clicked.keys())
        unknown = _judge_clicks(search, writer, place, chosen.min_dwell)
        lost, n_lost = lost or unknown, n_lost + len(unknown)
        n_clicks += len(search.clicked) * search.weight
        split = search.split
        if search.time is not None and cuts:
            split = int(np.searchsorted(cuts, search.time, side="right"))
        n_searches[split] += 1
        query = writer.add_query(search.query, place)
        for name, rank, clicks in _exposed(search, chosen.estimate):
            if rank > MAX_RANK:
                writer.tally.leave_out(f"a document below rank {MAX_RANK}", place)
            else:
                table.add(split, query, writer.documents.number(name), rank, clicks)
        for name in search.clicked if table.clicks is not table else ():
            table.clicks.add(split, query, writer.documents.number(name), 1, 1.0)
    writer.taken.check(log.source, sum(n_searches) + n_taken, "searches")
    writer.tally.check()
    _refuse_ids_of_searches(log, writer, sum(n_searches))
    if chosen.estimate != "counts" and n_shown > _FEW and n_passed <= _STRAY * n_shown:
        raise DataError(
            f"{n_shown - n_passed} of {n_shown} documents shown were clicked: the log holds clicks "
            "alone, and not what else was shown, so that no rank was ever passed over; take clicks "
            "as they are, --estimate counts, or export what was shown as well"
        )
    if n_lost > settings.max_dropped * (n_lost + n_clicks):
        raise DataError(
            f"{n_lost} of {n_lost + n_clicks:.0f} clicks are on documents that were not shown, "
            f"such as {lost[0]!r}, more than --max-dropped {settings.max_dropped:g} allows; "
            "expected ids as in the documents shown (or --clicked mask, for 0 and 1 for every one)"
        )
    n_clicks = int(n_clicks) if float(n_clicks).is_integer() else n_clicks
    return {"searches": sum(n_searches), "searches_by_split": n_searches, "clicks": n_clicks}


def _refuse_ids_of_searches(log: ClickLog, writer: DatasetWriter, n_searches: int) -> None:
    """Refuse ids of queries that are new in each search: no two searches would be of one query."""
    names = [of["query_id"][0] for of in log.columns.values() if "query_id" in of]
    n_ids, n_texts = writer.queries.n_texts, writer.queries.count_different()
    if names and n_ids >= _MOST * n_searches and n_ids > _IDS_OF_A_TEXT * n_texts:
        raise DataError(
            f"{names[0]!r} has {n_ids} ids for {n_texts} different queries in {n_searches} "
            "searches: they seem to be the searches' ids; say --column query_id= (ids are then "
            f"made of the texts), and --search-id {names[0]} where a row is one document"
        )


def _exposed(search: Search, estimate: str) -> Iterator[tuple[str, int, float]]:
    """Yield what an estimate counts of a search: documents, their ranks and their clicks."""
    if estimate == "pairwise":
        yield from ((name, 1, float(won)) for name, won in compare_pairs(search))
    elif estimate == "counts":
        yield from ((name, 1, search.weight) for name in search.clicked)
    else:
        yield from (
            (name, rank, float(name in search.clicked)) for name, rank in search.shown.items()
        )


def _judge_clicks(
    search: Search, writer: DatasetWriter, place: int, min_dwell: float
) -> tuple[str, ...]:
    """Take away clicks that say nothing; count them, and name those on what was not shown."""
    unknown = tuple(name for name in search.clicked if name not in search.shown)
    for name, dwell in list(search.clicked.items()):
        if name not in search.shown:
            writer.tally.leave_out("a click on a document that was not shown", place)
            del search.clicked[name]
        elif dwell is not None and dwell < min_dwell:
            writer.tally.leave_out("a click shorter than --min-dwell", place)
            del search.clicked[name]
    return unknown


def _propensities(
    table: ExposureTable, chosen: ClickSettings, facts: dict[str, Any]
) -> NDArray[np.float64]:
    """Take, read or estimate how likely each rank is looked at."""
    if chosen.estimate in _RANKLESS:
        return np.ones(1)
    if chosen.propensities is not None:
        values = _read_propensities(chosen.propensities)
        facts["propensities"] = values.tolist()
        return values
    splits = [of for split in range(len(SPLITS)) if len(of := table.exposures(split))]
    train = splits[0] if splits else table.exposures(0)  # alone in its log, a test split will do
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
        values = np.array(read_json(path.read_text(encoding="utf-8-sig")), np.float64)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"can't read propensities from {path}: {explain_unreadable(path, error)}; expected a "
            "JSON array, rank 1 first"
        ) from error
    if values.ndim != 1 or not len(values) or not ((values > 0) & (values <= 1)).all():
        raise DataError(f"{path}: expected numbers over 0, at most 1, one a rank, rank 1 first")
    return values


def _labels_of(
    split: int,
    table: ExposureTable,
    propensities: NDArray[np.float64],
    chosen: ClickSettings,
    facts: dict[str, Any],
) -> Labels | None:
    """Turn one split's counts into labels; there are none without a click."""
    found = estimate_relevance(
        table.exposures(split), propensities, clip=chosen.clip, inverse=chosen.estimate == "ips"
    )
    if not found.clicks.sum():
        return None
    if chosen.estimate == "pairwise":
        found = replace(found, clicks=table.clicks_of(split, found))
    if chosen.estimate == "examined":
        found, prior, mean = shrink(found)
        facts.setdefault("prior", {})[SPLITS[split]] = {"examinations": prior, "mean": mean}
    elif chosen.estimate == "counts":
        found = replace(found, relevance=found.clicks / _best(found, found.clicks)[found.query])
    relevant, judged = judge(found, chosen)
    facts["n_open"] += int((~judged & ~relevant).sum())
    grades = np.where(relevant, np.clip(found.relevance, _LEAST_GRADE, 1).round(4), 0.0)
    rows = np.concatenate([np.flatnonzero(relevant), np.flatnonzero(judged & ~relevant)])
    return Labels(
        np.full(len(rows), split, np.int8),
        found.query[rows],
        found.document[rows],
        grades[rows],
        np.full(len(rows), -1, np.int64),
    )


def _best(found: Relevance, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the highest value of every query's pairs."""
    best = np.zeros(int(found.query.max(initial=0)) + 1)
    np.maximum.at(best, found.query, values)
    return best


def judge(found: Relevance, chosen: ClickSettings) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Say which pairs are relevant, and which were looked at enough to be called otherwise.

    Relevant: clicked often enough, and near enough to the query's best such document (pairwise:
    won more comparisons than it lost). Otherwise judged: examined often enough; by counts, never,
    for nobody knows what was shown.
    """
    relevant = found.clicks >= chosen.min_clicks
    if chosen.estimate == "pairwise":
        return relevant & (found.relevance > 0.5), found.examined >= chosen.min_examined
    best = _best(found, np.where(relevant, found.relevance, 0.0))
    relevant &= found.relevance >= chosen.relevant_share * best[found.query]
    if chosen.estimate == "counts":
        return relevant, relevant
    return relevant, found.examined >= chosen.min_examined
