"""The soak's callers: threads that ask at a given rate, check every answer, and come and go."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.reliability.lines import Answer, FailedError, Line
from benchmarks.reliability.world import RAW, Prepared, World, hits_of, same

LONGEST_STAY = 60
"""Requests over one connection, at most; a caller stays for a random number."""
LEAVES_EARLY = 0.01
"""Share of requests whose caller leaves before the answer."""
WRITES_LOG = 0.05
KEPT_EXAMPLES = 10


@dataclass
class Tally:
    """What came of the requests of all callers."""

    counts: Counter[str] = field(default_factory=Counter)
    adapters: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    decisions: dict[tuple[int, int], set[bool]] = field(default_factory=dict)
    n_logged: int = 0
    n_left: int = 0
    n_connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def problem(self, kind: str, what: str) -> None:
        """Count what must not be."""
        with self.lock:
            self.problems[kind] += 1
            if len(self.examples) < KEPT_EXAMPLES:
                self.examples.append(f"{kind}: {what}")


class Callers:
    """Several callers of one sidecar."""

    def __init__(self, open_line: Callable[[], Line], world: World, *, count: int) -> None:
        """Take how they connect and what they ask."""
        self._open_line = open_line
        self._world = world
        self._count = count
        self._next_log = 0

    def run(self, seconds: float, rate: float | None) -> Tally:
        """Ask for some time: at ``rate`` requests per second, or as fast as it goes."""
        tally = Tally()
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._call, args=(tally, number, end, rate))
            for number in range(self._count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return tally

    def _call(self, tally: Tally, number: int, end: float, rate: float | None) -> None:
        rng = random.Random(number)  # noqa: S311 - a choice of requests, no secret
        step = self._count / rate if rate else 0.0
        due = time.monotonic() + rng.random() * step
        line: Line | None = None
        stays = 0
        while due < end and time.monotonic() < end:
            time.sleep(max(0.0, due - time.monotonic()))
            if line is None or not stays:
                line = self._come(tally, line)
                stays = rng.randint(1, LONGEST_STAY)
            stays -= 1
            started = due if rate else time.monotonic()
            if line is not None and not self._ask_once(tally, line, rng):
                line.close()
                line = None
            elif line is not None:
                tally.latencies_ms.append((time.monotonic() - started) * 1e3)
            due = due + step if rate else time.monotonic()
        if line is not None:
            line.close()

    def _come(self, tally: Tally, before: Line | None) -> Line | None:
        """Leave and come again."""
        if before is not None:
            before.close()
        try:
            line = self._open_line()
        except OSError as error:
            tally.problem("failed", f"connect: {error!r}")
            return None
        with tally.lock:
            tally.n_connections += 1
        return line

    def _ask_once(self, tally: Tally, line: Line, rng: random.Random) -> bool:
        """Ask one thing; tell whether the connection goes on."""
        if rng.random() < WRITES_LOG:
            return self._log(tally, line)
        at = rng.randrange(len(self._world.requests))
        request = self._world.requests[at]
        if request.kind != "upsert" and rng.random() < LEAVES_EARLY:
            line.leave(request)
            with tally.lock:
                tally.n_left += 1
            return False
        answer = _exchange(tally, line, request)
        if answer is None:
            return False
        _check(tally, at, request, answer)
        return True

    def _log(self, tally: Tally, line: Line) -> bool:
        with tally.lock:
            number = self._next_log
            self._next_log += 1
        answer = _exchange(tally, line, self._world.log_request(number))
        if answer is not None:
            with tally.lock:
                tally.n_logged += 1
        return answer is not None


def _exchange(tally: Tally, line: Line, request: Prepared) -> Answer | None:
    """Ask; None, and a failure counted, where no good answer comes back."""
    try:
        answer = line.ask(request)
    except FailedError as error:
        tally.problem("failed", f"{request.kind}: {error}")
        return None
    with tally.lock:
        tally.counts[request.kind] += 1
    return answer


def _check(tally: Tally, at: int, request: Prepared, answer: Answer) -> None:
    """Check an answer against all that it may be."""
    result, mark = answer.result, answer.mark
    if not request.parts:
        if request.fixed is not None and result != request.fixed:
            tally.problem("wrong", f"{request.kind}: {str(result)[:200]}")
        if mark and request.kind != "upsert":
            tally.problem("wrong", f"{request.kind}: marked {mark}")
        return
    results = result if len(request.parts) > 1 else [result]
    names = [
        next((name for name, hits in part.items() if same(hits, hits_of(got))), None)
        for part, got in zip(request.parts, results, strict=True)
    ]
    said = ",".join(dict.fromkeys(each.partition("@")[0] for each in mark.split(",") if each))
    used = {name for name in names if name != RAW}
    if None in used:
        tally.problem("wrong", f"{request.kind}: an answer that no adapter gives; marked {mark}")
    elif len(used) > 1 or (RAW in names and not request.is_canary):
        tally.problem("mixed", f"{request.kind}: {names}; marked {mark}")
    elif said != "".join(name for name in used if name):
        tally.problem("wrong", f"{request.kind}: {names}, but marked {mark}")
    with tally.lock:
        tally.adapters.update(str(name) for name in names)
        if request.is_canary:
            for part, name in enumerate(names):
                tally.decisions.setdefault((at, part), set()).add(name != RAW)
