"""Differences against chance: intervals that cover, and p-values that mean what they say."""

import math
from itertools import product

import numpy as np
import pytest

from trimtab_training.retrieval import significance
from trimtab_training.retrieval.significance import Difference, compare_paired, lower_limit

SEEDS = range(60)


def compare(differences: np.ndarray, seed: int = 0, resamples: int = 2000) -> Difference:
    return compare_paired(differences, np.random.default_rng(seed), resamples)


def enumerated_p(differences: np.ndarray) -> float:
    """Share of all sign flips whose mean is as far from 0 as the observed one."""
    signs = np.array(list(product([-1, 1], repeat=len(differences))))
    means = signs @ differences / len(differences)
    return float(np.mean(np.abs(means) >= abs(differences.mean()) - 1e-12))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_p_value_is_the_share_of_sign_flips_that_reach_as_far(n: int, seed: int) -> None:
    differences = np.random.default_rng(seed).normal(0.2, 0.5, size=n).round(2)
    exact = enumerated_p(differences)
    resamples = 20_000
    noise = 4 * (exact * (1 - exact) / resamples) ** 0.5  # four standard errors of a share
    found = compare(differences, seed, resamples).p_value
    assert found == pytest.approx(exact, abs=noise + 1 / resamples)


def test_queries_that_did_not_change_leave_the_p_value_alone() -> None:
    differences = np.array([0.5, 0.25, -0.125, 0.5])
    padded = np.concatenate([differences, np.zeros(50)])
    noise = 0.03  # four standard errors of a share near one eighth, twice
    assert compare(padded).p_value == pytest.approx(compare(differences).p_value, abs=noise)
    assert enumerated_p(differences) == pytest.approx(compare(padded).p_value, abs=noise)


def test_interval_covers_a_known_difference_as_often_as_it_says() -> None:
    covered = 0
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        found = compare_paired(rng.normal(0.1, 0.3, size=200), rng, 500)
        covered += found.low <= 0.1 <= found.high
    assert 0.85 <= covered / len(SEEDS) <= 1.0  # 0.95, less three standard errors of 60 trials


def test_interval_has_the_width_of_two_standard_errors_each_way() -> None:
    found = compare(np.random.default_rng(1).normal(0.0, 1.0, size=400), resamples=5000)
    assert found.high - found.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert found.low < found.mean < found.high


def test_clear_effect_has_a_small_p_value_and_an_interval_above_zero() -> None:
    found = compare(np.random.default_rng(0).normal(0.1, 0.1, size=100))
    assert found.p_value == pytest.approx(1 / 2001)
    assert found.low > 0.05
    assert found.mean == pytest.approx(0.1, abs=0.04)


def test_clear_harm_is_as_clear() -> None:
    differences = np.random.default_rng(0).normal(0.1, 0.1, size=100)
    better, worse = compare(differences), compare(-differences)
    assert worse.p_value == better.p_value
    assert (worse.mean, worse.high < 0) == (-better.mean, True)


def test_effects_that_cancel_out_have_a_p_value_of_one() -> None:
    found = compare(np.array([0.5, -0.5] * 40))
    assert (found.mean, found.p_value) == (0.0, 1.0)
    assert found.low < 0 < found.high


def test_nothing_changed_is_no_difference() -> None:
    assert compare(np.zeros(30)) == Difference(0.0, 0.0, 0.0, 1.0)


def test_p_values_are_uniform_where_there_is_no_effect() -> None:
    rng = np.random.default_rng(0)
    found = [compare(rng.normal(size=60), seed, 300).p_value for seed in range(200)]
    assert np.mean(np.array(found) < 0.05) < 0.11  # 0.05, plus four standard errors of 200
    assert np.mean(found) == pytest.approx(0.5, abs=0.1)


def test_same_generator_gives_the_same_answer() -> None:
    differences = np.random.default_rng(3).normal(0.02, 0.2, size=50)
    assert compare(differences, 7) == compare(differences, 7)
    assert compare(differences, 7) != compare(differences, 8)


def test_answer_does_not_need_all_resamples_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(0).normal(0.05, 0.1, size=40)
    whole = compare(differences)
    monkeypatch.setattr(significance, "_VALUES_AT_ONCE", 100)  # two resamples at a time
    parts = compare(differences)
    assert parts.mean == whole.mean
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.01)


@pytest.mark.parametrize(("n", "n_losing"), [(30, 0), (100, 0), (100, 3)])
def test_lower_limit_of_ties_and_losses_of_one_size_is_that_of_clopper_and_pearson(
    n: int, n_losing: int
) -> None:
    differences = np.repeat([-0.5, 0.0], [n_losing, n - n_losing])
    found = lower_limit(differences, np.random.default_rng(0))
    share = -found / 0.5
    at_most = sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n_losing + 1))
    assert at_most == pytest.approx(0.025, abs=0.004)  # 10,000 draws


def test_lower_limit_is_near_the_intervals_where_many_queries_change() -> None:
    differences = np.random.default_rng(1).normal(0.05, 0.2, size=500)
    low = compare(differences, resamples=5000).low
    found = lower_limit(differences, np.random.default_rng(0))
    assert low - 0.005 < found < low


def test_lower_limit_does_not_need_all_draws_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(0).normal(0.05, 0.1, size=40)
    whole = lower_limit(differences, np.random.default_rng(0), 2000)
    monkeypatch.setattr(significance, "_VALUES_AT_ONCE", 100)  # two draws at a time
    parts = lower_limit(differences, np.random.default_rng(0), 2000)
    assert parts == pytest.approx(whole, abs=1e-12)


def test_no_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="no queries to compare"):
        compare(np.zeros(0))
