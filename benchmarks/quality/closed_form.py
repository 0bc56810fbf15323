"""Rivals without training: mean shift, ridge regression, Procrustes rotation.

Each looks at pairs of a training query and the mean of its relevant documents, weighted by grade.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.scoring import Task, mean_ndcg
from trimtab_training.data.qrels import Qrels, relevant
from trimtab_training.embeddings.store import Embeddings

Matrix = NDArray[np.float32]
Transform = Callable[[Matrix], Matrix]
PENALTIES = tuple(10.0**power for power in np.arange(-4, 2.25, 0.5))


def keep_raw(_task: Task, _seed: int) -> tuple[Transform, dict[str, Any]]:
    """No adapter."""
    return lambda queries: queries, {}


def shift_mean(task: Task, _seed: int) -> tuple[Transform, dict[str, Any]]:
    """Add the mean difference between a query's documents and the query."""
    queries, documents = pairs_of(task.train, task.embeddings)
    shift = (documents - queries).mean(axis=0)
    return lambda rows: rows + shift, {}


def fit_rotation(task: Task, _seed: int) -> tuple[Transform, dict[str, Any]]:
    """Turn queries onto their documents by one orthogonal matrix.

    Source:
        Schönemann (1966), Psychometrika 31(1), doi:10.1007/BF02289451.
    """
    queries, documents = pairs_of(task.train, task.embeddings)
    left, _, right = np.linalg.svd(queries.T.astype(np.float64) @ documents)
    rotation = (left @ right).astype(np.float32)
    return lambda rows: rows @ rotation, {}


def fit_ridge(task: Task, _seed: int) -> tuple[Transform, dict[str, Any]]:
    """Regress documents on queries, shrunk towards the identity.

    Minimises ``|Q W - D|^2 + n l |W - I|^2`` over ``W``; ``l`` is what ranks best on the dev split,
    or on two of the five folds that ``trimtab fit`` itself would use.

    Source:
        Hoerl & Kennard (1970), Technometrics 12(1), doi:10.1080/00401706.1970.10488634, with the
        identity in the place of zero.
    """
    penalty = max(PENALTIES, key=dict(zip(PENALTIES, _scores(task), strict=True)).__getitem__)
    weights = solve_ridge(*pairs_of(task.train, task.embeddings), penalty)
    return lambda rows: rows @ weights, {"penalty": penalty}


def solve_ridge(queries: Matrix, documents: Matrix, penalty: float) -> Matrix:
    """Give ``W`` in closed form: shape ``(dim, dim)``; apply as ``query @ W``."""
    wide = queries.astype(np.float64)
    pull = len(wide) / wide.shape[1] * penalty * np.eye(wide.shape[1])
    solved = np.linalg.solve(wide.T @ wide + pull, wide.T @ documents + pull)
    return solved.astype(np.float32)


def pairs_of(qrels: Qrels, embeddings: Embeddings) -> tuple[Matrix, Matrix]:
    """Give the queries and the mean of each one's relevant documents, both ``(queries, dim)``."""
    means = np.empty((len(qrels), embeddings.documents.dim), np.float32)
    for row, labels in enumerate(qrels.values()):
        grades = relevant(labels)
        vectors = embeddings.documents.take_ids(list(grades))
        means[row] = np.average(vectors, axis=0, weights=list(grades.values()))
    return embeddings.queries.take_ids(list(qrels)), means


def _scores(task: Task) -> list[float]:
    """Score every penalty on held-out queries."""
    folds = task.folds()
    scores = []
    for penalty in PENALTIES:
        found = []
        for fold in folds:
            weights = solve_ridge(*pairs_of(fold.train, task.embeddings), penalty)
            queries = task.queries(fold.held_out) @ weights
            found.append(mean_ndcg(queries, fold.held_out, task.embeddings.documents))
        scores.append(float(np.mean(found)))
    return scores
