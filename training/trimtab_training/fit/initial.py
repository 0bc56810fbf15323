"""Where training starts: the identity, a closed form, or an adapter that is there already."""

import hashlib
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trimtab_training.adapters import Adapter, ComposedAdapter, Gate, kind_of
from trimtab_training.adapters.registry import make_adapter
from trimtab_training.data.qrels import Qrels, only_relevant
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import ConfigError
from trimtab_training.fit.query_gate import find_gate
from trimtab_training.fit.recipe import Recipe

_PENALTY = 1.0


class Initialisation:
    """Makes the untrained adapters of one fit.

    Attributes:
        kind: What is trained: ``auto``, or the kind of one adapter.
        parts: What an adapter is composed of, for people.
    """

    def __init__(
        self, recipe: Recipe, embeddings: Embeddings, given: Adapter | None, seed: int
    ) -> None:
        """Keep what adapters are made of.

        Args:
            recipe: The knobs.
            embeddings: The vectors.
            given: A trained adapter to start from instead, or None.
            seed: Seed of gates.
        """
        self._recipe, self._embeddings = recipe, embeddings
        self._given, self._seed = given, seed
        self._gates: dict[int, Gate | None] = {}
        self._ridge_maps: dict[int, Float[Tensor, "dim_in dim_out"]] = {}
        self.kind = kind_of(given) if given else recipe.adapter
        auto = ("linear", "hidden") if recipe.hidden else ("linear",)
        self.parts: tuple[str, ...] = auto if self.kind == "auto" else (self.kind,)

    def make(self, train: Qrels) -> Adapter:
        """Make an untrained adapter, or a copy of the given one.

        Args:
            train: The queries that it will be trained on. They alone make the gate and the map
                that it starts at: what a fold holds out has no part in any of it.

        Raises:
            ConfigError: The adapter or one of its options is unknown, it has nothing to train, or
                it is too large to be made.
        """
        adapter = self._untrained(train) if self._given is None else copy_adapter(self._given)
        _check_trainable(adapter)
        if isinstance(adapter, ComposedAdapter):
            adapter.dropout = self._recipe.dropout
        return adapter

    def _untrained(self, train: Qrels) -> Adapter:
        """Make an untrained adapter where none is given; see :meth:`make`."""
        recipe, embeddings = self._recipe, self._embeddings
        dim_in, dim_out = embeddings.queries.dim, embeddings.documents.dim
        gate = self._gate(train) if self.kind == "auto" else None
        adapter: Adapter
        try:
            if self.kind == "auto":
                n_centroids = gate.centroids.shape[1] if gate else 0
                adapter = ComposedAdapter(
                    dim_in, dim_out, hidden=recipe.hidden, centroids=n_centroids
                )
                if gate:
                    adapter.set_gate(gate)
            else:
                adapter = make_adapter(self.kind, dim_in, dim_out, recipe.adapter_options)
        except (RuntimeError, TypeError, MemoryError) as error:  # torch can't allocate it
            sizes = recipe.adapter_options or {"hidden": recipe.hidden}
            raise ConfigError(
                f"adapter {self.kind!r} can't be made with {sizes}: "
                f"{str(error).partition(chr(10))[0]}"
            ) from error
        adapter.normalised = recipe.compares_by == "cosine" or embeddings.unit_documents
        if recipe.use_between(dim_in, dim_out) == "migration":
            adapter.start_from(self._ridge_map(train))
        return adapter

    def _gate(self, train: Qrels) -> Gate | None:
        """Look at where some training queries lie, once for each such set."""
        if not self._recipe.gated:
            return None
        if id(train) not in self._gates:
            self._gates[id(train)] = find_gate(train, self._embeddings, self._seed)
        return self._gates[id(train)]

    def _ridge_map(self, train: Qrels) -> Float[Tensor, "dim_in dim_out"]:
        """Map some training queries onto their documents, once for each such set."""
        found = self._ridge_maps.get(id(train))
        if found is None:
            found = self._ridge_maps[id(train)] = ridge_map(train, self._embeddings)
        return found


def recipe_from(start: Adapter, recipe: Recipe) -> Recipe:
    """Give the recipe of a fit that goes on from an adapter: its kind and sizes are given.

    Args:
        start: The adapter.
        recipe: The knobs; those of kind and sizes at their defaults, or as the adapter has them.

    Returns:
        The recipe that says what is trained.

    Raises:
        ConfigError: The recipe asks for what the adapter is not, or there is nothing to train.
    """
    _check_trainable(start)
    own: dict[str, Any] = {"adapter": kind_of(start), "adapter_options": start.options}
    own |= {"hidden": 0, "dropout": 0.0, "gated": False}
    if type(start) is ComposedAdapter:
        own = {"adapter": "auto", "hidden": start.hidden, "gated": start.n_centroids > 0}
    usual = Recipe()
    for key, has in own.items():
        wants = getattr(recipe, key)
        is_own = has == ({**has, **wants} if isinstance(has, dict) else wants)
        if not is_own and wants != getattr(usual, key):
            raise ConfigError(
                f"recipe key '{key}' is {wants!r}, but the adapter that the fit starts from has "
                f"{has!r}: leave the key out, or fit anew"
            )
    return replace(recipe, **own)


def _check_trainable(adapter: Adapter) -> None:
    """Refuse an adapter that has nothing to train."""
    if not any(value.requires_grad for value in adapter.parameters()):
        raise ConfigError(
            f"adapter {kind_of(adapter)!r} has no parameters: there is nothing to train"
        )


def copy_adapter(adapter: Adapter) -> Adapter:
    """Make a separate adapter with the same parameters, all of its change applied."""
    copied = make_adapter(kind_of(adapter), adapter.dim_in, adapter.dim_out, adapter.options)
    copied.load_state_dict(adapter.state_dict())
    copied.normalised = adapter.normalised
    copied.blend.fill_(1.0)
    return copied


def digest_of(adapter: Adapter | None, seen: Collection[str] = ()) -> str:
    """Tell one starting adapter from another, and what queries it has seen; empty for none."""
    digest = hashlib.sha256()
    for name, value in adapter.state_dict().items() if adapter else ():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    for query in sorted(seen):
        digest.update(f"{query}\0".encode())
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
    for row, wanted in enumerate(only_relevant(train).values()):
        vectors = embeddings.documents.take_ids(list(wanted)).astype(np.float64)
        targets[row] = np.average(vectors, axis=0, weights=list(wanted.values()))
    gram = queries.T @ queries + _PENALTY * np.eye(queries.shape[1])
    return torch.from_numpy(np.linalg.solve(gram, queries.T @ targets).astype(np.float32))
