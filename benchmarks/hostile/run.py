"""100,000 malformed or hostile requests in each way to a sidecar, each judged at both ends.

Known shapes of smuggling, of broken HTTP, of bodies and of paths; random damage to valid requests;
hostile answers of the upstream; slow and rude clients. Case N of a seed depends on nothing else, so
``--only N`` repeats one. A crash, a hang, an adapted write, a request that arrives upstream as none
that the client sent, a path that gets round the adapter or an answer that is not one's own is a
problem, and any problem fails the run.
"""

import argparse
import asyncio
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import uvloop

from benchmarks.cells import add_options, fill
from benchmarks.record import high_water_kb
from benchmarks.reliability.memory import children_of, resident_mb
from tests.support.hostile.arena import Arena, Case
from tests.support.hostile.bodies import large_cases
from tests.support.hostile.corpus import small_cases
from tests.support.hostile.grpc_arena import GrpcArena, random_call
from tests.support.hostile.http2 import SHAPES
from tests.support.hostile.mutations import PLACE, random_case, tag_of, tagged
from tests.support.hostile.slow import reset_midway, slow_kinds
from tests.support.hostile.spellings import plain_case, plain_requests
from tests.support.hostile.stage import LIMITS, grpc_staged, staged
from tests.support.sidecar import Sidecar
from tests.support.ways import WAYS, Way

LANES = 32
CHECK_EVERY = 50
"""After this many hostile requests of a lane, a valid query must get its adapted answer."""

TELL_EVERY = 5000
N_RESETS = 1000
N_KNOCKS = 20
"""Connections of each shape that speak no gRPC, at once."""

SHOWN = 20
RESULTS = Path(__file__).with_name("results.json")
Result = dict[str, Any]


async def attack_at_random(
    arena: Arena, seed: int, corpus: list[Case], numbers: Iterator[int], started: float
) -> None:
    """Work through cases in one lane, with a valid query at intervals."""
    for n_done, number in enumerate(numbers):
        await arena.attack(random_case(seed, number, corpus))
        if n_done % CHECK_EVERY == 0:
            await arena.attack(plain_case(tag_of(seed + 1, number)))
        if (number + 1) % TELL_EVERY == 0:
            rate = (number + 1) / (time.monotonic() - started)
            n_problems = len(arena.problems)
            print(f"{number + 1:7} requests, {rate:5.0f}/s, {n_problems} problems", flush=True)


async def attack_once(arena: Arena, cases: list[Case], seed: int) -> None:
    """Send cases one at a time, a valid query after each."""
    for number, case in enumerate(cases):
        await arena.attack(tagged(case, tag_of(seed + 3, number)))
        await arena.attack(plain_case(tag_of(seed + 2, number)))


async def attack_slowly(arena: Arena, seed: int) -> None:
    """Be slow and rude."""
    kinds = slow_kinds(arena.address, "slow=", arena.bound_s)
    found = await asyncio.gather(*(kind() for kind in kinds.values()))
    arena.problems += [(name, text) for name, text in zip(kinds, found, strict=True) if text]
    rng = random.Random(seed)  # noqa: S311  # hostile, not secret
    for _ in range(N_RESETS):
        await reset_midway(arena.address, rng.choice(plain_requests("reset=")), rng)
    await arena.attack(plain_case(tag_of(seed + 4, 0)))


async def run(way: Way, folder: Path, seed: int, numbers: range, *, whole: bool) -> Result:
    """Attack a sidecar over REST; give what was seen."""
    async with staged(folder, way) as (arena, sidecar):
        await arena.attack(plain_case(tag_of(seed + 4, 1)))
        body = Body(sidecar)
        # Made before anybody connects: whoever then sends nothing for long is rightly left.
        corpus = [case for case in small_cases(PLACE) if not case.may_cut]
        started = time.monotonic()
        waiting = iter(numbers)
        await asyncio.gather(
            *(attack_at_random(arena, seed, corpus, waiting, started) for _ in range(LANES))
        )
        seconds = time.monotonic() - started
        body.look()
        if whole:
            await attack_once(arena, [*small_cases(PLACE), *large_cases(PLACE)], seed)
            await attack_slowly(arena, seed)
        health = body.report()
    return {
        "seed": seed,
        "requests": arena.seen["cases"],
        "arrived_upstream": arena.seen["arrived"],
        "arrived_adapted": arena.seen["arrived adapted"],
        "refused": sum(arena.refused.values()),
        "refused_by_status": _by_status(arena),
        "requests_per_s": round(len(numbers) / seconds),
        "lanes": LANES,
        "limits": LIMITS,
        **health,
        **_problems(arena.problems),
    }


