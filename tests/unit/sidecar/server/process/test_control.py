"""What a supervisor can ask of a worker: one list, and nothing that is said ends anybody."""

import asyncio
import inspect
import json
from typing import Any, ClassVar, cast

import pytest

from tests.support.sidecar_settings import settings_of
from trimtab import metrics as t
from trimtab.addresses import Address
from trimtab.errors import ConfigError, WorkerEndedError, WorkerFailedError
from trimtab.log import LogSettings
from trimtab.metrics import Telemetry
from trimtab.server.process import supervisor
from trimtab.server.process.control import Call, Control, answer_call, read_lines, write_line
from trimtab.server.process.supervisor import RemoteWorker
from trimtab.server.process.worker import Worker
from trimtab.settings import ListenSettings
from trimtab.unforeseen import Border

WAIT_S = 10


def unforeseen(telemetry: Telemetry) -> float:
    return telemetry.numbers.get((t.UNFORESEEN.name, Border.WORKERS), 0)


@pytest.mark.parametrize("kind", [Control, Worker, RemoteWorker])
def test_every_call_is_a_method_of_both_sides_with_the_same_arguments(kind: type) -> None:
    for call in Call:
        method, promised = getattr(kind, call), getattr(Control, call)
        assert inspect.iscoroutinefunction(method), call
        assert list(inspect.signature(method).parameters) == list(
            inspect.signature(promised).parameters
        )


def test_every_method_that_is_promised_is_a_call() -> None:
    assert {name for name in vars(Control) if not name.startswith("_")} == set(Call)


def answered(worker: Any, message: Any, telemetry: Telemetry) -> Any:
    line = asyncio.run(answer_call(cast(Control, worker), message, telemetry))
    return json.loads(line)


class Obliging:
    """A worker that remembers what it was told to forget, and fails at the rest."""

    def __init__(self) -> None:
        self.invalidated: list[str] = []

    async def invalidate(self, collection: str) -> None:
        self.invalidated.append(collection)

    async def prepare(self) -> str:
        raise ConfigError("told on purpose")

    async def measure(self) -> dict[str, Any]:
        raise OSError("disk on fire")

    async def describe(self) -> Any:
        return {1, 2}  # nothing that JSON can hold


def test_a_worker_forgets_what_it_is_told_to() -> None:
    worker, telemetry = Obliging(), Telemetry()
    assert answered(worker, [7, "invalidate", ["docs"]], telemetry) == [7, {"result": None}]
    assert worker.invalidated == ["docs"]
    assert unforeseen(telemetry) == 0


@pytest.mark.parametrize(
    ("message", "said", "is_unforeseen"),
    [
        ([1, "close", []], "'close' is not a valid Call", True),
        ([1, "__init__", []], "is not a valid Call", True),
        ([1, "invalidate", []], "missing 1 required positional argument", True),
        ([1, "measure", []], "OSError: disk on fire", True),
        ([1, "describe", []], "TypeError", True),
        ([1, "prepare", []], "told on purpose", False),
    ],
)
def test_a_call_that_is_unknown_or_fails_is_answered(
    message: Any, said: str, is_unforeseen: bool
) -> None:
    telemetry = Telemetry()
    number, outcome = answered(Obliging(), message, telemetry)
    assert number == 1
    assert said in outcome["failed"]
    assert unforeseen(telemetry) == is_unforeseen


def test_lines_that_nobody_can_read_keep_no_later_one_from_being_taken() -> None:
    taken: list[Any] = []

    def take(message: Any) -> None:
        if message == "bad":
            raise LookupError("no such thing")
        taken.append(message)

    async def run() -> Telemetry:
        reader, telemetry = asyncio.StreamReader(limit=64), Telemetry()
        reader.feed_data(b'no JSON\n"bad"\n[1]\n' + b"x" * 100 + b"\n[2]\n[3")
        reader.feed_eof()
        await read_lines(reader, take, telemetry)
        return telemetry

    telemetry = asyncio.run(run())
    assert taken == [[1], [2]]
    assert unforeseen(telemetry) == 3


