"""What unit tests share: FAISS files are tried in this process.

A child of its own for every file takes half a second; tests/integration and tests/property have it.
"""

import contextlib
import io
import subprocess
from pathlib import Path

import pytest

from trimtab.faiss_files import trial


def run_here(path: Path, flags: int) -> "subprocess.CompletedProcess[str]":
    """Answers as the child does."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        trial.answer(str(path), flags)
    return subprocess.CompletedProcess([], 0, said.getvalue(), "")


@pytest.fixture(autouse=True)
def _try_files_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_run", run_here)
