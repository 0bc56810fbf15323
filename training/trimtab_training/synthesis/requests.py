"""Many requests, several under way at once; every answer is kept before its worker goes on."""

import asyncio
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from trimtab_training.errors import EndpointError
from trimtab_training.synthesis.endpoint import LlmEndpoint
from trimtab_training.synthesis.pacing import Halted
from trimtab_training.synthesis.prompts import Request
from trimtab_training.synthesis.store import Answer, AnswerStore

_FAILURES_IN_A_ROW = 25


async def ask_all(
    requests: Iterable[Request],
    endpoint: LlmEndpoint,
    store: AnswerStore,
    *,
    concurrency: int,
    on_answer: Callable[[Answer], None] = lambda _answer: None,
    on_interrupt: Callable[[int], None] = lambda _under_way: None,
) -> None:
    """Ask for everything that the store lacks, and keep what comes.

    Whatever ends it, requests that are under way are paid for: they are waited for and kept. From
    the moment that a refusal for good was read (no credit, a bad key), or Ctrl-C was pressed, no
    further request is begun, and no failed one is tried again; what was begun until then may be
    paid for. A second Ctrl-C drops what is under way, too.

    Args:
        requests: What to ask; drawn one at a time, so that any number will do.
        endpoint: Where to ask.
        store: Where answers are kept; must be open.
        concurrency: Requests under way at once.
        on_answer: Called after each answer or failure was kept.
        on_interrupt: Called at the first Ctrl-C, with the number of requests under way.

    Raises:
        EndpointError: Nothing more can come of the endpoint now.
        KeyboardInterrupt: It was interrupted.
    """
    workers = _Workers(iter(requests), endpoint, store, on_answer)
    with _graceful_interrupt(workers, on_interrupt):
        results = await asyncio.gather(
            *(workers.work() for _ in range(concurrency)), return_exceptions=True
        )
    for result in results:
        if isinstance(result, BaseException):
            raise result
    if workers.interrupted:
        raise KeyboardInterrupt


class _Workers:
    """Workers that draw from one list of requests, and stop together."""

    def __init__(
        self,
        requests: Iterator[Request],
        endpoint: LlmEndpoint,
        store: AnswerStore,
        on_answer: Callable[[Answer], None],
    ) -> None:
        """Gather what the workers share."""
        self._requests, self._endpoint, self._store = requests, endpoint, store
        self._on_answer = on_answer
        self._failed_in_a_row = 0
        self._asked: set[str] = set()
        self.under_way = 0
        self.stopped = self.interrupted = False

    def stop(self) -> None:
        """Let no worker send anything more."""
        self.stopped = True
        self._endpoint.halt()

    async def work(self) -> None:
        """Ask one request after another until none is left or one of the workers stops all."""
        while not self.stopped and (request := self._next()) is not None:
            self.under_way += 1
            try:
                tries = self._store.tries.get(request.key, 0)
                answer = await self._endpoint.ask(request, tries)
                self._keep(answer)
            except Halted:
                return
            except BaseException:
                self.stop()
                raise
            finally:
                self.under_way -= 1

    def _next(self) -> Request | None:
        """Give the next request whose answer is neither kept nor under way."""
        for request in self._requests:
            if request.key not in self._store.answers and request.key not in self._asked:
                self._asked.add(request.key)
                return request
        return None

    def _keep(self, answer: Answer) -> None:
        """Keep an answer; give up where nothing but failures comes."""
        self._store.append(answer)
        self._on_answer(answer)
        self._failed_in_a_row = self._failed_in_a_row + 1 if answer.failure else 0
        if self._failed_in_a_row >= _FAILURES_IN_A_ROW:
            raise EndpointError(
                f"the last {self._failed_in_a_row} requests failed, the last one with: "
                f"{answer.failure}; what came before is kept"
            )


@contextmanager
def _graceful_interrupt(workers: _Workers, on_interrupt: Callable[[int], None]) -> Iterator[None]:
    """Let the first Ctrl-C stop new requests only."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def interrupt() -> None:
        if not workers.interrupted:
            workers.interrupted = True
            workers.stop()
            on_interrupt(workers.under_way)
        elif task is not None:
            task.cancel()

    try:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        yield
        return
    try:
        yield
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error
    finally:
        loop.remove_signal_handler(signal.SIGINT)