class Line:
    """A remote worker whose process is played by a test."""

    def __init__(self) -> None:
        self.telemetry = Telemetry()
        self.invalidated: list[str] = []
        self.worker = RemoteWorker(
            settings_of(None),
            lambda: settings_of(None),
            LogSettings(),
            lambda _, name: self.invalidated.append(name),
            self.telemetry,
        )
        self.reader = asyncio.StreamReader()
        self.sent: list[bytes] = []
        self.is_closed = False
        self.worker._writer = cast(asyncio.StreamWriter, self)
        self.worker._reading = asyncio.create_task(self.worker._read_answers(self.reader))

    def is_closing(self) -> bool:
        return self.is_closed

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.is_closed = True

    def say(self, message: Any) -> None:
        self.reader.feed_data(write_line(message))


def test_answers_find_those_who_asked_whatever_else_is_said() -> None:
    async def run() -> None:
        line = Line()
        gone = asyncio.create_task(line.worker.describe())
        failing = asyncio.create_task(line.worker.commit())
        asking = asyncio.create_task(line.worker.is_ready())
        ending = asyncio.create_task(line.worker.comparisons())
        await asyncio.sleep(0)
        assert [json.loads(each)[1] for each in line.sent] == [
            "describe", "commit", "is_ready", "comparisons",
        ]  # fmt: skip
        gone.cancel()
        await asyncio.sleep(0)
        line.say({"invalidate": "docs"})
        line.say({"remember": "docs"})
        line.say([99, {"result": 1}])
        line.say("what?")
        line.say([0, {"result": {}}])  # for the one who has gone
        line.say([1, {"failed": "can't"}])
        line.say([2, {"result": True}])
        async with asyncio.timeout(WAIT_S):
            assert await asking is True
            with pytest.raises(WorkerFailedError, match="can't"):
                await failing
            line.reader.feed_eof()
            with pytest.raises(WorkerEndedError):
                await ending
            await line.worker.wait()
        assert line.invalidated == ["docs"]
        assert unforeseen(line.telemetry) == 3

    asyncio.run(run())


def test_a_worker_that_has_ended_gives_its_last_numbers_again() -> None:
    """Until its supervisor has taken them over: a counter that shrinks looks like a restart."""

    async def run() -> None:
        line = Line()
        line.worker.last_numbers = {"numbers": "before"}
        asked = asyncio.create_task(line.worker.measure())
        await asyncio.sleep(0)
        line.reader.feed_eof()  # its end, in the middle of the call
        async with asyncio.timeout(WAIT_S):
            assert await asked == {"numbers": "before"}
            await line.worker.wait()
        assert await line.worker.measure() == {"numbers": "before"}

    asyncio.run(run())


def test_a_worker_that_is_stuck_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "_ANSWER_S", 0.01)

    async def run() -> None:
        line = Line()
        line.worker.last_numbers = {"numbers": "before"}
        async with asyncio.timeout(WAIT_S):
            assert await line.worker.measure() == {"numbers": "before"}
            for ask in (line.worker.describe, line.worker.comparisons, line.worker.is_ready):
                with pytest.raises(WorkerFailedError, match="does not answer within"):
                    await ask()
        line.say([0, {"result": {"numbers": "late"}}])  # for nobody any more
        line.reader.feed_eof()
        await line.worker.wait()
        assert unforeseen(line.telemetry) == 0

    asyncio.run(run())
    assert [each.message for each in caplog.records] == ["a worker gives its last numbers again"]


