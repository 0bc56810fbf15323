"""Choosing among trials, blends and none."""

import math

import numpy as np
import pytest

from trimtab_training.fit.model_selection import (
    HeldOut,
    best_blend,
    choose,
    nested_gain,
    objective,
    optimism_of,
    select,
)

EACH = 200
"""Queries that each written score stands for, so that every slice is large enough to tell."""

BASE = np.full(4 * EACH, 0.5)
SEEN = np.repeat([True, True, False, False], EACH)


def held_out(**adapted: list[float]) -> HeldOut:
    """Scores by blend, written as b50=[...]."""
    by_blend = {int(name[1:]) / 100: np.repeat(scores, EACH) for name, scores in adapted.items()}
    return HeldOut(BASE, {0.0: BASE, **by_blend}, SEEN)


def test_blend_with_best_mean_wins() -> None:
    scores = held_out(b50=[0.6, 0.6, 0.6, 0.6], b100=[0.9, 0.9, 0.6, 0.6])
    assert best_blend(scores) == 1.0
    assert objective(scores) == pytest.approx(0.25)


def test_blend_that_harms_a_slice_is_passed_over() -> None:
    scores = held_out(b50=[0.7, 0.7, 0.5, 0.5], b100=[1.0, 1.0, 0.4, 0.4])
    assert best_blend(scores) == 0.5


def test_raw_query_wins_where_every_blend_harms() -> None:
    assert best_blend(held_out(b50=[0.9, 0.9, 0.3, 0.3], b100=[1.0, 1.0, 0.1, 0.1])) == 0.0


@pytest.mark.parametrize("is_seen", [True, False])
def test_one_slice_alone_is_weighed_without_the_other(is_seen: bool) -> None:
    scores = held_out(b50=[0.7] * 4, b100=[0.4] * 4)
    assert best_blend(HeldOut(BASE, scores.adapted, np.full(len(BASE), is_seen))) == 0.5


def test_blend_that_the_recipe_leaves_out_is_never_chosen() -> None:
    scores = held_out(b50=[0.6] * 4, b100=[0.9] * 4)
    assert best_blend(HeldOut(BASE, scores.adapted, SEEN, blends=(0.5,))) == 0.5


def test_gain_is_the_mean_over_queries_as_traffic_has_them() -> None:
    is_seen = np.arange(1000) < 200
    scores = HeldOut(np.zeros(1000), {1.0: np.where(is_seen, 0.4, 0.0)}, is_seen)
    assert scores.gain(1.0) == pytest.approx(0.08)


def test_loss_on_a_slice_that_chance_explains_harms_nobody() -> None:
    is_seen = np.arange(1000) < 900
    rng = np.random.default_rng(0)
    for scatter, chosen in ((0.05, 0.0), (1.0, 1.0)):
        losses = rng.normal(scale=scatter, size=100)
        gains = np.where(is_seen, 0.4, -0.05)
        gains[900:] += losses - losses.mean()
        scores = HeldOut(np.zeros(1000), {0.0: np.zeros(1000), 1.0: gains}, is_seen)
        assert best_blend(scores) == chosen, scatter


def of_queries(*by_candidate: list[float]) -> list[HeldOut]:
    """Candidates' scores at the full change, of queries about unseen documents."""
    unseen = np.zeros(len(by_candidate[0]), dtype=bool)
    base = np.zeros(len(unseen))
    return [HeldOut(base, {0.0: base, 1.0: np.array(row)}, unseen) for row in by_candidate]


def test_gain_is_expected_of_the_candidate_that_other_queries_like_best() -> None:
    # One query likes the first, the other the second: each is scored by what the other chooses.
    assert nested_gain(of_queries([1.0, 0.0], [0.0, 0.7])) == 0.0


def test_gain_that_all_queries_agree_on_is_expected_in_full() -> None:
    assert nested_gain(of_queries([0.4] * 20, [0.1] * 20)) == pytest.approx(0.4)


def test_gain_of_noise_is_expected_to_be_none() -> None:
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(20):
        candidates = of_queries(*rng.normal(size=(10, 60)).tolist())
        gains.append(nested_gain(candidates))
        assert max(map(objective, candidates)) > 0  # what choosing the best would have reported
    assert np.mean(gains) < 3 * np.std(gains) / np.sqrt(len(gains))


