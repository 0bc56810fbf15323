"""Texts embedded beside the event loop: bounded, in batches of what waits, repeated ones kept.

The threads are few and give way to the event loop, so that queries which bring their vector are
answered as if no text were embedded.
"""

import asyncio
import math
import os
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from trimtab import metrics as t
from trimtab.errors import BusyError, TooLargeError
from trimtab.metrics import Telemetry
from trimtab.server.encoders import ServedEncoder
from trimtab.text.encoder import Embedded
from trimtab.text.encoder_manifest import Role

MAX_LETTERS = 262_144
"""Letters of one text: a longer one takes the tokenizer a second, and is cut off long before."""

_TEXTS_AT_ONCE = 16
_LEAST_MOST_TEXTS = 2048
"""Texts that one request may bring wherever fewer may wait: what OpenAI takes."""
_NICENESS = 10
_MEMORY = 0.9
"""Weight of what is known already in the time that a text takes."""


class Wanted(NamedTuple):
    """What is to be embedded: a text with its prefix in place, by the encoder alone or behind it.

    Attributes:
        text: The text.
        is_adapted: True for the output of the adapter in the encoder's file.
    """

    text: str
    is_adapted: bool = False


@dataclass(slots=True, eq=False)
class _Job:
    """A text that waits; those who want the same wait together."""

    wanted: Wanted
    future: asyncio.Future[Embedded]
    arrived: float = field(default_factory=time.perf_counter)
    n_waiting: int = 0
    is_dropped: bool = False


