"""The choice between rivals: the cheapest that is not clearly worse, never below the adapter."""

import numpy as np
import pytest

from trimtab_training.fit.model_selection import HeldOut
from trimtab_training.fit.tuning.selection import select_tuning
from trimtab_training.fit.tuning.settings import TuningWeights
from trimtab_training.fit.tuning.tuning_trials import Candidate

N_QUERIES = 400
WEIGHTS = TuningWeights(pull=0.5, corpus=0.0, unlabelled=0.0)
MIN_GAIN = 0.002
SPREAD = 0.1
"""Of what one query gains: a mean over 400 has a standard error of .005."""


def held_out(gain: float, seed: int = 0) -> HeldOut:
    """Scores that gain so much on average; one seed's differ from another's query by query."""
    base = np.full(N_QUERIES, 0.4)
    noise = SPREAD * np.random.default_rng(seed).standard_normal(N_QUERIES)
    return HeldOut(
        base, {0.0: base, 1.0: base + gain + noise - noise.mean()}, np.zeros(N_QUERIES, bool)
    )


def candidate(way: str, n_passes: int = 1) -> Candidate:
    return Candidate(way, WEIGHTS, n_passes)


@pytest.mark.parametrize(
    ("adapter", "tuned", "mean", "choice"),
    [
        (0.10, 0.101, 0.102, "adapter"),  # nothing is clearly better: the cheapest
        (0.10, 0.150, 0.152, "tuned"),
        (0.10, 0.110, 0.150, "mean"),
        (0.10, 0.020, 0.030, "adapter"),
        (None, 0.100, None, "tuned"),
        (None, 0.001, None, "nothing"),
        (None, -0.050, None, "nothing"),
        (0.10, None, None, "adapter"),
        (None, None, None, "nothing"),
    ],
)
def test_cheapest_that_is_not_clearly_worse_is_chosen(
    adapter: float | None, tuned: float | None, mean: float | None, choice: str
) -> None:
    rated = {
        candidate(way): held_out(gain, seed)
        for seed, (way, gain) in enumerate([("tuned", tuned), ("mean", mean)], start=1)
        if gain is not None
    }
    selection = select_tuning(None if adapter is None else held_out(adapter), rated, {}, MIN_GAIN)
    assert selection.choice == choice
    assert (selection.candidate is not None) == (choice in {"tuned", "mean"})
    assert selection.candidate is None or selection.candidate.way == choice


def test_number_of_passes_is_chosen_by_all_folds_together() -> None:
    rated = {
        candidate("tuned", number): held_out(gain, number)
        for number, gain in enumerate([0.05, 0.12, 0.08], start=1)
    }
    selection = select_tuning(None, rated, {}, MIN_GAIN)
    assert selection.candidate == candidate("tuned", 2)
    assert selection.best == {"tuned": candidate("tuned", 2)}


def test_best_of_many_candidates_of_noise_is_not_chosen() -> None:
    base = np.full(N_QUERIES, 0.4)
    rated = {}
    for number in range(1, 30):
        noise = SPREAD * np.random.default_rng(number).standard_normal(N_QUERIES)
        scores = {0.0: base, 1.0: base + noise}
        rated[candidate("tuned", number)] = HeldOut(base, scores, np.zeros(N_QUERIES, bool))
    assert max(each.gain(1.0) for each in rated.values()) > 3 * MIN_GAIN  # it looks like a gain
    assert select_tuning(None, rated, {}, MIN_GAIN).choice == "nothing"


def test_every_rival_and_candidate_is_written_down() -> None:
    rated = {candidate("tuned", 3): held_out(0.2, 1)}
    tried = {candidate("tuned", 1): held_out(0.1, 2)}
    found = select_tuning(held_out(0.1), rated, tried, MIN_GAIN)
    assert found.validation["rivals"]["tuned"]["passes"] == 3
    assert found.validation["rivals"]["adapter"]["gain"] == pytest.approx(0.1)
    assert [each["passes"] for each in found.validation["trials"]] == [1, 3]
    assert "adapter +0.1000, tuned +0.2000" in found.text
