"""What every adapter is: a torch module from query vectors to adapted queries."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab_training.errors import ConfigError
from trimtab_training.retrieval.exact_search import normalise


class Adapter(nn.Module):
    """Base of every adapter; subclass it to train a map of your own.

    A subclass sets up its parameters in ``__init__(dim_in, dim_out, **options)``, calls
    ``super().__init__(dim_in, dim_out)``, and gives the learned change in :meth:`change`. It
    should start with a change of zero (the last layer's weights zero), so that training starts at
    the raw query. Everything in :meth:`change` must be expressible in standard ONNX operators.

    Attributes:
        dim_in: Values in a query vector.
        dim_out: Values in an adapted query.
        normalised: True where adapted queries have unit length.
        blend: Share of the learned change that is applied, from 0 (the raw query) to 1.
    """

    start: Tensor
    blend: Tensor

    def __init__(self, dim_in: int, dim_out: int | None = None) -> None:
        """Set up an adapter that starts as the identity, or where :meth:`start_from` says.

        Raises:
            ConfigError: A width is not a positive number.
        """
        super().__init__()
        dim_out = dim_in if dim_out is None else dim_out
        if dim_in < 1 or dim_out < 1:
            raise ConfigError(f"adapter widths are {dim_in} and {dim_out}; must be 1 or more")
        self.dim_in, self.dim_out = dim_in, dim_out
        self.normalised = True
        self.register_buffer("blend", torch.ones(()))
        self.register_buffer(
            "start", torch.eye(dim_in, dim_out) if dim_in != dim_out else torch.empty(0)
        )

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments that make the same adapter again, besides the two widths."""
        return {}

    def change(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Give what training adds to each query; zero before any training."""
        raise NotImplementedError(f"{type(self).__name__} must define change(queries)")

    def forward(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Adapt queries: the start, plus the blended change, normalised where that is set."""
        adapted = self.started(queries) + self.blend * self.change(queries)
        return normalise(adapted) if self.normalised else adapted

    def started(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Give what the adapter makes of queries before any training."""
        return queries @ self.start if self.has_start else queries

    @property
    def has_start(self) -> bool:
        """Tell whether training starts at a map; else it starts at the raw query."""
        return self.start.numel() > 0

    def start_from(self, matrix: Float[Tensor, "dim_in dim_out"]) -> None:
        """Start from a linear map instead of the identity: ``queries @ matrix``."""
        self.start = matrix.to(self.blend)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take a saved state, which says itself whether there is a start."""
        saved = state_dict.get(f"{prefix}start")
        if saved is not None and saved.shape in {(0,), (self.dim_in, self.dim_out)}:
            self.start = torch.empty_like(saved, device=self.blend.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def for_export(self) -> nn.Module:
        """Give the cheapest module with the same outputs, where a class of your own has one."""
        return self
