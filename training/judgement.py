"""From held-out scores to a choice: which trial, how much of its change, or no adapter at all.

Arrays in, decisions out. Scores are nDCG@10 of queries that trained nothing. They did choose,
though: each trial stops where its own held-out queries like it best, which flatters even an adapter
of noise. So whether an adapter helps is judged on scores where the choice was made by other
queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.validation import FULL_SLICE, slice_mean, slice_shares, slices

Choice = TypeVar("Choice")
Scores = NDArray[np.float64]

HARM = 0.005
"""The most that a slice may lose on validation, in nDCG@10, for a blend to be chosen."""

STANDARD_ERRORS = 1.645
"""How far from 0 a gain must lie: one-sided 5 % of a normal distribution."""


@dataclass(frozen=True)
class HeldOut:
    """Per-query nDCG@10 of raw and adapted queries.

    Attributes:
        base: Of the raw queries; of documents in an order of chance where raw queries mean nothing
            to the index.
        adapted: Of the adapted ones, by blend; 0 and 1 are always among them. 0 is the raw query,
            or the map that training started at where raw queries mean nothing to the index.
        is_seen: Whether a relevant document of the query was trained on.
        blends: Those that may be chosen, besides 0.
        is_comparable: Whether raw queries mean something to the index.
    """

    base: Scores
    adapted: Mapping[float, Scores]
    is_seen: NDArray[np.bool_]
    blends: Sequence[float] = (0.25, 0.5, 0.75, 1.0)
    is_comparable: bool = True

    def gain(self, blend: float) -> float:
        """Mean gain over base: :func:`~training.validation.slice_mean`."""
        return slice_mean(self.adapted[blend] - self.base, self.is_seen)

    def worst_slice(self, blend: float) -> float:
        """Gain on the slice that fares worst, among those with enough queries to tell."""
        gains = self.adapted[blend] - self.base
        parts = [part for part in slices(gains, self.is_seen) if len(part) >= FULL_SLICE]
        return float(min(part.mean() for part in parts or [gains]))


@dataclass(frozen=True)
class Verdict:
    """Whether to ship an adapter.

    Attributes:
        helps: True where it should be shipped.
        gain: Expected gain in nDCG@10, large slices counting the same.
        error: Standard error of that gain.
        text: The same in one sentence.
    """

    helps: bool
    gain: float
    error: float
    text: str


def join(parts: Sequence[Scores], *, same_queries: bool) -> Scores:
    """Put the folds' scores together: a mean where all scored the same queries, else end to end."""
    return np.mean(parts, axis=0) if same_queries else np.concatenate(parts)


def best_blend(scores: HeldOut) -> float:
    """Choose the share of the change with the best gain among those that harm no slice.

    A larger share within one standard error of it wins: what is shipped is the mean of several fits
    on all queries, so it strays less than the single fits on fewer queries that are scored here,
    and needs less shrinking. Where every share harms a slice, the smallest does.
    """
    shares = sorted(set(scores.adapted) & {0.0, *scores.blends})
    harmless = [share for share in shares if scores.worst_slice(share) >= -HARM]
    best = max(harmless or shares[:1], key=scores.gain)
    is_changed = best > 0 or not scores.is_comparable
    larger = [share for share in harmless if share > best and is_changed]
    return max((share for share in larger if not _is_worse(scores, share, best)), default=best)


def objective(scores: HeldOut) -> float:
    """Rate a trial: the gain of its best blend."""
    return scores.gain(best_blend(scores))


def honest_scores(
    histories: Mapping[Choice, Sequence[Scores]], is_seen: Sequence[NDArray[np.bool_]]
) -> list[Scores]:
    """Score each held-out query where queries other than it chose trial and epoch.

    The queries of each fold are halved. Either half is scored by the trial, and at the epoch of
    each fold, that the other half likes best.

    Args:
        histories: For each trial and fold, scores of shape ``(epochs + 1, queries)``, the start
            first.
        is_seen: For each fold, which slice its queries belong to.

    Returns:
        For each fold, one score a query.
    """
    honest = [np.empty(len(part)) for part in is_seen]
    for parity in (0, 1):
        deciding = [np.arange(len(part)) % 2 != parity for part in is_seen]
        best: tuple[float, list[Scores]] | None = None
        for folds in histories.values():
            chosen = [
                _at_best_epoch(history, part, half)
                for history, part, half in zip(folds, is_seen, deciding, strict=True)
            ]
            scores = np.concatenate([row[half] for row, half in zip(chosen, deciding, strict=True)])
            seen = np.concatenate(
                [part[half] for part, half in zip(is_seen, deciding, strict=True)]
            )
            rating = slice_mean(scores, seen) if len(scores) else 0.0
            if best is None or rating > best[0]:
                best = rating, chosen
        assert best is not None  # noqa: S101 - there is always a trial
        for target, row, half in zip(honest, best[1], deciding, strict=True):
            target[~half] = row[~half]
    return honest


