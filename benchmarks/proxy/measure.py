"""Contenders take turns in short slices, so that whatever else the machine does hits them all."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.proxy.cells import Cell
from benchmarks.proxy.contenders import Running
from benchmarks.proxy.processes import Cores, cpu_seconds, on_cores, running
from benchmarks.proxy.queries import SEED

_PERCENTILES = (("p50_us", 50), ("p95_us", 95), ("p99_us", 99))


@dataclass(frozen=True)
class Effort:
    """How long a cell is measured.

    Attributes:
        rounds: In each, every contender has one slice, in random order.
        requests: Timed requests of a slice over one connection.
        warm_up: Requests before them that are not timed.
        many: Times as many of both where there are several connections.
    """

    rounds: int = 60
    requests: int = 200
    warm_up: int = 20
    many: int = 4

    def slice(self, cell: Cell) -> dict[str, int]:
        """Give the size of a cell's slices."""
        times = 1 if cell.connections == 1 else self.many
        return {"requests": self.requests * times, "warm_up": self.warm_up * times}

    def as_dict(self) -> dict[str, int]:
        """Give the fields."""
        return asdict(self)


class LoadError(Exception):
    """The load generator ended."""


@contextlib.contextmanager
def load_generator(cell: Cell, cores: Cores) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Run the load generator; give the function that has a slice run."""
    command = [sys.executable, "-m", "benchmarks.proxy.load", "--protocol", cell.protocol]
    command += ["--connections", str(cell.connections), "--dim", str(cell.dim)]
    with contextlib.ExitStack() as stack:
        with on_cores(cores.client):
            process = stack.enter_context(running(command))

        def run(wanted: dict[str, Any]) -> Any:
            process.stdin.write(json.dumps(wanted) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise LoadError(f"the load generator ended with {process.wait()}")
            return json.loads(line)

        yield run


def measure_cell(
    cell: Cell, contenders: Mapping[str, Running], effort: Effort, tick: Callable[[], None]
) -> dict[str, dict[str, Any]]:
    """Time a cell.

    Args:
        cell: What to time.
        contenders: Everybody that runs and speaks the cell's protocol.
        effort: How long.
        tick: Called after each round.

    Returns:
        For each contender its percentiles over all slices, the p50 and the rate of each round (the
        same rounds for everybody, so that they can be paired), requests, processor seconds, and
        failures.
    """
    rng = np.random.default_rng(SEED)
    size = effort.slice(cell)
    found: dict[str, dict[str, Any]] = {
        name: {"rounds_p50_us": [], "rounds_rate": [], "sent": 0, "failures": 0, "why": ""}
        for name in contenders
    }
    latencies: dict[str, list[float]] = {name: [] for name in contenders}
    with load_generator(cell, Cores.plan(cell.pin)) as run:
        for name, one in contenders.items():  # connects, and warms caches up
            run({"name": name, "port": one.port(cell.protocol), **size})
        used = {name: cpu_seconds(one.roots) for name, one in contenders.items()}
        for _ in range(effort.rounds):
            for name in rng.permutation(list(contenders)).tolist():
                port = contenders[name].port(cell.protocol)
                _book(found[name], latencies[name], run({"name": name, "port": port, **size}))
            tick()
        for name, one in contenders.items():
            found[name]["cpu_s"] = round(cpu_seconds(one.roots) - used[name], 2)
    for name, record in found.items():
        timed = latencies[name]
        for label, at in _PERCENTILES:
            record[label] = round(float(np.percentile(timed, at)), 1) if timed else None
        record["timed"] = len(timed)
    return found


def _book(record: dict[str, Any], latencies: list[float], one: dict[str, Any]) -> None:
    """Add a slice to a contender's record."""
    taken = one["latencies_us"]
    latencies += taken
    record["sent"] += one["sent"]
    record["failures"] += one["failures"]
    record["why"] = record["why"] or one["why"]
    median = round(float(np.median(taken)), 2) if taken else None
    record["rounds_p50_us"].append(median)
    record["rounds_rate"].append(round(len(taken) / one["wall_s"], 1) if taken else None)
