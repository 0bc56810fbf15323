"""The identity: what is served where no adapter helps but a model is wanted all the same."""

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab_training.adapters.base import Adapter


class IdentityAdapter(Adapter):
    """Changes nothing but, where output is normalised, the length of a query."""

    def change(self, queries: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        """Give zero."""
        return torch.zeros_like(queries)
