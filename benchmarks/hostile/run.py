"""100,000 malformed or hostile requests to one sidecar process, each judged at both ends.

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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import uvloop

from benchmarks.record import high_water_kb, write_results
from tests.support.hostile.arena import Arena, Case
from tests.support.hostile.bodies import large_cases
from tests.support.hostile.corpus import small_cases
from tests.support.hostile.mutations import PLACE, random_case, tag_of, tagged
from tests.support.hostile.slow import reset_midway, slow_kinds
from tests.support.hostile.spellings import plain_case, plain_requests
from tests.support.hostile.stage import LIMITS, staged
from tests.support.sidecar import Sidecar

LANES = 32
CHECK_EVERY = 50
"""After this many hostile requests of a lane, a valid query must get its adapted answer."""

TELL_EVERY = 5000
N_RESETS = 1000
SHOWN = 20


async def attack_at_random(arena: Arena, seed: int, numbers: Iterator[int], started: float) -> None:
    """Work through cases in one lane, with a valid query at intervals."""
    corpus = [case for case in small_cases(PLACE) if not case.may_cut]
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


async def run(folder: Path, seed: int, numbers: range, *, whole: bool) -> dict[str, Any]:
    """Attack a sidecar; give what was seen."""
    async with staged(folder) as (arena, sidecar):
        await arena.attack(plain_case(tag_of(seed + 4, 1)))
        memory = [_resident_mib(sidecar)]
        started = time.monotonic()
        waiting = iter(numbers)
        await asyncio.gather(
            *(attack_at_random(arena, seed, waiting, started) for _ in range(LANES))
        )
        seconds = time.monotonic() - started
        memory.append(_resident_mib(sidecar))
        if whole:
            await attack_once(arena, [*small_cases(PLACE), *large_cases(PLACE)], seed)
            await attack_slowly(arena, seed)
        peak_mib = high_water_kb(sidecar.process.pid) // 1024
        is_alive = sidecar.process.poll() is None
        said = sidecar.log()
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
        "resident_mib": memory,
        "peak_mib": peak_mib,
        "crashed": not is_alive,
        "tracebacks": said.count("Traceback"),
        "coroutines_never_awaited": said.count("never awaited"),
        "problems": len(arena.problems),
        "problems_by_kind": dict(Counter(_kind(text) for _, text in arena.problems)),
        "problems_shown": [f"{name}: {text}"[:1500] for name, text in arena.problems[:SHOWN]],
    }


def _by_status(arena: Arena) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name, n in arena.refused.items():
        counts[name.rpartition(" ")[2]] += n
    return dict(sorted(counts.items()))


def _kind(text: str) -> str:
    return re.split("[:;]", text, maxsplit=1)[0][:80]


def _resident_mib(sidecar: Sidecar) -> int:
    status = Path(f"/proc/{sidecar.process.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("-n", type=int, default=100_000, help="random requests")
    options.add_argument("--seed", type=int, default=1, help="0 to 990")
    options.add_argument("--only", type=int, help="repeat one case; writes no results")
    given = options.parse_args()
    numbers = range(given.n) if given.only is None else range(given.only, given.only + 1)
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        results = runner.run(run(Path(folder), given.seed, numbers, whole=given.only is None))
    for text in results["problems_shown"]:
        print(text)
    print({k: v for k, v in results.items() if k != "problems_shown"})
    if given.only is None:
        print(f"wrote {write_results(Path(__file__).parent, results)}")
    return 1 if results["problems"] or results["crashed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
