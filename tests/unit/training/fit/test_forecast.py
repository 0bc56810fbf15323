"""What a fit says before it starts, and whether the work that it counts is what it does."""

from dataclasses import replace

import pytest

from tests.support.worlds import World, make_world
from trimtab_training.adapters import LinearAdapter
from trimtab_training.fit.fit import FitSettings, fit_adapter
from trimtab_training.fit.forecast import Forecast, describe_needs, say_time
from trimtab_training.fit.recipe import Recipe

QUICK = Recipe(epochs=4, hidden=8, folds=3, batch_size=64, min_steps=8, ranks=(2,))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def test_trial_takes_its_set_up_its_steps_and_its_scores() -> None:
    forecast = Forecast({True: 0.02, False: 0.01}, score_s=0.5, setup_s=0.25)
    assert forecast.trial_s(100, 0.8, [1.0], 4) == pytest.approx(0.25 + 80 * 0.02 + 2.0)
    assert forecast.trial_s(100, 1.0, [0.0], 0) == pytest.approx(0.25 + 1.0)


def test_weight_that_is_not_chosen_yet_is_as_likely_one_as_the_other() -> None:
    forecast = Forecast({True: 0.02, False: 0.01}, score_s=0.0)
    assert forecast.trial_s(100, 1.0, [1.0, 0.0], 0) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1.0, "about 5 s"),
        (43.0, "about 45 s"),
        (170.0, "about 3 min"),
        (4810.0, "about 1 h 20 min"),
    ],
)
def test_time_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert say_time(seconds) == said


def test_needs_grow_with_the_adapter() -> None:
    small = describe_needs(60.0, LinearAdapter(8), 1)
    assert small.startswith("the fit takes about 60 s, ")
    assert small.endswith(" GB of memory and at most 1 MB on disk")
    # 4 bytes of 1,024 squared weights: the trial's four copies and the one that is kept
    assert describe_needs(60.0, LinearAdapter(1024), 1).endswith("at most 22 MB on disk")


@pytest.mark.parametrize(
    "recipe", [QUICK, replace(QUICK, anchors=(1.0,), unlabelled_weights=(1.0,))]
)
def test_all_of_the_expected_work_is_done_and_no_more(world: World, recipe: Recipe) -> None:
    """What is counted at the end is what was expected at the start, but for what was not known."""
    calls: list[tuple[int, int]] = []
    said: list[str] = []
    settings = FitSettings(tell=said.append)
    fit_adapter(
        world.dataset,
        world.embeddings,
        recipe,
        settings,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert said[0].startswith("the fit takes about ")
    done = [each[0] for each in calls]
    assert done == sorted(done)
    assert calls[-1][0] == calls[-1][1]
    totals = {total for _, total in calls}
    assert len(totals) <= 2, totals  # one more, once the weight of unlabelled documents is chosen
