"""Spherical k-means: unit centroids of unit vectors, by FAISS.

Source:
    Dhillon & Modha (2001), Machine Learning 42, doi:10.1023/A:1007612920971.
"""

from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_files.threads import one_thread

_WORTH_THREADS = 5e9
"""Multiplications: a second of one core. Below, threads wait for each other longer than they work,
above all on a busy machine."""


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
    operations = iterations * vectors.size * n_centroids
    with one_thread() if operations < _WORTH_THREADS else nullcontext():
        kmeans.train(vectors)
    return np.asarray(kmeans.centroids, dtype=np.float32)
