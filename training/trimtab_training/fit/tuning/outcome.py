"""What became of a tuning's trial, in memory and on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from trimtab_training.fit.checkpoint import State
from trimtab_training.fit.model_selection import Scores
from trimtab_training.fit.trainer import Curve

_BEST = "best."


@dataclass
class Tuned:
    """What became of a trial.

    Attributes:
        curve: Mean training loss of every round of steps, and the step at its end.
        held_out: Scores of held-out queries after every pass, by way of use.
        best: The weights after the pass that scores best, by way of use.
    """

    curve: Curve = field(default_factory=list)
    held_out: list[dict[str, Scores]] = field(default_factory=list)
    best: dict[str, list[Tensor]] = field(default_factory=dict)

    def best_pass(self, way: str) -> int:
        """Give the number of the pass that scores best, from 1; 0 where none was scored."""
        means = [scores[way].mean() for scores in self.held_out]
        return 1 + int(np.argmax(means)) if means else 0

    def is_past_best(self, patience: int) -> bool:
        """Tell whether no way of use has gained for so many passes."""
        if not self.held_out:
            return False
        best = max(self.best_pass(way) for way in self.held_out[0])
        return len(self.held_out) - best >= patience

    def state(self) -> State:
        """Give the weights as one state's tensors."""
        return write_groups({f"{_BEST}{way}": kept for way, kept in self.best.items()})

    def record(self) -> dict[str, Any]:
        """Give everything else as plain JSON types."""
        held_out = [{way: list(each) for way, each in one.items()} for one in self.held_out]
        return {"curve": self.curve, "held_out": held_out}

    @classmethod
    def read(cls, state: State, record: Mapping[str, Any]) -> "Tuned":
        """Take what :meth:`state` and :meth:`record` gave."""
        held_out = [
            {way: np.array(scores) for way, scores in each.items()} for each in record["held_out"]
        ]
        ways = held_out[0] if held_out else {}
        best = {way: read_group(state, f"{_BEST}{way}") for way in ways}
        return cls(record["curve"], held_out, {way: kept for way, kept in best.items() if kept})


def write_groups(groups: Mapping[str, list[Tensor]]) -> State:
    """Name the tensors of several groups by group and place."""
    return {
        f"{group}.{place}": value
        for group, tensors in groups.items()
        for place, value in enumerate(tensors)
    }


def read_group(state: State, name: str) -> list[Tensor]:
    """Take the tensors of one group, in their order."""
    n_tensors = sum(key.startswith(f"{name}.") for key in state)
    return [state[f"{name}.{place}"] for place in range(n_tensors)]
