"""The two plots: gains by method and set, and gains by number of training queries."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import Any

os.environ.setdefault("MPLCONFIGDIR", str(Path(gettempdir()) / "trimtab-matplotlib"))

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS, RIVAL, GREY = "#0b6e4f", "#c4591b", "#5b6470"
TICKS = (50, 250, 1000, 10_000)
STYLE = {
    "svg.hashsalt": "trimtab",  # the same numbers give the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "figure.facecolor": "white",
}


def draw_comparison(
    summary: Mapping[str, Any], labels: Mapping[str, str], folder: Path
) -> list[Path]:
    """Draw each method's gain with its interval, a panel a set."""
    sets = summary["sets"]
    if not sets:
        return []
    names = [
        name
        for name in labels
        if name != "none" and any(name in found["methods"] for found in sets.values())
    ]
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(sets), sharey=True, squeeze=False, layout="constrained",
            figsize=(3.2 + 1.9 * len(sets), 0.9 + 0.3 * len(names)),
        )  # fmt: skip
        for axes, (name, found) in zip(panels[0], sets.items(), strict=True):
            _draw_gains(axes, name, found["methods"], names)
        panels[0][0].set_yticks(range(len(names)), [_short(labels[name]) for name in names])
        panels[0][0].invert_yaxis()
        figure.supxlabel("change in nDCG@10 against no adapter, with 95 % interval", fontsize=9)
        return [_save(figure, folder / "quality.svg")]


def draw_curves(summary: Mapping[str, Any], labels: Mapping[str, str], folder: Path) -> list[Path]:
    """Draw each set's gain by number of training queries."""
    curves = {method: by_set for method, by_set in summary["curves"].items() if by_set}
    if "ours" not in curves:
        return []
    names = sorted({name for by_set in curves.values() for name in by_set})
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(names), squeeze=False, layout="constrained", figsize=(2.5 * len(names), 2.6)
        )
        for axes, name in zip(panels[0], names, strict=True):
            axes.axhline(0, color=GREY, linewidth=0.8)
            for method, by_set in curves.items():
                colour = OURS if method == "ours" else RIVAL
                _draw_curve(axes, by_set.get(name, []), colour, labels[method])
            axes.set_xscale("log")
            ticks = [tick for tick in TICKS if tick <= axes.get_xlim()[1]]
            axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.set_title(name)
        panels[0][0].set_ylabel("gain in nDCG@10")
        panels[0][0].legend(frameon=False, fontsize=8)
        figure.supxlabel("training queries (band: least to most over seeds)", fontsize=9)
        return [_save(figure, folder / "size-curve.svg")]


def _draw_gains(axes: Axes, title: str, methods: Mapping[str, Any], names: list[str]) -> None:
    """Draw one set's gains as points with bars."""
    axes.axvline(0, color=GREY, linewidth=0.8)
    for row, name in enumerate(names):
        if name not in methods:
            continue
        change = methods[name]["delta"]
        low, high = change["ci95"]
        colour = OURS if name == "ours" else GREY if name != "fine_tuned" else RIVAL
        axes.plot([low, high], [row, row], color=colour, linewidth=1.6)
        axes.plot(change["mean"], row, "o", color=colour, markersize=5)
    axes.set_title(title)
    axes.grid(axis="x", color="#e4e7ea", linewidth=0.6)


def _draw_curve(axes: Axes, points: list[dict[str, Any]], colour: str, label: str) -> None:
    """Draw one method's line with its band."""
    sizes = [point["n_train"] for point in points]
    axes.fill_between(
        sizes,
        [point["min"] for point in points],
        [point["max"] for point in points],
        color=colour,
        alpha=0.18,
        linewidth=0,
    )
    axes.plot(
        sizes, [point["mean"] for point in points], "o-", color=colour, markersize=3.5, label=label
    )


def _short(label: str) -> str:
    """Break a long label."""
    return label.replace(", documents", ",\ndocuments")


def _save(figure: Figure, path: Path) -> Path:
    """Write an SVG that depends on the numbers alone."""
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