class TextPool:
    """One encoder's threads, queue and cache, in one worker; used from its event loop alone."""

    def __init__(self, served: ServedEncoder, telemetry: Telemetry) -> None:
        """Start nothing yet: threads come with the first text."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # no threads beside ours
        self.served = served
        self._telemetry = telemetry
        self._queues: dict[Role, deque[_Job]] = {"query": deque(), "document": deque()}
        self._jobs: dict[Wanted, _Job] = {}
        self._cache: OrderedDict[Wanted, Embedded] = OrderedDict()
        self._n_running = 0
        self._n_waiting = 0
        self._is_retired = False
        self._text_s = 0.01
        self._threads = ThreadPoolExecutor(
            served.settings.threads, "trimtab-text", initializer=_give_way
        )

    def retire(self) -> None:
        """Take what waits to its end, and then let the threads go: another pool takes over."""
        self._is_retired = True
        self._start()

    @property
    def n_waiting(self) -> int:
        """Texts that wait."""
        return self._n_waiting

    @property
    def n_cached(self) -> int:
        """Texts whose embeddings are kept."""
        return len(self._cache)

    async def embed(
        self, texts: Sequence[str], role: Role, *, prefixed: bool = True, adapted: bool = False
    ) -> list[Embedded]:
        """Embed texts, each once however often it stands there.

        Args:
            texts: The texts.
            role: Whose turn it is: queries go first.
            prefixed: True to put the role's prefix before every text.
            adapted: True for the adapter's output, where one stands behind the encoder.

        Returns:
            For each text its vector and the number of its tokens.

        Raises:
            TooLargeError: A text is longer than :data:`MAX_LETTERS`, or there are too many.
            BusyError: Too many wait already.
        """
        if any(len(text) > MAX_LETTERS for text in texts):
            raise TooLargeError(
                f"a text to embed has more than {MAX_LETTERS} letters; send its first part, which "
                "is all that the encoder reads"
            )
        most = max(self.served.settings.waiting, _LEAST_MOST_TEXTS)
        if len(texts) > most:
            raise TooLargeError(
                f"the request has {len(texts)} texts to embed; at most {most} are taken at once; "
                "send them in parts"
            )
        prefix = self.served.encoder.manifest.prefix(role) if prefixed else ""
        wanted = [Wanted(prefix + text, adapted) for text in texts]
        found = {each: self._cache[each] for each in wanted if each in self._cache}
        for each in found:
            self._cache.move_to_end(each)
        missing = dict.fromkeys(each for each in wanted if each not in found)
        self._count(role, "cached", len(wanted) - sum(each in missing for each in wanted))
        if missing:
            jobs = self._enqueue(list(missing), role)
            found |= await self._wait(jobs)
        return [found[each] for each in wanted]

    def _enqueue(self, wanted: Sequence[Wanted], role: Role) -> list[_Job]:
        """Let texts wait, unless too many do; a request that finds none waiting is always taken."""
        n_new = sum(each not in self._jobs for each in wanted)
        if self._n_waiting and self._n_waiting + n_new > self.served.settings.waiting:
            self._count(role, "refused", len(wanted))
            after_s = max(1, math.ceil(self._n_waiting * self._text_s))
            raise BusyError(
                f"{self._n_waiting} texts wait to be embedded by {self.served.settings.model}; "
                f"at most {self.served.settings.waiting} may; try again in {after_s} s",
                after_s,
            )
        self._count(role, "encoded", n_new)
        self._count(role, "shared", len(wanted) - n_new)
        loop = asyncio.get_running_loop()
        jobs = []
        for each in wanted:
            job = self._jobs.get(each)
            if job is None:
                job = self._jobs[each] = _Job(each, loop.create_future())
                self._queues[role].append(job)
                self._n_waiting += 1
            job.n_waiting += 1
            jobs.append(job)
        self._start()
        return jobs

    async def _wait(self, jobs: Sequence[_Job]) -> dict[Wanted, Embedded]:
        """Wait for texts; those that nobody waits for any more are not embedded."""
        try:
            return {job.wanted: await asyncio.shield(job.future) for job in jobs}
        finally:
            for job in jobs:
                job.n_waiting -= 1
                if job.n_waiting == 0 and not job.future.done():
                    job.is_dropped = True
                    self._jobs.pop(job.wanted, None)

    def _start(self) -> None:
        """Give idle threads what waits."""
        while self._n_running < self.served.settings.threads:
            jobs = self._take()
            if not jobs:
                if self._is_retired and not self._n_running:
                    self.close()
                return
            self._n_running += 1
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._threads, self._run, [job.wanted for job in jobs])
            running.add_done_callback(partial(self._ended, jobs, time.perf_counter()))

    def _take(self) -> list[_Job]:
        """Take the next batch: queries before documents, all of one output."""
        jobs: list[_Job] = []
        for queue in self._queues.values():
            while queue and len(jobs) < _TEXTS_AT_ONCE:
                if jobs and queue[0].wanted.is_adapted != jobs[0].wanted.is_adapted:
                    return jobs
                job = queue.popleft()
                self._n_waiting -= 1
                if not job.is_dropped:
                    jobs.append(job)
        return jobs

    def _run(self, wanted: Sequence[Wanted]) -> list[Embedded]:
        """Embed a batch, in a thread."""
        texts = [each.text for each in wanted]
        return self.served.encoder.embed(texts, adapted=wanted[0].is_adapted)

    def _ended(
        self, jobs: Sequence[_Job], started: float, running: "asyncio.Future[list[Embedded]]"
    ) -> None:
        """Hand out what a batch gave, and begin the next."""
        self._n_running -= 1
        now = time.perf_counter()
        error: BaseException | None = asyncio.CancelledError()
        if not running.cancelled():
            error = running.exception()
        self._text_s = _MEMORY * self._text_s + (1 - _MEMORY) * (now - started) / len(jobs)
        for place, job in enumerate(jobs):
            self._jobs.pop(job.wanted, None)
            if job.future.done():
                continue
            if isinstance(error, asyncio.CancelledError):  # the worker ends
                job.future.cancel()
                continue
            if error is not None:
                job.future.set_exception(error)
                job.future.exception()  # seen: whoever waited may have left
                continue
            model = self.served.settings.model
            self._telemetry.observe(t.ENCODE_SECONDS, now - job.arrived, model)
            embedded = running.result()[place]
            self._keep(job.wanted, embedded)
            job.future.set_result(embedded)
        self._start()

    def _keep(self, wanted: Wanted, embedded: Embedded) -> None:
        """Keep an embedding in place of the one that was asked for longest ago."""
        if self.served.settings.cached:
            self._cache[wanted] = embedded
            if len(self._cache) > self.served.settings.cached:
                self._cache.popitem(last=False)

    def _count(self, role: Role, result: str, n: int) -> None:
        """Count texts."""
        if n:
            self._telemetry.count(t.TEXTS, self.served.settings.model, role, result, by=n)

    def close(self) -> None:
        """Take no more; what runs comes to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class TextPools:
    """The pools of a worker, one for each encoder that it serves."""

    def __init__(self, telemetry: Telemetry) -> None:
        """Begin without pools."""
        self._telemetry = telemetry
        self._pools: dict[ServedEncoder, TextPool] = {}

    def of(self, served: ServedEncoder) -> TextPool:
        """Give an encoder's pool."""
        pool = self._pools.get(served)
        if pool is None:
            pool = self._pools[served] = TextPool(served, self._telemetry)
        return pool

    def __iter__(self) -> Iterator[TextPool]:
        """Give those that are in use."""
        return iter(self._pools.values())

    def keep(self, served: Iterable[ServedEncoder]) -> None:
        """Let go of the pools of encoders that are served no more."""
        kept = set(served)
        for each in [each for each in self._pools if each not in kept]:
            self._pools.pop(each).retire()

    def close(self) -> None:
        """Let go of all at once."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()


def _give_way() -> None:
    """Let a thread that embeds stand back behind the event loop's, where the system can."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
