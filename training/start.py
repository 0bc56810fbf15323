"""A start in closed form, where queries and documents differ in width."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from training.dataset import Qrels, relevant
from training.embeddings import Embeddings

_PENALTY = 1.0


def ridge_map(train: Qrels, embeddings: Embeddings) -> Float[Tensor, "dim_in dim_out"]:
    """Find the linear map that best carries each query onto its relevant documents.

    Minimises ``|Q W - D|^2 + penalty |W|^2``, where a row of ``D`` is the mean of the query's
    relevant documents, weighted by grade.

    Args:
        train: Labels, each query with a relevant document.
        embeddings: The vectors.

    Returns:
        The map, to be applied as ``query @ map``.

    Source:
        Hoerl & Kennard (1970), Technometrics 12(1), eq. 2.1, doi:10.1080/00401706.1970.10488634.
    """
    queries = embeddings.queries.take_ids(list(train)).astype(np.float64)
    targets = np.empty((len(train), embeddings.documents.dim))
    for row, labels in enumerate(train.values()):
        wanted = relevant(labels)
        vectors = embeddings.documents.take_ids(list(wanted)).astype(np.float64)
        targets[row] = np.average(vectors, axis=0, weights=list(wanted.values()))
    gram = queries.T @ queries + _PENALTY * np.eye(queries.shape[1])
    return torch.from_numpy(np.linalg.solve(gram, queries.T @ targets).astype(np.float32))
