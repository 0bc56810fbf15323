"""From a cell's rounds to what is read: added latency, ratios, verdicts; and the tables."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.proxy.cells import DIMS, Cell
from benchmarks.proxy.queries import SEED

Record = dict[str, Any]
Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]
_RESAMPLES = 4000
_GRPC_LIMIT = 1.5  # of issue 4
_RATIOS = {  # added p50 over the rival's: what issues 4 and 14 allow at most, and where
    ("ours-adapting", "envoy"): {
        ("static", "rest", 384): 1.0,
        ("edge", "rest", 384): 1.3,
        ("static", "rest", 1536): 1.6,
        ("edge", "rest", 1536): 1.6,
    },
    ("ours-linear", "envoy"): {},
    ("ours-adapting", "envoy-ext-proc"): {
        ("static", "rest", 384): 0.5,
        ("edge", "rest", 384): 0.5,
    },
    ("ours-adapting", "nginx"): {},
    ("ours-passing", "envoy"): {},
    ("ours-adapting", "grpc-passthrough"): {("edge", "grpc", dim): _GRPC_LIMIT for dim in DIMS},
    ("ours-linear", "grpc-passthrough"): {},
    ("ours-passing", "grpc-passthrough"): {},
}


def summarise(cell: Cell, found: Mapping[str, Record]) -> Record:
    """Work out a cell's figures.

    ``added_p50_us`` is the median over rounds of the difference to ``direct`` in the same round;
    intervals are bootstrapped over rounds, 95 %, with the same rounds drawn for both sides of a
    ratio. ``per_core`` is requests over the proxy's own processor seconds (all its processes).
    """
    added = _added(found)
    rows = {name: _row(record, added.get(name)) for name, record in found.items()}
    summary: Record = {"contenders": rows}
    if cell.is_scaling:
        summary["two_workers_over_one"] = _scaling(found)
    else:
        summary["ratios"] = _ratios(cell, added)
    return summary


def _added(found: Mapping[str, Record]) -> dict[str, NDArray[np.float64]]:
    """Give each contender's added p50 of every round in which nobody failed entirely."""
    rounds = {name: np.array(one["rounds_p50_us"], float) for name, one in found.items()}
    if "direct" not in rounds:
        return {}
    whole = ~np.isnan(np.array(list(rounds.values()))).any(axis=0)
    return {
        name: (one - rounds["direct"])[whole]
        for name, one in rounds.items()
        if name != "direct" and whole.any()
    }


def _row(record: Record, added: NDArray[np.float64] | None) -> Record:
    """Give one contender's figures."""
    rates = [rate for rate in record["rounds_rate"] if rate is not None]
    row: Record = {label: record[label] for label in ("p50_us", "p95_us", "p99_us")}
    if added is not None:
        row["added_p50_us"] = round(float(np.median(added)), 1)
        row["added_ci95_us"] = _interval(len(added), _median(added))
    row["rate"] = round(float(np.median(rates)), 1) if rates else None
    if record["cpu_s"]:
        row["per_core"] = round(record["sent"] / record["cpu_s"], 1)
    row |= {"requests": record["timed"], "failures": record["failures"]}
    return row | ({"why": record["why"]} if record["why"] else {})


def _ratios(cell: Cell, added: Mapping[str, NDArray[np.float64]]) -> list[Record]:
    """Give the ratios of added latencies, and whether they keep within the limits.

    Judged over one connection. Sixteen in a closed loop keep everything busy, so that what they
    show is who has the capacity (where the upstream is the slowest, nobody's): a time in a queue.
    """
    found = []
    for (ours, rival), limits in _RATIOS.items():
        if ours not in added or rival not in added:
            continue
        above, below = added[ours], added[rival]
        rival_low, _ = _interval(len(below), _median(below))
        if rival_low <= 0:  # lost in noise, so nothing to be a multiple of
            continue
        ratio = float(np.median(above) / np.median(below))
        row: Record = {
            "ratio": f"{ours} / {rival}",
            "value": round(ratio, 3),
            "ci95": _interval(len(above), _quotient(above, below)),
        }
        is_judged = cell.pin == "split" and cell.connections == 1
        limit = limits.get((cell.upstream, cell.protocol, cell.dim))
        if limit is not None and is_judged:
            row |= {"at_most": limit, "holds": ratio <= limit}
        found.append(row)
    return found


