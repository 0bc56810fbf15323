"""Recall of the index as it is served: raw queries against adapted ones, over its search parameter.

Graphs and inverted lists are built around the documents. Adapted queries lie elsewhere than raw
ones, so the same index may answer them less well, or better; exact search can't show it.

Source: Jaiswal et al. (2022), OOD-DiskANN, arXiv:2211.12850, on queries that lie off the
documents' distribution.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from msgspec import Struct, field
from numpy.typing import NDArray

from trimtab.faiss_files.threads import one_thread
from trimtab_training.embeddings.faiss_source import SCHEME
from trimtab_training.embeddings.store import VectorTable
from trimtab_training.errors import DataError
from trimtab_training.evaluation.ann_index import ServedIndex
from trimtab_training.evaluation.ann_reference import as_compared, open_reference
from trimtab_training.retrieval.exact_search import prepare_documents, search

K = 10
MAX_QUERIES = 2000
ENOUGH = 0.999
"""A sweep ends where both kinds of queries find more than this share."""

_SEED = 0
_QUERIES_AT_ONCE = 256
_TIE = 1e-6  # relative: what float32 makes of equal scores in another order of summing


class Recall(Struct, frozen=True, kw_only=True):
    """Recall@10 of exact search, and microseconds of one thread on the whole batch, by query."""

    recall: float = field(name="recall@10")
    us_per_query: float


class SweepPoint(Struct, frozen=True, kw_only=True):
    """An approximate index under one value of its search parameter."""

    value: int
    raw: Recall
    adapted: Recall


class Sweep(Struct, frozen=True, kw_only=True):
    """Recall of an approximate index, by its search parameter.

    Attributes:
        lossy: Whether it keeps vectors compressed, which the recall then holds, too.
        n_queries_given: Queries that there are; of more than 2,000, so many are asked.
        served_value: The parameter as the file has it.
        restores: The least value at which adapted queries find the share that raw ones find as
            served, or None.
    """

    index: str
    kind: str
    type: str
    lossy: bool
    n_vectors: int
    k: int
    n_queries: int
    n_queries_given: int
    parameter: str
    served_value: int
    points: list[SweepPoint]
    raw_recall_at_served: float
    adapted_recall_at_served: float
    restores: int | None


def sweep_index(
    source: str,
    queries_raw: NDArray[np.float32],
    queries_adapted: NDArray[np.float32],
    documents: VectorTable,
    similarity: str,
) -> Sweep:
    """Measure recall@10 of an approximate index for raw and for adapted queries.

    The reference is exact search over the vectors in the index, by its own metric, so that only
    the graph or the lists can lose anything. Where it keeps vectors compressed (``lossy``), the
    reference is exact search over ``documents``, and the recall holds both losses.

    Args:
        source: ``faiss:PATH`` or ``faiss:PATH?ids=FILE``: an HNSW or IVF index of the documents.
        queries_raw: Shape ``(queries, dim)``, float32.
        queries_adapted: The same queries adapted, same shape.
        documents: The vectors of the embeddings folder, under the ids of the index.
        similarity: ``cosine``, ``dot`` or ``euclid``; cosine also normalises the queries.

    Raises:
        DataError: There is no such index, it searches exactly, it holds other documents, its
            metric does not fit the similarity, or widths or numbers of queries differ.
    """
    if not source.startswith(SCHEME):
        raise DataError(f"{source!r} is no index; expected faiss:PATH or faiss:PATH?ids=FILE")
    _check_queries(queries_raw, queries_adapted, documents)
    with open_reference(source, documents, similarity) as reference:
        path = Path(source.removeprefix(SCHEME).partition("?")[0])
        served = ServedIndex.open(path, reference.flags)
        served.check_similarity(similarity, is_unit=reference.is_unit)
        own = similarity if reference.is_lossy else served.similarity
        raw, adapted = (
            _Asked.against(reference.vectors, as_compared(queries, similarity), own)
            for queries in _sample(queries_raw, queries_adapted)
        )
        with one_thread():
            points, at_served, restores = _BothKinds(served, raw, adapted).sweep()
    return Sweep(
        index=source.partition("?")[0],
        kind=served.kind,
        type=type(served.core).__name__,
        lossy=reference.is_lossy,
        n_vectors=len(documents),
        k=K,
        n_queries=len(raw.queries),
        n_queries_given=len(queries_raw),
        parameter=served.parameter,
        served_value=served.value,
        points=points,
        raw_recall_at_served=at_served.raw.recall,
        adapted_recall_at_served=at_served.adapted.recall,
        restores=restores,
    )


@dataclass(frozen=True)
class _Asked:
    """Queries, and the score that puts a document among each one's exact nearest."""

    queries: NDArray[np.float32]
    thresholds: NDArray[np.float64]
    exact: VectorTable
    similarity: str

    @classmethod
    def against(cls, exact: VectorTable, queries: NDArray[np.float32], similarity: str) -> "_Asked":
        """Search exactly, once."""
        rows, _ = search(queries, exact, depth=K, similarity=similarity)
        scores = _score(queries, rows, exact, similarity)
        slack = _TIE * np.abs(scores).max(axis=1)
        return cls(queries, scores.min(axis=1) - slack, exact, similarity)

    def recall(self, rows: NDArray[np.int64]) -> float:
        """Give the share of the nearest that was found; any of several equal ones will do.

        Source: Aumüller, Bernhardsson, Faithfull (2020), ANN-Benchmarks, Information Systems 87,
        doi:10.1016/j.is.2019.02.006: recall by distance, so that a tie is no miss.
        """
        scores = _score(self.queries, rows, self.exact, self.similarity)
        is_near = (scores >= self.thresholds[:, None]) & (rows >= 0)
        return int(is_near.sum()) / rows.size


