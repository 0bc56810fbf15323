"""Where a fit computes, and under which seed."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from trimtab_training.errors import ConfigError

_WORTH_SHARING = 1e9
"""Multiplications and additions of a step below which a second thread waits more than it works."""


def find_device(name: str) -> torch.device:
    """Find a device.

    Raises:
        ConfigError: It is not there.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} can't be used here: {str(error).splitlines()[0]}"
        ) from error
    return device


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Run a block under a seed, leaving the caller's random state alone."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # those of accelerators stay the caller's
        else:
            torch.manual_seed(seed)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Run a block on one thread.

    A factorisation of a small matrix is a chain of short steps: beside another busy process, the
    threads that share one wait for each other hundreds of times as long as they work.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(n_operations: float) -> AbstractContextManager[None]:
    """Run a block of steps on one thread where a step is too small to be shared.

    Args:
        n_operations: Multiplications and additions of one step, forward.
    """
    return one_thread() if n_operations < _WORTH_SHARING else nullcontext()
