"""Several rankings made one: reciprocal ranks, or scores by their distribution.

Formulas: lib/segment/src/common/reciprocal_rank_fusion.rs and score_fusion.rs (1.19), which
qdrant-client 1.20 repeats in hybrid/fusion.py.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_collections.index import Found

RANK_CONSTANT = 2
_SPREADS = 3  # a score this many standard deviations below the mean counts as 0


def fuse_ranks(
    rankings: Sequence[Found], k: float = RANK_CONSTANT, weights: Sequence[float] | None = None
) -> Found:
    """Add up the reciprocal ranks.

    Source:
        Cormack, Clarke and Büttcher (2009), SIGIR, doi:10.1145/1571941.1572114; weights as in
        Qdrant 1.17.
    """
    parts = []
    for place, ranking in enumerate(rankings):
        weight = 1.0 if weights is None else weights[place]
        ranks = np.arange(1, len(ranking.rows) + 1)
        parts.append(1 / (ranks / weight + k - 1) if weight > 0 else np.zeros(len(ranks)))
    return _add_up(rankings, parts)


def fuse_scores(rankings: Sequence[Found]) -> Found:
    """Add up the scores, each ranking's brought to the same mean and spread."""
    return _add_up(rankings, [_level_out(ranking.scores) for ranking in rankings])


def _level_out(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring the mean to 0.5 and three standard deviations below it to 0."""
    values = scores.astype(np.float64)
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    if not spread:
        return np.full(len(values), 0.5)
    levelled: NDArray[np.float64] = (values - values.mean()) / (2 * _SPREADS * spread) + 0.5
    return levelled


def _add_up(rankings: Sequence[Found], parts: Sequence[NDArray[np.float64]]) -> Found:
    """Add up what each row got; the first found stand first among equals."""
    total: dict[int, float] = {}
    for ranking, part in zip(rankings, parts, strict=True):
        for row, score in zip(ranking.rows.tolist(), part.tolist(), strict=True):
            total[row] = total.get(row, 0.0) + score
    rows = np.fromiter(total.keys(), np.int64, len(total))
    scores = np.fromiter(total.values(), np.float64, len(total)).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return Found(rows[order], scores[order])
