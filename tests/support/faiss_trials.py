"""FAISS files tried in forks of one process that has imported faiss, instead of new interpreters.

A trial in a fork takes a twentieth of the time. What tries, what it says and how it may end are
the same.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import faiss
import pytest

from trimtab.faiss_files import trial

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["__main__", __name__])


@pytest.fixture(scope="module", autouse=True)
def forked_trials() -> Iterator[None]:
    """Have all indexes that a module opens tried so: the module imports this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "_run", _run)
        yield


def _run(path: Path, flags: int) -> "subprocess.CompletedProcess[str]":
    with tempfile.NamedTemporaryFile("r") as said, tempfile.NamedTemporaryFile("r") as errors:
        child = _FORKS.Process(target=_try, args=(str(path), flags, said.name, errors.name))
        child.start()
        child.join()
        code = child.exitcode
        assert code is not None
        return subprocess.CompletedProcess([], code, said.read(), errors.read())


def _try(path: str, flags: int, said: str, errors: str) -> None:
    """What the interpreter would be told to do, in the fork."""
    for number, name in ((1, said), (2, errors)):
        os.dup2(os.open(name, os.O_WRONLY), number)
    faiss.omp_set_num_threads(1)
    trial.answer(path, flags)
    sys.stdout.flush()
