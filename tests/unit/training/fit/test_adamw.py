"""The optimiser: the same numbers as torch's own, without what its import brings."""

import subprocess
import sys

import pytest
import torch

from trimtab_training.fit.adamw import AdamW

SHAPES = ((7, 5), (5,), (), (3, 4))


def parameters(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    draw = torch.Generator().manual_seed(3)
    return [torch.nn.Parameter(torch.randn(shape, generator=draw).to(dtype)) for shape in SHAPES]


def give_gradients(parameters: list[torch.nn.Parameter], step: int) -> None:
    draw = torch.Generator().manual_seed(step)
    for number, parameter in enumerate(parameters):
        gradient = torch.randn(parameter.shape, generator=draw).to(parameter)
        parameter.grad = None if number == 3 and step % 2 else gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_steps_are_those_of_torch_to_the_last_bit(dtype: torch.dtype, weight_decay: float) -> None:
    ours, theirs = parameters(dtype), parameters(dtype)
    own = AdamW(ours, weight_decay=weight_decay)
    reference = torch.optim.AdamW(theirs, weight_decay=weight_decay, fused=True)
    for step in range(1, 12):
        rate = 0.1 / step
        give_gradients(ours, step)
        give_gradients(theirs, step)
        own.step(rate)
        reference.param_groups[0]["lr"] = rate
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_a_state_goes_on_where_it_was() -> None:
    through, until = parameters(torch.float32), parameters(torch.float32)
    whole, first = AdamW(through, weight_decay=0.1), AdamW(until, weight_decay=0.1)
    for step in range(1, 5):
        give_gradients(through, step)
        whole.step(0.01)
    for step in range(1, 3):
        give_gradients(until, step)
        first.step(0.01)
    second = AdamW(until, weight_decay=0.1)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    for step in range(3, 5):
        give_gradients(until, step)
        second.step(0.01)
    for one, other in zip(through, until, strict=True):
        assert torch.equal(one, other)


def test_the_compiler_of_torch_stays_out() -> None:
    code = (
        "import sys, torch; from trimtab_training.fit.adamw import AdamW\n"
        "weight = torch.nn.Parameter(torch.ones(2)); weight.grad = torch.ones(2)\n"
        "AdamW([weight], weight_decay=0.1).step(0.1)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
