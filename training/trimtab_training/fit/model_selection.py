"""From held-out scores to a choice: which trial, how much of its change, or no adapter at all.

Arrays in, decisions out. Scores are nDCG@10 of queries that trained nothing. They did choose,
though: the weights of the loss, and the share of the change that is kept, which flatters even an
adapter of noise. So whether an adapter helps is judged by what the choice gains where it was made
by other queries.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trimtab_training.retrieval.significance import queries_for_error, round_up

_HALVINGS = 16
"""A single one would leave the estimate to chance."""

Choice = TypeVar("Choice")
Scores = NDArray[np.float64]

HARM = 0.005
"""A slice is harmed that loses more, in nDCG@10 and by :data:`STANDARD_ERRORS`, on validation."""

STANDARD_ERRORS = 1.645
"""How far from 0 a difference must lie to be clear: one-sided 5 % of a normal distribution."""

ACCEPTED_ERRORS = 1.282
"""How far from 0 an expected gain must lie: one-sided 10 %. The gain has been lowered by what
choosing flatters it, and the test split judges again. Of labels of noise none passes, and at 5 %
more of the adapters that help with few labels were turned down (benchmarks/labels)."""


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

    @classmethod
    def join(cls, parts: Sequence["HeldOut"]) -> "HeldOut":
        """Put the folds' scores end to end."""
        return replace(
            parts[0],
            base=np.concatenate([part.base for part in parts]),
            adapted={
                blend: np.concatenate([part.adapted[blend] for part in parts])
                for blend in parts[0].adapted
            },
            is_seen=np.concatenate([part.is_seen for part in parts]),
        )

    def only(self, chosen: NDArray[np.bool_]) -> "HeldOut":
        """Take some queries out."""
        return replace(
            self,
            base=self.base[chosen],
            adapted={blend: scores[chosen] for blend, scores in self.adapted.items()},
            is_seen=self.is_seen[chosen],
        )

    def gain(self, blend: float) -> float:
        """Mean gain over base."""
        return float(self.gains(blend).mean())

    def gains(self, blend: float) -> Scores:
        """Gain of every query over base."""
        return self.adapted[blend] - self.base

    def with_scores(self, blend: float, scores: Scores) -> "HeldOut":
        """Put other scores at one blend: those of another size of the adapter."""
        return replace(self, adapted={**self.adapted, blend: scores})


@dataclass(frozen=True)
class Selection:
    """Whether to ship an adapter.

    Attributes:
        helps: True where it should be shipped.
        gain: Expected gain in nDCG@10.
        error: Standard error of that gain.
        text: The same in one sentence.
    """

    helps: bool
    gain: float
    error: float
    text: str


def best_blend(scores: HeldOut) -> float:
    """Choose the share of the change with the best gain among those that harm no slice.

    A larger share within one standard error of it wins: what is shipped is trained on all queries,
    so it strays less than the fits on fewer queries that are scored here, and needs less shrinking.
    Where every share harms a slice, the smallest does.
    """
    shares = sorted(set(scores.adapted) & {0.0, *scores.blends})
    adapted = np.stack([scores.adapted[share] for share in shares])
    gains = adapted - scores.base
    may_be_chosen = ~harmed(gains, scores.is_seen)
    if not may_be_chosen.any():
        return shares[0]
    best = int(np.where(may_be_chosen, gains.mean(axis=1), -np.inf).argmax())
    if shares[best] == 0 and scores.is_comparable:
        return shares[best]
    behind = adapted[best] - adapted
    is_worse = behind.mean(axis=1) > _standard_errors(behind)
    is_worse[best] = False
    return shares[int(np.flatnonzero(may_be_chosen & ~is_worse)[-1])]


