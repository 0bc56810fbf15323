"""Each fault of an upstream: what a caller sees, after how long, and what is sent twice.

A raw upstream (tests/support/raw_upstream.py) fails in every way that tests/support/raw_faults.py
knows; a query and an upsert are sent, each several times. Then the upstream returns, and the time
until the first good answer is taken. Last, an upstream is killed and restarted under load.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.cells import add_options, fill
from benchmarks.reliability import grpc_faults
from tests.support.raw_faults import FAULTS, Fault
from tests.support.raw_http import request_bytes
from tests.support.raw_place import CUT, UNSAFE, Place, query_bytes, running_place
from tests.support.raw_upstream import JSON_LINE, RawUpstream, raw_upstream
from tests.support.ways import WAYS, Authority, Way

TIMES = {"connect_timeout_s": 0.5, "query_timeout_s": 1.0, "check_interval_s": 0.5}
"""Those of the sidecar in this benchmark; the last is the default."""
GIVES_UP_S = 2.0
"""After which the caller of a write, which has no time limit of its own, leaves."""
RECOVERS_WITHIN_S = 1.0
ANSWERS_WITHIN_S = 0.25
"""Beyond a configured time, or in all where no time is waited for."""
N_CALLERS = 4
RESULTS = Path(__file__).with_name("faults.json")
WRONG = "not_as_it_must_be"


def ask(place: Place, request: bytes) -> tuple[str, float]:
    """Give what a caller sees and after how long, in seconds."""
    started = time.monotonic()
    try:
        with place.connect() as wire:
            wire.socket.settimeout(GIVES_UP_S)
            seen = str(wire.ask(request).status)
    except TimeoutError:
        seen = "still waiting"
    except ConnectionError:
        seen = "cut"
    return seen, time.monotonic() - started


def measure(place: Place, fault: Fault, request: bytes, rounds: int) -> dict[str, Any]:
    """Send a request to a failing upstream several times."""
    seen: Counter[str] = Counter()
    times: list[float] = []
    returns: list[float] = []
    most_sent = 0
    for _ in range(rounds):
        place.recover()
        fault.inject(place.upstream)
        what, after = ask(place, request)
        seen[what] += 1
        times.append(after)
        most_sent = max(most_sent, len(place.upstream.requests))
        returns.append(time_to_return(place))
    return {
        "seen": dict(seen),
        "after_ms": round(1e3 * statistics.median(times), 1),
        "after_ms_max": round(1e3 * max(times), 1),
        "sent_at_most": most_sent,
        "recovered_after_ms_max": round(1e3 * max(returns), 1),
    }


def time_to_return(place: Place) -> float:
    """Let the upstream work again; give the seconds until a query is answered."""
    place.upstream.recover()
    started = time.monotonic()
    while ask(place, query_bytes())[0] != "200":
        pass
    return time.monotonic() - started


def restart_under_load(place: Place, down_s: float) -> dict[str, Any]:
    """Kill the upstream and start it again while callers query and write."""
    place.recover()
    outcomes: list[tuple[float, str]] = []
    is_over = threading.Event()

    def call(caller: int) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            point = f'{{"points":[{{"id":{number},"vector":[1,2,3,4,5,6]}}]}}'.encode()
            path = f"/collections/docs/points?caller={caller}&n={number}"
            for request in (query_bytes(), request_bytes("PUT", path, point, JSON_LINE)):
                seen, _ = ask(place, request)
                outcomes.append((time.monotonic(), seen))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(N_CALLERS)]
    for caller in callers:
        caller.start()
    time.sleep(1.0)
    place.upstream.stop()
    time.sleep(down_s)
    returned = time.monotonic()
    place.upstream.start()
    time.sleep(2.0)
    is_over.set()
    for caller in callers:
        caller.join()
    good = [at for at, seen in outcomes if at > returned and seen == "200"]
    bad = [at for at, seen in outcomes if at > returned and seen != "200"]
    writes = Counter(each.target for each in place.upstream.requests if each.method == "PUT")
    return {
        "down_s": down_s,
        "seen": dict(Counter(seen for _, seen in outcomes)),
        "first_good_after_ms": round(1e3 * (min(good) - returned), 1),
        "last_bad_after_ms": round(1e3 * (max(bad, default=returned) - returned), 1),
        "writes": len(writes),
        "writes_sent_twice": sum(count > 1 for count in writes.values()),
    }


def judge(name: str, fault: Fault, cell: dict[str, Any], is_query: bool) -> list[str]:
    """Say what is not as it must be."""
    wrong = []
    allowed = {"cut" if each == CUT else str(each) for each in fault.seen}
    if is_query and not set(cell["seen"]) <= allowed:
        wrong.append(f"{name}: {cell['seen']}; expected {sorted(allowed)}")
    limit_s = ANSWERS_WITHIN_S + (TIMES["query_timeout_s"] if fault.is_timeout else 0.0)
    if is_query and cell["after_ms_max"] > 1e3 * limit_s:
        wrong.append(f"{name}: answered after {cell['after_ms_max']} ms")
    if not is_query and cell["sent_at_most"] > 1:
        wrong.append(f"{name}: a write was sent {cell['sent_at_most']} times")
    if cell["recovered_after_ms_max"] > 1e3 * RECOVERS_WITHIN_S:
        wrong.append(f"{name}: recovered after {cell['recovered_after_ms_max']} ms")
    return wrong


def run(way: Way, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything in one way."""
    if way.protocol == "grpc":
        return grpc_faults.run(way, rounds, say)
    return run_rest(way, rounds, say)


