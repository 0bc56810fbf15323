"""From kept cells to numbers: means, spreads, paired intervals, other sets, size curves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.cells import Cell
from benchmarks.quality.scoring import HEADLINE
from trimtab_training.retrieval.significance import compare_paired

Outcome = Mapping[str, Any]
BASE, OURS = "none", "ours"
DIGITS = 5


def summarise(kept: Mapping[Cell, Outcome]) -> dict[str, Any]:
    """Summarise every set that has its base.

    Returns:
        ``sets``: by set and method, see ``summarise_method``; ``other_sets``: by method, set fitted
        on and set used on, the mean change of nDCG@10 there; ``curves``: by method and set, a point
        a number of training queries.
    """
    full: dict[str, dict[str, list[Outcome]]] = {}
    for cell, outcome in kept.items():
        if cell.size is None:
            full.setdefault(cell.dataset, {}).setdefault(cell.method, []).append(outcome)
    full = {name: found for name, found in sorted(full.items()) if BASE in found}
    bases = {name: found[BASE][0] for name, found in full.items()}
    return {
        "sets": {
            name: {
                "n_queries": len(bases[name]["seen"]),
                "n_unseen": bases[name]["seen"].count(0),
                "n_train": bases[name]["n_train"],
                "methods": {
                    method: summarise_method(runs, bases[name], found.get(OURS))
                    for method, runs in found.items()
                },
            }
            for name, found in full.items()
        },
        "other_sets": _elsewhere(full, bases),
        "curves": _curves(kept, bases),
    }


def summarise_method(
    runs: Sequence[Outcome], base: Outcome, ours: Sequence[Outcome] | None
) -> dict[str, Any]:
    """Summarise the seeds of one method on one set.

    Scores are averaged over seeds query by query; intervals are paired bootstraps over queries.
    """
    by_seed = [float(np.mean(run["scores"][HEADLINE])) for run in runs]
    change = mean_scores(runs) - scores_of(base)
    is_seen = np.array(base["seen"], dtype=bool)
    summary = {
        "n_seeds": len(runs),
        "metrics": {
            name: _short(np.mean([np.mean(run["scores"][name]) for run in runs]))
            for name in base["scores"]
        },
        "seeds": [_short(value) for value in by_seed],
        "sd": _short(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else 0.0,
        "delta": difference(change),
        "slices": {
            name: difference(change[part]) if part.any() else None
            for name, part in (("seen_documents", is_seen), ("unseen_documents", ~is_seen))
        },
        "seconds": _short(np.median([run["seconds"] for run in runs])),
        "peak_resident_gb": round(max(run["peak_resident_gb"] for run in runs), 2),
        "notes": [run["notes"] for run in runs],
    }
    if ours:
        summary["ours_less_it"] = difference(mean_scores(ours) - mean_scores(runs))
    return summary


def difference(change: NDArray[np.float64]) -> dict[str, Any]:
    """Give a mean paired difference, its interval and its p-value."""
    found = compare_paired(change, np.random.default_rng(0))
    return {
        "n_queries": len(change),
        "mean": _short(found.mean),
        "ci95": [_short(found.low), _short(found.high)],
        "p_value": _short(found.p_value),
    }


def _plain_mean(change: NDArray[np.float64]) -> dict[str, Any]:
    """Give a mean difference without its interval, which costs a second on a large set."""
    return {"n_queries": len(change), "mean": _short(change.mean())}


def mean_scores(runs: Sequence[Outcome]) -> NDArray[np.float64]:
    """Average nDCG@10 over seeds, query by query."""
    return np.mean([scores_of(run) for run in runs], axis=0)


def scores_of(run: Outcome) -> NDArray[np.float64]:
    """Give nDCG@10 by query."""
    return np.array(run["scores"][HEADLINE])


def carry_over(summary: dict[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Add the rivals' rows of an earlier report that no kept cell tells of.

    Cells are not committed. A rival's row rests on the set and on the rival alone; ours is never
    carried. What is carried says from where, and is not held against ours query by query.

    Args:
        summary: What the kept cells give.
        earlier: The last ``results.json``; empty where there is none.
    """
    for name, found in summary["sets"].items():
        before = earlier.get("sets", {}).get(name, {})
        if any(before.get(key) != found[key] for key in ("n_queries", "n_unseen", "n_train")):
            continue
        for method, row in before["methods"].items():
            if method == OURS or method in found["methods"]:
                continue
            source = row.get("carried_from") or {key: earlier[key] for key in ("commit", "date")}
            kept = {key: value for key, value in row.items() if key != "ours_less_it"}
            found["methods"][method] = {**kept, "carried_from": source}
            if others := earlier["other_sets"].get(method, {}).get(name):
                summary["other_sets"].setdefault(method, {})[name] = others
    return summary


def _elsewhere(
    full: Mapping[str, Mapping[str, Sequence[Outcome]]], bases: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Give what each method's adapter of one set does to the others; intervals for ours alone."""
    table: dict[str, Any] = {}
    for name, found in full.items():
        for method, runs in found.items():
            judge = difference if method == OURS else _plain_mean
            others = {
                other: judge(
                    np.mean([run["others"][other] for run in runs], axis=0)
                    - scores_of(bases[other])
                )
                for other in runs[0]["others"]
                if other in bases and all(other in run["others"] for run in runs)
            }
            if others:
                table.setdefault(method, {})[name] = others
    return table


def _curves(kept: Mapping[Cell, Outcome], bases: Mapping[str, Outcome]) -> dict[str, Any]:
    """Give the gain by number of training queries: mean, least and most over seeds."""
    gains: dict[str, dict[str, dict[int, list[float]]]] = {}
    drawn = {(cell.method, cell.dataset) for cell in kept if cell.size is not None}
    for cell, outcome in kept.items():
        if (cell.method, cell.dataset) in drawn and cell.dataset in bases:
            gain = float((scores_of(outcome) - scores_of(bases[cell.dataset])).mean())
            by_set = gains.setdefault(cell.method, {}).setdefault(cell.dataset, {})
            by_set.setdefault(outcome["n_train"], []).append(gain)
    point: Callable[[int, list[float]], dict[str, Any]] = lambda size, found: {  # noqa: E731
        "n_train": size,
        "n_seeds": len(found),
        "mean": _short(np.mean(found)),
        "min": _short(min(found)),
        "max": _short(max(found)),
    }
    return {
        method: {
            name: [point(size, by_size[size]) for size in sorted(by_size)]
            for name, by_size in sorted(by_set.items())
        }
        for method, by_set in gains.items()
    }


def _short(value: Any) -> float:
    """Round for the record."""
    return round(float(value), DIGITS)
