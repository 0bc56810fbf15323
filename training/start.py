"""Where training starts: the identity, a closed form, or an adapter that is there already."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from training.adapters import Adapter, ComposedAdapter, compose, kind_of
from training.adapters.registry import make_adapter
from training.config import Recipe
from training.dataset import Qrels, relevant
from training.embeddings import Embeddings
from training.locality import Locality, find_locality

_PENALTY = 1.0


Families = tuple[str, ...]

FAMILIES = ("linear", "two_layer", "prototypes")
"""What ``auto`` fits: the linear part alone, and with either of the others beside it."""


class Starts:
    """Makes the untrained adapters of one fit."""

    def __init__(
        self, recipe: Recipe, embeddings: Embeddings, given: Adapter | None, seed: int
    ) -> None:
        """Keep what adapters are made of.

        Args:
            recipe: The knobs.
            embeddings: The vectors.
            given: A trained adapter to start from instead, or None.
            seed: Seed of prototypes and gate.
        """
        self._recipe, self._embeddings = recipe, embeddings
        self._given, self._seed = given, seed
        self._localities: dict[int, Locality] = {}
        self._ridge_maps: dict[int, Float[Tensor, "dim_in dim_out"]] = {}
        is_auto = recipe.adapter == "auto" and given is None
        self.families = FAMILIES if is_auto else (kind_of(given) if given else recipe.adapter,)

    def make(self, family: str, train: Qrels) -> Adapter:
        """Make an untrained adapter, or a copy of the given one.

        Args:
            family: One of ``families``.
            train: The queries that it will be trained on. They alone make prototypes, gate and
                the map that it starts at: what a fold holds out has no part in any of it.

        Raises:
            ConfigError: The adapter or one of its options is unknown.
        """
        if self._given is not None:
            return copy_adapter(self._given)
        recipe, embeddings = self._recipe, self._embeddings
        dim_in, dim_out = embeddings.queries.dim, embeddings.documents.dim
        adapter: Adapter
        if family in FAMILIES and recipe.adapter == "auto":
            adapter = self.locality(train).make_adapter(
                dim_out,
                hidden=recipe.hidden if family == "two_layer" else 0,
                has_prototypes=family == "prototypes",
            )
        else:
            adapter = make_adapter(family, dim_in, dim_out, recipe.adapter_options)
        adapter.normalised = recipe.similarity == "cosine" or embeddings.unit_documents
        if recipe.use_between(dim_in, dim_out) == "migration":
            adapter.start_from(self._ridge_map(train))
        return adapter

    def locality(self, train: Qrels) -> Locality:
        """Look at where some training queries lie, once for each such set."""
        found = self._localities.get(id(train))
        if found is None:
            found = find_locality(train, self._embeddings, self._recipe, self._seed)
            self._localities[id(train)] = found
        return found

    def _ridge_map(self, train: Qrels) -> Float[Tensor, "dim_in dim_out"]:
        """Map some training queries onto their documents, once for each such set."""
        found = self._ridge_maps.get(id(train))
        if found is None:
            found = self._ridge_maps[id(train)] = ridge_map(train, self._embeddings)
        return found


def combinations(families: Families) -> list[Families]:
    """Give what may be composed, the most trusted first.

    A mean of several families varies less than any of them, so the larger mean comes first.
    """
    if families != FAMILIES:
        return [families]
    return [
        FAMILIES,
        ("two_layer", "prototypes"),
        ("linear", "two_layer"),
        ("prototypes",),
        ("two_layer",),
        ("linear",),
    ]


def can_merge(adapter: Adapter, *, is_fresh: bool) -> bool:
    """Tell whether several trained copies of an adapter should become one.

    Args:
        adapter: One of them.
        is_fresh: False where they go on from a trained one: its hidden units would stand side by
            side with their own copies.
    """
    return adapter.averages or (is_fresh and isinstance(adapter, ComposedAdapter))


def merge(adapters: Sequence[Adapter]) -> Adapter:
    """Make one adapter of several of one kind, whose change is the mean of theirs."""
    first = adapters[0]
    if len(adapters) == 1:
        return first
    composed = [each for each in adapters if isinstance(each, ComposedAdapter)]
    if len(composed) == len(adapters):
        return compose(composed).to(first.blend.device)
    merged = copy_adapter(first).to(first.blend.device)
    states = [each.state_dict() for each in adapters]
    merged.load_state_dict(
        {key: torch.stack([s[key] for s in states]).mean(dim=0) for key in states[0]}
    )
    return merged


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
