"""The adapter that a default fit makes: linear, two-layer and local parts behind one gate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.adapters.base import Adapter
from training.errors import ConfigError
from training.search import normalise

SHIFT_STEP = 3.0
"""Adam moves all parameters alike; shifts are to move so many times faster than the matrices."""

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
    """``q + g(q) (D q + b + W2 relu(W1 q + b1) + V softmax(P q / t))``; any part may be missing.

    ``D`` and ``b`` shift all queries alike, the hidden layer bends, and every prototype (a row of
    ``P``: the mean direction of a few training queries) has a learned shift of its own in ``V``,
    for the queries around it. The gate ``g`` falls from 1 to 0 where a query is far from all
    training queries, since nothing is known of such queries.

    Prototypes and gate are set, not trained (:meth:`set_prototypes`, :meth:`set_gate`), so the
    mean of several trained ones over the same prototypes is one of the same size but for its
    hidden layers, which stand side by side in it.

    Source:
        Softmax over prototypes: a normalised radial basis network, Moody & Darken (1989), Neural
        Computation 1(2), eq. 2.3, doi:10.1162/neco.1989.1.2.281.
    """

    prototypes: Tensor
    temperature: Tensor
    gate_centroids: Tensor
    gate_bounds: Tensor
    input_range: Tensor
    hidden_range: Tensor
    prototype_range: Tensor

    def __init__(
        self,
        dim_in: int,
        dim_out: int | None = None,
        *,
        hidden: int = 0,
        prototypes: int = 0,
        centroids: int = 0,
    ) -> None:
        """Start as the identity: difference, second layer and shifts are zero.

        Raises:
            ConfigError: A size is negative.
        """
        super().__init__(dim_in, dim_out)
        if min(hidden, prototypes, centroids) < 0:
            raise ConfigError(
                f"sizes are {hidden}, {prototypes} and {centroids}; must be 0 or more"
            )
        self.hidden, self.n_prototypes, self.n_centroids = hidden, prototypes, centroids
        self.difference = nn.Parameter(torch.zeros(self.dim_in, self.dim_out))
        self.bias = nn.Parameter(torch.zeros(self.dim_out))
        self.weight_in = nn.Parameter(torch.randn(self.dim_in, hidden) * (2 / self.dim_in) ** 0.5)
        self.bias_in = nn.Parameter(torch.zeros(hidden))
        self.weight_out = nn.Parameter(torch.zeros(hidden, self.dim_out))
        self.shifts = nn.Parameter(torch.zeros(prototypes, self.dim_out))
        self.register_buffer("prototypes", torch.zeros(self.dim_in, prototypes))
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("gate_centroids", torch.zeros(self.dim_in, centroids))
        self.register_buffer("gate_bounds", torch.tensor([0.0, 1.0]))
        self.register_buffer("input_range", torch.tensor(0.0))
        self.register_buffer("hidden_range", torch.zeros(hidden))
        self.register_buffer("prototype_range", torch.tensor(0.0))

    @property
    def averages(self) -> bool:  # type: ignore[override]
        """Tell whether parameters may be averaged: all but a hidden layer's."""
        return self.hidden == 0

    @property
    def options(self) -> dict[str, Any]:
        """The sizes of the parts."""
        return {
            "hidden": self.hidden,
            "prototypes": self.n_prototypes,
            "centroids": self.n_centroids,
        }

    def set_prototypes(
        self, prototypes: Float[Tensor, "dim_in prototypes"], temperature: float
    ) -> None:
        """Take prototypes, unit vectors as columns, and what divides cosines with them."""
        self.prototypes.copy_(prototypes)
        self.temperature.fill_(temperature)

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
        """Note how large coordinates, hidden units and prototypes' shares get, for 8-bit products.

        Args:
            queries: Queries like those to come, such as the training queries.
        """
        queries = normalise(queries) if self.normalised else queries
        self.input_range.copy_(_MARGIN * queries.abs().max().clamp_min(_LEAST_RANGE))
        if self.hidden:
            largest = self._hidden(queries).amax(dim=0)
            self.hidden_range.copy_(_MARGIN * largest.clamp_min(_LEAST_RANGE))
        if self.n_prototypes:
            largest = self._shares(normalise(queries)).max()
            self.prototype_range.copy_((_MARGIN * largest).clamp_max(1.0))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take a saved state; one of version 0.1 is not calibrated."""
        state_dict.setdefault(f"{prefix}input_range", torch.tensor(0.0))
        state_dict.setdefault(f"{prefix}hidden_range", torch.zeros(self.hidden))
        state_dict.setdefault(f"{prefix}prototype_range", torch.tensor(0.0))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Adapt queries; where lengths mean nothing to the index, they mean nothing here."""
        return super().forward(normalise(queries) if self.normalised else queries)

    def change(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Give the parts' sum, as much of it as the gate lets through."""
        change = queries @ self.difference + self.bias
        if self.hidden:
            change = change + self._hidden(queries) @ self.weight_out
        if not self.n_prototypes and not self.n_centroids:
            return change
        directions = normalise(queries)
        if self.n_prototypes:
            change = change + self._shares(directions) @ (SHIFT_STEP * self.shifts)
        if self.n_centroids:
            change = change * self._gate(directions)
        return change

    def _hidden(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n hidden"]:
        """Give what the hidden units make of each query."""
        return torch.relu(queries @ self.weight_in + self.bias_in)

    def _shares(self, directions: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n prototypes"]:
        """Give the share of each prototype in each query's shift."""
        return torch.softmax(directions @ self.prototypes / self.temperature, dim=-1)

    def _gate(self, directions: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n 1"]:
        """Give the share of the change that is applied to each query."""
        nearest = torch.amax(directions @ self.gate_centroids, dim=-1, keepdim=True)
        return torch.sigmoid((nearest - self.gate_bounds[0]) / self.gate_bounds[1])


def compose(adapters: Sequence[ComposedAdapter]) -> ComposedAdapter:
    """Make one adapter whose change is the mean of several adapters' changes.

    Linear parts are averaged, hidden layers stand side by side, and shifts of prototypes are
    averaged over all adapters, those without prototypes counting as shifts of zero.

    Args:
        adapters: Trained adapters under one gate; all that have prototypes have the same.
    """
    first, n = adapters[0], len(adapters)
    local = [each for each in adapters if each.n_prototypes]
    with torch.random.fork_rng(devices=[]):  # its random start is overwritten at once
        composed = ComposedAdapter(
            first.dim_in,
            first.dim_out,
            hidden=sum(each.hidden for each in adapters),
            prototypes=local[0].n_prototypes if local else 0,
            centroids=first.n_centroids,
        )
    composed.normalised = first.normalised
    with torch.no_grad():
        composed.start = first.start.clone()
        composed.gate_centroids.copy_(first.gate_centroids)
        composed.gate_bounds.copy_(first.gate_bounds)
        composed.difference.copy_(torch.stack([each.difference for each in adapters]).mean(dim=0))
        composed.bias.copy_(torch.stack([each.bias for each in adapters]).mean(dim=0))
        composed.weight_in.copy_(torch.cat([each.weight_in for each in adapters], dim=1))
        composed.bias_in.copy_(torch.cat([each.bias_in for each in adapters]))
        composed.weight_out.copy_(torch.cat([each.weight_out for each in adapters]) / n)
        if local:
            composed.set_prototypes(local[0].prototypes, float(local[0].temperature))
            composed.shifts.copy_(torch.stack([each.shifts for each in local]).sum(dim=0) / n)
    return composed
