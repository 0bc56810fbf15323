"""The two-layer adapter: ``q + W2 relu(W1 q + b1) + b2``."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.adapters.base import Adapter
from training.errors import ConfigError


class TwoLayerAdapter(Adapter):
    """A small network beside the raw query (ReLU and residual)."""

    def __init__(self, dim_in: int, dim_out: int | None = None, *, hidden: int = 512) -> None:
        """Start as the identity: the second layer is zero.

        Raises:
            ConfigError: The hidden width is not positive.
        """
        super().__init__(dim_in, dim_out)
        if hidden < 1:
            raise ConfigError(f"hidden is {hidden}; must be 1 or more")
        self.hidden = hidden
        self.weight_in = nn.Parameter(torch.randn(self.dim_in, hidden) * (2 / self.dim_in) ** 0.5)
        self.bias_in = nn.Parameter(torch.zeros(hidden))
        self.weight_out = nn.Parameter(torch.zeros(hidden, self.dim_out))
        self.bias_out = nn.Parameter(torch.zeros(self.dim_out))

    @property
    def options(self) -> dict[str, Any]:
        """The hidden width."""
        return {"hidden": self.hidden}

    def change(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Give ``W2 relu(W1 q + b1) + b2``."""
        hidden = torch.relu(queries @ self.weight_in + self.bias_in)
        return hidden @ self.weight_out + self.bias_out
