"""What the sidecar adds to a request, beside nginx, Envoy and Envoy with an external processor.

Every contender stands before the same upstream in the same run: a static nginx answer, or Qdrant's
engine (`qdrant-edge-py`) behind the tests' front, which is not the Qdrant server. Who adapts does
it by a model of the sizes that ``trimtab fit`` makes without knobs; ``ours-linear`` by a linear
one. They take turns in short slices, in random order; what is reported is the median over rounds of
paired differences. Added latency is judged, never absolute time.

The cores are shared out alike for all (``split``): the load generator and the upstream on one, the
proxy (all its processes) on another; with more than two cores each has its own and the proxy the
rest. Waking another core costs every proxy the same and is most of what a fast one adds, so the
layout moves the ratios: ``split`` draws them towards 1. It is the one that is judged, since proxy,
application and Qdrant share no core where there are enough. The judged cell is shown as well with
all on one core (``together``) and where the kernel likes (``none``; it may put one contender on one
core and the next on two, so compare nothing there without a look at the others).

Latency is judged over one connection. Sixteen are a closed loop that keeps every process busy: on
two cores the load generator and the upstream limit the rate, and the rate per core of the proxy is
what compares.

Two workers share a port by the kernel's hash of each connection, so that 16 connections never
spread evenly.

Cells are kept one by one, so an interrupted run goes on. A cell is measured again when the sidecar
or this benchmark has changed, with other settings, or when it had to leave somebody out.
"""

import argparse
import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.progress import Progress

from benchmarks.proxy.cells import Cell, all_cells, choose, groups, quick_cells
from benchmarks.proxy.contenders import (
    CONTENDERS,
    DEFAULT_FIT,
    LINEAR,
    Running,
    World,
    envoy_binary,
)
from benchmarks.proxy.measure import Effort, measure_cell
from benchmarks.proxy.processes import Cores, MissingError, on_cores
from benchmarks.proxy.proof import prove
from benchmarks.proxy.report import print_tables, summarise
from benchmarks.proxy.upstreams import Upstream, nginx_binary, upstream
from benchmarks.record import ROOT, write_results
from benchmarks.served_models import default_adapter, exported, linear_adapter, low_rank

HERE = Path(__file__).resolve().parent
_WIDTH = 140  # of tables, where there is no terminal
_QUICK = Effort(rounds=8, requests=100, warm_up=10)


@dataclass
class Bench:
    """One run of the benchmark.

    Attributes:
        effort: How long each cell is measured.
        names: Contenders to keep to, beside ``direct``; empty for all.
        work: Where finished cells are kept.
        code: Fingerprint of what is measured.
        left_out: Why contenders did not take part.
    """

    effort: Effort
    names: list[str]
    work: Path
    code: str
    console: Console
    left_out: dict[str, str] = field(default_factory=dict)

    def wanted(self, cell: Cell) -> list[str]:
        """Name the contenders of a cell."""
        names = cell.contenders()
        return [name for name in names if not self.names or name in {"direct", *self.names}]

    def path(self, cell: Cell) -> Path:
        """Say where a cell is kept."""
        return self.work / f"{cell.name}.json"

    def record(self, cell: Cell) -> dict[str, Any]:
        """Give what was measured of a cell; without contenders where nothing was that holds."""
        if self.path(cell).exists():
            record = json.loads(self.path(cell).read_text(encoding="utf-8"))
            if record["effort"] == self.effort.as_dict() and record["code"] == self.code:
                return record
        return {"found": {}, "left_out": {}}

    def run(self, cells: list[Cell], progress: Progress) -> None:
        """Measure the cells that are not there yet."""
        waiting = [cell for cell in cells if list(self.record(cell)["found"]) != self.wanted(cell)]
        task = progress.add_task("", total=len(waiting) * self.effort.rounds)

        def tick() -> None:
            progress.advance(task)
            progress.refresh()

        for group in groups(waiting):
            with self.started(group) as (behind, model_files, contenders):
                proved = set()
                for cell in group:
                    progress.update(task, description=cell.name)
                    taking_part = {
                        name: contenders[name] for name in self.wanted(cell) if name in contenders
                    }
                    if cell.protocol not in proved:
                        prove(behind, taking_part, model_files, cell.protocol, cell.dim)
                        proved.add(cell.protocol)
                    found = measure_cell(cell, taking_part, self.effort, tick)
                    self.store(cell, found)

    def store(self, cell: Cell, found: dict[str, Any]) -> None:
        """Keep a cell."""
        self.work.mkdir(parents=True, exist_ok=True)
        left_out = {name: why for name, why in self.left_out.items() if name in self.wanted(cell)}
        record = {
            "code": self.code,
            "effort": self.effort.as_dict(),
            "found": found,
            "left_out": left_out,
        }
        self.path(cell).write_text(json.dumps(record), encoding="utf-8")

    @contextlib.contextmanager
    def started(
        self, group: list[Cell]
    ) -> Iterator[tuple[Upstream, dict[str, Path], dict[str, Running]]]:
        """Run a group's upstream and everybody who takes part."""
        cores, dim = Cores.plan(group[0].pin), group[0].dim
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proxy-")))
            model_files = write_models(dim, folder)
            with on_cores(cores.upstream):
                behind = stack.enter_context(upstream(group[0].upstream, dim, folder))
            world = World(behind, model_files, folder)
            contenders: dict[str, Running] = {}
            for name in {name: None for cell in group for name in self.wanted(cell)}:
                try:
                    with on_cores(cores.proxy):
                        contenders[name] = stack.enter_context(CONTENDERS[name].start(world))
                except MissingError as error:
                    if name not in self.left_out:
                        self.console.print(f"without {name}: {error}", markup=False)
                    self.left_out[name] = str(error)
            yield behind, model_files, contenders


