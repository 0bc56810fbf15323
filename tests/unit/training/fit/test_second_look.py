"""A second look: chosen by held-out queries, resumed to the same bytes, refused where it lies."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.fits import LOOKING, TINY, state_of
from tests.support.onnx_models import MANIFEST
from tests.support.worlds import World, make_world
from trimtab.model.adapter import Adapter as ServedAdapter
from trimtab_training.adapters import ComposedAdapter, LinearAdapter
from trimtab_training.errors import ConfigError, ExportError
from trimtab_training.export.onnx_export import describe_adapter, export_adapter
from trimtab_training.export.second_look import add_second_look, attach_second_look
from trimtab_training.fit.fit import FitResult, FitSettings, fit_adapter
from trimtab_training.fit.model_selection import expect_chosen_gain
from trimtab_training.fit.recipe import parse_recipe
from trimtab_training.fit.second_look import choose
from trimtab_training.fit.second_look.choose import MIXES, SecondLookFit
from trimtab_training.fit.second_look.two_sided import TwoSided
from trimtab_training.fit.trainer import Trainer
from trimtab_training.fit.trial_runner import TrialRunner


@dataclass
class Watched:
    """A fit: what came out of it, what each of its trials trained on, and what it told."""

    trained: dict[str, set[str]] = field(default_factory=dict)
    told: list[tuple[int, int]] = field(default_factory=list)
    result: FitResult = field(init=False)


@pytest.fixture(scope="module")
def watched(world: World) -> Watched:
    watched, asked = Watched(), TrialRunner.make_trainer

    def make(self: TrialRunner, name: str, *given: Any, **named: Any) -> Trainer:
        watched.trained[name] = set(self.queries(given[1], given[2]))
        return asked(self, name, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrialRunner, "make_trainer", make)
        watched.result = fit_adapter(
            world.dataset,
            world.embeddings,
            LOOKING,
            progress=lambda *both: watched.told.append(both),
        )
    return watched


@pytest.fixture(scope="module")
def fitted(watched: Watched) -> FitResult:
    return watched.result


def look_of(result: FitResult) -> SecondLookFit:
    assert result.second_look is not None
    return result.second_look


def test_one_that_helps_is_chosen_by_held_out_queries(fitted: FitResult) -> None:
    look = look_of(fitted)
    assert look.helps
    assert look.maps is not None
    assert look.depth == 40
    assert "helps: nDCG@10 +" in look.verdict
    said = look.validation
    assert said["n_queries"] == fitted.validation["n_queries"]
    assert said["adapter_ndcg@10"] == pytest.approx(fitted.validation["adapted_ndcg@10"], abs=0.01)
    gained = said["second_look_ndcg@10"] - said["adapter_ndcg@10"]
    assert said["expected_gain"] <= gained + 1e-9
    assert len(said["trials"]) == 8


def test_its_file_gives_what_was_trained(world: World, fitted: FitResult) -> None:
    look, adapter = look_of(fitted), fitted.adapter
    assert adapter is not None
    assert look.maps is not None
    queries = world.embeddings.queries.take_ids(list(world.dataset.split("test")))
    documents = world.embeddings.documents.take(np.arange(30))
    manifest = describe_adapter(adapter, world.embeddings.encoder, name="docs", similarity="cosine")
    content = export_adapter(adapter, manifest, queries=queries, precision="float32")
    content, packed = add_second_look(content, look, manifest, queries)
    assert packed is not None
    served = ServedAdapter.from_bytes(content)
    assert served.second_look is not None
    with torch.no_grad():
        first, again = (one(torch.from_numpy(queries)).numpy() for one in (adapter, look.maps))
        mapped = look.maps.map_documents(torch.from_numpy(documents)).numpy()
    wanted = (1 - look.mix) * first @ documents.T + look.mix * again @ mapped.T
    each = np.repeat(documents[None], len(queries), axis=0)
    found = served.second_look.rescore(queries, served.transform(queries), each)
    assert np.allclose(found, wanted, atol=0.03)  # 8-bit products
    order = np.argsort(-wanted, axis=1)[:, :1], np.argsort(-found, axis=1)[:, :1]
    assert (order[0] == order[1]).mean() > 0.9


def test_what_a_fold_holds_out_trains_nothing(world: World, watched: Watched) -> None:
    trained = watched.trained
    both = {name: queries for name, queries in trained.items() if "two-sided" in name}
    assert len(both) >= 4
    for name, queries in both.items():
        fold = name.rpartition("-")[2]
        (beside,) = [of for one, of in trained.items() if one.endswith(f"n1-{fold}")]
        assert queries == beside
        assert (len(queries) < len(world.dataset.split("train"))) == fold.startswith("fold")


def test_without_the_knob_there_is_none(world: World, fitted: FitResult) -> None:
    plain = fit_adapter(world.dataset, world.embeddings, replace(LOOKING, rescore=0))
    assert plain.second_look is None
    assert state_of(plain.adapter) == state_of(fitted.adapter)  # which has no part in it


def test_one_that_gains_too_little_is_not_shipped(world: World, fitted: FitResult) -> None:
    gain = look_of(fitted).validation["expected_gain"]
    recipe = replace(LOOKING, min_gain=gain + 0.01)
    result = fit_adapter(world.dataset, world.embeddings, recipe)
    look = look_of(result)
    assert (result.adapter is None, look.helps, look.maps) == (False, False, None)
    assert "does not help: nDCG@10" in look.verdict


def test_one_that_harms_a_slice_is_not_shipped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries about unseen documents lose all, and the others gain as much again."""

    def measure(self: Any, _first: Any, _second: Any, fold: int) -> dict[float, np.ndarray]:
        is_seen = self._runner.context.cross_validation.validation(fold).is_seen
        before = np.full(len(is_seen), 0.5)
        return {0.0: before, **dict.fromkeys(MIXES, np.where(is_seen, 1.0, 0.45))}

    monkeypatch.setattr(choose._SecondLook, "_measure", measure)
    look = look_of(fit_adapter(world.dataset, world.embeddings, LOOKING))
    seen = look.validation["second_look_ndcg@10"] - look.validation["adapter_ndcg@10"]
    assert seen > 0
    assert not look.helps
    assert "Every mix harms" in look.verdict


