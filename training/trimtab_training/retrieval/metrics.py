"""Per-query ranking metrics on arrays, with linear gains as in trec_eval.

Everything here takes the grades of the documents that a query found, in ranked order, and gives
one value a query. A query that found nothing relevant scores 0.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

HEADLINE_CUTOFF = 10
"""How many documents the metric looks at that adapters are chosen and judged by: nDCG@10."""

Grades = Float[np.ndarray, "queries depth"]
PerQuery = Float[np.ndarray, " queries"]


def grades_of(
    rows: Int[np.ndarray, "queries depth"], relevant_rows: Sequence[Mapping[int, float]]
) -> Grades:
    """Look up the grade of every document found.

    Args:
        rows: Documents found by each query, best first.
        relevant_rows: For each query, the grade of each relevant document, by row.

    Returns:
        Grades, float64, 0 where a document is not relevant.
    """
    grades = np.zeros(rows.shape)
    for query, wanted in enumerate(relevant_rows):
        for row, grade in wanted.items():
            grades[query, rows[query] == row] = grade
    return grades


def ndcg(grades: Grades, relevant_rows: Sequence[Mapping[int, float]], k: int) -> PerQuery:
    """Normalised discounted cumulative gain at ``k``, gain linear in the grade.

    Source:
        Järvelin & Kekäläinen (2002), ACM TOIS 20(4), doi:10.1145/582415.582418; gains and
        discounts as trec_eval's ``ndcg_cut``: grade / log2(rank + 1).
    """
    gains: NDArray[np.float64] = grades[:, :k] @ _discounts(k)[: grades[:, :k].shape[1]]
    ideals = _ideal_gains(relevant_rows, k)
    scores = np.zeros(len(grades))
    np.divide(gains, ideals, out=scores, where=ideals > 0)
    return scores


def expected_ndcg(
    relevant_rows: Sequence[Mapping[int, float]], n_documents: int, k: int
) -> PerQuery:
    """Give what documents in an order of chance score on average: :func:`ndcg` is linear in them.

    Args:
        relevant_rows: For each query, the grade of each relevant document, by row.
        n_documents: Documents that are ranked.
        k: Documents that count.
    """
    at_each_rank = np.array([sum(wanted.values()) for wanted in relevant_rows]) / n_documents
    gains = at_each_rank * _discounts(min(k, n_documents)).sum()
    ideals = _ideal_gains(relevant_rows, k)
    scores = np.zeros(len(gains))
    np.divide(gains, ideals, out=scores, where=ideals > 0)
    return scores


def _discounts(k: int) -> NDArray[np.float64]:
    """Give what a grade counts for at each of the first ``k`` ranks."""
    return np.asarray(1 / np.log2(np.arange(2, k + 2)))


def _ideal_gains(relevant_rows: Sequence[Mapping[int, float]], k: int) -> NDArray[np.float64]:
    """Give the gain of each query's best possible order."""
    discounts = _discounts(k)
    best = [sorted(wanted.values(), reverse=True)[:k] for wanted in relevant_rows]
    return np.array([np.dot(grades, discounts[: len(grades)]) for grades in best])


def reciprocal_rank(grades: Grades, k: int) -> PerQuery:
    """One over the rank of the first relevant document among the first ``k``, else 0."""
    found = grades[:, :k] > 0
    ranks = 1 + found.argmax(axis=1)
    scores: NDArray[np.float64] = np.where(found.any(axis=1), 1 / ranks, 0.0)
    return scores


def hit(grades: Grades, k: int) -> PerQuery:
    """One where any of the first ``k`` documents is relevant, else 0."""
    return np.asarray((grades[:, :k] > 0).any(axis=1), dtype=np.float64)


def recall(grades: Grades, relevant_rows: Sequence[Mapping[int, float]], k: int) -> PerQuery:
    """Share of the relevant documents that stand among the first ``k``."""
    wanted = np.array([len(rows) for rows in relevant_rows], dtype=np.float64)
    found = (grades[:, :k] > 0).sum(axis=1)
    scores = np.zeros(len(grades))
    np.divide(found, wanted, out=scores, where=wanted > 0)
    return scores


METRICS: dict[str, Callable[[Grades, Sequence[Mapping[int, float]]], PerQuery]] = {
    "ndcg@10": lambda grades, relevant_rows: ndcg(grades, relevant_rows, 10),
    "mrr@10": lambda grades, _: reciprocal_rank(grades, 10),
    "hit@10": lambda grades, _: hit(grades, 10),
    "recall@100": lambda grades, relevant_rows: recall(grades, relevant_rows, 100),
}
DEPTH = 100


def measure(
    rows: NDArray[np.int64], relevant_rows: Sequence[Mapping[int, float]]
) -> dict[str, NDArray[np.float64]]:
    """Give every metric for every query of a ranking."""
    grades = grades_of(rows, relevant_rows)
    return {name: metric(grades, relevant_rows) for name, metric in METRICS.items()}