@dataclass(frozen=True)
class _BothKinds:
    """An index, asked with both kinds of queries."""

    served: ServedIndex
    raw: _Asked
    adapted: _Asked

    def sweep(self) -> tuple[list[SweepPoint], SweepPoint, int | None]:
        """Sweep upwards until nothing is left to gain, then narrow down what restores.

        Returns:
            All points, the one as served, and the value that restores its recall.
        """
        at_served = self._point(self.served.value)
        wanted = at_served.raw.recall
        points: list[SweepPoint] = []
        for value in self.served.values():
            point = at_served if value == self.served.value else self._point(value)
            points.append(point)
            raw, adapted = point.raw.recall, point.adapted.recall
            if value >= self.served.value and min(raw, adapted) > ENOUGH and adapted >= wanted:
                break
        restores = self._narrow(points, wanted)
        if restores is not None and restores not in [point.value for point in points]:
            points.append(self._point(restores))
            points.sort(key=lambda point: point.value)
        return points, at_served, restores

    def _point(self, value: int) -> SweepPoint:
        """Measure both kinds of queries under one value."""
        return SweepPoint(
            value=value,
            raw=self._measure(self.raw, value),
            adapted=self._measure(self.adapted, value),
        )

    def _measure(self, asked: _Asked, value: int) -> Recall:
        """Measure recall and time under one value."""
        rows, seconds = self.served.search(asked.queries, min(K, len(asked.exact)), value)
        return Recall(
            recall=asked.recall(rows), us_per_query=round(seconds / len(asked.queries) * 1e6, 1)
        )

    def _narrow(self, points: list[SweepPoint], wanted: float) -> int | None:
        """Halve the gap below the first point where adapted queries find the wanted share."""
        reach = [point.adapted.recall >= wanted for point in points]
        if not any(reach):
            return None
        first = reach.index(True)
        enough = points[first].value
        below = points[first - 1].value if first else enough - 1
        while enough - below > 1:
            middle = (below + enough) // 2
            if self._measure(self.adapted, middle).recall >= wanted:
                enough = middle
            else:
                below = middle
        return enough


def _check_queries(
    raw: NDArray[np.float32], adapted: NDArray[np.float32], documents: VectorTable
) -> None:
    """Refuse queries that can't be compared, or searched with."""
    if len(raw) == 0 or len(raw) != len(adapted):
        raise DataError(
            f"{len(raw)} raw and {len(adapted)} adapted queries; expected as many, and some"
        )
    for name, queries in (("raw", raw), ("adapted", adapted)):
        if queries.shape[1] != documents.dim:
            raise DataError(
                f"{name} queries have {queries.shape[1]} values, documents {documents.dim}: the "
                "index can't be searched with both kinds; leave out --index"
            )


def _sample(
    raw: NDArray[np.float32], adapted: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw the same queries of both kinds where there are too many, always the same ones."""
    if len(raw) <= MAX_QUERIES:
        return raw, adapted
    rng = np.random.default_rng(_SEED)
    chosen = np.sort(rng.choice(len(raw), MAX_QUERIES, replace=False))
    return raw[chosen], adapted[chosen]


def _score(
    queries: NDArray[np.float32],
    rows: NDArray[np.int64],
    documents: VectorTable,
    similarity: str,
) -> NDArray[np.float64]:
    """Score chosen documents of each query as exact search does, in float64."""
    parts = []
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        asked = torch.from_numpy(queries[start : start + _QUERIES_AT_ONCE]).double()
        chosen = rows[start : start + _QUERIES_AT_ONCE]
        vectors = torch.from_numpy(documents.take(chosen.ravel())).double()
        prepared, offsets = prepare_documents(vectors, similarity)
        scores = torch.einsum("qd,qkd->qk", asked, prepared.reshape(*chosen.shape, -1))
        parts.append((scores + offsets.reshape(chosen.shape)).numpy())
    joined: NDArray[np.float64] = np.concatenate(parts)
    return joined
