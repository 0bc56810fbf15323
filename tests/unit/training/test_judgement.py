"""Choosing among trials, blends and none."""

import numpy as np
import pytest

from training.judgement import (
    HeldOut,
    best_blend,
    choose,
    flattery,
    honest_scores,
    join,
    judge,
    objective,
)

EACH = 50
"""Queries that each written score stands for, so that every slice is large enough to tell."""

BASE = np.full(4 * EACH, 0.5)
SEEN = np.repeat([True, True, False, False], EACH)


def held_out(**adapted: list[float]) -> HeldOut:
    """Scores by blend, written as b50=[...]."""
    by_blend = {int(name[1:]) / 100: np.repeat(scores, EACH) for name, scores in adapted.items()}
    return HeldOut(BASE, {0.0: BASE, **by_blend}, SEEN)


def test_blend_with_best_mean_over_slices_wins() -> None:
    scores = held_out(b50=[0.6, 0.6, 0.6, 0.6], b100=[0.9, 0.9, 0.6, 0.6])
    assert best_blend(scores) == 1.0
    assert objective(scores) == pytest.approx(0.25)


def test_blend_that_harms_a_slice_is_passed_over() -> None:
    scores = held_out(b50=[0.7, 0.7, 0.5, 0.5], b100=[1.0, 1.0, 0.4, 0.4])
    assert best_blend(scores) == 0.5


def test_raw_query_wins_where_every_blend_harms() -> None:
    assert best_blend(held_out(b50=[0.9, 0.9, 0.3, 0.3], b100=[1.0, 1.0, 0.1, 0.1])) == 0.0


def test_blend_that_the_recipe_leaves_out_is_never_chosen() -> None:
    scores = held_out(b50=[0.6] * 4, b100=[0.9] * 4)
    assert best_blend(HeldOut(BASE, scores.adapted, SEEN, blends=(0.5,))) == 0.5


def test_slices_count_the_same_whatever_their_size() -> None:
    is_seen = np.arange(400) < 100
    scores = HeldOut(np.zeros(400), {1.0: np.where(is_seen, 0.4, 0.0)}, is_seen)
    assert scores.gain(1.0) == pytest.approx(0.2)


def test_a_handful_of_queries_is_no_slice_to_be_harmed() -> None:
    is_seen = np.arange(60) < 57
    scores = HeldOut(np.zeros(60), {0.0: np.zeros(60), 1.0: np.where(is_seen, 0.4, -0.4)}, is_seen)
    assert best_blend(scores) == 1.0
    verdict = judge(scores, 1.0, flattered=0.0, min_gain=0.002)
    assert verdict.gain == pytest.approx((50 * 0.4 - 3 * 0.4) / 53)


def test_honest_scores_come_from_the_epoch_that_others_chose() -> None:
    # Even queries like epoch 1, odd ones epoch 2: each is scored where the others would stop.
    history = np.array([[0.0, 0.0, 0.0, 0.0], [0.9, 0.1, 0.9, 0.1], [0.2, 0.8, 0.2, 0.8]])
    (honest,) = honest_scores({"only": [history]}, [np.zeros(4, dtype=bool)])
    assert honest.tolist() == [0.2, 0.1, 0.2, 0.1]


def test_honest_scores_come_from_the_trial_that_others_chose() -> None:
    first = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
    second = np.array([[0.0, 0.0, 0.0, 0.0], [0.0, 0.7, 0.0, 0.7]])
    (honest,) = honest_scores({"a": [first], "b": [second]}, [np.zeros(4, dtype=bool)])
    assert honest.tolist() == [0.0, 0.0, 0.0, 0.0]


def test_honest_scores_of_noise_average_to_no_gain() -> None:
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(50):
        history = rng.normal(size=(30, 60))
        (honest,) = honest_scores({"only": [history]}, [np.zeros(60, dtype=bool)])
        gains.append(honest.mean())
        assert history.mean(axis=1).max() > 0  # what stopping early would have reported
    assert abs(np.mean(gains)) < 3 * np.std(gains) / np.sqrt(len(gains))


def test_single_held_out_query_is_scored_without_others() -> None:
    (honest,) = honest_scores({"only": [np.array([[0.0], [0.5]])]}, [np.array([True])])
    assert honest.tolist() == [0.5]


def test_verdict_takes_flattery_off_the_gain() -> None:
    scores = held_out(b100=[0.9, 0.9, 0.9, 0.9])
    gain = scores.gain(1.0)
    verdict = judge(scores, 1.0, flattered=0.1, min_gain=0.002)
    assert verdict.gain == pytest.approx(gain - 0.1)
    assert verdict.helps


@pytest.mark.parametrize(
    ("left", "min_gain", "helps"), [(0.1, 0.002, True), (0.1, 0.2, False), (0.0, 0.0, False)]
)
def test_verdict_wants_more_than_noise_and_more_than_the_least_gain(
    left: float, min_gain: float, helps: bool
) -> None:
    scores = held_out(b100=[0.8, 0.9, 0.8, 0.9])
    verdict = judge(scores, 1.0, scores.gain(1.0) - left, min_gain)
    assert verdict.helps is helps
    assert ("No adapter helps" in verdict.text) is not helps


def test_verdict_on_blend_zero_is_no() -> None:
    assert not judge(held_out(b100=[0.9] * 4), 0.0, 0.0, 0.0).helps


def test_one_query_proves_nothing() -> None:
    one = HeldOut(np.zeros(1), {0.0: np.zeros(1), 1.0: np.ones(1)}, np.array([True]))
    assert not judge(one, 1.0, 0.0, 0.0).helps


def test_join_averages_repeated_queries_and_chains_others() -> None:
    parts = [np.array([0.0, 1.0]), np.array([1.0, 1.0])]
    assert join(parts, same_queries=True).tolist() == [0.5, 1.0]
    assert join(parts, same_queries=False).tolist() == [0.0, 1.0, 1.0, 1.0]


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


def test_flattery_is_never_praise() -> None:
    is_seen = np.zeros(2, dtype=bool)
    assert flattery(np.array([0.5, 0.7]), np.array([0.4, 0.6]), is_seen) == pytest.approx(0.1)
    assert flattery(np.array([0.4, 0.6]), np.array([0.5, 0.7]), is_seen) == 0.0
