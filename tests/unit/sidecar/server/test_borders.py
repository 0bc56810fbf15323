"""At every border with other people's code: what is raised is told, counted, and lived on with."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from tests.support.onnx_models import linear_bytes
from tests.support.sidecar_settings import settings_of
from trimtab import metrics as t
from trimtab.addresses import Address, Origin
from trimtab.errors import ConfigError
from trimtab.metrics import Telemetry
from trimtab.routing.schema_cache import SchemaCache
from trimtab.server.process.admin_api import make_app
from trimtab.server.process.admin_operations import Administration, stamp_files, watch_files
from trimtab.server.process.control import Control
from trimtab.server.process.worker import Worker
from trimtab.server.request_head import RequestHead
from trimtab.server.rest import exchange
from trimtab.server.rest.exchange import Exchange
from trimtab.server.route_table import LiveTable
from trimtab.server.shadow import Shadow
from trimtab.server.worker_state import WorkerState
from trimtab.settings import ReloadSettings, ShadowSettings, UpstreamSettings
from trimtab.unforeseen import Border, repeat, tell
from trimtab.upstream.rest_pool import Node, Pool

WAIT_S = 10
HOST = "127.0.0.1"


class LibraryError(Exception):
    """What nobody foresaw."""


class Place:
    """A folder with a model, and what is counted."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.telemetry = Telemetry()
        (folder / "adapter.onnx").write_bytes(linear_bytes(use="relevance"))
        self.settings = settings_of(folder)

    def told(self, border: Border) -> float:
        return self.telemetry.numbers.get((t.UNFORESEEN.name, border), 0)

    def state(self) -> WorkerState:
        facts = SchemaCache(vectors_ttl_s=9, aliases_ttl_s=9)
        return WorkerState(LiveTable(lambda: self.settings, facts), facts, None, self.telemetry)

    def worker(self) -> Worker:
        return Worker(self.state(), self.settings)

    async def until_told(self, border: Border, times: int = 1) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.told(border) < times:
                await asyncio.sleep(0)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def failing(*_: Any, **__: Any) -> Any:
    raise LibraryError("boom")


async def failing_async(*_: Any, **__: Any) -> Any:
    raise LibraryError("boom")


async def at_reload(place: Place) -> None:
    """A reload meets a library's error: nothing changes, and the next one counts."""
    worker = place.worker()
    before = worker.state.table
    administration = Administration([worker], Telemetry())
    with place.patch.context() as patch:
        patch.setattr(worker.state.live, "prepare", failing)
        assert await administration.reload() == "LibraryError: boom"
    numbers = place.telemetry.numbers
    assert numbers[t.RELOADS.name, "failed"] == 1
    assert worker.state.table is before
    assert await administration.reload() == ""
    assert worker.state.table is not before


async def at_watcher(place: Place) -> None:
    """The watcher meets one error after another, and has every change reloaded all the same."""
    reloaded = asyncio.Event()

    async def prepare() -> str:
        reloaded.set()
        return ""

    async def commit() -> bool:
        return True

    settings = replace(place.settings, reload=ReloadSettings(interval_s=0.001))
    worker = cast(Control, SimpleNamespace(prepare=prepare, commit=commit))
    administration = Administration([worker], place.telemetry)
    watching = asyncio.create_task(
        watch_files(settings, administration, failing, stamp_files(settings))
    )
    for seed in (2, 3):
        (place.folder / "adapter.onnx").write_bytes(linear_bytes(seed=seed, name="m" * seed))
        async with asyncio.timeout(WAIT_S):
            await reloaded.wait()
        reloaded.clear()
    assert not watching.done()
    watching.cancel()


async def at_workers(place: Place) -> None:
    """One worker fails at everything; the others are heard."""

    async def measure() -> dict[str, Any]:
        telemetry = Telemetry()
        telemetry.count(t.DRAINING, by=1)
        return telemetry.to_record()

    broken = SimpleNamespace(
        measure=failing_async, describe=failing_async, is_ready=failing_async,
        comparisons=failing_async, roll_back=failing_async, prepare=failing_async,
        abort=failing_async,
    )  # fmt: skip
    workers = [cast(Control, broken), cast(Control, SimpleNamespace(measure=measure))]
    administration = Administration(workers, place.telemetry)
    assert (await administration.measure()).numbers[(t.DRAINING.name,)] == 1
    alone = Administration(workers[:1], place.telemetry)
    assert await alone.describe() == []
    assert await alone.comparisons() == []
    assert not await alone.roll_back()
    assert not await alone.is_ready()
    assert await alone.reload() == "LibraryError: boom"


