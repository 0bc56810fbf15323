"""Numbers of an evaluation to drawings.

Raw and adapted, loss and gain differ in shape as well as in colour.
"""

from collections.abc import Sequence
from typing import Any

from trimtab_training.evaluation.ann_recall import Sweep
from trimtab_training.evaluation.origin import LossPoint, SizeCurve, SizePoint
from trimtab_training.evaluation.per_query import Changes
from trimtab_training.evaluation.record import Metric
from trimtab_training.evaluation.verdict import difference, signed
from trimtab_training.report.drawing import (
    ADAPTED,
    INK,
    LOSS,
    PAPER,
    QUIET,
    RAW,
    Plot,
    draw_figure,
    finish_figure,
)
from trimtab_training.report.words import size_name

_MIN_RATIO = 1.3  # sizes closer than this would have their numbers overlap


def plot_differences(rows: Sequence[tuple[str, Metric]]) -> Plot:
    """Draw the difference that the adapter makes, with 95 % intervals, one row a comparison.

    Args:
        rows: Label, and a metric with ``delta`` and ``ci95``; the first is drawn on top.
    """
    with draw_figure(0.9 + 0.34 * len(rows)) as (figure, axes):
        for place, (_, metric) in enumerate(rows):
            low, high = metric.ci95
            colour = LOSS if high < 0 else ADAPTED if low > 0 else QUIET
            axes.plot([low, high], [place, place], color=colour, solid_capstyle="butt")
            axes.plot(
                metric.delta, place, "o", color=colour, markersize=7,
                markerfacecolor=PAPER if low <= 0 <= high else colour, markeredgewidth=1.6,
            )  # fmt: skip
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("adapted minus base (points of the metric; line: 95 % interval)")
    said = "; ".join(f"{label} {difference(metric)}" for label, metric in rows)
    return finish_figure(
        figure, "differences", "The difference that the adapter makes",
        "Right of 0, adapted queries are better. Where a point is hollow, chance could explain it.",
        f"{said}.",
    )  # fmt: skip


def plot_changes(changes: Changes) -> Plot:
    """Draw how many queries moved by how much."""
    edges, counts = changes.edges, changes.counts
    middle = len(counts) // 2
    with draw_figure(2.7) as (figure, axes):
        for part, colour, hatch, label in (
            (slice(0, middle), LOSS, "////", "worse"),
            (slice(middle, None), ADAPTED, None, "better"),
        ):
            axes.bar(
                edges[:-1][part], counts[part], width=edges[1] - edges[0], align="edge",
                color=colour, hatch=hatch, edgecolor=PAPER, linewidth=0.8,
                label=f"{label}: {sum(counts[part]):,}",
            )  # fmt: skip
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_xlim(-1.02, 1.02)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("change of a query's nDCG@10, adapted minus base")
        axes.set_ylabel("queries")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="upper left")
    said = ", ".join(
        f"{count:,} from {low:+.1f} to {low + edges[1] - edges[0]:+.1f}"
        for low, count in zip(edges, counts, strict=False)
        if count
    )
    return finish_figure(
        figure, "changes", "How far each query moved",
        f"{changes.unchanged:,} queries did not change and are not drawn.",
        f"Queries by change: {said}.",
    )  # fmt: skip


def plot_curves(curves: Sequence[Sequence[LossPoint]]) -> Plot:
    """Draw training loss by step, one line a fit.

    Args:
        curves: For each fit, each round of its steps; records of version 0.1 hold epochs.
    """
    has_steps = all(each.step is not None for curve in curves for each in curve)
    with draw_figure(2.7) as (figure, axes):
        for curve in curves:
            places = [each.step if has_steps else row for row, each in enumerate(curve, 1)]
            losses = [_number(each.loss) for each in curve]
            axes.plot(places, losses, color=ADAPTED, linewidth=1.2)
        axes.set_xlabel("step" if has_steps else "epoch")
        axes.set_ylabel("training loss (nats a query)")
        axes.xaxis.get_major_locator().set_params(integer=True)
    ends = ", ".join(f"{_number(curve[-1].loss):.3f}" for curve in curves)
    return finish_figure(
        figure, "curves", "Training loss",
        "One line for each fit with the chosen weights of the loss: on the folds, and on all "
        "training queries.",
        f"{len(curves)} fits; loss at their ends: {ends}.",
    )  # fmt: skip


