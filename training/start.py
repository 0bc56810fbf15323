"""Where training starts: the identity, a closed form, or an adapter that is there already."""

import hashlib

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from training.adapters import Adapter, kind_of
from training.adapters.registry import make_adapter
from training.config import Recipe
from training.dataset import Qrels, relevant
from training.embeddings import Embeddings

_PENALTY = 1.0


def start_adapter(recipe: Recipe, train: Qrels, embeddings: Embeddings) -> Adapter:
    """Make the recipe's adapter, untrained: the identity, or ridge where widths differ.

    Raises:
        ConfigError: The adapter or one of its options is unknown.
    """
    dim_in, dim_out = embeddings.queries.dim, embeddings.documents.dim
    adapter = make_adapter(recipe.adapter, dim_in, dim_out, recipe.adapter_options)
    adapter.normalised = recipe.similarity == "cosine" or embeddings.unit_documents
    if dim_in != dim_out:
        adapter.start_from(ridge_map(train, embeddings))
    return adapter


def copy_adapter(adapter: Adapter) -> Adapter:
    """Make a separate adapter with the same parameters, all of its change applied."""
    copied = make_adapter(kind_of(adapter), adapter.dim_in, adapter.dim_out, adapter.options)
    copied.load_state_dict(adapter.state_dict())
    copied.normalised = adapter.normalised
    copied.blend.fill_(1.0)
    return copied


def digest_of(adapter: Adapter | None) -> str:
    """Tell one starting adapter from another; empty for none."""
    digest = hashlib.sha256()
    for name, value in adapter.state_dict().items() if adapter else ():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest() if adapter else ""


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