class Process:
    """Stands for a remote worker; the first ones of a kind can't start."""

    failures: ClassVar[list[Exception]] = []
    made: ClassVar[list["Process"]] = []
    routes: ClassVar[list[str]] = []
    files: ClassVar[list[str]] = []

    def __init__(self, *_: Any) -> None:
        self.last_numbers = Telemetry().to_record()
        self.has_ended = asyncio.Event()
        self.was_stopped = False
        self.made.append(self)

    async def start(self) -> None:
        if self.failures:
            raise self.failures.pop()

    async def wait(self) -> None:
        await self.has_ended.wait()

    async def describe(self) -> dict[str, Any]:
        return {"routes": self.routes, "collections": [], "encoders": []}

    async def prepare(self) -> str:
        return ""

    async def commit(self) -> bool:
        self.routes = self.files  # type: ignore[misc]  # its own
        return True

    def stop(self, *_: Any) -> None:
        self.was_stopped = True
        self.has_ended.set()


async def start_supervisor(**settings: Any) -> supervisor.Supervisor:
    listen = ListenSettings(rest=Address("127.0.0.1", 0), admin=None)
    chosen = settings_of(None, listen=listen, **settings)
    made = supervisor.Supervisor(chosen, lambda: chosen, LogSettings())
    await made.start()
    return made


def test_a_worker_is_replaced_whatever_keeps_the_first_ones_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "RemoteWorker", Process)
    monkeypatch.setattr(supervisor, "_RESTART_DELAY_S", 0)
    monkeypatch.setattr(Process, "made", [])
    monkeypatch.setattr(Process, "failures", [])

    async def run() -> None:
        made = await start_supervisor()
        (first,) = Process.made
        Process.failures[:] = [ConfigError("on purpose"), BlockingIOError("no more processes")]
        first.has_ended.set()
        async with asyncio.timeout(WAIT_S):
            while len(Process.made) < 4 or made.workers != Process.made[3:]:
                await asyncio.sleep(0)
        assert [each.was_stopped for each in Process.made] == [False, True, True, False]
        assert unforeseen(made.numbers) == 1
        async with asyncio.timeout(WAIT_S):
            await made.stop()
        assert made.workers == []

    asyncio.run(run())


@pytest.mark.parametrize("routes", [["model@old"], ["model@new"]])
def test_a_new_worker_that_serves_other_models_than_the_rest_is_told(
    routes: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "RemoteWorker", Process)
    monkeypatch.setattr(Process, "made", [])
    monkeypatch.setattr(Process, "routes", ["model@old"])
    monkeypatch.setattr(Process, "files", routes)

    async def run() -> None:
        made = await start_supervisor(workers=2)
        first, second = Process.made
        second.routes = ["model@old"]  # type: ignore[misc]  # its own: it went back to that one
        monkeypatch.setattr(Process, "routes", routes)
        first.has_ended.set()
        async with asyncio.timeout(WAIT_S):
            while made.workers != Process.made[1:] or len(Process.made) < 3:
                await asyncio.sleep(0)
            await made.stop()

    asyncio.run(run())
    is_told = "a new worker serves other models than the others" in caplog.messages
    assert is_told == (routes == ["model@new"])


def test_a_worker_that_started_during_a_reload_serves_what_the_others_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "RemoteWorker", Process)
    monkeypatch.setattr(Process, "made", [])
    monkeypatch.setattr(Process, "routes", ["model@old"])
    monkeypatch.setattr(Process, "files", ["model@new"])

    async def run() -> None:
        made = await start_supervisor(workers=2)
        first, second = Process.made
        async with made.changing, asyncio.timeout(WAIT_S):  # as a reload holds it
            first.has_ended.set()
            while len(Process.made) < 3:
                await asyncio.sleep(0)
            for _ in range(9):
                await asyncio.sleep(0)
            assert made.workers == [second]
            await second.commit()
        async with asyncio.timeout(WAIT_S):
            while made.workers != Process.made[1:]:
                await asyncio.sleep(0)
        assert [each.routes for each in Process.made[1:]] == [["model@new"]] * 2
        await made.stop()

    asyncio.run(run())
    assert "a new worker serves other models than the others" not in caplog.messages
