"""Low-rank additions to linear layers: trained in their place, then merged into the weights."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trimtab_training.errors import ConfigError

_NO_PART = ("pooler", "embeddings", "lm_head", "cls", "classifier")
"""Parts of a transformer that a sentence's vector does not pass through, and token embeddings."""


class LoraLinear(nn.Module):
    """A frozen linear layer and a trained addition of low rank, zero at the start.

    ``y = x W^T + b + x A^T B^T`` with ``A`` of shape ``(rank, in)`` and ``B`` of ``(out, rank)``.
    The scale of the published form is left out: AdamW's steps do not depend on it but through the
    learning rate.

    Source:
        Hu et al. (2022), ICLR, arXiv:2106.09685, eq. 3.
    """

    def __init__(self, base: nn.Linear, rank: int) -> None:
        """Wrap a layer; its own weights are frozen."""
        super().__init__()
        self.base = base.requires_grad_(False)
        rank = min(rank, base.in_features, base.out_features)
        self.lora_in = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.lora_out = nn.Parameter(base.weight.new_empty(base.out_features, rank))
        self.reset()

    def reset(self) -> None:
        """Draw the first weights: the addition is zero."""
        nn.init.normal_(self.lora_in, std=1 / math.sqrt(self.base.in_features))
        nn.init.zeros_(self.lora_out)

    def forward(self, inputs: Float[Tensor, "*rows dim_in"]) -> Float[Tensor, "*rows dim_out"]:
        """Give the layer's output with the addition."""
        added = nn.functional.linear(nn.functional.linear(inputs, self.lora_in), self.lora_out)
        found: Tensor = self.base(inputs) + added
        return found

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Give a plain layer with the addition in its weights."""
        self.base.weight += self.lora_out @ self.lora_in
        return self.base


def add_lora(module: nn.Module, rank: int) -> list[Tensor]:
    """Put low-rank additions onto every linear layer of attention and feed-forward.

    Args:
        module: A transformer; changed in place, its parameters frozen.
        rank: Rank of each addition.

    Returns:
        The parameters to train, in the order of the layers.

    Raises:
        ConfigError: There is no such layer.
    """
    module.requires_grad_(False)
    found = [
        (parent, name, layer)
        for path, parent in module.named_modules()
        for name, layer in parent.named_children()
        if isinstance(layer, nn.Linear) and not _has_no_part(f"{path}.{name}")
    ]
    if not found:
        raise ConfigError(
            "the encoder has no linear layers in its transformer for 'lora'; tune it with 'all'"
        )
    for parent, name, layer in found:
        setattr(parent, name, LoraLinear(layer, rank))
    return [
        parameter for _, layer in _wrapped(module) for parameter in (layer.lora_in, layer.lora_out)
    ]


def reset_lora(module: nn.Module) -> None:
    """Draw first weights for every addition anew."""
    for _, layer in _wrapped(module):
        layer.reset()


def merge_lora(module: nn.Module) -> None:
    """Put every addition into its layer's weights; plain linear layers are left, nothing else."""
    for path, layer in list(_wrapped(module)):
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, layer.merged())


def _wrapped(module: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Yield every layer with an addition, with its path."""
    for path, layer in module.named_modules():
        if isinstance(layer, LoraLinear):
            yield path, layer


def _has_no_part(path: str) -> bool:
    """Tell whether a layer is none of attention and feed-forward."""
    return not set(path.split(".")).isdisjoint(_NO_PART)
