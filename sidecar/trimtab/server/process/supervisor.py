"""Several workers on the same ports, each in a process of its own, and how they are spoken to.

The workers share nothing but the listeners. Each has one socket to its supervisor, for calls and
their results (:mod:`~trimtab.server.process.control`), and for what it forgets of collections.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import Any

from trimtab.addresses import Address
from trimtab.errors import ConfigError, SidecarError, WorkerEndedError, WorkerFailedError
from trimtab.log import LogSettings, install_handler
from trimtab.metrics import Telemetry
from trimtab.server.event_loop import ignore_signal, new_event_loop, on_signal
from trimtab.server.process.control import (
    LINE_LIMIT_BYTES,
    Call,
    answer_call,
    read_lines,
    write_line,
)
from trimtab.server.process.worker import Worker, open_socket
from trimtab.settings import Settings
from trimtab.time_limits import timeout, wait_for
from trimtab.unforeseen import Border, tell

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
_SERVED = ("routes", "collections", "encoders")
_OTHERS = "a new worker serves other models than the others"
_WHY_OTHERS = "the others went back, or were not told to reload; reload, or put the files back"
_RESTART_DELAY_S = 1.0
_ANSWER_S = 3.0
"""Seconds that a worker has to say something of itself: probes and scrapes wait for it."""

Read = Callable[[], Settings]


class RemoteWorker:
    """A worker in another process.

    Attributes:
        last_numbers: Those that it gave when it was last asked.
    """

    def __init__(
        self,
        settings: Settings,
        read: Read,
        logs: LogSettings,
        invalidated: Callable[["RemoteWorker", str], None],
        telemetry: Telemetry,
    ) -> None:
        """Say what it is started with; see :meth:`start`.

        Args:
            settings: What the server was started with.
            read: Reads the settings, as they are at each reload.
            logs: How the worker writes its log.
            invalidated: Is told what the worker no longer trusts of what Qdrant said.
            telemetry: Counts what nobody foresaw.
        """
        self.last_numbers: dict[str, Any] = Telemetry().to_record()
        self._settings = settings
        self._read = read
        self._logs = logs
        self._invalidated = invalidated
        self._telemetry = telemetry
        self._process: BaseProcess | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process and wait until it listens.

        Raises:
            ConfigError: It can't; with its own words.
        """
        ours, theirs = socket.socketpair()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(
            target=run_worker,
            args=(theirs, self._settings, self._read, self._logs),
            name="trimtab-worker",
        )
        self._process.start()
        theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT_BYTES)
        try:
            line = await wait_for(reader.readline(), _START_TIMEOUT_S)
        except TimeoutError as error:
            raise ConfigError(f"a worker did not start within {_START_TIMEOUT_S:g} s") from error
        first = json.loads(line or b'{"error": "a worker ended while it started"}')
        if "error" in first:
            raise ConfigError(first["error"])
        self._reading = asyncio.create_task(self._read_answers(reader))

    async def wait(self) -> None:
        """Wait until the process is gone."""
        if self._reading is not None:
            await self._reading
        if self._process is not None:
            await asyncio.to_thread(self._process.join)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the process to end."""
        if self._process is not None and self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, number)

    async def prepare(self) -> str:
        """Make the next table; give what is wrong with it, or an empty text."""
        return str(await self._call(Call.PREPARE))

    async def commit(self) -> bool:
        """Put the table that was prepared in force."""
        return bool(await self._call(Call.COMMIT))

    async def abort(self, cause: str) -> None:
        """Keep the table in force."""
        await self._call(Call.ABORT, cause)

    async def roll_back(self) -> bool:
        """Go back to the table before."""
        return bool(await self._call(Call.ROLL_BACK))

    async def describe(self) -> dict[str, Any]:
        """Give the routes in force."""
        found: dict[str, Any] = await self._ask(Call.DESCRIBE)
        return found

    async def measure(self) -> dict[str, Any]:
        """Give the worker's numbers; the last ones where it is stuck or gone: none may shrink."""
        try:
            self.last_numbers = await self._ask(Call.MEASURE)
        except (WorkerEndedError, WorkerFailedError) as error:
            logger.error("a worker gives its last numbers again", extra={"cause": str(error)})  # noqa: TRY400  # its own log has the traceback
        return self.last_numbers

    async def comparisons(self) -> list[dict[str, Any]]:
        """Give the last comparisons of shadow routes."""
        found: list[dict[str, Any]] = await self._ask(Call.COMPARISONS)
        return found

    async def is_ready(self) -> bool:
        """Tell whether a query could be answered now."""
        return bool(await self._ask(Call.IS_READY))

    async def invalidate(self, collection: str) -> None:
        """Forget what Qdrant said of a collection, or of all."""
        await self._call(Call.INVALIDATE, collection)

    async def _ask(self, call: Call) -> Any:
        """Have a worker say something of itself.

        Raises:
            WorkerEndedError: The process is gone.
            WorkerFailedError: It could not, or not in time.
        """
        try:
            async with timeout(_ANSWER_S):
                return await self._call(call)
        except TimeoutError as error:
            raise WorkerFailedError(f"a worker does not answer within {_ANSWER_S:g} s") from error

    async def _call(self, call: Call, *arguments: str) -> Any:
        """Have a method called over there.

        Raises:
            WorkerEndedError: The process is gone.
            WorkerFailedError: It could not do it.
        """
        if self._writer is None or self._writer.is_closing():
            raise WorkerEndedError("a worker has ended; another one takes its place")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(write_line([number, call, arguments]))
        return await answer

    async def _read_answers(self, reader: asyncio.StreamReader) -> None:
        """Hand results to those who wait for them."""
        await read_lines(reader, self._take, self._telemetry)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(WorkerEndedError("a worker has ended"))
        self._waiting.clear()
        if self._writer is not None:
            self._writer.close()

    def _take(self, said: Any) -> None:
        """Take what the worker says: the result of a call, or what it has invalidated."""
        if isinstance(said, dict):
            self._invalidated(self, said["invalidate"])
            return
        number, outcome = said
        waiting = self._waiting.pop(number)
        if waiting.done():  # whoever asked has gone
            return
        if "failed" in outcome:
            waiting.set_exception(WorkerFailedError(outcome["failed"]))
        else:
            waiting.set_result(outcome["result"])


