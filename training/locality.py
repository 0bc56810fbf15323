"""Where a default fit's queries lie: prototypes for local shifts, and a gate for far queries."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from training.adapters import ComposedAdapter, Gate
from training.config import Recipe
from training.dataset import Qrels
from training.embeddings import Embeddings
from training.query_region import cross_fitted_similarities, find_centroids

MIN_GATED = 32
"""Training queries that it takes to tell near from far: two centroids' worth."""

_HALF_AT = 0.03
_OPEN_AT = 0.15
_OPEN = 3.0
"""The gate lets half of the change through for the least similar 3 % of queries like the training
queries, and 95 % of it (the logistic function at 3) for the least similar 15 %."""
_MIN_WIDTH = 1e-3
_TEMPERATURE = 0.06
"""Of the softmax over prototypes, for queries in all directions; smaller in proportion where they
crowd together, as those of encoders do that keep all cosines high."""
_MIN_SPREAD = 1e-3
_MAX_QUERIES = 20_000
_ITERATIONS = 15


@dataclass(frozen=True)
class Locality:
    """What is known of some training queries' whereabouts.

    Attributes:
        prototypes: Unit vectors, shape ``(dim_in, prototypes)``.
        temperature: What divides cosines with prototypes.
        holds_queries: True where a prototype is a single query's direction.
        gate: The gate, or None where there are too few queries for one.
    """

    prototypes: Float[Tensor, "dim_in prototypes"]
    temperature: float
    holds_queries: bool
    gate: Gate | None

    def make_adapter(self, dim_out: int, *, hidden: int, has_prototypes: bool) -> ComposedAdapter:
        """Make an untrained adapter with this gate, and with these prototypes if wanted."""
        dim_in, n_prototypes = self.prototypes.shape
        adapter = ComposedAdapter(
            dim_in,
            dim_out,
            hidden=hidden,
            prototypes=n_prototypes if has_prototypes else 0,
            centroids=self.gate.centroids.shape[1] if self.gate else 0,
        )
        if has_prototypes:
            adapter.set_prototypes(self.prototypes, self.temperature)
        if self.gate:
            adapter.set_gate(self.gate)
        return adapter


def find_locality(train: Qrels, embeddings: Embeddings, recipe: Recipe, seed: int) -> Locality:
    """Look at where training queries lie.

    Args:
        train: Labels of the training queries.
        embeddings: The vectors.
        recipe: Says how many prototypes there are, and whether there is a gate.
        seed: Seed of every random choice.
    """
    rng = np.random.default_rng(seed)
    ids = list(train)
    chosen = [ids[row] for row in rng.permutation(len(ids))[:_MAX_QUERIES]]
    vectors = embeddings.queries.take_ids(chosen)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    prototypes, holds_queries = _find_prototypes(vectors, recipe, rng)
    gate = _find_gate(vectors, rng) if recipe.gated and len(vectors) >= MIN_GATED else None
    spread = 1 - float(np.square(vectors.mean(axis=0)).sum())  # 1 less the mean cosine
    return Locality(
        torch.from_numpy(prototypes.T.copy()),
        _TEMPERATURE * max(spread, _MIN_SPREAD),
        holds_queries,
        gate,
    )


def _find_prototypes(
    vectors: NDArray[np.float32], recipe: Recipe, rng: np.random.Generator
) -> tuple[NDArray[np.float32], bool]:
    """Find the centroids of spherical k-means, and tell whether one stands for one query alone."""
    import faiss

    wanted = int(len(vectors) / recipe.queries_per_prototype)
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        max(1, min(recipe.prototypes, wanted)),
        niter=_ITERATIONS,
        spherical=True,
        seed=int(rng.integers(2**31)),
        min_points_per_centroid=1,
    )
    kmeans.train(vectors)
    prototypes = np.asarray(kmeans.centroids, dtype=np.float32)
    members = np.bincount((vectors @ prototypes.T).argmax(axis=1), minlength=len(prototypes))
    return prototypes, bool((members == 1).any())


def _find_gate(vectors: NDArray[np.float32], rng: np.random.Generator) -> Gate:
    """Find centroids, and how similar to them queries are that did not make them."""
    similarities = cross_fitted_similarities(vectors, rng)
    half, is_open = np.quantile(similarities, [_HALF_AT, _OPEN_AT], method="weibull")
    width = max((is_open - half) / _OPEN, _MIN_WIDTH)
    centroids = torch.from_numpy(find_centroids(vectors, rng).T.copy())
    return Gate(centroids, float(half), float(width))
