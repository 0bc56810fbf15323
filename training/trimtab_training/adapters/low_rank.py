"""The low-rank adapter: ``q + U V^T q + b``, few parameters and few bytes to read a query."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab_training.adapters.base import Adapter
from trimtab_training.errors import ConfigError


class LowRankAdapter(Adapter):
    """A change confined to ``rank`` directions.

    Source:
        Hu et al. (2022), LoRA, arXiv:2106.09685, section 4.1: one factor starts at random, the
        other at zero.
    """

    def __init__(self, dim_in: int, dim_out: int | None = None, *, rank: int = 64) -> None:
        """Start as the identity: the second factor and the bias are zero.

        Raises:
            ConfigError: The rank is not between 1 and the smaller width.
        """
        super().__init__(dim_in, dim_out)
        if not 1 <= rank <= min(self.dim_in, self.dim_out):
            raise ConfigError(
                f"rank is {rank}; must lie from 1 to {min(self.dim_in, self.dim_out)}"
            )
        self.rank = rank
        self.reduce = nn.Parameter(torch.randn(self.dim_in, rank) / self.dim_in**0.5)
        self.expand = nn.Parameter(torch.zeros(rank, self.dim_out))
        self.bias = nn.Parameter(torch.zeros(self.dim_out))

    @property
    def options(self) -> dict[str, Any]:
        """The rank."""
        return {"rank": self.rank}

    def change(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Give ``U V^T q + b``."""
        return (queries @ self.reduce) @ self.expand + self.bias