async def run_grpc(way: Way, folder: Path, seed: int, numbers: range, *, whole: bool) -> Result:
    """Attack a sidecar over gRPC; give what was seen."""
    async with grpc_staged(folder, way) as (arena, sidecar):
        first = arena.channel()
        await arena.check(first)
        body = Body(sidecar)
        started = time.monotonic()
        waiting = iter(numbers)
        await asyncio.gather(*(call_at_random(arena, seed, waiting) for _ in range(LANES)))
        seconds = time.monotonic() - started
        body.look()
        if whole:
            await knock_at_random(arena, seed)
        await first.close()
        health = body.report()
    return {
        "seed": seed,
        "requests": arena.seen["calls"],
        "connections_of_own_bytes": arena.seen["knocks"],
        "queries_lost_with_the_listener": arena.seen["lost with the listener"],
        "arrived_upstream": arena.seen["arrived"],
        "arrived_adapted": arena.seen["arrived adapted"],
        "ended_by_status": dict(sorted(arena.codes.items())),
        "requests_per_s": round(len(numbers) / seconds),
        "lanes": LANES,
        **health,
        **_problems(arena.problems),
    }


async def call_at_random(arena: GrpcArena, seed: int, numbers: Iterator[int]) -> None:
    """Work through calls over one connection, with a plain query at intervals."""
    channel = arena.channel()
    for n_done, number in enumerate(numbers):
        await arena.attack(channel, random_call(seed, number))
        if n_done % CHECK_EVERY == 0:
            await arena.check(channel)
        if (number + 1) % TELL_EVERY == 0:
            print(f"{number + 1:7} calls, {len(arena.problems)} problems", flush=True)
    await channel.close()


async def knock_at_random(arena: GrpcArena, seed: int) -> None:
    """Send bytes of one's own, of every shape, and a plain query after each shape."""
    rng = random.Random(seed)  # noqa: S311  # hostile, not secret
    for shape in SHAPES:
        await asyncio.gather(*(arena.knock(shape, rng) for _ in range(N_KNOCKS)))
        await arena.check_patiently()


class Body:
    """The sidecar's processes, and what becomes of them."""

    def __init__(self, sidecar: Sidecar) -> None:
        """Look at them for the first time."""
        self._sidecar = sidecar
        self._workers = children_of(sidecar.process.pid)
        self._resident_mib: list[int] = []
        self.look()

    def look(self) -> None:
        """Note their memory."""
        self._resident_mib.append(round(resident_mb(self._sidecar.process.pid)))

    def report(self) -> Result:
        """Say how they are: crashed where one has ended, restarted or not."""
        pid = self._sidecar.process.pid
        peaks_kb = map(high_water_kb, (pid, *children_of(pid)))
        is_alive = self._sidecar.process.poll() is None
        said = self._sidecar.log()
        return {
            "resident_mib": self._resident_mib,
            "peak_mib": sum(peaks_kb) // 1024,
            "crashed": not is_alive or self._workers != children_of(pid),
            "tracebacks": said.count("Traceback"),
            "coroutines_never_awaited": said.count("never awaited"),
        }


def _problems(problems: list[tuple[str, str]]) -> Result:
    return {
        "problems": len(problems),
        "problems_by_kind": dict(Counter(_kind(text) for _, text in problems)),
        "problems_shown": [f"{name}: {text}"[:1500] for name, text in problems[:SHOWN]],
    }


def _by_status(arena: Arena) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name, n in arena.refused.items():
        counts[name.rpartition(" ")[2]] += n
    return dict(sorted(counts.items()))


def _kind(text: str) -> str:
    return re.split("[:;]", text, maxsplit=1)[0][:80]


def attacked(way: Way, seed: int, numbers: range, *, whole: bool) -> Result:
    """Attack in one way, in a loop of its own."""
    attack = run if way.protocol == "rest" else run_grpc
    loop_factory = uvloop.new_event_loop if way.protocol == "rest" else None
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        return runner.run(attack(way, Path(folder), seed, numbers, whole=whole))


def is_bad(cell: Result) -> bool:
    """Tell whether something was wrong."""
    # A gRPC library that ends its listener writes tracebacks of its own; REST has none to write.
    has_traceback = cell["tracebacks"] and "ended_by_status" not in cell
    return bool(cell["problems"] or cell["crashed"] or has_traceback)


def main() -> int:
    takes = f"The full run, {len(WAYS)} cells, takes about 25 minutes on 2 quiet cores."
    parser = argparse.ArgumentParser(description=f"{takes} {__doc__.splitlines()[0]}")
    parser.add_argument("-n", type=int, default=100_000, help="random requests of each cell")
    parser.add_argument("--seed", type=int, default=1, help="0 to 990")
    parser.add_argument("--only", type=int, help="repeat one case; writes no results")
    add_options(parser, list(WAYS))
    given = parser.parse_args()
    if given.only is not None:
        numbers = range(given.only, given.only + 1)
        cells = {
            name: attacked(WAYS[name], given.seed, numbers, whole=False) for name in given.cells
        }
    else:
        cells = fill(
            RESULTS,
            {
                name: partial(attacked, way, given.seed, range(given.n), whole=True)
                for name, way in WAYS.items()
            },
            {"n": given.n, "seed": given.seed},
            chosen=given.cells,
            is_fresh=given.fresh,
        )
    for name, cell in cells.items():
        print("\n".join(cell["problems_shown"]))
        print(name, {key: value for key, value in cell.items() if key != "problems_shown"})
    return 1 if any(map(is_bad, cells.values())) else 0


if __name__ == "__main__":
    raise SystemExit(main())