class Supervisor:
    """Starts workers, and starts one anew where one has died.

    Attributes:
        settings: With the ports that were taken.
        workers: Those that run.
        numbers: Those of workers that have ended, as they were last asked for, and of this process.
        changing: Held by whoever changes what is served, or who serves it.
    """

    def __init__(self, settings: Settings, read: Read, logs: LogSettings) -> None:
        """Take the ports, so that all workers get the same.

        Raises:
            ConfigError: One can't be had.
        """
        self._read = read
        self._logs = logs
        self._held: list[socket.socket] = []
        listen = replace(
            settings.listen,
            rest=self._hold(settings.listen.rest),
            grpc=self._hold(settings.listen.grpc),
        )
        self.settings = replace(settings, listen=listen)
        self.workers: list[RemoteWorker] = []
        self.numbers = Telemetry()
        self._keepers: list[asyncio.Task[None]] = []
        self.changing = asyncio.Lock()
        self._is_stopping = False
        self._telling: set[asyncio.Task[None]] = set()

    def _hold(self, address: Address | None) -> Address | None:
        """Take a port without listening on it."""
        if address is None:
            return None
        held = open_socket(address, shares_port=True)
        self._held.append(held)
        return Address(address.host, held.getsockname()[1])

    async def start(self) -> None:
        """Start all workers.

        Raises:
            ConfigError: One can't start; none is left behind.
        """
        started = [self._new() for _ in range(self.settings.workers)]
        results = await asyncio.gather(*(each.start() for each in started), return_exceptions=True)
        failure = next((each for each in results if isinstance(each, BaseException)), None)
        if failure is not None:
            for worker in started:
                worker.stop(signal.SIGKILL)
            await asyncio.gather(*(worker.wait() for worker in started))
            raise failure
        self.workers.extend(started)
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in started]

    async def stop(self) -> None:
        """Let all workers finish what is under way."""
        self._is_stopping = True
        for worker in self.workers:
            worker.stop()
        await asyncio.gather(*self._keepers)
        for held in self._held:
            held.close()

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.workers:
            worker.stop(signal.SIGKILL)

    def _new(self) -> RemoteWorker:
        """Make a worker."""
        return RemoteWorker(self.settings, self._read, self._logs, self._invalidated, self.numbers)

    def _invalidated(self, by: RemoteWorker, collection: str) -> None:
        """Let the other workers invalidate what one has."""
        for worker in self.workers:
            if worker is not by:
                task = asyncio.create_task(_invalidate(worker, collection))
                self._telling.add(task)
                task.add_done_callback(self._telling.discard)

    async def _keep(self, worker: RemoteWorker) -> None:
        """Wait for a worker's end, and replace it."""
        while True:
            await worker.wait()
            self.workers.remove(worker)
            self.numbers.add_lasting(worker.last_numbers)
            if self._is_stopping:
                return
            logger.error("a worker has died; starting another")
            worker = await self._start_another()
            async with self.changing:  # no reload is half done now, and the next one reaches it
                await self._catch_up(worker)
                self.workers.append(worker)
            if self._is_stopping:  # all others have been told meanwhile
                worker.stop()

    async def _catch_up(self, new: RemoteWorker) -> None:
        """Have a new worker read its files again where they changed as it started."""
        with contextlib.suppress(WorkerEndedError, WorkerFailedError):
            if await self._serves_as_others(new):
                return
            cause = await new.prepare()
            await (new.abort(cause) if cause else new.commit())
            if not await self._serves_as_others(new):
                logger.error(_OTHERS, extra={"cause": _WHY_OTHERS})

    async def _serves_as_others(self, new: RemoteWorker) -> bool:
        """Tell whether a worker has the others' routes, indexes and encoders."""
        tables = [await each.describe() for each in (new, *self.workers)]
        served = [tuple(table[what] for what in _SERVED) for table in tables]
        return all(each == served[0] for each in served)

    async def _start_another(self) -> RemoteWorker:
        """Start a worker, however often it takes."""
        while True:
            worker = self._new()
            if self._is_stopping:
                return worker
            try:
                await worker.start()
            except Exception as error:
                cause = tell(self.numbers, Border.WORKERS, error)
                logger.error("a worker can't start", extra={"cause": cause})  # noqa: TRY400  # told with its traceback, where nobody foresaw it
                worker.stop(signal.SIGKILL)
                await asyncio.sleep(_RESTART_DELAY_S)
            else:
                return worker


