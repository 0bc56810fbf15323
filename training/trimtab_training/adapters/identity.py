"""The identity: what is served where no adapter helps but a model is wanted all the same."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab_training.adapters.base import Adapter
from trimtab_training.retrieval.exact_search import normalise


class IdentityAdapter(Adapter):
    """Changes nothing but, where output is normalised, the length of a query."""

    def change(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Give zero."""
        return torch.zeros_like(queries)

    def for_export(self) -> nn.Module:
        """Leave out the adding of nothing."""
        return _Identity(normalised=self.normalised)


class _Identity(nn.Module):
    """The raw query, perhaps normalised."""

    def __init__(self, *, normalised: bool) -> None:
        """Remember whether to normalise."""
        super().__init__()
        self.normalised = normalised

    def forward(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_in"]:
        """Give the queries back."""
        return normalise(queries) if self.normalised else queries.clone()