def test_where_no_adapter_helps_none_is_tried(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", useful=False)
    result = fit_adapter(world.dataset, world.embeddings, replace(LOOKING, min_gain=0.5))
    assert result.adapter is None
    assert result.second_look is None


def test_labels_of_the_test_split_have_no_part_in_it(world: World, fitted: FitResult) -> None:
    labels = list(world.dataset.split("test").values())
    shifted = dict(zip(world.dataset.split("test"), labels[1:] + labels[:1], strict=True))
    other = replace(world.dataset, splits={**world.dataset.splits, "test": shifted})
    again = fit_adapter(other, world.embeddings, LOOKING)
    assert state_of(look_of(again).maps) == state_of(look_of(fitted).maps)


@pytest.mark.parametrize("share", [0.6, 0.97])
def test_an_interrupted_one_is_resumed_to_the_same_bytes(
    world: World, fitted: FitResult, tmp_path: Path, share: float
) -> None:
    def stop(done: int, total: int) -> None:
        if done >= share * total:
            raise KeyboardInterrupt

    settings = FitSettings(workspace=tmp_path / "work", resume="must_match")
    with pytest.raises(KeyboardInterrupt):
        fit_adapter(world.dataset, world.embeddings, LOOKING, settings, progress=stop)
    look = look_of(fit_adapter(world.dataset, world.embeddings, LOOKING, settings))
    wanted = look_of(fitted)
    assert state_of(look.maps) == state_of(wanted.maps)
    assert (look.mix, look.document_anchor) == (wanted.mix, wanted.document_anchor)
    assert look.validation == wanted.validation


def test_progress_reaches_its_end_only_when_it_is_there(watched: Watched) -> None:
    shares = [done / total for done, total in watched.told]
    assert shares[-1] == pytest.approx(1, abs=0.02)
    assert sum(share > 0.99 for share in shares) < len(shares) / 4


def test_a_dev_split_judges_it(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", n_queries=400)
    train = world.dataset.split("train")
    parts = {"dev": dict(list(train.items())[:150]), "train": dict(list(train.items())[150:])}
    dataset = replace(world.dataset, splits={**world.dataset.splits, **parts})
    look = look_of(fit_adapter(dataset, world.embeddings, LOOKING))
    assert look.validation["n_queries"] == 150


@pytest.mark.parametrize("recipe", [LOOKING, replace(TINY, epochs=20, rescore=30)])
def test_queries_of_another_encoder_get_one(tmp_path: Path, recipe: Any) -> None:
    world = make_world(tmp_path / "world", dim_query=24, noise=0.3)
    look = look_of(fit_adapter(world.dataset, world.embeddings, recipe))
    assert look.validation["n_queries"] > 0


def test_where_lengths_count_it_is_refused(world: World, tmp_path: Path) -> None:
    dot = make_world(tmp_path / "dot")
    documents = np.load(dot.vectors / "documents.npy")
    np.save(dot.vectors / "documents.npy", 3 * documents)
    with pytest.raises(ConfigError, match="a second look compares by cosine; leave the key out"):
        fit_adapter(dot.dataset, dot.embeddings, replace(LOOKING, similarity="dot"))


def test_a_budget_for_the_file_and_a_second_look_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="'rescore' and 'max_megabytes' don't go together"):
        parse_recipe({"rescore": 100, "max_megabytes": 1.0}, "recipe.toml")


def test_no_fold_is_trained_again_for_it(watched: Watched) -> None:
    assert any("two-sided" in name for name in watched.trained)
    assert not any(name.endswith("-again") for name in watched.trained)


@pytest.mark.parametrize("value", [-1, 10_001, 2.5, "100"])
def test_a_depth_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="'rescore'"):
        parse_recipe({"rescore": value}, "recipe.toml")


