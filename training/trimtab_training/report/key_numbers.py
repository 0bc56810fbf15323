"""The few numbers that stand large on top of the page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trimtab_training.evaluation.verdict import HEADLINE, is_comparable
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


def key_numbers(record: dict[str, Any]) -> Iterator[KeyNumber]:
    """Pick what a reader in a hurry wants: gain, gain on new documents, winners, and cost.

    Args:
        record: An evaluation; what was not measured is left out.
    """
    yield _moved(f"nDCG@10, all {record['n_queries']:,} queries", record["metrics"], record)
    unseen = record["slices"]["unseen_documents"]
    if unseen["metrics"] and unseen["n_queries"] < record["n_queries"]:
        yield _moved(
            f"nDCG@10, {unseen['n_queries']:,} on unseen documents", unseen["metrics"], record
        )
    yield KeyNumber(
        "queries better : worse",
        f"{record['wins']:,} : {record['losses']:,}",
        f"{record['ties']:,} the same",
    )
    hits, found = record["metrics"]["hit@10"], record["changes"]["found"]
    yield KeyNumber(
        "with an answer among the first ten",
        f"{number(_PERCENT * hits['base'], 0)} → {number(_PERCENT * hits['adapted'], 0)} %",
        f"{found['only_adapted']:,} only adapted, {found['only_base']:,} only raw",
    )
    if record.get("approximate"):
        yield _recall(record["approximate"])
    elif record.get("fit"):
        yield _origin(record["fit"])
    if record.get("latency") and has_model(record):
        times = record["latency"]["transform_us"]
        yield KeyNumber(
            "added to each query",
            f"{number(times['p50'], 1)} µs",
            f"median; 99 % take at most {number(times['p99'], 1)} µs",
        )


def has_model(record: dict[str, Any]) -> bool:
    """Tell whether there is a model to serve: not where a fit found no adapter that helps."""
    return "model" in record or (record.get("fit") or {}).get("helps", True)


def _moved(label: str, metrics: dict[str, Any], record: dict[str, Any]) -> KeyNumber:
    """Show a metric before and after; only after, where raw queries can't be searched with."""
    metric = metrics[HEADLINE]
    if not is_comparable(record):
        return KeyNumber(label, number(metric["adapted"]), "raw queries can't be searched with")
    return KeyNumber(
        label,
        f"{number(metric['base'])} → {number(metric['adapted'])}",
        f"{signed(metric['delta'])} ({interval(metric['ci95'])})",
    )


def _recall(sweep: dict[str, Any]) -> KeyNumber:
    """Show what the index as it is served finds."""
    raw, adapted = sweep["raw_recall_at_served"], sweep["adapted_recall_at_served"]
    return KeyNumber(
        f"recall@10 of the {sweep['kind']} index",
        f"{number(raw)} → {number(adapted)}",
        f"of exact search, at {sweep['parameter']} {sweep['served_value']}",
    )


def _origin(fit: dict[str, Any]) -> KeyNumber:
    """Show what it took."""
    return KeyNumber(
        "learned in" if fit["helps"] else "tried for",
        f"{fit['seconds']:,.0f} s",
        f"from {fit['n_train']:,} training queries; no document embedded again"
        if "n_train" in fit
        else "no document embedded again",
    )
