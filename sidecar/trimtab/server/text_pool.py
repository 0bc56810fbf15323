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
from hashlib import blake2b
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
_LETTERS_AT_ONCE = 65_536
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

    @property
    def digest(self) -> bytes:
        """What it is kept by: as long for a long text as for a short one."""
        return blake2b(
            self.text.encode(errors="surrogatepass"), digest_size=16, salt=b"%d" % self.is_adapted
        ).digest()


@dataclass(slots=True, eq=False)
class _Job:
    """A text that waits; those who want the same wait together."""

    wanted: Wanted
    role: Role
    future: asyncio.Future[Embedded]
    arrived: float = field(default_factory=time.perf_counter)
    n_waiting: int = 0
    is_taken: bool = False
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
        self._cache: OrderedDict[bytes, Embedded] = OrderedDict()
        self._n_running = 0
        self._n_waiting = 0
        self._is_retired = False
        self._text_s = 0.01
        self._threads: ThreadPoolExecutor | None = None

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
        if len(texts) > self.served.settings.waiting:
            raise TooLargeError(
                f"the request has {len(texts)} texts to embed; at most "
                f"{self.served.settings.waiting} may wait at once; send them in parts"
            )
        prefix = self.served.encoder.manifest.prefix(role) if prefixed else ""
        wanted = [Wanted(prefix + text, adapted) for text in texts]
        found = {} if role == "document" else self._look_up(wanted)
        missing = dict.fromkeys(each for each in wanted if each not in found)
        self._count(role, "cached", len(wanted) - sum(each in missing for each in wanted))
        if missing:
            jobs = self._enqueue(list(missing), role)
            found |= await self._wait(jobs)
        return [found[each] for each in wanted]

    def _look_up(self, wanted: Sequence[Wanted]) -> dict[Wanted, Embedded]:
        """Give what is kept; it was asked for last from now on."""
        found = {}
        for each in wanted:
            kept = self._cache.get(each.digest)
            if kept is not None:
                self._cache.move_to_end(each.digest)
                found[each] = kept
        return found

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
                job = self._jobs[each] = _Job(each, role, loop.create_future())
                self._queues[role].append(job)
                self._n_waiting += 1
            elif role == "query" and job.role == "document" and not job.is_taken:
                job.role = role  # it waits as a document, and a query may go first
                self._queues[role].append(job)
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
                    self._drop(job)

    def _drop(self, job: _Job) -> None:
        """Let go of a text that nobody waits for any more."""
        self._forget(job)
        if not job.is_taken:
            job.is_dropped = True
            self._n_waiting -= 1

    def _forget(self, job: _Job) -> None:
        """Let nobody else join those who wait for a text."""
        if self._jobs.get(job.wanted) is job:
            del self._jobs[job.wanted]

    def _start(self) -> None:
        """Give idle threads what waits."""
        while self._n_running < self.served.settings.threads:
            jobs = self._take()
            if not jobs:
                if self._is_retired and not self._n_running:
                    self.close()
                return
            self._n_running += 1
            if self._threads is None:
                self._threads = ThreadPoolExecutor(
                    self.served.settings.threads, "trimtab-text", initializer=_give_way
                )
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._threads, self._run, [job.wanted for job in jobs])
            running.add_done_callback(partial(self._ended, jobs, time.perf_counter()))

    def _take(self) -> list[_Job]:
        """Take the next batch: of queries as long as there are some, all of one output."""
        jobs: list[_Job] = []
        n_letters = 0
        for queue in self._queues.values():
            while queue and len(jobs) < _TEXTS_AT_ONCE and n_letters < _LETTERS_AT_ONCE:
                if jobs and queue[0].wanted.is_adapted != jobs[0].wanted.is_adapted:
                    return jobs
                job = queue.popleft()
                if not job.is_dropped and not job.is_taken:
                    job.is_taken = True
                    self._n_waiting -= 1
                    n_letters += len(job.wanted.text)
                    jobs.append(job)
            if jobs:
                return jobs
        return jobs

    def _run(self, wanted: Sequence[Wanted]) -> list[Embedded | Exception]:
        """Embed a batch, in a thread; where that fails text by text, so that one fails alone."""
        encoder, is_adapted = self.served.encoder, wanted[0].is_adapted
        try:
            return list(encoder.embed([each.text for each in wanted], adapted=is_adapted))
        except Exception as error:
            if len(wanted) == 1:
                return [error]
        return [self._run([each])[0] for each in wanted]

    def _ended(
        self,
        jobs: Sequence[_Job],
        started: float,
        running: "asyncio.Future[list[Embedded | Exception]]",
    ) -> None:
        """Hand out what a batch gave, and begin the next."""
        self._n_running -= 1
        now = time.perf_counter()
        self._text_s = _MEMORY * self._text_s + (1 - _MEMORY) * (now - started) / len(jobs)
        error = None if running.cancelled() else running.exception()
        given: Sequence[Embedded | BaseException] = [error or asyncio.CancelledError()] * len(jobs)
        if error is None and not running.cancelled():
            given = running.result()
        for job, embedded in zip(jobs, given, strict=True):
            self._forget(job)
            if not job.future.done():
                self._hand_out(job, embedded, now)
        self._start()

    def _hand_out(self, job: _Job, embedded: Embedded | BaseException, now: float) -> None:
        """Tell those who wait for a text what became of it."""
        if isinstance(embedded, asyncio.CancelledError):  # the worker ends
            job.future.cancel()
        elif isinstance(embedded, BaseException):
            job.future.set_exception(embedded)
            job.future.exception()  # seen: whoever waited may have left
        else:
            model = self.served.settings.model
            self._telemetry.observe(t.ENCODE_SECONDS, now - job.arrived, model)
            self._keep(job, embedded)
            job.future.set_result(embedded)

    def _keep(self, job: _Job, embedded: Embedded) -> None:
        """Keep a query's embedding in place of the one that was asked for longest ago.

        Documents are not asked for twice. The vector is copied: it is a part of its batch's.
        """
        if job.role == "query" and self.served.settings.cached:
            self._cache[job.wanted.digest] = embedded._replace(vector=embedded.vector.copy())
            if len(self._cache) > self.served.settings.cached:
                self._cache.popitem(last=False)

    def _count(self, role: Role, result: str, n: int) -> None:
        """Count texts."""
        if n:
            self._telemetry.count(t.TEXTS, self.served.settings.model, role, result, by=n)

    def close(self) -> None:
        """Let the threads go: what runs comes to its end, what waits is told that it won't."""
        for queue in self._queues.values():
            for job in queue:
                self._forget(job)
                job.future.cancel()
            queue.clear()
        self._n_waiting = 0
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


class TextPools:
    """The pools of a worker, one for each encoder that it serves."""

    def __init__(self, telemetry: Telemetry) -> None:
        """Begin without pools."""
        self._telemetry = telemetry
        self._pools: dict[ServedEncoder, TextPool] = {}
        self._served: frozenset[ServedEncoder] | None = None

    def of(self, served: ServedEncoder) -> TextPool:
        """Give an encoder's pool; one that is served no more has it for a request alone."""
        pool = self._pools.get(served)
        if pool is None:
            pool = TextPool(served, self._telemetry)
            if self._served is not None and served not in self._served:
                pool.retire()
            else:
                self._pools[served] = pool
        return pool

    def __iter__(self) -> Iterator[TextPool]:
        """Give those that are in use."""
        return iter(self._pools.values())

    def keep(self, served: Iterable[ServedEncoder]) -> None:
        """Let go of the pools of encoders that are served no more."""
        kept = self._served = frozenset(served)
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
