"""What two ways of searching find, query by query, compared on every metric."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from trimtab_training.evaluation.per_query import HEADLINE, PerQuery, Searched
from trimtab_training.evaluation.record import ComparedMetric, Difference, Metric, Slice
from trimtab_training.retrieval.metrics import METRICS
from trimtab_training.retrieval.significance import compare_paired

SEED = 0
ALL = slice(None)

Chosen = NDArray[np.bool_] | slice


def compare_scores(before: PerQuery, after: PerQuery, chosen: Chosen = ALL) -> dict[str, Metric]:
    """Compare two rankings on every metric over some queries."""
    table = {}
    for name in METRICS:
        base, adapted = before[name][chosen], after[name][chosen]
        found = compare_paired(adapted - base, np.random.default_rng(SEED))
        table[name] = Metric(
            base=float(base.mean()),
            adapted=float(adapted.mean()),
            delta=found.mean,
            ci95=(found.low, found.high),
            p_value=found.p_value,
        )
    return table


def compare_metrics(
    found: Mapping[str, Searched], chosen: Chosen = ALL
) -> dict[str, ComparedMetric]:
    """Compare ``b`` with ``a`` on every metric over some queries, ``raw`` beside them."""
    return {
        name: ComparedMetric(
            raw=float(found["raw"].scores[name][chosen].mean()),
            a=metric.base,
            b=metric.adapted,
            delta=metric.delta,
            ci95=metric.ci95,
            p_value=metric.p_value,
        )
        for name, metric in compare_scores(found["a"].scores, found["b"].scores, chosen).items()
    }


def compare_slice(
    found: Mapping[str, Searched], chosen: NDArray[np.bool_]
) -> Slice[ComparedMetric]:
    """Compare on a part of the queries."""
    metrics = compare_metrics(found, chosen) if chosen.any() else None
    return Slice(n_queries=int(chosen.sum()), metrics=metrics)


def against_raw(
    found: Mapping[str, Searched], side: str, chosen: Chosen = ALL
) -> Difference | None:
    """Compare a model with the raw query; None where that could not be searched with at all."""
    if not found["raw"].has_ranking:
        return None
    metric = compare_scores(found["raw"].scores, found[side].scores, chosen)[HEADLINE]
    return Difference(delta=metric.delta, ci95=metric.ci95, p_value=metric.p_value)
