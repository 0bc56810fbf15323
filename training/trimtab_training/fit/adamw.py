"""AdamW over torch's fused kernel, without ``torch.optim``.

The first optimiser of ``torch.optim`` that a process makes imports torch's compiler and sympy: 2.5
seconds of processor time that a fit of a small dataset is not much longer than.

Source:
    Loshchilov & Hutter (2019), ICLR, arXiv:1711.05101, algorithm 2; Kingma & Ba (2015),
    arXiv:1412.6980.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

_BETAS = (0.9, 0.999)
_EPS = 1e-8
_MOMENTS = ("exp_avg", "exp_avg_sq")


class AdamW:
    """Steps along the gradients of some parameters, which decay apart from them."""

    def __init__(self, parameters: Iterable[Tensor], *, weight_decay: float) -> None:
        """Begin with moments of zero.

        Args:
            parameters: What is trained; all floating.
            weight_decay: Share of a parameter that a step of learning rate 1 takes off.
        """
        self._parameters = list(parameters)
        self._weight_decay = weight_decay
        self._states = [
            {name: torch.zeros_like(parameter) for name in _MOMENTS}
            | {"step": torch.zeros((), device=parameter.device)}
            for parameter in self._parameters
        ]

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take a step; parameters without a gradient stay.

        Args:
            learning_rate: Of this step.
        """
        for parameters, gradients, states in self._with_gradients():
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                parameters,
                gradients,
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=learning_rate,
                beta1=_BETAS[0],
                beta2=_BETAS[1],
                weight_decay=self._weight_decay,
                eps=_EPS,
                amsgrad=False,
                maximize=False,
            )

    def _with_gradients(
        self,
    ) -> Iterator[tuple[list[Tensor], list[Tensor], list[dict[str, Tensor]]]]:
        """Group what has a gradient by its type and device, as the kernel wants it."""
        groups: dict[tuple[torch.dtype, torch.device], list[tuple[Tensor, Tensor, Any]]] = {}
        for parameter, state in zip(self._parameters, self._states, strict=True):
            if (gradient := parameter.grad) is not None:
                group = groups.setdefault((parameter.dtype, parameter.device), [])
                group.append((parameter, gradient, state))
        for group in groups.values():
            parameters, gradients, states = map(list, zip(*group, strict=True))
            yield parameters, gradients, states

    def state_dict(self) -> dict[str, Tensor]:
        """Give what the next step depends on, as ``NUMBER.NAME``."""
        return {
            f"{number}.{name}": value
            for number, state in enumerate(self._states)
            for name, value in state.items()
        }

    def load_state_dict(self, found: dict[str, Tensor]) -> None:
        """Take what :meth:`state_dict` gave; what is missing there begins at zero."""
        for name, value in found.items():
            number, _, key = name.partition(".")
            self._states[int(number)][key].copy_(value)
