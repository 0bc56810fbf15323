"""Processes of a benchmark: where they may run, when they listen, what they use, their end."""

import contextlib
import os
import selectors
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
_START_TIMEOUT_S, _STOP_TIMEOUT_S, _STEP_S = 30.0, 10.0, 0.02
_TICKS = os.sysconf("SC_CLK_TCK")
_USER_TICKS, _SYSTEM_TICKS, _PARENT = 11, 12, 1  # in /proc/PID/stat behind the name; see proc(5)


class MissingError(Exception):
    """A contender can't be run here; the text says why."""


@dataclass(frozen=True)
class Cores:
    """Which cores each side may use; None leaves it to the kernel."""

    client: frozenset[int] | None = None
    upstream: frozenset[int] | None = None
    proxy: frozenset[int] | None = None

    @classmethod
    def plan(cls, pin: str) -> "Cores":
        """Share out the cores, the same for every contender.

        ``split`` keeps the proxy off the cores of the load generator and the upstream, who share
        one where there are only two; ``together`` puts all three on one core, so that a request
        never waits for another core to wake; ``none`` leaves it to the kernel.
        """
        cores = sorted(os.sched_getaffinity(0))
        if pin == "none" or len(cores) < 2:
            return cls()
        if pin == "together":
            return cls(*[frozenset(cores[-1:])] * 3)
        if len(cores) == 2:
            return cls(frozenset(cores[:1]), frozenset(cores[:1]), frozenset(cores[1:]))
        return cls(frozenset(cores[:1]), frozenset(cores[1:2]), frozenset(cores[2:]))

    def as_dict(self) -> dict[str, list[int] | None]:
        """Give the cores of each side."""
        return {side: sorted(cores) if cores else None for side, cores in vars(self).items()}


@contextlib.contextmanager
def on_cores(cores: frozenset[int] | None) -> Iterator[None]:
    """Let what is started in the block inherit these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def first_line(process: subprocess.Popen[str]) -> str:
    """Wait for the line by which a process says that it is ready."""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(_START_TIMEOUT_S) else ""
    if not line:
        raise MissingError(f"{process.args[0]} said nothing within {_START_TIMEOUT_S} s, or ended")
    return line


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str], *, ports: Iterable[int] = (), paths: Iterable[Path] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the block ends.

    Args:
        command: What to run.
        ports: Loopback ports that it must listen on before the block starts.
        paths: Same, files that it must have made.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=errors,
            text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            for port in ports:
                _wait(process, lambda port=port: _listens(port))
            for path in paths:
                _wait(process, path.exists)
            yield process
        except MissingError as error:
            errors.seek(0)
            raise MissingError(f"{error}; it said: {errors.read()[-500:].strip()}") from error
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[str], is_ready: Callable[[], bool]) -> None:
    """Look again until it is ready."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not is_ready():
        if process.poll() is not None:
            raise MissingError(f"{process.args[0]} ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise MissingError(f"{process.args[0]} was not ready within {_START_TIMEOUT_S} s")
        time.sleep(_STEP_S)


def _listens(port: int) -> bool:
    """Tell whether somebody accepts connections."""
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


def _stop(process: subprocess.Popen[str]) -> None:
    """End it, kindly at first."""
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def cpu_seconds(roots: Iterable[int]) -> float:
    """Give the processor time that processes and their descendants have used."""
    stats = _stats()
    total, seen, waiting = 0, set(), list(roots)
    while waiting:
        pid = waiting.pop()
        if pid in seen or pid not in stats:
            continue
        seen.add(pid)
        total += int(stats[pid][_USER_TICKS]) + int(stats[pid][_SYSTEM_TICKS])
        waiting += [child for child, stat in stats.items() if int(stat[_PARENT]) == pid]
    return total / _TICKS


def _stats() -> dict[int, list[str]]:
    """Read every process's line in /proc, from behind its name, which may hold blanks."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with contextlib.suppress(OSError):
                text = (path / "stat").read_text(encoding="utf-8", errors="replace")
                found[int(path.name)] = text.rpartition(")")[2].split()
    return found
