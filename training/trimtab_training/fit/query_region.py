"""Where the training queries lie: what a server needs to count queries that are far from them.

The figures behind the constants: ``benchmarks/drift/results.json``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab.model.manifest import QueryRegion
from trimtab_training.embeddings.store import VectorTable
from trimtab_training.retrieval.kmeans import find_unit_centroids

SHARE = 0.01
"""A larger share finds few more foreign queries (0.97 of them for 5 %, 0.93 for 1 %), and its own
queries' noise then hides a small change from view."""

MIN_QUERIES = 100
"""With fewer, the sample has no 1 % quantile: even its least similar query stands for more."""

_MAX_QUERIES = 20_000  # 200 of them lie outside: the threshold's share is good to 0.07 points
_MAX_CENTROIDS = 16  # on five sets, twice as many find hardly more foreign queries
_QUERIES_PER_CENTROID = 16
_MIN_MEMBERS = 8  # a centroid of one query would be that query, and a model must not store it
_FOLDS = 5
_ITERATIONS = 20
_MAX_THRESHOLD = 0.999  # storing centroids as float16 moves a cosine by less than the rest


def find_query_region(
    queries: VectorTable, query_ids: Sequence[str], *, seed: int
) -> QueryRegion | None:
    """Describe where the training queries lie by a few centroids and a threshold.

    Centroids are those of spherical k-means. The threshold is the 1 % quantile of each query's
    similarity with its best centroid, where the centroids come from the other folds: measured on
    the queries that made them it would be too strict for new ones, and a single held-out part
    would leave a small set a handful of queries to estimate a 1 % quantile by.

    Args:
        queries: The raw query vectors.
        query_ids: The training queries; a random 20,000 of them where there are more.
        seed: Seed of every random choice; the same seed and data give the same region.

    Returns:
        The region, or None for fewer than 100 training queries.

    Source:
        Quantile ``r / (n + 1)``, the expected share of new draws
        below the r-th least: Hyndman & Fan (1996), doi:10.1080/00031305.1996.10473566, type 6.
    """
    if len(query_ids) < MIN_QUERIES:
        return None
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(query_ids))[:_MAX_QUERIES]
    vectors = queries.take_ids([query_ids[row] for row in chosen])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    threshold = np.quantile(cross_fitted_similarities(vectors, rng), SHARE, method="weibull")
    return QueryRegion.pack(
        find_centroids(vectors, rng),
        threshold=min(float(threshold), _MAX_THRESHOLD),
        share=SHARE,
    )


def cross_fitted_similarities(
    vectors: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Give each vector's similarity with the best centroid of folds that lack it.

    Args:
        vectors: Unit vectors in random order, shape ``(n, dim)``.
        rng: Seeds every k-means.
    """
    fold_of = np.arange(len(vectors)) % _FOLDS  # the vectors come in random order
    similarities = np.empty(len(vectors), dtype=np.float32)
    for fold in range(_FOLDS):
        centroids = find_centroids(vectors[fold_of != fold], rng)
        similarities[fold_of == fold] = (vectors[fold_of == fold] @ centroids.T).max(axis=1)
    return similarities


def find_centroids(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Find unit centroids of unit vectors, without those of a few vectors only.

    Args:
        vectors: Unit vectors, shape ``(n, dim)``.
        rng: Seeds the k-means.

    Returns:
        Unit vectors, shape ``(centroids, dim)``: up to one for every 16 vectors, at most 16.
    """
    n_centroids = max(1, min(_MAX_CENTROIDS, len(vectors) // _QUERIES_PER_CENTROID))
    centroids = find_unit_centroids(
        vectors,
        n_centroids,
        iterations=_ITERATIONS,
        seed=int(rng.integers(2**31)),
        min_points_per_centroid=1,  # faiss warns on stderr below 39
    )
    nearest = (vectors @ centroids.T).argmax(axis=1)
    is_large = np.bincount(nearest, minlength=n_centroids) >= _MIN_MEMBERS
    return centroids[is_large]
