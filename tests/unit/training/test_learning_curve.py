"""The size curve: nested draws, one test split, and the full fit as its last point."""

import dataclasses
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tests.support import fits
from tests.support.records import make_fit
from tests.support.worlds import World, make_world
from trimtab_training import learning_curve as size_curve
from trimtab_training.adapters import IdentityAdapter
from trimtab_training.evaluation.evaluate import evaluate_model
from trimtab_training.evaluation.origin import Fit
from trimtab_training.export.onnx_export import describe_adapter, export_adapter
from trimtab_training.fit.fit import FitSettings, fit_adapter
from trimtab_training.learning_curve import draw_nested, measure_size_curve

QUICK = dataclasses.replace(fits.QUICK, epochs=12, folds=2)


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


def test_curve_ends_with_the_full_fit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_curve, "SIZES", (20, 60, 5000))
    dataset, embeddings = world.dataset, world.embeddings
    fit = fit_adapter(dataset, embeddings, QUICK)
    assert fit.adapter is not None
    manifest = describe_adapter(fit.adapter, embeddings.encoder, name="full", similarity="cosine")
    full = evaluate_model(export_adapter(fit.adapter, manifest), dataset, embeddings)
    steps: list[tuple[int, int]] = []
    curve = measure_size_curve(
        dataset, embeddings, QUICK, FitSettings(), full,
        progress=lambda size, total: steps.append((size, total)),
    )  # fmt: skip
    assert curve.sizes == [20, 60, 120]
    assert steps == [(20, 120), (60, 120)]
    headline = full.metrics["ndcg@10"]
    assert curve.points[-1].adapted == headline.adapted
    assert all(point.base == headline.base for point in curve.points)
    assert curve.points[1].adapted != headline.adapted


def test_fit_that_finds_no_adapter_leaves_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_curve, "SIZES", (20,))
    noise = make_world(tmp_path, useful=False)
    dataset, embeddings = noise.dataset, noise.embeddings
    same = IdentityAdapter(16)
    manifest = describe_adapter(same, embeddings.encoder, name="none", similarity="cosine")
    full = evaluate_model(export_adapter(same, manifest), dataset, embeddings)
    curve = measure_size_curve(
        dataset,
        embeddings,
        QUICK,
        FitSettings(),
        replace(full, fit=msgspec.convert(make_fit(helps=False), Fit)),
    )
    first = curve.points[0]
    assert not first.helps
    assert first.adapted == first.base == full.metrics["ndcg@10"].base
    assert first.delta == 0