def run_rest(way: Way, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything over REST."""
    table: dict[str, Any] = {}
    wrong: list[str] = []
    with (
        tempfile.TemporaryDirectory() as name,
        raw_upstream() as upstream,
        opened(Path(name), upstream, way) as place,
    ):
        say(
            f"{'the upstream':32} {'query sees':>16} {'after ms':>9} {'write sees':>16} {'sent':>4}"
        )
        for what, fault in FAULTS.items():
            query = measure(place, fault, query_bytes(), rounds)
            write = measure(place, fault, UNSAFE["upsert"], rounds)
            table[what] = {"query": query, "write": write}
            wrong += judge(f"{what}, query", fault, query, True)
            wrong += judge(f"{what}, write", fault, write, False)
            seen = [" ".join(cell["seen"]) for cell in (query, write)]
            sent = write["sent_at_most"]
            say(f"{what:32} {seen[0]:>16} {query['after_ms']:9.1f} {seen[1]:>16} {sent:4}")
        restarts = [restart_under_load(place, down_s) for down_s in (0.2, 1.0, 3.0)]
    for each in restarts:
        say(json.dumps(each))
        is_late = each["last_bad_after_ms"] > 1e3 * RECOVERS_WITHIN_S
        if is_late or each["writes_sent_twice"] or not set(each["seen"]) <= {"200", "502", "cut"}:
            wrong.append(f"restart under load: {each}")
    return {
        "settings": TIMES,
        "rounds": rounds,
        "faults": table,
        "restarts": restarts,
        WRONG: wrong,
    }


@contextlib.contextmanager
def opened(folder: Path, upstream: RawUpstream, way: Way) -> Iterator[Place]:
    """Run a sidecar that is reached in a way."""
    authority = Authority(folder)
    tables: dict[str, Any] = {"upstream": TIMES}
    if way.is_tls:
        tables["listen"] = authority.listen
    with running_place(folder, [upstream], *way.flags, **tables) as place:
        yield replace(place, context=authority.context) if way.is_tls else place


def main() -> int:
    """Measure in every way, write the results and say whether all was well."""
    takes = f"The full run, {len(WAYS)} cells, takes about 15 minutes."
    parser = argparse.ArgumentParser(description=f"{takes} {__doc__}")
    parser.add_argument("--rounds", type=int, default=3)
    add_options(parser, list(WAYS))
    given = parser.parse_args()
    cells = fill(
        RESULTS,
        {name: partial(run, way, given.rounds, print) for name, way in WAYS.items()},
        {"rounds": given.rounds},
        chosen=given.cells,
        is_fresh=given.fresh,
    )
    wrong = [f"{name}: {each}" for name, cell in cells.items() for each in cell[WRONG]]
    print("\n".join(wrong) or "all as it must be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
