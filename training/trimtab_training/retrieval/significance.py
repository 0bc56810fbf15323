"""Is a difference more than chance? Paired bootstrap intervals and randomisation tests."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

RESAMPLES = 10_000
SIGNIFICANT = 0.05
"""The p-value up to which a difference is more than chance explains."""

PLAUSIBLE_LOSS = 0.5
"""What a query can lose at least, seen or not: the nDCG@10 of one whose only relevant document
falls from the first place to the third."""

RARE_LOSSES = -math.log(0.025)
"""Queries without a loss, times the share of losers that they leave open at 97.5 %: the rule of
three (Hanley & Lippman-Hand 1983, doi:10.1001/jama.1983.03330370053031) at this level."""

_VALUES_AT_ONCE = 10_000_000


@dataclass(frozen=True)
class Difference:
    """A paired difference with its uncertainty.

    Attributes:
        mean: Mean difference.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p_value: Two-sided probability of a mean this far from 0 if nothing had changed.
    """

    mean: float
    low: float
    high: float
    p_value: float


def compare_paired(
    differences: Float[np.ndarray, " queries"], rng: np.random.Generator, resamples: int = RESAMPLES
) -> Difference:
    """Judge per-query differences.

    The interval is the percentile bootstrap over queries. The p-value comes from flipping the
    sign of each query's difference at random, counting the observed data as one flip.

    Args:
        differences: Adapted minus base, one a query.
        rng: Source of randomness.
        resamples: Bootstrap samples, and sign flips.

    Source:
        Efron & Tibshirani (1993), An Introduction to the Bootstrap, ch. 13;
        Smucker, Allan & Carterette (2007), CIKM, doi:10.1145/1321440.1321528;
        Phipson & Smyth (2010), doi:10.2202/1544-6115.1585, for the one added to both counts.
    """
    n = len(differences)
    if n == 0:
        raise ValueError("no queries to compare; expected at least one difference")
    mean = float(differences.mean())
    changed = differences[differences != 0]  # the others cannot move either test
    means = np.empty(resamples)
    flipped = np.empty(resamples)
    step = max(1, _VALUES_AT_ONCE // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        part = slice(start, start + count)
        means[part] = differences[rng.integers(n, size=(count, n))].mean(axis=1)
        signs = rng.integers(0, 2, size=(count, len(changed)), dtype=np.int8) * 2 - 1
        flipped[part] = signs @ changed / n
    low, high = np.quantile(means, [0.025, 0.975])
    extreme = int((np.abs(flipped) >= abs(mean) - 1e-12).sum())
    return Difference(mean, float(low), float(high), (extreme + 1) / (resamples + 1))


def lower_limit(
    differences: Float[np.ndarray, " queries"], rng: np.random.Generator, resamples: int = RESAMPLES
) -> float:
    """Bound a mean difference from below at 97.5 %, losses that no query has shown allowed for.

    The bootstrap takes the queries for the whole world: where none of 50 loses, none ever does.
    Here one more query stands beside them, which loses as much as the most that any has changed,
    and no less than ``PLAUSIBLE_LOSS``; the limit is a quantile of the mean under weights drawn
    from a flat Dirichlet distribution. Where all queries stay but some that lose just that, it is
    the exact limit of Clopper and Pearson.

    Args:
        differences: Adapted minus base, one a query.
        rng: Source of randomness.
        resamples: Draws of the weights.

    Source:
        Gaffke (2005), Mathematical Methods of Statistics 14(4), 451-467; its coverage:
        Learned-Miller & Thomas (2019), arXiv:1905.06208;
        Clopper & Pearson (1934), doi:10.1093/biomet/26.4.404.
    """
    values, counts = np.unique(differences, return_counts=True)
    worst = -max(PLAUSIBLE_LOSS, float(np.abs(values).max()))
    values, counts = np.append(values, worst), np.append(counts, 1)
    step = max(1, _VALUES_AT_ONCE // len(values))
    means = np.empty(resamples)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        weights = rng.standard_gamma(counts, size=(count, len(values)))
        means[start : start + count] = weights @ values / weights.sum(axis=1)
    return float(np.quantile(means, 0.025))


def queries_for_error(n_queries: int, error: float, wanted: float) -> int:
    """Tell how many queries bring a standard error down to a wanted one: it falls with their root.

    Args:
        n_queries: Queries that gave ``error``.
        error: Their standard error, or any multiple of it.
        wanted: The same multiple of the wanted one, above 0.
    """
    return math.ceil(n_queries * (error / wanted) ** 2)


def round_up(number: int) -> int:
    """Round an estimate up to two digits, which is more than it knows.

    Example:
        >>> round_up(8137), round_up(42), round_up(7)
        (8200, 42, 7)
    """
    unit = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // unit) * unit