async def at_admin(place: Place) -> None:
    """An administrator's request meets an error: 500 with its cause, and the next is answered."""
    worker = place.worker()
    administration = Administration([worker], place.telemetry)
    transport = httpx.ASGITransport(make_app(administration, None, HOST))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
        for method, name, what in (
            ("GET", "routes", "describe"), ("GET", "metrics", "measure"),
            ("GET", "ready", "is_ready"), ("POST", "reload", "reload"),
            ("POST", "rollback", "roll_back"), ("GET", "shadow", "comparisons"),
        ):  # fmt: skip
            with place.patch.context() as patch:
                patch.setattr(administration, what, failing_async)
                answer = await client.request(method, f"/trimtab/{name}")
            assert answer.status_code == 500
            assert answer.json() == {"status": "failed", "error": "LibraryError: boom"}
        assert (await client.get("/trimtab/routes")).status_code == 200


async def at_reload_over_http(place: Place) -> None:
    """The administrator who asked for the reload is told, with 409."""
    worker = place.worker()
    place.patch.setattr(worker.state.live, "prepare", failing)
    transport = httpx.ASGITransport(make_app(Administration([worker], Telemetry()), None, HOST))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
        answer = await client.post("/trimtab/reload")
    assert answer.status_code == 409
    assert answer.json()["error"] == "LibraryError: boom"


async def at_facts(place: Place) -> None:
    """What is asked of Qdrant meets an error: the routes apply unchecked."""
    state = place.state()
    assert set(await state.look_up(state.table, "docs", failing_async, ())) == {""}
    assert await state.look_up(state.table, "other", failing_async, ()) == {}


async def at_shadow(place: Place) -> None:
    """A comparison meets an error, and the next one is made."""

    async def ask_shadow() -> Any:
        return {0: ["1"]}

    shadow = Shadow(ShadowSettings(), place.telemetry)
    for raw, ask in (
        (failing, ask_shadow),
        (lambda: [["1"]], failing_async),
        (lambda: [["1"]], ask_shadow),
    ):
        shadow.offer("docs", raw, ask)
    async with asyncio.timeout(WAIT_S):
        while not shadow.comparisons():
            await asyncio.sleep(0)
    assert place.telemetry.numbers[t.SHADOW_SKIPPED.name, "failed"] == 2


async def at_clients(place: Place) -> None:
    """Looking after one client meets an error; the others are looked after, again and again."""
    worker, looked = place.worker(), asyncio.Event()
    clients = [SimpleNamespace(check=failing), SimpleNamespace(check=lambda _: looked.set())]
    worker._connections = cast(Any, clients)  # the one that fails is the first each time
    place.patch.setattr("trimtab.server.process.worker._SWEEP_S", (0.0, 0.0))
    sweeping = asyncio.create_task(worker._sweep())
    for _ in range(3):
        async with asyncio.timeout(WAIT_S):
            await looked.wait()
        looked.clear()
    assert not sweeping.done()
    sweeping.cancel()


async def at_upstream(place: Place) -> None:
    """Looking up and checking addresses meet errors, and go on; the addresses have failed."""
    failed: set[Node] = set()

    def fail(node: Node, *, surely: bool) -> None:
        failed.add(node)

    origin = Origin(Address(HOST, 9), is_tls=False)
    settings = UpstreamSettings(rest=(origin,), check_interval_s=0.0, resolve_interval_s=0.0)
    pool = Pool(settings, None, place.telemetry)
    place.patch.setattr(pool, "connect_to", failing_async)
    await pool.start(failing_async)
    pool.nodes[0].is_up = False
    place.patch.setattr(Node, "failed", fail)
    place.patch.setattr("trimtab.upstream.rest_pool._resolve", failing_async)
    await place.until_told(Border.UPSTREAM, 6)
    assert not any(task.done() for task in pool._tasks)
    assert failed == set(pool.nodes)
    await pool.stop()


