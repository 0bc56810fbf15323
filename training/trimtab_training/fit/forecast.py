"""How long a fit will take, and what it needs: from a second of its own steps on this machine."""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from trimtab_training.adapters import Adapter

_KILOBYTE, _MEGABYTE, _GIGABYTE = 1024, 1e6, 1e9
_FLOAT_BYTES = 4
_STATES = 4
"""Copies of the weights in the state of a trial under way: themselves, their mean, two moments."""
_REPORT_BYTES = 1_000_000
_MINUTE_S, _HOUR_S = 60, 3600
_SECONDS_UP_TO = 90


@dataclass(frozen=True)
class Forecast:
    """Seconds that the parts of a fit take on this machine.

    Attributes:
        step_s: One step on all training queries, by whether unlabelled documents are sampled.
        score_s: Scoring one fold's queries once.
        setup_s: Setting up one trial.
    """

    step_s: Mapping[bool, float]
    score_s: float
    setup_s: float = 0.0

    def trial_s(
        self, n_steps: int, part: float, unlabelled: Collection[float], n_scores: int
    ) -> float:
        """Expect the time of one trial.

        Args:
            n_steps: Its steps.
            part: Share of the training queries that it trains on: its batches are so much smaller.
            unlabelled: Weights of unlabelled documents that it may have, each as likely as another.
            n_scores: How often it is scored.
        """
        steps = [self.step_s[weight > 0] for weight in unlabelled]
        steps_s = n_steps * part * sum(steps) / len(steps)
        return self.setup_s + steps_s + n_scores * self.score_s


def describe_needs(seconds: float, adapter: Adapter, n_kept: int) -> str:
    """Say what a fit will take, for its user.

    Memory is the most that this process has held so far, one trial's steps included.

    Args:
        seconds: Expected time.
        adapter: An adapter as the fit trains it.
        n_kept: Whole adapters that stay on disk or in memory until the end.
    """
    weights = _FLOAT_BYTES * sum(value.numel() for value in adapter.parameters())
    disk = (_STATES + n_kept) * weights + _REPORT_BYTES
    needs = [say_time(seconds)]
    if peak := _peak_bytes():
        needs.append(f"{(peak + n_kept * weights) / _GIGABYTE:.1f} GB of memory")
    return f"the fit takes {', '.join(needs)} and at most {disk / _MEGABYTE:.0f} MB on disk"


def say_time(seconds: float) -> str:
    """Write a rough time for people: ``about 40 s``, ``about 3 min``, ``about 1 h 20 min``."""
    if seconds < _SECONDS_UP_TO:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < _HOUR_S:
        return f"about {round(seconds / _MINUTE_S)} min"
    hours, minutes = divmod(round(seconds / _MINUTE_S), _MINUTE_S)
    return f"about {hours} h {minutes} min"


def _peak_bytes() -> int:
    """Give the most memory that this process has held; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KILOBYTE
