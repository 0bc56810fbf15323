"""The few numbers that stand large on top of the page."""

from collections.abc import Iterator
from dataclasses import dataclass

from trimtab_training.evaluation.ann_recall import Sweep
from trimtab_training.evaluation.origin import Fit
from trimtab_training.evaluation.per_query import HEADLINE
from trimtab_training.evaluation.record import Evaluation, Metric
from trimtab_training.report.words import interval, number, signed

_PERCENT = 100


@dataclass(frozen=True)
class KeyNumber:
    """One number with what it is.

    Attributes:
        label: What it is.
        big: The number.
        small: How sure it is, or what it hides.
    """

    label: str
    big: str
    small: str


def key_numbers(record: Evaluation) -> Iterator[KeyNumber]:
    """Pick what a reader in a hurry wants: gain, gain on new documents, winners, and cost.

    Args:
        record: An evaluation; what was not measured is left out.
    """
    yield _moved(f"nDCG@10, all {record.n_queries:,} queries", record.metrics, record)
    unseen = record.slices["unseen_documents"]
    if unseen.metrics and unseen.n_queries < record.n_queries:
        yield _moved(f"nDCG@10, {unseen.n_queries:,} on unseen documents", unseen.metrics, record)
    yield KeyNumber(
        "queries better : worse",
        f"{record.wins:,} : {record.losses:,}",
        f"{record.ties:,} the same",
    )
    hits, found = record.metrics["hit@10"], record.changes.found
    yield KeyNumber(
        "with an answer among the first ten",
        f"{number(_PERCENT * hits.base, 0)} → {number(_PERCENT * hits.adapted, 0)} %",
        f"{found.only_adapted:,} only adapted, {found.only_base:,} only raw",
    )
    if record.approximate:
        yield _recall(record.approximate)
    elif record.fit:
        yield _origin(record.fit)
    if record.latency and record.has_model:
        times = record.latency.transform_us
        yield KeyNumber(
            "added to each query",
            f"{number(times.p50, 1)} µs",
            f"median; 99 % take at most {number(times.p99, 1)} µs",
        )


def _moved(label: str, metrics: dict[str, Metric], record: Evaluation) -> KeyNumber:
    """Show a metric before and after; only after, where raw queries can't be searched with."""
    metric = metrics[HEADLINE]
    if not record.is_comparable:
        return KeyNumber(label, number(metric.adapted), "raw queries can't be searched with")
    return KeyNumber(
        label,
        f"{number(metric.base)} → {number(metric.adapted)}",
        f"{signed(metric.delta)} ({interval(metric.ci95)})",
    )


def _recall(sweep: Sweep) -> KeyNumber:
    """Show what the index as it is served finds."""
    return KeyNumber(
        f"recall@10 of the {sweep.kind} index",
        f"{number(sweep.raw_recall_at_served)} → {number(sweep.adapted_recall_at_served)}",
        f"of exact search, at {sweep.parameter} {sweep.served_value}",
    )


def _origin(fit: Fit) -> KeyNumber:
    """Show what it took."""
    return KeyNumber(
        "learned in" if fit.helps else "tried for",
        f"{fit.seconds:,.0f} s",
        f"from {fit.n_train:,} training queries; no document embedded again"
        if fit.n_train is not None
        else "no document embedded again",
    )
