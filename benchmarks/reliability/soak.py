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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.record import write_results
from benchmarks.reliability.callers import Callers, Tally
from benchmarks.reliability.memory import MemoryWatch
from benchmarks.reliability.world import World
from tests.support.qdrant.process import running_server
from tests.support.raw_http import Message, connect, request_bytes
from tests.support.sidecar import Sidecar, running_sidecar

SHARE_OF_CAPACITY = 0.7
CAPACITY_S = 10.0
RELOAD_EVERY_S = 1.0
CONFIG = """
[upstream]
rest = "{url}"
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


def soak(minutes: float, n_callers: int, workers: int) -> dict[str, Any]:
    """Run it all."""
    with tempfile.TemporaryDirectory() as name, running_server() as server:
        folder = Path(name)
        world = World(server.rest_port, folder)
        world.put_model("a")
        config = folder / "sidecar.toml"
        config.write_text(CONFIG.format(url=server.rest_url))
        before = world.stored("docs")
        with running_sidecar("--workers", str(workers), config=config) as sidecar:
            callers = Callers(sidecar.rest_address, world, count=n_callers)
            capacity = summary(callers.run(CAPACITY_S, None), CAPACITY_S)
            rate = SHARE_OF_CAPACITY * capacity["per_second"]
            print(f"capacity {capacity['per_second']}/s; {minutes:g} minutes at {rate:.0f}/s")
            with MemoryWatch(sidecar.process.pid) as memory, Reloader(sidecar, world) as reloader:
                tally = callers.run(60 * minutes, rate)
            said = metrics_of(sidecar)
        in_log = world.ask("POST", "/collections/log/points/count", {"exact": True})["count"]
        return {
            "minutes": minutes,
            "workers": workers,
            "callers": n_callers,
            "capacity": capacity,
            "rate": round(rate, 1),
            "soak": summary(tally, 60 * minutes),
            "reloads": dict(reloader.counts),
            "reload_failures": reloader.failures,
            "sidecar_says": said,
            "memory": memory.report(),
            "logged_points": in_log,
            "logged_requests": capacity["requests_by_kind"].get("log", 0) + tally.n_logged,
            "stored_vectors_changed": sum(
                one != two for one, two in zip(before, world.stored("docs"), strict=True)
            ),
        }


def main() -> int:
    """Soak, write the results and say whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    results = soak(given.minutes, given.callers, given.workers)
    write_results(Path(__file__).parent, results)
    print(json.dumps(results, indent=1))
    run = results["soak"]
    problems = run["failed"] + run["mixed"] + run["wrong"] + results["stored_vectors_changed"]
    problems += abs(results["logged_points"] - results["logged_requests"])
    problems += len(results["reload_failures"]) + run["canary_queries_decided_both_ways"]
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
