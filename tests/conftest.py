"""What every test shares: its marker by folder, one thread, one seed."""

import signal
from pathlib import Path

import faiss
import pytest
import torch

from tests.support.qdrant.fixtures import qdrant, running_standin, standin

__all__ = ["qdrant", "running_standin", "standin"]  # fixtures

KINDS = {"architecture", "contract", "e2e", "integration", "property", "unit"}


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a shell starts a script's jobs in the background, and commands would inherit it: tests
        # interrupt them as a user does.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)  # tiny arrays: threads would only wait for one another
    faiss.omp_set_num_threads(1)


@pytest.hookimpl(trylast=True)  # once the order of chance is made
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        parts = item.path.relative_to(tests).parts if item.path.is_relative_to(tests) else ()
        kind = parts[0] if parts and parts[0] in KINDS else "unit"
        item.add_marker(kind)
    # The demo takes longest: at the end, one worker would run it while others have nothing to do.
    items.sort(key=lambda item: item.path.name != "test_demo.py")
