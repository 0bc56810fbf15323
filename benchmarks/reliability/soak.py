"""Minutes of mixed load at 70 % of capacity, with a reload every second that swaps the adapter.

Queries, nested prefetches, batches, scrolls and upserts over connections that come and go; one
route is on, another a canary. Every answer is compared with what exactly one of the two adapters
(or, for the canary, the raw query) gives. Must: none failed, none mixed, none wrong; memory flat.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import signal
import sys
import tempfile
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.cells import add_options, fill
from benchmarks.reliability.callers import Callers, Tally
from benchmarks.reliability.lines import open_line
from benchmarks.reliability.memory import MemoryWatch, children_of
from benchmarks.reliability.world import World
from tests.support.qdrant.process import running_server
from tests.support.raw_http import Message, connect, request_bytes
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.ways import WAYS, Authority, Way, listen_table

SHARE_OF_CAPACITY = 0.7
CAPACITY_S = 10.0
RELOAD_EVERY_S = 1.0
RESULTS = Path(__file__).with_name("results.json")
CONFIG = """
[upstream]
rest = "{url}"
grpc = "http://127.0.0.1:{grpc_port}"
[[route]]
collection = "docs"
adapter = "adapter.onnx"
[[route]]
collection = "trial"
adapter = "adapter.onnx"
mode = "canary"
share = 0.5
"""


class Reloader:
    """Swaps the model and reloads, every second, by signal or request; files are watched too."""

    def __init__(self, sidecar: Sidecar, world: World) -> None:
        """Take the sidecar and the models."""
        self._sidecar = sidecar
        self._world = world
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._reload)
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def __enter__(self) -> "Reloader":
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._is_over.set()
        self._thread.join()

    def _reload(self) -> None:
        number = 0
        while not self._is_over.wait(RELOAD_EVERY_S):
            number += 1
            self._world.put_model("ab"[number % 2])
            try:
                self.counts[self._reload_by(number // 2 % 2)] += 1
            except OSError as error:
                self.failures.append(repr(error))

    def _reload_by(self, way: int) -> str:
        if way == 0:
            self._sidecar.process.send_signal(signal.SIGHUP)
            return "SIGHUP"
        answer = ask_admin(self._sidecar, "POST", "reload")
        if answer.status != 200:
            self.failures.append(answer.body.decode())
        return "POST /trimtab/reload"


def ask_admin(sidecar: Sidecar, method: str, path: str) -> Message:
    """Ask the sidecar's own endpoints."""
    host, _, port = sidecar.admin.rpartition(":")
    with connect((host, int(port))) as wire:
        return wire.ask(request_bytes(method, f"/trimtab/{path}", host="localhost"))


def metrics_of(sidecar: Sidecar) -> dict[str, float]:
    """Read the sidecar's own counts of reloads and errors."""
    lines = ask_admin(sidecar, "GET", "metrics").body.decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    wanted = ("trimtab_reloads_total", "trimtab_errors_total", "trimtab_adapter{")
    return {name: float(value) for name, _, value in pairs if name.startswith(wanted)}


def summary(tally: Tally, seconds: float) -> dict[str, Any]:
    """Put a tally into figures."""
    latencies = np.sort(np.array(tally.latencies_ms))
    unstable = sum(len(each) > 1 for each in tally.decisions.values())
    adapted = sum(each == {True} for each in tally.decisions.values())
    return {
        "requests": sum(tally.counts.values()),
        "requests_by_kind": dict(sorted(tally.counts.items())),
        "queries_by_adapter": dict(sorted(tally.adapters.items())),
        "per_second": round(sum(tally.counts.values()) / seconds, 1),
        "connections": tally.n_connections,
        "left_before_the_answer": tally.n_left,
        "failed": tally.problems["failed"],
        "mixed": tally.problems["mixed"],
        "wrong": tally.problems["wrong"],
        "examples": tally.examples,
        "canary_share": round(adapted / max(1, len(tally.decisions)), 3),
        "canary_queries_decided_both_ways": unstable,
        "latency_ms": {
            f"p{each:g}": round(float(np.percentile(latencies, each)), 3) for each in (50, 95, 99)
        },
    }


def soak(way: Way, minutes: float, n_callers: int) -> dict[str, Any]:
    """Run it all in one way."""
    with tempfile.TemporaryDirectory() as name, running_server() as server:
        folder = Path(name)
        authority = Authority(folder)
        world = World(server, folder, protocol=way.protocol)
        world.put_model("a")
        config = folder / "sidecar.toml"
        settings = CONFIG.format(url=server.rest_url, grpc_port=server.grpc_port)
        config.write_text(listen_table(way, authority) + settings)
        before = world.stored("docs")
        with running_sidecar(*way.flags, config=config) as sidecar:
            address = sidecar.rest_address if way.protocol == "rest" else sidecar.grpc_address
            workers = children_of(sidecar.process.pid)
            callers = Callers(lambda: open_line(way, address, authority), world, count=n_callers)
            capacity_s = min(CAPACITY_S, 60 * minutes)
            capacity = summary(callers.run(capacity_s, None), capacity_s)
            rate = SHARE_OF_CAPACITY * capacity["per_second"]
            print(f"capacity {capacity['per_second']}/s; {minutes:g} minutes at {rate:.0f}/s")
            with MemoryWatch(sidecar.process.pid) as memory, Reloader(sidecar, world) as reloader:
                tally = callers.run(60 * minutes, rate)
            said = metrics_of(sidecar)
            are_same = workers == children_of(sidecar.process.pid)
        in_log = world.ask("POST", "/collections/log/points/count", {"exact": True})["count"]
        return {
            "workers": way.workers,
            "callers": n_callers,
            "capacity": capacity,
            "rate": round(rate, 1),
            "soak": summary(tally, 60 * minutes),
            "reloads": dict(reloader.counts),
            "reload_failures": reloader.failures,
            "sidecar_says": said,
            "workers_ended": not are_same,
            "memory": memory.report(),
            "logged_points": in_log,
            "logged_requests": capacity["requests_by_kind"].get("log", 0) + tally.n_logged,
            "stored_vectors_changed": sum(
                one != two for one, two in zip(before, world.stored("docs"), strict=True)
            ),
        }


def problems_of(cell: dict[str, Any]) -> int:
    """Count what must not be."""
    run = cell["soak"]
    problems: int = run["failed"] + run["mixed"] + run["wrong"] + cell["stored_vectors_changed"]
    problems += abs(cell["logged_points"] - cell["logged_requests"]) + cell["workers_ended"]
    return problems + len(cell["reload_failures"]) + run["canary_queries_decided_both_ways"]


def main() -> int:
    """Soak in every way, write the results and say whether all was well."""
    takes = f"The full run takes {len(WAYS)} times ten minutes and a half: 65 minutes, alone."
    parser = argparse.ArgumentParser(description=f"{takes} {__doc__}")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each cell")
    parser.add_argument("--callers", type=int, default=8)
    add_options(parser, list(WAYS))
    given = parser.parse_args()
    cells = fill(
        RESULTS,
        {name: partial(soak, way, given.minutes, given.callers) for name, way in WAYS.items()},
        {"minutes": given.minutes, "callers": given.callers},
        chosen=given.cells,
        is_fresh=given.fresh,
    )
    for name, cell in cells.items():
        print(name, json.dumps(cell["soak"], indent=1), f"problems: {problems_of(cell)}")
    return 1 if any(map(problems_of, cells.values())) else 0


if __name__ == "__main__":
    sys.exit(main())
