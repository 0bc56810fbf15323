"""An interrupted fit: continued to the same end, and never lost to another."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.fits import QUICK, RECIPES, TINY, Fitted, state_of
from tests.support.worlds import World
from trimtab_training.adapters import LinearAdapter
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.errors import DataError
from trimtab_training.fit import trainer as trial
from trimtab_training.fit.checkpoint import Resume, Workspace
from trimtab_training.fit.fit import FitSettings, fit_adapter


class StopAfter:
    """A progress callback that interrupts like Ctrl-C."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, done: int, total: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "calls", "keep_every_s"),
    [("auto", 1, 0.0), ("auto", 25, 1e9), ("linear", 25, 0.0), ("two_layer", 13, 1e9)],
)
def test_resumed_fit_gives_same_bytes_as_uninterrupted(
    world: World,
    whole: Callable[[str], Fitted],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    calls: int,
    keep_every_s: float,
) -> None:
    monkeypatch.setattr(trial, "KEEP_EVERY_S", keep_every_s)
    recipe, uninterrupted = RECIPES[name], whole(name).result
    settings = FitSettings(workspace=tmp_path / "work", resume="must_match")
    with pytest.raises(KeyboardInterrupt):
        fit_adapter(world.dataset, world.embeddings, recipe, settings, progress=StopAfter(calls))
    resumed = fit_adapter(world.dataset, world.embeddings, recipe, settings)
    assert state_of(uninterrupted.adapter) == state_of(resumed.adapter)
    assert uninterrupted.curves == resumed.curves


def test_resumed_fit_ships_the_same_rank(
    world: World, whole: Callable[[str], Fitted], tmp_path: Path
) -> None:
    """The adapters of finished folds are gone; what they would have said of ranks is not."""
    first, settings = whole("narrow").result, whole("narrow").copy_to(tmp_path / "work")
    again = fit_adapter(world.dataset, world.embeddings, RECIPES["narrow"], settings)
    assert [size.rank for size in first.sizes] == [2, 0]  # rank 8 of 16 by 16 saves nothing
    assert [(size.gain, size.loss) for size in first.sizes] == [
        (size.gain, size.loss) for size in again.sizes
    ]
    assert state_of(first.adapter) == state_of(again.adapter)
    assert first.curves == again.curves


def test_finished_trials_are_a_small_part_of_what_training_holds(
    world: World, tmp_path: Path
) -> None:
    """An unfinished trial keeps its weights five times; at 1,536 dims that is 75 MB an epoch."""
    written: list[int] = []
    save = Workspace.save

    def counted(self: Workspace, name: str, *rest: Any) -> None:
        save(self, name, *rest)
        written.append((tmp_path / f"{name}.safetensors").stat().st_size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "save", counted)
        result = fit_adapter(
            world.dataset,
            world.embeddings,
            replace(QUICK, epochs=10),
            FitSettings(workspace=tmp_path),
        )
    assert result.adapter is not None
    n_bytes = sum(value.nbytes for value in result.adapter.state_dict().values())
    # The first round of steps; then 4 pairs of weights on 3 folds, the best on 3, and the last fit.
    assert len(written) == 1 + 4 * 3 + 3 + 1, written
    scores = 5 * 8 * 40  # float64 scores of at most 40 queries at five blends
    assert max(written[1:-1]) < scores + 4096
    assert written[-1] < n_bytes + 4096