def choose(rated: Mapping[Choice, HeldOut]) -> Choice:
    """Choose the first of several candidates that is not clearly worse than the best.

    Clearly: by more than 1.645 standard errors of the paired difference. So a candidate that stands
    early because it is expected to generalise better wins unless the scores speak against it.

    Args:
        rated: Held-out scores of each candidate, the most trusted first.

    Source:
        After the one-standard-error rule: Breiman et al. (1984), Classification and Regression
        Trees, section 3.4.3.
    """
    best = rated[max(rated, key=lambda choice: objective(rated[choice]))]
    best_scores = best.adapted[best_blend(best)]
    for choice, scores in rated.items():
        difference = best_scores - scores.adapted[best_blend(scores)]
        error = _standard_error(difference, best.is_seen)
        if slice_mean(difference, best.is_seen) <= STANDARD_ERRORS * error:
            return choice
    raise AssertionError("the best is not worse than itself")


def flattery(best: Scores, honest: Scores, is_seen: NDArray[np.bool_]) -> float:
    """Tell by how much scores are too good because their own queries chose.

    Args:
        best: Scores where the same queries chose.
        honest: Scores where other queries chose: :func:`honest_scores`.
        is_seen: Which slice each query belongs to.
    """
    return max(0.0, slice_mean(best - honest, is_seen))


def judge(evidence: HeldOut, blend: float, flattered: float, min_gain: float) -> Verdict:
    """Decide between an adapter and none.

    Args:
        evidence: Scores of what would be shipped.
        blend: The share of the change that was chosen.
        flattered: By how much the full change's scores are too good: :func:`flattery`.
        min_gain: Least gain worth an adapter.
    """
    is_seen = evidence.is_seen
    gain = evidence.gain(blend) - blend * flattered
    error = _standard_error(evidence.adapted[blend] - evidence.base, is_seen)
    over = "" if evidence.is_comparable else "over an order of chance, "
    numbers = (
        f"nDCG@10 {gain:+.4f} {over}expected from {len(is_seen)} held-out queries, "
        f"standard error {error:.4f}"
    )
    is_raw = blend == 0 and evidence.is_comparable
    if is_raw or gain < max(min_gain, STANDARD_ERRORS * error):
        keep = "raw queries" if evidence.is_comparable else "old encoder"
        text = f"No adapter helps here: the best one gives {numbers}. Keep the {keep}."
        return Verdict(False, gain, error, text)
    text = f"The adapter helps: {numbers}, with {blend:.0%} of the learned change."
    return Verdict(True, gain, error, text)


def describe(
    evidence: HeldOut, verdict: Verdict, blend: float, trials: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Write down what a choice rests on, for `evaluation.json`."""
    difference = evidence.adapted[blend] - evidence.base

    def side(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        n_queries = int(chosen.sum())
        return {
            "n_queries": n_queries,
            "gain": float(difference[chosen].mean()) if n_queries else None,
        }

    return {
        "n_queries": len(difference),
        "base_ndcg@10": float(evidence.base.mean()),
        "adapted_ndcg@10": float(evidence.adapted[blend].mean()),
        "expected_gain": verdict.gain,
        "standard_error": verdict.error,
        "seen_documents": side(evidence.is_seen),
        "unseen_documents": side(~evidence.is_seen),
        "trials": list(trials),
        "blends": {str(share): evidence.gain(share) for share in evidence.adapted},
    }


def _at_best_epoch(
    history: Scores, is_seen: NDArray[np.bool_], deciding: NDArray[np.bool_]
) -> Scores:
    """Give all queries' scores at the epoch that some of them like best."""
    ratings = [
        slice_mean(epoch[deciding], is_seen[deciding])
        for epoch in (history if deciding.any() else [])
    ]
    chosen: Scores = history[int(np.argmax(ratings)) if ratings else -1]
    return chosen


def _is_worse(scores: HeldOut, share: float, best: float) -> bool:
    """Tell whether one share of the change is worse than another by more than a standard error."""
    difference = scores.adapted[best] - scores.adapted[share]
    return slice_mean(difference, scores.is_seen) > _standard_error(difference, scores.is_seen)


def _standard_error(differences: Scores, is_seen: NDArray[np.bool_]) -> float:
    """Standard error of :func:`slice_mean`; a slice of one query varies as all of them do."""
    if len(differences) < 2:
        return float("inf")
    variances = [
        (part if len(part) > 1 else differences).var(ddof=1) / len(part)
        for part in slices(differences, is_seen)
    ]
    return float(np.sqrt(np.dot(np.square(slice_shares(is_seen)), variances)))
