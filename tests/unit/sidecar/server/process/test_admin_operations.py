"""What an administrator does to all workers: everywhere, or nowhere."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.onnx_models import linear_bytes
from tests.support.sidecar_settings import settings_of
from trimtab import metrics as t
from trimtab.errors import ConfigError, WorkerEndedError
from trimtab.metrics import Telemetry
from trimtab.server.process.admin_operations import Administration, stamp_files, watch_files
from trimtab.settings import ReloadSettings, Settings

WAIT_S = 60


class Told:
    """A worker that notes what it is told."""

    def __init__(self, *, cause: str = "", ready: bool = True, requests: int = 0) -> None:
        self.cause, self.ready, self.requests = cause, ready, requests
        self.calls: list[str] = []
        self.has_ended = False
        self.called = asyncio.Event()

    def note(self, call: str) -> None:
        if self.has_ended:
            raise WorkerEndedError("gone")
        self.calls.append(call)
        if call == "commit":
            self.called.set()

    async def prepare(self) -> str:
        self.note("prepare")
        return self.cause

    async def commit(self) -> bool:
        self.note("commit")
        return True

    async def abort(self, cause: str) -> None:
        self.note(f"abort: {cause}")

    async def roll_back(self) -> bool:
        self.note("roll back")
        return self.ready

    async def describe(self) -> dict[str, Any]:
        self.note("describe")
        return {"requests": self.requests}

    async def measure(self) -> dict[str, Any]:
        self.note("measure")
        telemetry = Telemetry()
        telemetry.count(t.REQUESTS, "rest", "query", "200", by=self.requests)
        return telemetry.to_record()

    async def comparisons(self) -> list[dict[str, Any]]:
        self.note("comparisons")
        return [{"time": f"2026-01-0{self.requests}"}]

    async def is_ready(self) -> bool:
        self.note("is_ready")
        return self.ready


class Slow(Told):
    """A worker that says its numbers when the test wants it to."""

    def __init__(self, *, requests: int) -> None:
        super().__init__(requests=requests)
        self.asked, self.goes_on = asyncio.Event(), asyncio.Event()

    async def measure(self) -> dict[str, Any]:
        self.asked.set()
        await self.goes_on.wait()
        return await super().measure()


def administer(*workers: Told) -> Administration:
    return Administration(workers, Telemetry())


def test_a_reload_commits_once_all_are_prepared() -> None:
    workers = Told(), Told()
    assert asyncio.run(administer(*workers).reload()) == ""
    assert [worker.calls for worker in workers] == [["prepare", "commit"]] * 2


def test_one_worker_that_cannot_prepare_stops_all() -> None:
    workers = Told(), Told(cause="bad file"), Told()
    assert asyncio.run(administer(*workers).reload()) == "bad file"
    assert [worker.calls for worker in workers] == [["prepare", "abort: bad file"]] * 3


def test_reloads_wait_for_one_another() -> None:
    worker = Told()

    async def run() -> None:
        administration = administer(worker)
        await asyncio.gather(administration.reload(), administration.reload())

    asyncio.run(run())
    assert worker.calls == ["prepare", "commit"] * 2


@pytest.mark.parametrize(("ready", "expected"), [((True, True), True), ((False, False), False)])
def test_a_rollback_tells_whether_there_was_anything(
    ready: tuple[bool, bool], expected: bool
) -> None:
    workers = [Told(ready=each) for each in ready]
    assert asyncio.run(administer(*workers).roll_back()) is expected


def test_numbers_add_up_over_workers_and_those_that_have_ended() -> None:
    lost = Telemetry()
    lost.count(t.REQUESTS, "rest", "query", "200", by=5)
    administration = Administration([Told(requests=2), Told(requests=3)], lost)
    total = asyncio.run(administration.measure())
    assert total.numbers == {(t.REQUESTS.name, "rest", "query", "200"): 10}
    assert asyncio.run(administration.describe()) == [{"requests": 2}, {"requests": 3}]


def test_a_worker_that_is_replaced_while_another_is_waited_for_counts_once() -> None:
    async def run() -> None:
        slow, dying, lost = Slow(requests=2), Told(requests=3), Telemetry()
        workers: list[Told] = [slow, dying]
        administration = Administration(workers, lost)
        measuring = asyncio.create_task(administration.measure())
        async with asyncio.timeout(WAIT_S):
            await slow.asked.wait()
            workers.remove(dying)  # as its supervisor does, at its end
            lost.add_lasting(await dying.measure())
            slow.goes_on.set()
            total = await measuring
        assert total.numbers == {(t.REQUESTS.name, "rest", "query", "200"): 5}

    asyncio.run(run())


def test_comparisons_stand_in_order_of_time() -> None:
    administration = administer(Told(requests=3), Told(requests=1))
    times = [each["time"] for each in asyncio.run(administration.comparisons())]
    assert times == sorted(times)


def test_it_is_ready_where_every_worker_is() -> None:
    assert asyncio.run(administer(Told(), Told()).is_ready())
    assert not asyncio.run(administer(Told(), Told(ready=False)).is_ready())
    assert not asyncio.run(administer().is_ready())
    ending = administer(Told())
    ending.is_ending = True
    assert not asyncio.run(ending.is_ready())


def test_a_worker_that_has_ended_is_left_out() -> None:
    gone, living = Told(), Told(requests=1)
    gone.has_ended = True
    administration = administer(gone, living)
    assert asyncio.run(administration.reload()) == ""
    assert living.calls == ["prepare", "commit"]
    assert asyncio.run(administration.describe()) == [{"requests": 1}]
    assert asyncio.run(administration.roll_back())


class Watched:
    """Files that are watched, and the one worker that is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0
        self.put("adapter.onnx", 1)
        reload = ReloadSettings(interval_s=0.01)
        source = folder / "sidecar.toml"
        source.write_text("")
        self.settings = replace(settings_of(folder), source=source, reload=reload)
        self.worker = Told()
        self.is_readable = True

    def put(self, name: str, seed: int) -> None:
        self.number += 1
        path = self.folder / name
        path.write_bytes(linear_bytes(seed=seed))
        os.utime(path, (self.number, self.number))  # whatever the clock's grain

    def read(self) -> Settings:
        if not self.is_readable:
            raise ConfigError("told")
        return self.settings

    async def reloaded(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.worker.called.wait()
        self.worker.called.clear()

    def run(self, what: Callable[[], Any]) -> None:
        async def watch() -> None:
            self.worker.called = asyncio.Event()
            administration = administer(self.worker)
            task = asyncio.create_task(
                watch_files(self.settings, administration, self.read, stamp_files(self.settings))
            )
            await asyncio.sleep(0)
            await what()
            task.cancel()

        asyncio.run(watch())


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_changed_model_is_reloaded_once(watched: Watched) -> None:
    async def change() -> None:
        for seed in (2, 3):
            watched.put("adapter.onnx", seed)
            await watched.reloaded()

    watched.run(change)
    assert watched.worker.calls.count("prepare") == 2


def test_a_file_that_goes_away_and_comes_back_is_noticed(watched: Watched) -> None:
    async def change() -> None:
        (watched.folder / "adapter.onnx").unlink()
        await watched.reloaded()
        watched.put("adapter.onnx", 2)
        await watched.reloaded()

    watched.run(change)


def test_files_that_the_settings_name_only_now_are_watched_too(watched: Watched) -> None:
    async def change() -> None:
        watched.put("other.onnx", 4)
        newer = settings_of(watched.folder / "other.onnx")
        watched.settings = replace(watched.settings, routes=newer.routes)
        (watched.folder / "sidecar.toml").write_text("changed")
        await watched.reloaded()
        watched.put("other.onnx", 5)
        await watched.reloaded()

    watched.run(change)


def test_settings_that_cannot_be_read_leave_the_files_watched(watched: Watched) -> None:
    async def change() -> None:
        watched.is_readable = False
        (watched.folder / "sidecar.toml").write_text("broken")
        await watched.reloaded()
        watched.put("adapter.onnx", 6)
        await watched.reloaded()

    watched.run(change)
