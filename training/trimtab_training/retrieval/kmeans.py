"""Spherical k-means: unit centroids of unit vectors, by FAISS.

Source:
    Dhillon & Modha (2001), Machine Learning 42, doi:10.1023/A:1007612920971.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def find_unit_centroids(
    vectors: NDArray[np.float32], n_centroids: int, *, iterations: int, seed: int, **options: Any
) -> NDArray[np.float32]:
    """Find centroids.

    Args:
        vectors: Unit vectors, shape ``(n, dim)``.
        n_centroids: How many; at most ``n``.
        iterations: Rounds of assigning and averaging.
        seed: Of the first centroids.
        options: What else ``faiss.Kmeans`` takes.

    Returns:
        Shape ``(n_centroids, dim)``, float32, of unit length.
    """
    import faiss

    kmeans = faiss.Kmeans(
        vectors.shape[1], n_centroids, niter=iterations, spherical=True, seed=seed, **options
    )
    kmeans.train(vectors)
    return np.asarray(kmeans.centroids, dtype=np.float32)
