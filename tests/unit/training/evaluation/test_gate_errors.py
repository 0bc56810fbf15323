"""How often the gate is wrong, and how often it lets a good model in: made worlds, drawn again."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from trimtab_training.evaluation.gate import Gate, judge
from trimtab_training.evaluation.record import (
    AgainstRaw,
    Compared,
    ComparedMetric,
    ComparedModel,
    GateVerdict,
    LeftOut,
    LowerLimits,
)
from trimtab_training.retrieval.significance import compare_paired, lower_limit

N_WORLDS, RESAMPLES = 200, 400
ALLOWED = 0.06  # 0.025, and three standard errors of 200 worlds


@dataclass(frozen=True)
class Change:
    """What B changes: a share of queries gains, another loses, each up to a whole nDCG."""

    gains: float
    loses: float
    size: Callable[[np.random.Generator, int], np.ndarray]

    def draw(self, rng: np.random.Generator, n_queries: int) -> np.ndarray:
        place, size = rng.random(n_queries), self.size(rng, n_queries).clip(0, 1)
        is_loss = (place >= self.gains) & (place < self.gains + self.loses)
        return np.where(place < self.gains, size, np.where(is_loss, -size, 0.0))


def always(size: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda _, n_queries: np.full(n_queries, size)


def about(size: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n_queries: rng.exponential(size, n_queries)


def judged(differences: np.ndarray, seed: int) -> GateVerdict:
    """Judge B by its differences from A, each query's nDCG@10."""
    found = compare_paired(differences, np.random.default_rng(seed), RESAMPLES)
    limit = lower_limit(differences, np.random.default_rng(seed), RESAMPLES)
    headline = ComparedMetric(
        raw=0.0, a=0.5, b=0.5 + found.mean, delta=found.mean, ci95=(found.low, found.high),
        p_value=found.p_value,
    )  # fmt: skip
    a, b = (ComparedModel(name=name, model=name, kind="linear") for name in "ab")
    record = Compared(
        dataset="docs", split="test", n_queries=len(differences), a=a, b=b,
        metrics={"ndcg@10": headline}, slices={}, against_raw=AgainstRaw(a=None, b=None),
        lower_limits=LowerLimits(a=limit, raw=None), wins=0, losses=0, ties=0,
        left_out=LeftOut(n_queries=0, used_by_a=0, used_by_b=0, kept=False), notes=[],
        largest_losses=[], largest_wins=[],
    )  # fmt: skip
    return judge(record, Gate())


def verdicts(change: Change, n_queries: int) -> list[GateVerdict]:
    rng = np.random.default_rng(n_queries)
    return [judged(change.draw(rng, n_queries), seed) for seed in range(N_WORLDS)]


@pytest.mark.parametrize("n_queries", [30, 50, 100, 200])
@pytest.mark.parametrize(
    ("share", "loss"), [(0.04, 0.5), (0.05, 0.37), (0.02, 1.0)], ids=["half", "third", "whole"]
)
def test_model_that_makes_few_queries_lose_much_is_seldom_let_in(
    share: float, loss: float, n_queries: int
) -> None:
    """It loses .02 in the mean, four times the margin."""
    found = verdicts(Change(0.0, share, always(loss)), n_queries)
    assert np.mean([one.passes for one in found]) <= ALLOWED


@pytest.mark.parametrize("n_queries", [30, 50, 100])
def test_model_that_changes_queries_both_ways_alike_is_seldom_better(n_queries: int) -> None:
    found = verdicts(Change(0.1, 0.1, lambda rng, n: rng.random(n)), n_queries)
    assert np.mean([one.decision == "better" for one in found]) <= ALLOWED


@pytest.mark.parametrize(
    ("change", "n_queries", "share"),
    [
        (Change(0.45, 0.15, about(0.3)), 100, 0.75),  # +.09
        (Change(0.25, 0.05, about(0.15)), 100, 0.5),  # +.03
        (Change(0.25, 0.05, about(0.15)), 300, 0.95),
        (Change(0.15, 0.05, about(0.1)), 300, 0.6),  # +.01
        (Change(0.15, 0.05, about(0.1)), 500, 0.9),
    ],
)
def test_good_model_is_let_in_on_the_queries_that_users_have(
    change: Change, n_queries: int, share: float
) -> None:
    assert np.mean([one.passes for one in verdicts(change, n_queries)]) >= share
