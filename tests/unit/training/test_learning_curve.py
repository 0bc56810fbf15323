"""The size curve: nested draws, one test split, and the full fit as its last point."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.support import fits
from tests.support.records import make_fit
from tests.support.worlds import World, make_world
from trimtab_training import learning_curve as size_curve
from trimtab_training.adapters import IdentityAdapter, LinearAdapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.evaluation.evaluate import evaluate_model
from trimtab_training.evaluation.origin import Fit
from trimtab_training.evaluation.record import Evaluation
from trimtab_training.export.onnx_export import describe_adapter, export_adapter
from trimtab_training.fit.fit import FitSettings, fit_adapter
from trimtab_training.learning_curve import draw_nested, measure_size_curve

QUICK = dataclasses.replace(fits.PLAIN, epochs=12, folds=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), n_queries=160)


def test_smaller_draw_is_part_of_every_larger_one() -> None:
    qrels = {f"q{number}": {"d": 1.0} for number in range(40)}
    draws = [set(draw_nested(qrels, size)) for size in (5, 10, 40, 99)]
    assert [len(draw) for draw in draws] == [5, 10, 40, 40]
    assert draws[0] < draws[1] < draws[2]


def test_draw_does_not_depend_on_the_order_of_labels_and_skips_what_teaches_nothing() -> None:
    qrels = {f"q{number}": {"d": 1.0} for number in range(9)} | {"none": {"d": 0.0}}
    backwards = dict(reversed(qrels.items()))
    assert set(draw_nested(qrels, 4)) == set(draw_nested(backwards, 4))
    assert "none" not in draw_nested(qrels, 10)


@pytest.mark.parametrize("use", ["relevance", "migration"])
def test_curve_ends_with_the_full_fit(
    world: World, monkeypatch: pytest.MonkeyPatch, use: Any
) -> None:
    monkeypatch.setattr(size_curve, "SIZES", (20, 60, 5000))
    dataset, embeddings = world.dataset, world.embeddings
    recipe = dataclasses.replace(QUICK, use=use)
    fit = fit_adapter(dataset, embeddings, recipe)
    assert fit.adapter is not None
    manifest = describe_adapter(
        fit.adapter, embeddings.encoder, name="full", use=use, similarity="cosine"
    )
    full = evaluate_model(export_adapter(fit.adapter, manifest), dataset, embeddings)
    steps: list[tuple[int, int]] = []
    curve = measure_size_curve(
        dataset, embeddings, recipe, FitSettings(), full,
        progress=lambda size, total: steps.append((size, total)),
    )  # fmt: skip
    assert curve.sizes == [20, 60, 120]
    assert steps == [(20, 120), (60, 120)]
    headline = full.metrics["ndcg@10"]
    assert curve.points[-1].adapted == headline.adapted
    assert all(point.base == headline.base for point in curve.points)
    assert len({point.adapted for point in curve.points}) > 1


def unchanged(world: World) -> Evaluation:
    """The record of a fit that has found no adapter."""
    same = IdentityAdapter(16)
    manifest = describe_adapter(same, world.embeddings.encoder, name="x", similarity="cosine")
    full = evaluate_model(export_adapter(same, manifest), world.dataset, world.embeddings)
    return replace(full, fit=msgspec.convert(make_fit(helps=False), Fit))


def test_small_dev_split_is_drawn_from_and_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_curve, "SIZES", (100,))
    given: list[Dataset] = []
    monkeypatch.setattr(
        size_curve,
        "fit_adapter",
        lambda drawn, *_: (given.append(drawn), SimpleNamespace(adapter=None))[1],
    )
    train = dict(world.dataset.split("train"))
    dev = {query: train.pop(query) for query in list(train)[:30]}
    splits = {**world.dataset.splits, "train": train, "dev": dev}
    curve = measure_size_curve(
        dataclasses.replace(world.dataset, splits=splits),
        world.embeddings, QUICK, FitSettings(), unchanged(world),
    )  # fmt: skip
    assert curve.sizes == [100, 120]
    assert [set(drawn.splits) for drawn in given] == [{"train", "test"}]
    assert len(given[0].split("train")) == 100


def test_size_that_a_start_has_seen_too_much_of_is_left_out_and_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_curve, "SIZES", (20,))
    seen = dict(list(draw_nested(world.dataset.split("train"), 20).items())[:10])
    told: list[str] = []
    settings = FitSettings(
        start_from=LinearAdapter(16),
        start_trained_on=TrainedOn.of(dataclasses.replace(world.dataset, splits={"train": seen})),
        tell=told.append,
    )
    full = unchanged(world)
    curve = measure_size_curve(world.dataset, world.embeddings, QUICK, settings, full)
    assert curve.sizes == [120]
    assert "no fit on 20 queries for the size curve: 10 training queries" in told[0]


def test_fit_that_finds_no_adapter_leaves_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_curve, "SIZES", (20,))
    noise = make_world(tmp_path, useful=False)
    full = unchanged(noise)
    curve = measure_size_curve(noise.dataset, noise.embeddings, QUICK, FitSettings(), full)
    first = curve.points[0]
    assert not first.helps
    assert first.adapted == first.base == full.metrics["ndcg@10"].base
    assert first.delta == 0