class Client:
    """Takes an answer."""

    is_writable = True

    def __init__(self) -> None:
        self.said = b""
        self.kept_alive = False

    def write(self, data: bytes) -> None:
        self.said += data

    def exchange_ended(self, _: Any, *, keep_alive: bool) -> None:
        self.kept_alive = keep_alive


async def at_request(place: Place) -> None:
    """Preparing a request meets an error: it is answered, and its connection lives on."""
    place.patch.setattr(exchange, "prepare_at_once", failing)
    body = b"{}"
    fields = [(b"host", b"a"), (b"content-length", b"%d" % len(body))]
    target = b"/collections/docs/points/query"
    head = RequestHead(b"POST", target, fields, dict(fields), keep_alive=True, is_http_10=False)
    client = Client()
    Exchange(place.state(), cast(Any, client), head).start_whole(body)
    assert client.said.startswith(b"HTTP/1.1 500 ")
    assert b"boom" not in client.said
    assert client.kept_alive


async def at_end(place: Place) -> None:
    """Ending one part meets an error; the others end too."""
    worker, ended = place.worker(), []

    async def stop() -> None:
        ended.append("pool")
        raise LibraryError("boom")

    def shut_down() -> None:
        ended.append("tracer")
        raise LibraryError("boom")

    worker.state.pool = cast(Any, SimpleNamespace(stop=stop))
    worker.state.tracer = cast(Any, SimpleNamespace(shutdown=shut_down))
    await worker.drain()
    assert ended == ["pool", "tracer"]


INJECTIONS: list[tuple[Border, Callable[[Place], Awaitable[None]]]] = [
    (Border.RELOAD, at_reload),
    (Border.RELOAD, at_reload_over_http),
    (Border.WATCHER, at_watcher),
    (Border.WORKERS, at_workers),
    (Border.ADMIN, at_admin),
    (Border.FACTS, at_facts),
    (Border.SHADOW, at_shadow),
    (Border.CLIENTS, at_clients),
    (Border.UPSTREAM, at_upstream),
    (Border.REQUEST, at_request),
    (Border.END, at_end),
]


@pytest.mark.parametrize(("border", "inject"), INJECTIONS)
def test_an_error_that_nobody_foresaw_is_told_counted_and_lived_on_with(
    border: Border,
    inject: Callable[[Place], Awaitable[None]],
    place: Place,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, logger="trimtab"):
        asyncio.run(cast(Any, inject(place)))
    assert place.told(border) >= 1
    told = [each for each in caplog.records if vars(each).get("where") == border.value]
    assert told
    assert all(vars(each)["cause"] == "LibraryError: boom" and each.exc_info for each in told)


def test_no_border_is_left_out() -> None:
    assert {border for border, _ in INJECTIONS} == set(Border)


def test_what_is_raised_on_purpose_is_no_surprise(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry()
    assert tell(telemetry, Border.RELOAD, ConfigError("say so")) == "say so"
    assert telemetry.numbers == {}
    assert not caplog.records


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError(), "ValueError"),
        (ValueError("two\nlines"), "ValueError: two lines"),
        (KeyError("x" * 1000), "KeyError: '" + "x" * 299),
    ],
)
def test_a_cause_is_one_line_of_bounded_length(error: Exception, expected: str) -> None:
    assert tell(Telemetry(), Border.RELOAD, error) == expected


def test_a_turn_that_fails_is_counted_and_the_next_one_comes() -> None:
    async def run() -> None:
        telemetry, turns, enough = Telemetry(), [0], asyncio.Event()

        async def turn() -> None:
            turns[0] += 1
            if turns[0] == 3:
                enough.set()
            raise LibraryError("boom")

        task = asyncio.create_task(repeat(telemetry, Border.CLIENTS, 0, turn))
        async with asyncio.timeout(WAIT_S):
            await enough.wait()
        task.cancel()
        assert telemetry.numbers[t.UNFORESEEN.name, Border.CLIENTS] >= 2

    asyncio.run(run())


def test_a_turn_that_is_cancelled_ends_the_repetition() -> None:
    async def run() -> None:
        turns = asyncio.Event()

        async def turn() -> None:
            turns.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(repeat(Telemetry(), Border.CLIENTS, 0, turn))
        await turns.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(run())