def test_single_held_out_query_is_rated_by_itself() -> None:
    assert nested_gain(of_queries([0.5])) == 0.5


def test_verdict_takes_flattery_off_the_gain() -> None:
    scores = held_out(b100=[0.9, 0.9, 0.9, 0.9])
    gain = scores.gain(1.0)
    verdict = select(scores, 1.0, optimism=0.1, min_gain=0.002)
    assert verdict.gain == pytest.approx(gain - 0.1)
    assert verdict.helps


@pytest.mark.parametrize(
    ("left", "min_gain", "helps"), [(0.1, 0.002, True), (0.1, 0.2, False), (0.0, 0.0, False)]
)
def test_verdict_wants_more_than_noise_and_more_than_the_least_gain(
    left: float, min_gain: float, helps: bool
) -> None:
    scores = held_out(b100=[0.8, 0.9, 0.8, 0.9])
    verdict = select(scores, 1.0, scores.gain(1.0) - left, min_gain)
    assert verdict.helps is helps
    assert ("No adapter helps" in verdict.text) is not helps


def test_verdict_on_blend_zero_is_no() -> None:
    verdict = select(held_out(b100=[0.9] * 4), 0.0, 0.0, 0.0)
    assert not verdict.helps
    assert "no share of what was learned beats the raw queries" in verdict.text


def test_no_says_how_many_more_labels_would_settle_it() -> None:
    gains = np.tile([0.5, -0.4], 50)  # .05 on average, a standard error of .045
    scores = HeldOut(
        np.full(100, 0.4), {0.0: np.full(100, 0.4), 1.0: 0.4 + gains}, np.ones(100, bool)
    )
    verdict = select(scores, 1.0, 0.0, 0.002)
    error = gains.std(ddof=1) / 10
    needed = math.ceil(100 * (1.282 * error / 0.05) ** 2)
    assert f"About {needed - 100} more labelled queries would settle it" in verdict.text
    repeats = -(-needed // 100)
    more = HeldOut(
        np.tile(scores.base, repeats),
        {key: np.tile(value, repeats) for key, value in scores.adapted.items()},
        np.ones(100 * repeats, bool),
    )
    assert select(more, 1.0, 0.0, 0.002).helps


def test_no_gain_is_not_said_to_want_more_labels() -> None:
    verdict = select(held_out(b100=[0.8, 0.9, 0.8, 0.9]), 1.0, 1.0, 0.002)
    assert "no gain that more labels could confirm" in verdict.text


def test_one_query_proves_nothing() -> None:
    one = HeldOut(np.zeros(1), {0.0: np.zeros(1), 1.0: np.ones(1)}, np.array([True]))
    assert not select(one, 1.0, 0.0, 0.0).helps


def test_folds_stand_end_to_end() -> None:
    first, second = of_queries([0.0, 1.0], [1.0, 0.5])
    joined = HeldOut.join([first, second])
    assert joined.adapted[1.0].tolist() == [0.0, 1.0, 1.0, 0.5]
    assert joined.base.tolist() == [0.0] * 4
    assert joined.only(np.array([True, False, False, True])).adapted[1.0].tolist() == [0.0, 0.5]


def rated(**means: float) -> dict[str, HeldOut]:
    """Candidates whose gains over 0 scatter by .1 over 400 queries, each alike."""
    noise = np.random.default_rng(0).normal(scale=0.1, size=400)
    noise -= noise.mean()
    base = np.zeros(400)
    return {
        name: HeldOut(base, {0.0: base, 1.0: mean + sign * noise}, np.zeros(400, dtype=bool))
        for sign, (name, mean) in zip((1, -1, 1), means.items(), strict=False)
    }


def test_the_first_candidate_wins_unless_it_is_clearly_worse() -> None:
    # Their difference scatters by .2 over 400 queries: its standard error is .01.
    assert choose(rated(trusted=0.500, best=0.510)) == "trusted"
    assert choose(rated(trusted=0.500, best=0.540)) == "best"


def test_flattery_is_what_the_best_is_rated_above_what_others_expect() -> None:
    candidates = of_queries([1.0, 0.0], [0.0, 0.7])
    assert optimism_of(candidates) == pytest.approx(0.5)


def test_flattery_is_never_praise() -> None:
    assert optimism_of(of_queries([0.5, 0.5, 0.5, 0.5])) == 0.0