async def _invalidate(worker: RemoteWorker, collection: str) -> None:
    """Have a worker forget, unless it is gone and remembers nothing anyway."""
    with contextlib.suppress(WorkerEndedError, WorkerFailedError):
        await worker.invalidate(collection)


def run_worker(control: socket.socket, settings: Settings, read: Read, logs: LogSettings) -> None:
    """Be a worker, until SIGTERM or the end of the supervisor."""
    install_handler(logs)
    ignore_signal("SIGINT")  # the supervisor says when to end
    ignore_signal("SIGHUP")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_work(control, settings, read))


async def _work(control: socket.socket, settings: Settings, read: Read) -> None:
    """Serve, and do what the supervisor says."""
    reader, writer = await asyncio.open_connection(sock=control, limit=LINE_LIMIT_BYTES)
    try:
        worker = await Worker.start(settings, read, shares_ports=True)
    except SidecarError as error:
        writer.write(write_line({"error": str(error)}))
        await writer.drain()
        return
    writer.write(write_line({"ready": True}))
    worker.state.invalidation_listeners.append(
        lambda collection: writer.write(write_line({"invalidate": collection}))
    )
    ended = asyncio.Event()
    on_signal("SIGTERM", ended.set)
    obeying = asyncio.create_task(_obey(worker, reader, writer))
    obeying.add_done_callback(lambda _: ended.set())
    await ended.wait()
    await worker.drain()
    obeying.cancel()


async def _obey(worker: Worker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do what the supervisor asks for, until it is gone; a slow call keeps no other waiting."""
    calls: set[asyncio.Task[None]] = set()
    telemetry = worker.state.telemetry

    async def answer(message: Any) -> None:
        writer.write(await answer_call(worker, message, telemetry))

    def take(message: Any) -> None:
        task = asyncio.create_task(answer(message))
        calls.add(task)
        task.add_done_callback(calls.discard)

    await read_lines(reader, take, telemetry)
