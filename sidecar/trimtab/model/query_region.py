"""How far queries are from those that an adapter was trained on: one product a batch.

``trimtab_training.fit.query_region`` finds centroids of the training queries and a threshold; both
travel in the manifest. A query ``q`` is far where no centroid ``c``, all of unit length, is near
enough::

    max over c of (q . c)  <=  threshold * |q|

which is cosine similarity without its division, so that a zero vector needs no special case.
A few queries are far on the training data's own domain, too: ``share`` says how many. More of
them in production means that queries have moved away from what the adapter was proved on.
"""

import math

import numpy as np
from numpy.typing import NDArray

from trimtab.model.manifest import Manifest, QueryRegion


class Region:
    """Where training queries lie, ready to be asked; safe to share between threads.

    Attributes:
        share: Share of far queries to expect where nothing has changed.
    """

    def __init__(self, record: QueryRegion) -> None:
        """Unpack what the manifest holds.

        Raises:
            ManifestError: The record is malformed.
        """
        self.share = float(record.share)
        self._threshold = float(record.threshold)
        self._centroids = record.unpack()

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> "Region | None":
        """Give a model's region, or None where its file has none."""
        return None if manifest.query_region is None else cls(manifest.query_region)

    def is_far(self, queries: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell which queries are far from every training query's centroid.

        Args:
            queries: Raw query vectors as the encoder gave them, shape ``(n, dim)``, finite, of any
                length.

        Returns:
            Shape ``(n,)``; True for a far query, and for a zero vector, which has no direction.
        """
        if len(queries) == 1:
            return np.array([self._is_one_far(queries[0])])
        best = np.maximum.reduce(queries @ self._centroids.T, axis=1)
        # In float64, since squares of float32 values may leave float32's range.
        lengths = np.sqrt(np.einsum("nd,nd->n", queries, queries, dtype=np.float64))
        is_far: NDArray[np.bool_] = best <= self._threshold * lengths
        return is_far

    def _is_one_far(self, query: NDArray[np.float32]) -> bool:
        """Answer for one query, the usual case, in half the time that a batch of one would take."""
        wide = query.astype(np.float64)
        best = float(np.maximum.reduce(self._centroids.dot(query)))
        return best <= self._threshold * math.sqrt(wide.dot(wide))
