"""The two-layer adapter: ``q + W2 relu(W1 q + b1) + b2``."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab_training.adapters.base import Adapter
from trimtab_training.errors import ConfigError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "leaky_relu": nn.functional.leaky_relu,
}
"""What may stand between the layers; a leaky ReLU leaks 0.01, torch's default."""


class TwoLayerAdapter(Adapter):
    """A small network beside the raw query, or in its place where there is no residual."""

    def __init__(
        self,
        dim_in: int,
        dim_out: int | None = None,
        *,
        hidden: int = 512,
        activation: str = "relu",
        residual: bool = True,
    ) -> None:
        """Start as the identity: the second layer is zero.

        Args:
            dim_in: Values in a query vector.
            dim_out: Values in an adapted query; ``dim_in`` where absent.
            hidden: Values between the layers.
            activation: One of :data:`ACTIVATIONS`.
            residual: False for a network that gives the adapted query itself, as converted ones
                may be. It starts at zero, not at the identity, so it is no start for a fit.

        Raises:
            ConfigError: The hidden width is not positive, or the activation is unknown.
        """
        super().__init__(dim_in, dim_out)
        if hidden < 1:
            raise ConfigError(f"hidden is {hidden}; must be 1 or more")
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation is {activation!r}; expected {', '.join(ACTIVATIONS)}")
        self.hidden, self.activation, self.residual = hidden, activation, residual
        self.weight_in = nn.Parameter(torch.randn(self.dim_in, hidden) * (2 / self.dim_in) ** 0.5)
        self.bias_in = nn.Parameter(torch.zeros(hidden))
        self.weight_out = nn.Parameter(torch.zeros(hidden, self.dim_out))
        self.bias_out = nn.Parameter(torch.zeros(self.dim_out))

    @property
    def options(self) -> dict[str, Any]:
        """The hidden width, and what is not as a fit has it by default."""
        options: dict[str, Any] = {"hidden": self.hidden}
        if self.activation != "relu":
            options["activation"] = self.activation
        if not self.residual:
            options["residual"] = False
        return options

    def change(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Give ``W2 relu(W1 q + b1) + b2``, less the start where there is no residual."""
        output = self.layers(queries)
        if self.residual:
            return output
        return output - self.started(queries)

    def layers(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Give what the network makes of queries."""
        hidden = ACTIVATIONS[self.activation](queries @ self.weight_in + self.bias_in)
        return hidden @ self.weight_out + self.bias_out
