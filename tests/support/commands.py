"""`trimtab` commands: in the test's own process, or in one of their own as a user starts them.

A process of its own costs seconds for torch alone; what is no test of processes does without it.
"""

import contextlib
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from click.testing import CliRunner

from trimtab.commands.group import main
from trimtab.log import PACKAGES

TRIMTAB = Path(sys.executable).with_name("trimtab")
_IGNORED = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


@dataclass(frozen=True)
class Done:
    """What a command left on the screen.

    Attributes:
        status: Its exit status.
        stdout: What it printed.
        stderr: What it said on the way.
    """

    status: int
    stdout: str
    stderr: str

    def checked(self, status: int) -> "Done":
        """Expect an exit status, and whatever it is, no traceback."""
        assert self.status == status, self.stdout + self.stderr
        assert "Traceback" not in self.stderr
        return self


def trimtab(
    *words: object,
    cwd: Path,
    check: int = 0,
    env: Mapping[str, str | None] | None = None,
) -> Done:
    """Run a command in this process; what would be a traceback is raised.

    Args:
        words: The command's words, `trimtab` left out.
        cwd: The folder to run in.
        check: The exit status to expect.
        env: Changes of the environment; None takes a variable out.
    """
    with standing_in(cwd):
        done = CliRunner().invoke(
            main, [str(word) for word in words], env=env, catch_exceptions=False
        )
    return Done(done.exit_code, done.stdout, done.stderr).checked(check)


def trimtab_apart(*words: object, cwd: Path, check: int = 0) -> Done:
    """Run a command in a process of its own, by the installed script."""
    done = subprocess.run(
        [TRIMTAB, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr).checked(check)


@contextlib.contextmanager
def standing_in(cwd: Path) -> Iterator[None]:
    """Do something in a folder as a process of its own would, and take back what it changed."""
    with contextlib.chdir(cwd), _left_as_it_was(cwd), _warned_as_by_default():
        yield


@contextlib.contextmanager
def _left_as_it_was(cwd: Path) -> Iterator[None]:
    """Take back what a command may change in its process, which would end with it."""
    loggers = [logging.getLogger(name) for name in PACKAGES]
    logged = [(one.level, one.handlers[:], one.propagate) for one in loggers]
    environment, path, threads = dict(os.environ), sys.path[:], torch.get_num_threads()
    try:
        yield
    finally:
        for logger, (level, handlers, propagate) in zip(loggers, logged, strict=True):
            logger.setLevel(level)
            logger.handlers[:], logger.propagate = handlers, propagate
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        torch.set_num_threads(threads)
        for name, module in list(sys.modules.items()):  # a user's own, imported from there
            file = getattr(module, "__file__", None)
            if file is not None and Path(file).is_relative_to(cwd):
                del sys.modules[name]


@contextlib.contextmanager
def _warned_as_by_default() -> Iterator[None]:
    """Show warnings on stderr, and those alone that Python shows: pytest makes all of them errors.

    Many are of others' packages, raised while these are imported; a user's process goes on.
    """

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in _IGNORED:
            warnings.simplefilter("ignore", category)
        warnings.showwarning = show
        yield
