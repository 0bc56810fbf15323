"""The gate of a default fit: which queries are too far from the training queries to be changed."""

import numpy as np
import torch

from trimtab_training.adapters import Gate
from trimtab_training.data.qrels import Qrels
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.fit.query_region import cross_fitted_similarities, find_centroids

MIN_GATED = 32
"""Training queries that it takes to tell near from far: two centroids' worth."""

_HALF_AT = 0.03
_OPEN_AT = 0.15
_OPEN = 3.0
"""The gate lets half of the change through for the least similar 3 % of queries like the training
queries, and 95 % of it (the logistic function at 3) for the least similar 15 %."""
_MIN_WIDTH = 1e-3
_MAX_QUERIES = 20_000


def find_gate(train: Qrels, embeddings: Embeddings, seed: int) -> Gate | None:
    """Find centroids, and how similar to them queries are that did not make them.

    Args:
        train: Labels of the training queries.
        embeddings: The vectors.
        seed: Seed of every random choice.

    Returns:
        The gate, or None where there are too few queries for one.
    """
    if len(train) < MIN_GATED:
        return None
    rng = np.random.default_rng(seed)
    ids = list(train)
    chosen = [ids[row] for row in rng.permutation(len(ids))[:_MAX_QUERIES]]
    vectors = embeddings.queries.take_ids(chosen)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    similarities = cross_fitted_similarities(vectors, rng)
    half, is_open = np.quantile(similarities, [_HALF_AT, _OPEN_AT], method="weibull")
    width = max((is_open - half) / _OPEN, _MIN_WIDTH)
    centroids = torch.from_numpy(find_centroids(vectors, rng).T.copy())
    return Gate(centroids, float(half), float(width))