def write_models(dim: int, folder: Path) -> dict[str, Path]:
    """Write what a fit without knobs makes, narrow, and a linear adapter."""
    adapters = {DEFAULT_FIT: default_adapter(dim, low_rank(dim)), LINEAR: linear_adapter(dim)}
    files = {name: folder / f"{name.replace(' ', '-')}.onnx" for name in adapters}
    for name, adapter in adapters.items():
        files[name].write_bytes(exported(adapter))
    return files


def fingerprint() -> str:
    """Give a hash of the sidecar's code and of this benchmark's."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "sidecar").rglob("*.py"), *HERE.glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def rivals() -> dict[str, str]:
    """Tell the versions of the programs that are measured against."""
    found = {"grpcio": version("grpcio")}
    for name, find, flag in (("nginx", nginx_binary, "-v"), ("envoy", envoy_binary, "--version")):
        with contextlib.suppress(MissingError):
            said = subprocess.run([find(), flag], capture_output=True, text=True, check=False)
            found[name] = (said.stdout + said.stderr).split("version:")[-1].strip()
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORD",
        help="a contender, or a cell or pattern of cells; may be repeated",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a short look; records nothing")
    parser.add_argument("--fresh", action="store_true", help="measure kept cells again")
    parser.add_argument("--rounds", type=int, help="rounds of a cell")
    parser.add_argument("--list", action="store_true", help="list contenders and cells")
    return parser.parse_args()


def main() -> None:
    options = parse()
    whole = quick_cells() if options.quick else all_cells()
    try:
        cells, names = choose(whole, options.only)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if options.list:
        print("\n".join(["contenders:", *CONTENDERS, "", "cells:", *(one.name for one in cells)]))
        return
    effort = _QUICK if options.quick else Effort()
    effort = Effort(**{**effort.as_dict(), "rounds": options.rounds or effort.rounds})
    is_look = options.quick or bool(names)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    with contextlib.ExitStack() as stack:
        if is_look:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proxy-look-")))
        else:
            work = HERE / ".work"
        bench = Bench(effort, names, work, fingerprint(), console)
        if options.fresh and not is_look:
            for cell in cells:
                bench.path(cell).unlink(missing_ok=True)
        # It redraws between rounds only: a thread that does so would disturb what is timed.
        with Progress(console=console, auto_refresh=False) as progress:
            bench.run(cells, progress)
        finish(bench, cells if is_look else whole, is_look=is_look)


def finish(bench: Bench, cells: list[Cell], *, is_look: bool) -> None:
    """Print the tables; record them unless this was only a look."""
    summaries, left_out = {}, {}
    for cell in cells:
        record = bench.record(cell)
        left_out |= record["left_out"]
        if record["found"]:
            summaries[cell.name] = summarise(cell, record["found"])
    print_tables(bench.console, summaries)
    if not is_look:
        results = {
            "rivals": rivals(),
            "settings": bench.effort.as_dict(),
            "cores": {pin: Cores.plan(pin).as_dict() for pin in sorted({c.pin for c in cells})},
            "left_out": left_out,
            "missing_cells": [cell.name for cell in cells if cell.name not in summaries],
            "cells": summaries,
        }
        print(f"made {write_results(HERE, results)}")
    failures = sum(
        row["failures"] for one in summaries.values() for row in one["contenders"].values()
    )
    if failures:
        raise SystemExit(f"{failures} requests failed; see the table")


if __name__ == "__main__":
    main()
