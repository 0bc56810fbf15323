"""Tables, plots and ``results.json`` from kept cells."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.cells import Cell
from benchmarks.quality.methods import METHODS, Method
from benchmarks.quality.plots import draw_comparison, draw_curves
from benchmarks.quality.summary import BASE, OURS, carry_over, summarise
from benchmarks.record import ROOT, write_results
from trimtab_training.files import write_whole

HERE = Path(__file__).resolve().parent
DOCS = ROOT / "docs"
START, END = "<!-- tables: benchmarks/quality/run.py -->", "<!-- end of tables -->"
MINUS = "\N{MINUS SIGN}"


def write_report(
    kept: Mapping[Cell, Mapping[str, Any]], methods: Mapping[str, Method], stale: Sequence[Cell]
) -> list[Path]:
    """Write results, tables and plots; give their paths."""
    path = HERE / "results.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    summary = carry_over(summarise(kept), earlier)
    written = [write_results(HERE, {"stale_cells": [cell.name for cell in stale], **summary})]
    page = DOCS / "quality.md"
    text = page.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    tables = "\n\n".join([START, *all_tables(summary), END])
    write_whole(page, (before + tables + after).encode())
    labels = {name: method.label.strip("*") for name, method in methods.items()}
    written += [page, *draw_comparison(summary, labels, DOCS), *draw_curves(summary, labels, DOCS)]
    return written


def all_tables(summary: Mapping[str, Any]) -> list[str]:
    """Write every table in Markdown."""
    parts = []
    for name, found in summary["sets"].items():
        parts += [
            f"### {name}: {found['n_queries']:,} test queries, {found['n_unseen']:,} of them about "
            f"unseen documents; {found['n_train']:,} training queries",
            set_table(found, summary["other_sets"], name),
        ]
    if OURS in summary["other_sets"]:
        parts += ["### On the queries of other sets", elsewhere_table(summary["other_sets"][OURS])]
    if OURS in summary["curves"]:
        parts += [
            "### By number of training queries",
            "![Gain in nDCG@10 by number of training queries](size-curve.svg)",
            curve_table(summary["curves"]),
        ]
    return parts


def set_table(found: Mapping[str, Any], elsewhere: Mapping[str, Any], name: str) -> str:
    """Write the comparison on one set."""
    rows = [
        (
            "method", "nDCG@10", "spread over seeds", "against no adapter", "unseen documents",
            "Trimtab less it", "other sets: mean (worst)", "seconds", "GB",
        )
    ]  # fmt: skip
    for method in METHODS.values():
        row = found["methods"].get(method.name)
        if row is None:
            continue
        others = [entry["mean"] for entry in elsewhere.get(method.name, {}).get(name, {}).values()]
        is_base = method.name == BASE
        rows.append(
            (
                method.label + carried(row),
                f"{row['metrics']['ndcg@10']:.4f}",
                spread(row, is_seeded=method.is_seeded or method.sets is not None),
                "" if is_base else with_interval(row["delta"]),
                "" if is_base else with_interval(row["slices"]["unseen_documents"]),
                "" if method.name == OURS else with_interval(row.get("ours_less_it")),
                f"{signed(sum(others) / len(others))} ({signed(min(others))})"
                if others and not is_base
                else "",
                "" if is_base else f"{row['seconds']:,.1f}",
                "" if is_base else f"{row['peak_resident_gb']:.1f}",
            )
        )
    return markdown(rows)


def elsewhere_table(table: Mapping[str, Mapping[str, Any]]) -> str:
    """Write what adapters fitted on one set do to the others' test queries."""
    names = sorted({name for row in table.values() for name in row} | set(table))
    rows = [("fitted on", *names)]
    for fitted, others in sorted(table.items()):
        cells = [
            with_interval(others[name])
            if name in others
            else ("own set" if name == fitted else "another encoder")
            for name in names
        ]
        rows.append((fitted, *cells))
    return markdown(rows)


def curve_table(curves: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the gains by number of training queries."""
    rows = [("set", "method", "training queries: gain in nDCG@10 (least to most over seeds)")]
    for method, by_set in curves.items():
        for name, points in by_set.items():
            line = ", ".join(
                f"{point['n_train']:,}: {signed(point['mean'])}"
                + (f" ({signed(point['min'])} to {signed(point['max'])})" * (point["n_seeds"] > 1))
                for point in points
            )
            rows.append((name, METHODS[method].label, line))
    return markdown(sorted(rows[1:]), head=rows[0])


def markdown(rows: Sequence[Sequence[str]], head: Sequence[str] | None = None) -> str:
    """Lay rows out as a Markdown table; the first is the head, unless one is given."""
    head, body = (head, rows) if head else (rows[0], rows[1:])
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_interval(change: Mapping[str, Any] | None) -> str:
    """Write a difference with its interval; nothing where there are no queries."""
    if change is None:
        return ""
    low, high = change["ci95"]
    return f"{signed(change['mean'])} [{signed(low)}, {signed(high)}]"


def spread(row: Mapping[str, Any], *, is_seeded: bool) -> str:
    """Write the standard deviation over seeds and the range."""
    if row["n_seeds"] == 1:
        return "one seed" if is_seeded else "no chance in it"
    low, high = min(row["seeds"]), max(row["seeds"])
    return f"{row['sd']:.4f} ({low:.4f} to {high:.4f}, {row['n_seeds']} seeds)"


def carried(row: Mapping[str, Any]) -> str:
    """Say of which day a row is that this report has from an earlier one."""
    return f" (of {row['carried_from']['date']})" if "carried_from" in row else ""


def signed(value: float) -> str:
    """Write a number with its sign."""
    sign = MINUS if round(value, 4) < 0 else "+"
    return f"{sign}{abs(value):.4f}"