def plot_sizes(size_curve: SizeCurve) -> Plot:
    """Draw nDCG@10 on the test split by the number of training queries."""
    points = size_curve.points
    sizes = [point.n_train for point in points]
    with draw_figure(2.9) as (figure, axes):
        lows = [point.delta - point.ci95[0] for point in points]
        highs = [point.ci95[1] - point.delta for point in points]
        axes.plot(sizes, [point.base for point in points], "--", color=RAW, label="base")
        adapted = [point.adapted for point in points]
        axes.errorbar(
            sizes, adapted, yerr=[lows, highs], color=ADAPTED, marker="o", capsize=3,
            elinewidth=1.2, label="adapted, 95 % interval of the difference",
        )  # fmt: skip
        axes.set_xscale("log")
        _tick(
            axes,
            [
                size
                for size, after in zip(sizes, [*sizes[1:], None], strict=True)
                if after is None or after > _MIN_RATIO * size
            ],
        )
        axes.set_xlabel("training queries (log scale)")
        axes.set_ylabel("nDCG@10 on the test split")
        axes.legend(loc="best")
    said = "; ".join(
        f"{point.n_train:,} queries {signed(point.delta)}"
        + ("" if point.helps else " (no adapter helps)")
        for point in points
    )
    return finish_figure(
        figure, "sizes", "Gain by the number of training queries",
        "Each point is a fit of its own; where none helped, the raw queries stay.",
        f"{said}.",
    )  # fmt: skip


def plot_frontier(points: Sequence[SizePoint]) -> Plot:
    """Draw what each size of the adapter gains over what it takes."""
    rows = sorted(points, key=lambda point: point.transform_us)
    with draw_figure(2.6) as (figure, axes):
        for point in rows:
            colour = ADAPTED if point.chosen else QUIET
            axes.errorbar(
                [point.transform_us], [point.held_out_gain],
                yerr=[point.loss_standard_error], color=colour, marker="o", capsize=3,
            )  # fmt: skip
            axes.annotate(
                f"{size_name(point.rank)}\n{point.size_bytes / 1e6:.2f} MB",
                (point.transform_us, point.held_out_gain), xytext=(7, 0),
                textcoords="offset points", va="center", fontsize=9,
            )  # fmt: skip
        axes.margins(x=0.25, y=0.35)
        axes.set_xlabel("µs a query, median")
        axes.set_ylabel("held-out gain, nDCG@10")
    said = "; ".join(
        f"{size_name(point.rank)} {signed(point.held_out_gain)} at "
        f"{point.transform_us:.0f} µs and {point.size_bytes / 1e6:.2f} MB"
        + (" (chosen)" if point.chosen else "")
        for point in rows
    )
    return finish_figure(
        figure, "frontier", "Gain by what a query costs",
        "Bars: a standard error of the loss to the whole matrix, on the same held-out queries.",
        f"{said}.",
    )  # fmt: skip


def plot_recall(sweep: Sweep) -> Plot:
    """Draw recall of an approximate index over its search parameter, raw and adapted."""
    values = [point.value for point in sweep.points]
    raw = [point.raw.recall for point in sweep.points]
    adapted = [point.adapted.recall for point in sweep.points]
    with draw_figure(2.9) as (figure, axes):
        axes.plot(values, raw, "s--", color=RAW, markerfacecolor=PAPER, label="raw queries")
        axes.plot(values, adapted, "o-", color=ADAPTED, label="adapted queries")
        axes.axvline(
            sweep.served_value, color=INK, linewidth=1, linestyle=":",
            label=f"as served: {sweep.served_value}",
        )  # fmt: skip
        axes.set_xscale("log", base=2)
        _tick(axes, [value for value in values if value.bit_count() == 1] or values)
        axes.set_xlabel(f"{sweep.parameter} (log scale)")
        axes.set_ylabel("recall@10 of exact search")
        axes.legend(loc="lower right")
    return finish_figure(
        figure, "recall", f"Recall of the {sweep.kind} index",
        f"At {sweep.parameter} {sweep.served_value}, as served: "
        f"{sweep.raw_recall_at_served:.3f} with raw queries, "
        f"{sweep.adapted_recall_at_served:.3f} with adapted ones.",
        "; ".join(
            f"{sweep.parameter} {value}: raw {before:.3f}, adapted {after:.3f}"
            for value, before, after in zip(values, raw, adapted, strict=True)
        )
        + ".",
    )  # fmt: skip


def _tick(axes: Any, values: Sequence[int]) -> None:
    """Mark whole numbers on a logarithmic axis, and nothing between them."""
    axes.set_xticks(values, [f"{value:,}" for value in values])
    axes.set_xticks([], minor=True)


def _number(value: float | None) -> float:
    """Give a number that may be absent."""
    return float("nan") if value is None else value
