"""How time parts a click log, and which splits of it are large enough to be made."""

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_training.data.importers.click_log import ClickLog
from trimtab_training.data.importers.exposure_table import ExposureTable
from trimtab_training.data.importers.labels import Labels, home_splits
from trimtab_training.data.importers.propensity import Exposures, estimate_relevance
from trimtab_training.data.importers.settings import ClickSettings
from trimtab_training.data.importers.writer import DatasetWriter
from trimtab_training.data.qrels import SPLITS
from trimtab_training.data.splits import MIN_DEV_QUERIES
from trimtab_training.errors import ConfigError, DataError

DEV = SPLITS.index("dev")
_USUAL = ClickSettings()
_CUTS = {
    "--train-until": "train_until",
    "--dev-until": "dev_until",
    "--dev-share": "dev_share",
    "--test-share": "test_share",
}


def time_cuts(log: ClickLog, chosen: ClickSettings) -> list[float]:
    """Find the times at which dev and test begin, in seconds since 1970; none without times."""
    if chosen.dev_until is not None and chosen.train_until is None:
        raise ConfigError("--dev-until needs --train-until, where the dev split begins")
    given = [option for option, of in _CUTS.items() if getattr(chosen, of) != getattr(_USUAL, of)]
    if log.is_parted or not log.has_times:
        if given:
            why = (
                "parts the log by time, and its files' names, or --split, part it already"
                if log.is_parted
                else "needs times, and the log has no time column"
            )
            raise ConfigError(f"{given[0]} {why}")
        return []
    times = np.array(log.form().moments)
    if not len(times):
        return []
    if chosen.train_until is not None:
        return _given_cuts(chosen.train_until, chosen.dev_until, times)
    test = 1 - chosen.test_share
    return [
        float(np.quantile(times, share)) if share < 1 else math.inf
        for share in (test - chosen.dev_share, test)
    ]


def _given_cuts(
    train_until: float, dev_until: float | None, times: NDArray[np.float64]
) -> list[float]:
    """Take the cuts that the user names, if they cut."""
    cuts = [train_until, train_until if dev_until is None else dev_until]
    if cuts[0] > cuts[1]:
        raise ConfigError("--dev-until is before --train-until, where the dev split begins")
    for option, cut in zip(("--train-until", "--dev-until"), cuts, strict=True):
        if not times.min() < cut <= times.max():
            raise DataError(
                f"{option} {write_time(cut)} parts nothing: the log's times go from "
                f"{write_time(times.min())} to {write_time(times.max())}"
            )
    return cuts


def write_time(cut: float) -> str | None:
    """Write a moment in UTC."""
    return datetime.fromtimestamp(cut, UTC).isoformat() if math.isfinite(cut) else None


def shares_of(facts: dict[str, Any]) -> list[float]:
    """Give the splits' shares of the searches, those of a dev split that joined train with it."""
    counts = list(facts["searches_by_split"])
    if "dev_joined_train" in facts:
        counts[0], counts[DEV] = counts[0] + counts[DEV], 0
    return [count / max(facts["searches"], 1) for count in counts]


def most_queries(exposures: Exposures, chosen: ClickSettings) -> int:
    """Count the queries of a split that can at most become ones with a relevant document."""
    if not len(exposures):
        return 0
    found = estimate_relevance(
        exposures, np.ones(int(exposures.rank.max())), clip=0.0, inverse=False
    )
    return len(np.unique(found.query[found.clicks >= chosen.min_clicks]))


def count_dev(labels: Labels, writer: DatasetWriter) -> int:
    """Count the dev queries with a relevant document, as the writer will keep them."""
    if writer.documents.n_texts:
        labels = labels.take(writer.documents.known()[labels.document])
    if not len(labels):
        return 0
    home = home_splits(labels, writer.queries.namer(), writer.shares)
    is_dev = (labels.split == DEV) & (home[labels.query] == DEV) & (labels.grade > 0)
    return len(np.unique(labels.query[is_dev]))


def join_dev(table: ExposureTable, facts: dict[str, Any], n_queries: int) -> None:
    """Let the dev split's searches teach; its few queries would judge by chance."""
    table.move(DEV, 0)
    facts["dev_joined_train"] = {"queries": n_queries, "at_least": MIN_DEV_QUERIES}
    if facts["splits_begin"]:
        facts["splits_begin"] = [None, facts["splits_begin"][1]]
