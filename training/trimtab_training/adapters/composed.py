"""The adapter that a default fit makes: a linear part and a hidden layer behind one gate."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab_training.adapters.base import Adapter
from trimtab_training.errors import ConfigError
from trimtab_training.retrieval.exact_search import normalise

_MARGIN = 1.25
"""How much larger than in any training query a coordinate or a hidden unit may be before it is cut
off."""
_LEAST_RANGE = 1e-6


@dataclass(frozen=True)
class Gate:
    """Where the change is applied: near the training queries.

    Attributes:
        centroids: Unit vectors, shape ``(dim_in, centroids)``.
        threshold: Cosine with the best centroid at which half of the change is left.
        width: How much more or less it takes to go from a half to 73 % or 27 %.
    """

    centroids: Float[Tensor, "dim_in centroids"]
    threshold: float
    width: float


class ComposedAdapter(Adapter):
    """``q + g(q) (D q + b + W2 relu(W1 q + b1))``; hidden layer and gate may be missing.

    ``D`` and ``b`` shift all queries alike, and the hidden layer bends. The gate ``g`` falls from 1
    to 0 where a query is far from all training queries, since nothing is known of such queries. It
    is set, not trained (:meth:`set_gate`). Of a given rank, ``D`` is a product of two narrow
    matrices (:meth:`of_rank`).

    Attributes:
        dropout: Share of the hidden units that each training step leaves out.

    Source:
        Srivastava et al. (2014), JMLR 15, section 4: dropout.
    """

    gate_centroids: Tensor
    gate_bounds: Tensor
    input_range: Tensor
    linear_range: Tensor
    hidden_range: Tensor

    def __init__(
        self,
        dim_in: int,
        dim_out: int | None = None,
        *,
        hidden: int = 0,
        centroids: int = 0,
        rank: int = 0,
    ) -> None:
        """Start as the identity: difference and second layer are zero.

        Args:
            dim_in: Values in a query vector.
            dim_out: Values in an adapted query; as many, where absent.
            hidden: Hidden units.
            centroids: Centroids of the gate; 0 for none.
            rank: Rank of the difference; 0 for any, in one matrix.

        Raises:
            ConfigError: A size is negative.
        """
        super().__init__(dim_in, dim_out)
        if min(hidden, centroids, rank) < 0:
            raise ConfigError(f"sizes are {hidden}, {centroids} and {rank}; must be 0 or more")
        self.hidden, self.n_centroids, self.rank = hidden, centroids, rank
        self.dropout = 0.0
        if rank:
            self.difference_in = nn.Parameter(torch.randn(self.dim_in, rank) / self.dim_in**0.5)
            self.difference_out = nn.Parameter(torch.zeros(rank, self.dim_out))
        else:
            self.difference = nn.Parameter(torch.zeros(self.dim_in, self.dim_out))
        self.bias = nn.Parameter(torch.zeros(self.dim_out))
        self.weight_in = nn.Parameter(torch.randn(self.dim_in, hidden) * (2 / self.dim_in) ** 0.5)
        self.bias_in = nn.Parameter(torch.zeros(hidden))
        self.weight_out = nn.Parameter(torch.zeros(hidden, self.dim_out))
        self.register_buffer("gate_centroids", torch.zeros(self.dim_in, centroids))
        self.register_buffer("gate_bounds", torch.tensor([0.0, 1.0]))
        self.register_buffer("input_range", torch.tensor(0.0))
        self.register_buffer("linear_range", torch.zeros(rank))
        self.register_buffer("hidden_range", torch.zeros(hidden))

    @property
    def options(self) -> dict[str, Any]:
        """The sizes of the parts."""
        rank = {"rank": self.rank} if self.rank else {}
        return {"hidden": self.hidden, "centroids": self.n_centroids, **rank}

    def set_gate(self, gate: Gate) -> None:
        """Take a gate."""
        self.gate_centroids.copy_(gate.centroids)
        self.gate_bounds.copy_(torch.tensor([gate.threshold, gate.width]))

    @property
    def is_calibrated(self) -> bool:
        """Tell whether it is known how large queries and hidden units get."""
        return bool(self.input_range > 0)

    @torch.no_grad()
    def calibrate(self, queries: Float[Tensor, "n dim_in"]) -> None:
        """Note how large coordinates and hidden units get, for 8-bit products.

        Args:
            queries: Queries like those to come, such as the training queries.
        """
        queries = normalise(queries) if self.normalised else queries
        self.input_range.copy_(_MARGIN * queries.abs().max().clamp_min(_LEAST_RANGE))
        if self.rank:
            largest = (queries @ self.difference_in).abs().amax(dim=0)
            self.linear_range.copy_(_MARGIN * largest.clamp_min(_LEAST_RANGE))
        if self.hidden:
            largest = self._hidden(queries).amax(dim=0)
            self.hidden_range.copy_(_MARGIN * largest.clamp_min(_LEAST_RANGE))

    @torch.no_grad()
    def of_rank(
        self, rank: int, queries: Float[Tensor, "n dim_in"] | None = None
    ) -> "ComposedAdapter":
        """Give the adapter of a lower rank whose linear shifts of some queries are the nearest.

        Args:
            rank: Rank of the difference.
            queries: Queries like those to come, such as the training queries; at least ``rank``.
                An adapter of a rank needs none: it remembers the order of its columns.

        Returns:
            A new adapter. Its first columns alone are the adapter of a still lower rank.

        Source:
            Eckart & Young (1936), Psychometrika 1(3), doi:10.1007/BF02288367, for the shifts
            ``Q D``: the nearest of a rank are ``Q D V V^T``, ``V`` their first right singular
            vectors.
        """
        if self.rank:
            outer, inner = self.difference_in[:, :rank], self.difference_out[:rank]
        else:
            assert queries is not None  # noqa: S101 - a whole matrix is narrowed by queries
            queries = normalise(queries) if self.normalised else queries
            _, _, rows = torch.linalg.svd(queries @ self.difference, full_matrices=False)
            outer, inner = self.difference @ rows[:rank].T, rows[:rank]
        with torch.random.fork_rng(devices=[]):  # its first weights are replaced
            narrow = ComposedAdapter(
                self.dim_in,
                self.dim_out,
                hidden=self.hidden,
                centroids=self.n_centroids,
                rank=len(inner),
            ).to(self.blend.device)
        replaced = {"difference_in": outer, "difference_out": inner}
        replaced["linear_range"] = torch.zeros(len(inner))
        own = {key: value for key, value in self.state_dict().items() if key != "difference"}
        narrow.normalised, narrow.dropout = self.normalised, self.dropout
        narrow.load_state_dict({**own, **replaced})
        return narrow.train(self.training)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take a saved state; one of version 0.1 is not calibrated."""
        state_dict.setdefault(f"{prefix}input_range", torch.tensor(0.0))
        state_dict.setdefault(f"{prefix}linear_range", torch.zeros(self.rank))
        state_dict.setdefault(f"{prefix}hidden_range", torch.zeros(self.hidden))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Adapt queries; where lengths mean nothing to the index, they mean nothing here."""
        return super().forward(normalise(queries) if self.normalised else queries)

    def change(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Give the parts' sum, as much of it as the gate lets through."""
        if self.rank:
            change = torch.addmm(self.bias, queries @ self.difference_in, self.difference_out)
        else:
            change = torch.addmm(self.bias, queries, self.difference)
        if self.hidden:
            active = nn.functional.dropout(self._hidden(queries), self.dropout, self.training)
            change = change + active @ self.weight_out
        return change * self._gate(queries) if self.n_centroids else change

    def _hidden(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n hidden"]:
        """Give what the hidden units make of each query."""
        return torch.relu(torch.addmm(self.bias_in, queries, self.weight_in))

    def _gate(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n 1"]:
        """Give the share of the change that is applied to each query."""
        nearest = torch.amax(normalise(queries) @ self.gate_centroids, dim=-1, keepdim=True)
        return torch.sigmoid((nearest - self.gate_bounds[0]) / self.gate_bounds[1])