def _median(values: NDArray[np.float64]) -> Statistic:
    """Take the median of drawn rounds."""
    return lambda drawn: np.median(values[drawn], axis=1)


def _quotient(above: NDArray[np.float64], below: NDArray[np.float64]) -> Statistic:
    """Divide the medians of drawn rounds."""
    return lambda drawn: np.median(above[drawn], axis=1) / np.median(below[drawn], axis=1)


def _scaling(found: Mapping[str, Record]) -> Record | None:
    """Give how many times the rate of one worker two have."""
    if not {"ours-adapting", "ours-2-workers"} <= set(found):
        return None
    one, two = (
        np.array(found[name]["rounds_rate"], float) for name in ("ours-adapting", "ours-2-workers")
    )
    quotients = (two / one)[~np.isnan(two / one)]
    return {
        "value": round(float(np.median(quotients)), 3),
        "ci95": _interval(len(quotients), _median(quotients)),
    }


def _interval(n_rounds: int, statistic: Statistic) -> list[float]:
    """Bootstrap a statistic over rounds."""
    drawn = np.random.default_rng(SEED).integers(n_rounds, size=(_RESAMPLES, n_rounds))
    low, high = np.percentile(statistic(drawn), (2.5, 97.5))
    return [round(float(low), 3), round(float(high), 3)]


def print_tables(console: Console, summaries: Mapping[str, Record]) -> None:
    """Show all cells, then the ratios."""
    table = Table(
        title="Latency in microseconds; requests per second, in all and per core of the proxy"
    )
    for column in (
        "cell",
        "contender",
        "p50",
        "p95",
        "p99",
        "added p50 [95 %]",
        "rate",
        "per core",
        "failed",
    ):
        table.add_column(
            column, no_wrap=True, justify="left" if column in {"cell", "contender"} else "right"
        )
    for name, summary in summaries.items():
        for place, (contender, row) in enumerate(summary["contenders"].items()):
            table.add_row("" if place else name, contender, *_cells_of(row))
        table.add_section()
    console.print(table)
    ratios = Table(title="Added p50 of the sidecar over the rival's; two workers' rate over one's")
    for column in ("cell", "ratio", "value [95 %]", "at most", "holds"):
        ratios.add_column(column, no_wrap=True)
    for name, summary in summaries.items():
        for row in _ratio_rows(summary):
            ratios.add_row(name, *row)
    if ratios.row_count:
        console.print(ratios)


def _cells_of(row: Record) -> list[str]:
    """Write one contender's line."""
    added = ""
    if "added_p50_us" in row:
        low, high = row["added_ci95_us"]
        added = f"{row['added_p50_us']:,.0f} [{low:,.0f}, {high:,.0f}]"
    figures = [row["p50_us"], row["p95_us"], row["p99_us"]]
    written = ["-" if one is None else f"{one:,.0f}" for one in figures]
    rates = [row.get("rate"), row.get("per_core")]
    return [
        *written,
        added.replace("[", r"\["),
        *("" if one is None else f"{one:,.0f}" for one in rates),
        str(row["failures"]),
    ]


def _ratio_rows(summary: Record) -> list[list[str]]:
    """Write a cell's ratios."""
    scaling = summary.get("two_workers_over_one")
    rows = [{"ratio": "rate of 2 workers / 1", **scaling}] if scaling else []
    return [
        [
            row["ratio"],
            rf"{row['value']:.2f} \[{row['ci95'][0]:.2f}, {row['ci95'][1]:.2f}]",
            str(row.get("at_most", "")),
            {True: "yes", False: "NO"}.get(row.get("holds"), ""),
        ]
        for row in [*rows, *summary.get("ratios", [])]
    ]
