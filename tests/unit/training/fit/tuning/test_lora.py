"""Low-rank additions: nothing at the start, trained alone, and merged into the weights exactly."""

import pytest
import torch
from torch import nn

from trimtab_training.errors import ConfigError
from trimtab_training.fit.tuning.lora import LoraLinear, add_lora, merge_lora, reset_lora

ROUNDING = 1e-12
"""Of float64 sums of 8 products in another order."""


class Block(nn.Module):
    """A layer with a part that no sentence passes through."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 6)
        self.pooler = nn.Linear(6, 6)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(inputs))


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    return Block().double()


def train(parameters: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter))


def test_addition_is_zero_at_the_start(block: Block) -> None:
    inputs = torch.randn(5, 8, dtype=torch.float64)
    before = block(inputs)
    add_lora(block, 2)
    assert torch.equal(block(inputs), before)


def test_merged_weights_give_what_the_addition_gave(block: Block) -> None:
    inputs = torch.randn(5, 8, dtype=torch.float64)
    untouched = block(inputs)
    train(add_lora(block, 2))
    trained = block(inputs)
    merge_lora(block)
    assert type(block.dense) is nn.Linear
    assert (block(inputs) - trained).abs().max() < ROUNDING
    assert (trained - untouched).abs().max() > 0.1


def test_merged_weights_are_the_sum_to_the_bit(block: Block) -> None:
    add_lora(block, 2)
    layer = block.dense
    assert isinstance(layer, LoraLinear)
    train([layer.lora_in, layer.lora_out])
    expected = layer.base.weight + layer.lora_out @ layer.lora_in
    merge_lora(block)
    assert torch.equal(block.dense.weight, expected)


def test_only_the_addition_is_trained(block: Block) -> None:
    parameters = add_lora(block, 2)
    assert [tuple(parameter.shape) for parameter in parameters] == [(2, 8), (6, 2)]
    open_ones = [each for each in block.parameters() if each.requires_grad]
    assert {id(each) for each in open_ones} == {id(each) for each in parameters}
    assert type(block.pooler) is nn.Linear


def test_rank_is_no_more_than_the_layers_own(block: Block) -> None:
    assert [tuple(each.shape) for each in add_lora(block, 99)] == [(6, 8), (6, 6)]


def test_reset_takes_the_addition_back(block: Block) -> None:
    inputs = torch.randn(5, 8, dtype=torch.float64)
    before = block(inputs)
    train(add_lora(block, 2))
    reset_lora(block)
    assert torch.equal(block(inputs), before)


def test_module_without_such_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="no linear layers in its transformer for 'lora'"):
        add_lora(nn.Sequential(nn.Embedding(3, 4)), 2)
