"""Qdrant's scores of a point by several examples, over a block of vectors.

Formulas: lib/segment/src/vector_storage/query (reco_query.rs, discover_query.rs,
context_query.rs) and lib/shard/src/query/mmr, as qdrant-client 1.20 repeats them in
local/distances.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_collections.index import Score, Scores, VectorIndex
from trimtab.faiss_files import Matrix

Vector = NDArray[np.float32]

_EPSILON = np.float32(1.1920929e-7)  # f32::EPSILON; equal distances must not count as none


@dataclass(frozen=True, slots=True)
class Pair:
    """Two examples: be nearer to the one than to the other."""

    positive: Vector
    negative: Vector


def best_score(index: VectorIndex, positive: Sequence[Vector], negative: Sequence[Vector]) -> Score:
    """Score by the nearest example, against the point where that is a negative one."""

    def score(block: Matrix) -> Scores:
        liked = _best(index, block, positive)
        disliked = _best(index, block, negative)
        return np.where(liked > disliked, _squash_half(liked), -_squash_half(disliked))

    return score


def sum_scores(index: VectorIndex, positive: Sequence[Vector], negative: Sequence[Vector]) -> Score:
    """Score by the sum over positive examples, less that over negative ones."""

    def score(block: Matrix) -> Scores:
        total = np.zeros(len(block), np.float32)
        for example in positive:
            total += index.compare(example, block)
        for example in negative:
            total -= index.compare(example, block)
        return total

    return score


def discover(index: VectorIndex, target: Vector, pairs: Sequence[Pair]) -> Score:
    """Score by the pairs that a point is on the right side of, then by the target."""

    def score(block: Matrix) -> Scores:
        total = _squash_half(index.compare(target, block))
        for pair in pairs:
            total += np.sign(
                index.compare(pair.positive, block) - index.compare(pair.negative, block)
            )
        return total

    return score


def context(index: VectorIndex, pairs: Sequence[Pair]) -> Score:
    """Score by how far a point is on the wrong side of each pair."""

    def score(block: Matrix) -> Scores:
        total = np.zeros(len(block), np.float32)
        for pair in pairs:
            near = index.compare(pair.positive, block)
            total += _squash(np.minimum(near - index.compare(pair.negative, block) - _EPSILON, 0))
        return total

    return score


def average(positive: Sequence[Vector], negative: Sequence[Vector]) -> Vector:
    """Give the query that ``average_vector`` recommends by.

    Source:
        avg_vector_for_recommendation, lib/collection/src/recommendations.rs (1.19).
    """
    centre: Vector = np.mean(positive, axis=0, dtype=np.float32)
    if negative:
        centre = centre + centre - np.mean(negative, axis=0, dtype=np.float32)
    return centre


def diversify(
    index: VectorIndex, relevance: Scores, block: Matrix, diversity: float, limit: int
) -> list[int]:
    """Choose points that are near the query and far from one another (MMR).

    Args:
        index: Compares.
        relevance: Similarity of each candidate with the query.
        block: The candidates' vectors, in the same order.
        diversity: 0 for near the query only, 1 for far from one another only.
        limit: Points to choose.

    Returns:
        Positions of the chosen candidates, in order.

    Source:
        Carbonell and Goldstein (1998), SIGIR, doi:10.1145/290941.291025.
    """
    pending = list(range(len(block)))
    chosen: list[int] = []
    nearest = np.full(len(block), -np.inf, np.float32)
    worth = relevance
    while pending and len(chosen) < limit:
        # The last of the best, and its place taken by the last one: as in the server's loop.
        place = max(range(len(pending)), key=lambda at: (worth[pending[at]], at))
        best = pending[place]
        pending[place] = pending[-1]
        pending.pop()
        chosen.append(best)
        nearest = np.maximum(nearest, index.compare(block[best], block))
        worth = (1 - diversity) * relevance - diversity * nearest
    return chosen


def _best(index: VectorIndex, block: Matrix, examples: Sequence[Vector]) -> Scores:
    """Give the similarity with the nearest example."""
    best = np.full(len(block), -np.inf, np.float32)
    for example in examples:
        best = np.maximum(best, index.compare(example, block))
    return best


def _squash(scores: Scores) -> Scores:
    """Squash scores into -1 to 1."""
    squashed: Scores = scores / (1 + np.abs(scores))
    return squashed


def _squash_half(scores: Scores) -> Scores:
    """Squash scores into 0 to 1; what has no example stays minus infinity."""
    is_finite = np.isfinite(scores)
    squashed = _squash(np.where(is_finite, scores, 0))
    return np.where(is_finite, np.float32(0.5) * (squashed + 1), scores)