def harmed(gains: Scores, is_seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell where queries about seen documents clearly lose, or those about unseen ones.

    No blend that does is chosen, whatever it gains on the others.

    Args:
        gains: Of every query, a row for each blend: ``[n_blends, n_queries]``.
        is_seen: Whether a relevant document of the query was trained on.
    """
    harmed = np.zeros(len(gains), dtype=np.bool_)
    for part in (gains[:, is_seen], gains[:, ~is_seen]):
        if part.size:
            harmed |= part.mean(axis=1) < -HARM - STANDARD_ERRORS * _standard_errors(part)
    return harmed


def objective(scores: HeldOut) -> float:
    """Rate a trial: the gain of its best blend."""
    return scores.gain(best_blend(scores))


def nested_gain(candidates: Sequence[HeldOut]) -> float:
    """Expect a gain where candidate and share of the change are chosen by other queries.

    The queries are halved by chance. Either half is scored by the candidate and share that the
    other half likes best; the mean over several halvings is given.

    Args:
        candidates: Scores of each on the same queries.
    """
    n_queries = len(candidates[0].base)
    if n_queries < 2:
        return max(map(objective, candidates))
    gains = np.empty((_HALVINGS, n_queries))
    for row, deciding in _halvings(gains):
        halves = [each.only(deciding) for each in candidates]
        blends = [best_blend(half) for half in halves]
        best = int(
            np.argmax([half.gain(blend) for half, blend in zip(halves, blends, strict=True)])
        )
        row[~deciding] = candidates[best].gains(blends[best])[~deciding]
    return float(gains.mean())


def expect_chosen_gain(gains: Sequence[Scores]) -> float:
    """Expect a gain where the best of several candidates is chosen by other queries.

    Args:
        gains: Of each candidate, by query.

    Returns:
        Halved as in :func:`nested_gain`: the mean gain of what either half's best gives the other.
    """
    table = np.stack(gains)
    n_queries = table.shape[1]
    if n_queries < 2:
        return float(table.mean(axis=1).max())
    found = np.empty((_HALVINGS, n_queries))
    for row, deciding in _halvings(found):
        best = int(table[:, deciding].mean(axis=1).argmax())
        row[~deciding] = table[best, ~deciding]
    return float(found.mean())


def _halvings(rows: Scores) -> Iterator[tuple[Scores, NDArray[np.bool_]]]:
    """Halve the queries by chance, once a row; give each row with either half, which decides."""
    rng = np.random.default_rng(0)
    for row in rows:
        is_first = rng.permutation(len(row)) < len(row) // 2
        yield row, is_first
        yield row, ~is_first


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
        if difference.mean() <= STANDARD_ERRORS * standard_error(difference):
            return choice
    raise AssertionError("the best is not worse than itself")


def optimism_of(candidates: Sequence[HeldOut]) -> float:
    """Tell by how much the best candidate's gain is too good because its own queries chose it.

    Args:
        candidates: Scores of each on the same queries.
    """
    return max(0.0, max(map(objective, candidates)) - nested_gain(candidates))


def select(evidence: HeldOut, blend: float, optimism: float, min_gain: float) -> Selection:
    """Decide between an adapter and none.

    Args:
        evidence: Scores of what would be shipped.
        blend: The share of the change that was chosen.
        optimism: By how much the gain is too good, as :func:`optimism_of` tells.
        min_gain: Least gain worth an adapter.
    """
    gain = evidence.gain(blend) - optimism
    error = standard_error(evidence.gains(blend))
    over = "" if evidence.is_comparable else "over an order of chance, "
    numbers = (
        f"nDCG@10 {gain:+.4f} {over}expected from {len(evidence.base)} held-out queries, "
        f"standard error {error:.4f}"
    )
    keep = "raw queries" if evidence.is_comparable else "old encoder"
    if blend == 0 and evidence.is_comparable:
        text = (
            f"No adapter helps here: on {len(evidence.base)} held-out queries no share of what was "
            f"learned beats the raw queries. Keep the {keep}."
        )
        return Selection(False, gain, error, text)
    if gain < max(min_gain, ACCEPTED_ERRORS * error):
        more = _say_what_would_settle(len(evidence.base), gain, error, min_gain)
        text = f"No adapter helps here: the best one gives {numbers}. {more} Keep the {keep}."
        return Selection(False, gain, error, text)
    text = f"The adapter helps: {numbers}, with {blend:.0%} of the learned change."
    return Selection(True, gain, error, text)


def _say_what_would_settle(n_queries: int, gain: float, error: float, min_gain: float) -> str:
    """Say how many more labelled queries would tell the gain from none, if it stayed what it is.

    The standard error falls with the square root of the queries; that more of them also make a
    better adapter is left aside.
    """
    if not math.isfinite(error):
        return "One query proves nothing."
    if gain < min_gain or gain <= 0:
        return "That is no gain that more labels could confirm; more may still make a better one."
    more = queries_for_error(n_queries, ACCEPTED_ERRORS * error, gain) - n_queries
    return f"About {round_up(more):,} more labelled queries would settle it, if the gain stays."


def describe(
    evidence: HeldOut, verdict: Selection, blend: float, trials: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Write down what a choice rests on, for `evaluation.json`."""
    difference = evidence.gains(blend)

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


def standard_error(differences: Scores) -> float:
    """Give the standard error of the mean of paired differences; infinite for fewer than two."""
    return float(_standard_errors(differences))


def _standard_errors(differences: Scores) -> Scores:
    """Give the standard error along the last axis."""
    n_queries = differences.shape[-1]
    if n_queries < 2:
        return np.full(differences.shape[:-1], np.inf)
    return np.asarray(differences.std(axis=-1, ddof=1) / np.sqrt(n_queries))
