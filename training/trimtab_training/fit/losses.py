"""Losses as pure functions of scores and vectors."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def softmax_loss(
    logits: Float[Tensor, "queries candidates"],
    target_queries: Int[Tensor, " targets"],
    target_candidates: Int[Tensor, " targets"],
    target_weights: Float[Tensor, " targets"],
    query_weights: Float[Tensor, " queries"],
) -> Float[Tensor, ""]:
    """Cross-entropy between the softmax over candidates and each query's relevant documents.

    Every relevant document of a query counts, in proportion to its grade.

    Args:
        logits: Scores over temperature, plus the log of the weight of each candidate.
        target_queries: Row of the query of each relevant pair.
        target_candidates: Column of its document.
        target_weights: Its share among the query's relevant documents; they sum to 1 a query.
        query_weights: What each query counts for; 1 on average over the training set.

    Returns:
        Weighted sum over queries, divided by their number.

    Source:
        The listwise softmax cross-entropy of Cao et al. (2007), ICML, eq. 5, doi:10.1145/
        1273496.1273513, its target the normalised grades.
    """
    hits = (
        logits[target_queries, target_candidates] * target_weights * query_weights[target_queries]
    )
    return (torch.logsumexp(logits, dim=1) * query_weights).mean() - hits.sum() / len(logits)


def anchor_loss(
    adapted: Float[Tensor, "documents dim"], documents: Float[Tensor, "documents dim"]
) -> Float[Tensor, ""]:
    """Mean squared distance between documents and what the adapter makes of them.

    It keeps the map near the identity where documents live, so that queries about documents
    without training queries still find them.
    """
    return (adapted - documents).square().sum(dim=1).mean()