def test_before_training_it_changes_nothing() -> None:
    queries = torch.nn.functional.normalize(torch.randn(5, 8), dim=1)
    maps = TwoSided(LinearAdapter(8), rank=3)
    assert torch.allclose(maps(queries), queries, atol=1e-6)
    assert torch.allclose(maps.map_documents(queries), queries, atol=1e-6)


def test_documents_keep_unit_length_whatever_is_learned() -> None:
    maps = TwoSided(ComposedAdapter(8), rank=3)
    torch.nn.init.normal_(maps.expand)
    moved = maps.map_documents(torch.nn.functional.normalize(torch.randn(2, 5, 8), dim=-1))
    assert moved.shape == (2, 5, 8)
    assert torch.allclose(moved.norm(dim=-1), torch.ones(2, 5), atol=1e-5)


def test_the_best_of_many_useless_ones_is_expected_to_gain_nothing() -> None:
    gains = list(np.random.default_rng(0).standard_normal((40, 200)))
    best = max(float(each.mean()) for each in gains)
    assert best > 0.1
    assert abs(expect_chosen_gain(gains)) < 0.06
    assert expect_chosen_gain([np.full(50, 0.2), np.zeros(50)]) == pytest.approx(0.2)
    assert expect_chosen_gain([np.array([0.3]), np.array([0.1])]) == pytest.approx(0.3)


def test_a_model_of_another_width_takes_no_second_look(world: World, fitted: FitResult) -> None:
    queries = world.embeddings.queries.take_ids(list(world.dataset.split("test")))
    manifest = replace(MANIFEST, dim_in=16, dim_out=16, normalised=True, similarity="cosine")
    assert fitted.adapter is not None
    content = export_adapter(fitted.adapter, manifest, queries=queries)
    _, packed = add_second_look(content, look_of(fitted), manifest, queries)
    other = export_adapter(
        LinearAdapter(8), replace(MANIFEST, dim_in=8, dim_out=8, normalised=True)
    )
    with pytest.raises(ExportError, match="would be refused when loaded"):
        attach_second_look(other, packed)
