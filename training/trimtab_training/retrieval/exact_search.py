"""Exact nearest documents over a memory-mapped matrix: the oracle for every index."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from trimtab_training.embeddings.store import VectorTable

Ranking = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Rows of the documents found and their scores, both ``(queries, depth)``, best first."""

_QUERIES_AT_ONCE = 512


def prepare_documents(
    documents: Float[Tensor, "rows dim"], similarity: str
) -> tuple[Float[Tensor, "rows dim"], Float[Tensor, " rows"]]:
    """Reduce any similarity to a dot product and an offset a document.

    ``score = query @ document + offset``: cosine divides documents by their length; euclid ranks
    by ``q.d - |d|^2 / 2``, which orders documents as ``-|q - d|`` does.

    Args:
        documents: Document vectors, floating.
        similarity: ``cosine``, ``dot`` or ``euclid``.

    Returns:
        The vectors to multiply with, and what to add to each document's score.
    """
    if similarity == "cosine":
        return normalise(documents), documents.new_zeros(len(documents))
    if similarity == "euclid":
        return documents, documents.square().sum(dim=1) / -2
    return documents, documents.new_zeros(len(documents))


def normalise(vectors: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Scale vectors to unit length; a zero vector stays zero."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp_min(1e-12)


def search(
    queries: NDArray[np.float32], documents: VectorTable, *, depth: int, similarity: str
) -> Ranking:
    """Rank the nearest documents of each query, exactly.

    Equal scores are ordered by row, so that a ranking never depends on chance.

    Args:
        queries: Shape ``(queries, dim)``.
        documents: The document vectors.
        depth: Documents to find for each query; fewer where there are fewer.
        similarity: ``cosine``, ``dot`` or ``euclid``; cosine also normalises the queries.

    Returns:
        Rows and scores, best first. Scores of ``euclid`` are negative squared distances.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))
    if similarity == "cosine":
        tensor = normalise(tensor)
    depth = min(depth, len(documents))
    if len(tensor) == 0:
        return np.empty((0, depth), np.int64), np.empty((0, depth), np.float32)
    rows = torch.empty((len(tensor), 0), dtype=torch.int64)
    scores = torch.empty((len(tensor), 0))
    for start, block in documents.blocks():
        vectors, offsets = prepare_documents(torch.from_numpy(block), similarity)
        found = [
            best_of(torch.addmm(offsets, part, vectors.T), depth)
            for part in torch.split(tensor, _QUERIES_AT_ONCE)
        ]
        rows = torch.cat([rows, torch.cat([part[0] for part in found]) + start], dim=1)
        scores = torch.cat([scores, torch.cat([part[1] for part in found])], dim=1)
        kept, scores = best_of(scores, min(depth, scores.shape[1]))
        rows = torch.gather(rows, 1, kept)
    if similarity == "euclid":
        scores = 2 * scores - tensor.square().sum(dim=1, keepdim=True)
    return rows.numpy(), scores.numpy()


def best_of(scores: Float[Tensor, "queries columns"], k: int) -> tuple[Tensor, Tensor]:
    """Find the ``k`` largest scores of each row, equal ones in the order of their columns.

    Returns:
        Columns and scores, both ``(queries, k)``, best first.
    """
    k = min(k, scores.shape[1])
    values, columns = torch.topk(scores, k, dim=1)
    # topk picks any of several equal scores at its edge: there, take the first columns instead.
    edge = values[:, -1:]
    tied = (scores == edge).sum(dim=1) > (values == edge).sum(dim=1)
    for row in torch.nonzero(tied).flatten().tolist():
        above = torch.nonzero(scores[row] > edge[row]).flatten()
        at_edge = torch.nonzero(scores[row] == edge[row]).flatten()
        columns[row] = torch.cat([above, at_edge])[:k]
    columns = columns.sort(dim=1).values
    order = torch.gather(scores, 1, columns).sort(dim=1, descending=True, stable=True).indices
    columns = torch.gather(columns, 1, order)
    return columns, torch.gather(scores, 1, columns)