def test_resume_repeats_no_finished_trial(
    world: World, whole: Callable[[str], Fitted], tmp_path: Path
) -> None:
    first, settings = whole("linear").result, whole("linear").copy_to(tmp_path / "work")
    calls: list[tuple[int, int]] = []
    again = fit_adapter(
        world.dataset,
        world.embeddings,
        QUICK,
        settings,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert len(calls) == 4 * 3 + 3 + 1  # one call a finished trial, none a round of steps
    assert calls[-1][0] == calls[-1][1]
    assert state_of(first.adapter) == state_of(again.adapter)
    assert first.validation == again.validation


def test_interrupted_trial_goes_on_at_the_step_that_was_kept(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TINY, min_steps=2 * trial.ROUND, screened_steps=1.0)
    rounds: list[str] = []
    train_round = trial.Trainer._train_round

    def counted(trainer: trial.Trainer) -> float:
        rounds.append(trainer.name)
        return train_round(trainer)

    monkeypatch.setattr(trial, "KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(trial.Trainer, "_train_round", counted)
    fit_adapter(world.dataset, world.embeddings, recipe, FitSettings(workspace=tmp_path / "a"))
    uninterrupted, settings = rounds.copy(), FitSettings(workspace=tmp_path / "b")
    rounds.clear()
    with pytest.raises(KeyboardInterrupt):
        fit_adapter(world.dataset, world.embeddings, recipe, settings, progress=StopAfter(1))
    assert rounds == uninterrupted[:1]
    assert uninterrupted[1] == uninterrupted[0]  # in the middle of a trial
    fit_adapter(world.dataset, world.embeddings, recipe, replace(settings, resume="must_match"))
    assert rounds == uninterrupted


@pytest.fixture(scope="module")
def interrupted(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an interrupted fit leaves in its workspace; tests go on in a copy."""
    work = tmp_path_factory.mktemp("interrupted")
    settings = FitSettings(workspace=work)
    with pytest.raises(KeyboardInterrupt):
        fit_adapter(world.dataset, world.embeddings, TINY, settings, progress=StopAfter(3))
    assert states_in(work)
    return work


@pytest.fixture
def work(interrupted: Path, tmp_path: Path) -> Path:
    return shutil.copytree(interrupted, tmp_path / "work")


def states_in(work: Path) -> set[str]:
    return {file.name for file in work.glob("*.safetensors")}


def test_continued_fit_says_so(world: World, work: Path) -> None:
    states = states_in(work)
    told: list[str] = []
    settings = FitSettings(workspace=work, resume="must_match", tell=told.append)
    fit_adapter(world.dataset, world.embeddings, TINY, settings)
    line, needs = told
    assert needs.startswith("the fit takes about ")
    assert line.startswith("continuing an interrupted fit of the same settings and data")
    assert f": {len(states)} (--fresh starts over)" in line


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"recipe": replace(TINY, epochs=3, folds=4)}, "epochs was 2, is 3; folds was 2, is 4"),
        ({"start": LinearAdapter(16)}, r"other model to start from \(--from\)"),
        ({"labels": 40}, "other labels"),
        ({"vectors": 1.5}, "other vectors"),
    ],
)
def test_interrupted_fit_is_not_removed_by_another_which_says_what_differs(
    world: World, work: Path, change: dict[str, Any], differs: str
) -> None:
    states = states_in(work)
    dataset, embeddings = world.dataset, world.embeddings
    if "labels" in change:
        train = dict(list(dataset.split("train").items())[: change["labels"]])
        dataset = replace(dataset, splits={**dataset.splits, "train": train})
    if "vectors" in change:
        matrix = embeddings.queries.take(np.arange(len(embeddings.queries))) * change["vectors"]
        embeddings = replace(embeddings, queries=replace(embeddings.queries, matrix=matrix))
    settings = FitSettings(
        workspace=work,
        resume="must_match",
        seed=change.get("seed", 0),
        start_from=change.get("start"),
        start_trained_on=TrainedOn.nothing(),
    )
    with pytest.raises(DataError, match=rf"{differs}.*--fresh"):
        fit_adapter(dataset, embeddings, change.get("recipe", TINY), settings)
    assert states_in(work) == states


def test_fit_whose_start_has_seen_other_queries_is_another(world: World, tmp_path: Path) -> None:
    """They may not judge, so its held-out scores are those of other queries."""
    settings = FitSettings(
        workspace=tmp_path, start_from=LinearAdapter(16), start_trained_on=TrainedOn.nothing()
    )
    with pytest.raises(KeyboardInterrupt):
        fit_adapter(world.dataset, world.embeddings, TINY, settings, progress=StopAfter(3))
    half = dict(list(world.dataset.split("train").items())[:10])
    seen = TrainedOn.of(replace(world.dataset, splits={"train": half}))
    again = replace(settings, start_trained_on=seen, resume="must_match")
    with pytest.raises(DataError, match=r"other queries that it is known to have seen.*--fresh"):
        fit_adapter(world.dataset, world.embeddings, TINY, again)


@pytest.mark.parametrize(("resume", "seed"), [("never", 0), ("never", 1), ("if_same", 1)])
def test_starting_over_says_what_is_removed(
    world: World, work: Path, resume: Resume, seed: int
) -> None:
    told: list[str] = []
    settings = FitSettings(workspace=work, resume=resume, seed=seed, tell=told.append)
    fit_adapter(world.dataset, world.embeddings, TINY, settings)
    line, _needs = told
    assert line.startswith("starting over")
    assert line.endswith("which is removed")


@pytest.mark.parametrize("record", ["", "[1]", "{", '"text"'])
def test_damaged_record_of_a_fit_is_one_line(world: World, work: Path, record: str) -> None:
    (work / "fit.json").write_text(record)
    settings = FitSettings(workspace=work, resume="must_match")
    with pytest.raises(DataError, match="missing or malformed"):
        fit_adapter(world.dataset, world.embeddings, TINY, settings)


def test_resume_names_a_damaged_state(
    world: World, whole: Callable[[str], Fitted], tmp_path: Path
) -> None:
    settings = whole("linear").copy_to(tmp_path / "work")
    state = next((tmp_path / "work").glob("*.safetensors"))
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged"):
        fit_adapter(world.dataset, world.embeddings, QUICK, settings)


def test_new_fit_empties_the_workspace_of_old_states(world: World, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "old.safetensors").write_bytes(b"")
    fit_adapter(world.dataset, world.embeddings, TINY, FitSettings(workspace=work))
    assert not (work / "old.safetensors").exists()
