"""Drawings of the report: the numbers are in them, and nothing that the page should decide."""

import re
from typing import Any

import matplotlib as mpl
import msgspec
import pytest
from msgspec.structs import replace

from tests.support.records import make_fit, make_metric, make_record, make_sweep
from trimtab_training.evaluation.ann_recall import Sweep
from trimtab_training.evaluation.origin import LossPoint
from trimtab_training.evaluation.record import Metric
from trimtab_training.report.drawing import Plot
from trimtab_training.report.plots import (
    plot_changes,
    plot_curves,
    plot_differences,
    plot_recall,
    plot_sizes,
)

RECORD = make_record()


def draw_all() -> list[Plot]:
    return [
        plot_differences(list(RECORD.metrics.items())),
        plot_changes(RECORD.changes),
        plot_curves(RECORD.fit.curves),
        plot_sizes(RECORD.size_curve),
        plot_recall(RECORD.approximate),
    ]


def texts_of(plot: Plot) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", plot.svg)


@pytest.fixture(scope="module")
def plots() -> dict[str, Plot]:
    return {plot.name: plot for plot in draw_all()}


def test_the_page_decides_colours_and_family(plots: dict[str, Plot]) -> None:
    for plot in plots.values():
        assert not re.findall(r"#[0-9a-f]{6}\b", plot.svg), plot.name
        assert "var(--ink)" in plot.svg
        assert "font-family" not in plot.svg
        assert "<style" not in plot.svg


def test_axes_are_labelled_with_units(plots: dict[str, Plot]) -> None:
    for name, label in {
        "differences": "adapted minus base (points of the metric; line: 95 % interval)",
        "changes": "change of a query's nDCG@10, adapted minus base",
        "curves": "training loss (nats a query)",
        "sizes": "training queries (log scale)",
        "recall": "efSearch (log scale)",
    }.items():
        assert label in texts_of(plots[name])


def test_words_say_what_the_drawing_shows(plots: dict[str, Plot]) -> None:
    assert "ndcg@10 +0.100 (+0.080 to +0.120)" in plots["differences"].text
    assert "22 from +0.9 to +1.0" in plots["changes"].text
    assert "2 fits; loss at their ends: 0.250, 0.400." in plots["curves"].text
    assert "50 queries 0.000 (no adapter helps)" in plots["sizes"].text
    assert "efSearch 16: raw 0.938, adapted 0.925" in plots["recall"].text


def test_ids_of_different_drawings_never_meet(plots: dict[str, Plot]) -> None:
    seen: set[str] = set()
    for plot in plots.values():
        ids = re.findall(r'\sid="([^"]+)"', plot.svg)
        assert len(ids) == len(set(ids))
        assert seen.isdisjoint(ids)
        seen |= set(ids)
        assert set(re.findall(r"url\(#([^)]+)\)", plot.svg)) <= seen
        assert set(re.findall(r'href="#([^"]+)"', plot.svg)) <= seen


def test_gain_chance_and_loss_look_different() -> None:
    svg = {
        name: plot_differences([("m", msgspec.convert(make_metric(0.5, delta, 0.02), Metric))]).svg
        for name, delta in (("gain", 0.1), ("chance", 0.0), ("loss", -0.1))
    }
    assert "var(--loss)" in svg["loss"]
    assert "var(--loss)" not in svg["gain"] + svg["chance"]
    assert "fill: var(--paper)" in svg["chance"]
    assert "fill: var(--paper)" not in svg["gain"]


def test_same_numbers_give_the_same_bytes(plots: dict[str, Plot]) -> None:
    assert [plot.svg for plot in draw_all()] == [plot.svg for plot in plots.values()]


def test_settings_of_the_user_are_neither_heard_nor_changed(plots: dict[str, Plot]) -> None:
    with mpl.rc_context({"axes.grid": False, "font.size": 30, "text.color": "red"}):
        settings = dict(mpl.rcParams)
        assert [plot.svg for plot in draw_all()] == [plot.svg for plot in plots.values()]
        assert dict(mpl.rcParams) == settings


@pytest.mark.parametrize(
    "curves",
    [
        [[{"loss": 1.0, "validation": 0.5}]],
        [[{"loss": 1.0}, {"loss": 0.5}]],
        [[{"loss": 1.0, "validation": None}]],
        make_fit()["curves"] * 10,
    ],
)
def test_curves_of_any_length_are_drawn(curves: list[list[dict[str, Any]]]) -> None:
    unit = "step" if "step" in curves[0][0] else "epoch"
    assert unit in texts_of(plot_curves(msgspec.convert(curves, list[list[LossPoint]])))


def test_numbers_of_sizes_that_lie_close_do_not_overlap() -> None:
    curve = RECORD.size_curve
    close = replace(curve, points=[*curve.points, replace(curve.points[-1], n_train=820)])
    shown = texts_of(plot_sizes(close))
    assert "820" in shown
    assert "809" not in shown


def test_index_without_powers_of_two_still_has_numbers_on_its_axis() -> None:
    sweep = msgspec.convert(make_sweep(served_value=3), Sweep)
    points = [replace(sweep.points[0], value=value) for value in (3, 5, 7)]
    assert {"3", "5", "7"} <= set(texts_of(plot_recall(replace(sweep, points=points))))


def test_a_single_size_and_a_single_point_are_drawn() -> None:
    one = replace(RECORD.size_curve, points=RECORD.size_curve.points[-1:])
    assert "809" in texts_of(plot_sizes(one))
    sweep = msgspec.convert(make_sweep(), Sweep)
    assert plot_recall(replace(sweep, points=sweep.points[:1])).svg
