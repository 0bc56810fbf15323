"""Which documents queries are written for: a budget that covers the corpus.

With stored vectors, documents are drawn from clusters in turn, so that every subject has its share
however few documents it has. Draws are nested: a larger budget keeps what a smaller one drew, and
every answer that was paid for.
"""

import hashlib
import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab_training.embeddings.store import VectorTable
from trimtab_training.retrieval.kmeans import find_unit_centroids

MOST_CLUSTERS = 256
_DOCUMENTS_A_CLUSTER = 39  # faiss warns below: its least number of training points for a centroid
_TRAINING_ROWS = 65536
_ITERATIONS = 15


def draw_uniformly(candidates: Collection[str], budget: int | None, seed: int) -> list[str]:
    """Draw documents by hash, whatever their order.

    Args:
        candidates: Ids to draw from.
        budget: How many, or None for all.
        seed: Makes another draw.
    """
    return sorted(candidates, key=lambda doc_id: _draw_key(doc_id, seed))[:budget]


def draw_from_clusters(
    candidates: Collection[str], documents: VectorTable, budget: int | None, seed: int
) -> list[str]:
    """Draw documents from the clusters of their vectors in turn, the largest cluster first.

    Args:
        candidates: Ids to draw from; each must have a vector.
        documents: The stored vectors.
        budget: How many, or None for all.
        seed: Makes other clusters and another draw.
    """
    ordered = draw_uniformly(candidates, None, seed)
    rows = [documents.rows[doc_id] for doc_id in ordered]
    n_clusters = min(MOST_CLUSTERS, len(ordered) // _DOCUMENTS_A_CLUSTER)
    if n_clusters < 2:
        return ordered[:budget]
    clusters = _assign(documents, rows, _train(documents, rows, n_clusters, seed))
    sizes = np.bincount(clusters, minlength=n_clusters)
    drawn_of = [0] * n_clusters
    turns: list[tuple[int, int, int]] = []
    for place, cluster in enumerate(clusters.tolist()):
        turns.append((drawn_of[cluster], -int(sizes[cluster]), place))
        drawn_of[cluster] += 1
    return [ordered[place] for _, _, place in sorted(turns)[:budget]]


def _train(
    documents: VectorTable, rows: Sequence[int], n_clusters: int, seed: int
) -> NDArray[np.float32]:
    """Find cluster centres of unit length, on the first of the drawn documents."""
    vectors = _unit(documents.take(sorted(rows[:_TRAINING_ROWS])))
    return find_unit_centroids(
        vectors,
        n_clusters,
        iterations=_ITERATIONS,
        seed=seed % 2**31,
        max_points_per_centroid=math.ceil(_TRAINING_ROWS / n_clusters),
    )


def _assign(
    documents: VectorTable, rows: Sequence[int], centres: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Give each row its nearest centre, block by block."""
    nearest = np.empty(len(documents), dtype=np.int64)
    for start, block in documents.blocks():
        nearest[start : start + len(block)] = (block @ centres.T).argmax(axis=1)
    found: NDArray[np.int64] = nearest[np.asarray(rows, dtype=np.int64)]
    return found


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors to unit length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def _draw_key(doc_id: str, seed: int) -> bytes:
    """Give a document its place in the draw."""
    return hashlib.sha256(f"draw\x00{seed}\x00{doc_id}".encode(errors="surrogatepass")).digest()
