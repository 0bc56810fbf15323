"""The linear adapter: ``W q + b``, learned as a difference from the identity."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab_training.adapters.base import Adapter


class LinearAdapter(Adapter):
    """``q + D q + b``: weight decay on ``D`` pulls towards the identity, not towards zero."""

    def __init__(self, dim_in: int, dim_out: int | None = None) -> None:
        """Start as the identity: difference and bias are zero."""
        super().__init__(dim_in, dim_out)
        self.difference = nn.Parameter(torch.zeros(self.dim_in, self.dim_out))
        self.bias = nn.Parameter(torch.zeros(self.dim_out))

    def change(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Give ``D q + b``."""
        return queries @ self.difference + self.bias
