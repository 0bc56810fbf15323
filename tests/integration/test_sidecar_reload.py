"""Routes and models change under way: whole, or not at all, and back again."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.onnx_models import linear_bytes
from tests.support.qdrant.fixtures import connect
from tests.support.qdrant.process import Server
from tests.support.raw_place import QUERY_PATH, query_bytes, running_place
from tests.support.raw_upstream import raw_upstream
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import (
    DEPTH,
    DIM,
    eventually,
    exact,
    fill,
    hits,
    mark_of,
    new_client,
    query,
    samples,
    search,
    write_model,
)
from trimtab.model.adapter import Adapter

N_CLIENTS, N_RELOADS = 4, 15
_WAIT_S = 60
SPOILED = {
    "no model": lambda folder: (folder / "model.onnx").write_bytes(b"no model"),
    "half a model": lambda folder: (folder / "model.onnx").write_bytes(
        linear_bytes(dim_in=DIM, dim_out=DIM)[:-200]
    ),
    "no file": lambda folder: (folder / "model.onnx").unlink(),
    "no TOML": lambda folder: (folder / "sidecar.toml").write_text("[[route\n"),
    "unknown key": lambda folder: (folder / "sidecar.toml").write_text("routes = 1\n"),
    "no settings": lambda folder: (folder / "sidecar.toml").unlink(),
}


class Reloading:
    """A sidecar whose files a test may change, and the Qdrant behind it.

    Attributes:
        first_rollback: What it said to one before anything had changed.
    """

    def __init__(self, sidecar: Sidecar, server: Server, folder: Path) -> None:
        self.sidecar, self.folder, self.server = sidecar, folder, server
        self.raw = new_client(sidecar.rest_url)
        self.admin = new_client(sidecar.admin_url)
        self.first_rollback = self.admin.post("/rollback")

    def put_model(self, seed: int) -> Adapter:
        return write_model(self.folder / "model.onnx", name="model", seed=seed)

    def put_config(self, **settings: Any) -> None:
        write_config(self.folder, self.server, **settings)

    def marks(self) -> set[str]:
        """The adapters in force, in any worker."""
        workers = self.admin.get("/routes").json()["workers"]
        return {route["adapter"] for worker in workers for route in worker["routes"]}

    def reload(self) -> httpx.Response:
        return self.admin.post("/reload")

    def begin_with(self, seed: int) -> Adapter:
        """Put good files in force, whatever the test before left."""
        adapter = self.put_model(seed)
        self.put_config()
        assert self.reload().status_code == 200
        assert self.marks() == {adapter.mark}
        return adapter

    def failed_reloads(self) -> float:
        return samples(self.sidecar).get(("trimtab_reloads_total", "failed"), 0)


def write_config(folder: Path, server: Server, *, watch: bool = False, routes: str = "") -> Path:
    config, partial = folder / "sidecar.toml", folder / "sidecar.partial"
    partial.write_text(
        f'[upstream]\nrest = "{server.rest_url}"\n'
        f"[reload]\nwatch = {str(watch).lower()}\ninterval_s = 0.05\n"
        '[[route]]\ncollection = "docs"\nadapter = "model.onnx"\n' + routes
    )
    partial.replace(config)
    return config


def adapted(adapter: Adapter, seed: int = 0) -> np.ndarray:
    return adapter.transform(np.array(query(seed), dtype=np.float32))


@pytest.fixture(scope="module")
def server(standin: Server) -> Server:
    direct = connect(standin)
    fill(direct, "docs", "other")
    direct.close()
    return standin


@contextlib.contextmanager
def running(
    server: Server, folder: Path, *, n_workers: int = 1, watch: bool = False
) -> Iterator[Reloading]:
    write_model(folder / "model.onnx", name="model")
    config = write_config(folder, server, watch=watch)
    with running_sidecar("--workers", str(n_workers), config=config) as sidecar:
        made = Reloading(sidecar, server, folder)
        yield made
        made.raw.close()
        made.admin.close()


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def quiet(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reloading]:
    """Reloads only when it is told to."""
    with running(server, tmp_path_factory.mktemp("quiet"), n_workers=request.param) as made:
        yield made


@pytest.fixture(scope="module")
def watching(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloading]:
    """Reloads when its files change."""
    with running(server, tmp_path_factory.mktemp("watching"), watch=True) as made:
        yield made


def test_there_is_nothing_to_roll_back_to_at_first(quiet: Reloading) -> None:
    assert quiet.first_rollback.status_code == 409
    assert quiet.first_rollback.json()["error"]


def test_a_reload_by_request_puts_the_new_model_in_force(quiet: Reloading) -> None:
    quiet.begin_with(1)
    new = quiet.put_model(2)
    assert hits(search(quiet.raw, "docs", query())) != exact(adapted(new))
    answer = quiet.reload()
    assert answer.status_code == 200
    told = answer.json()["workers"]
    assert {worker["routes"][0]["adapter"] for worker in told} == {new.mark}
    answered = search(quiet.raw, "docs", query())
    assert hits(answered) == exact(adapted(new))
    assert mark_of(answered) == new.mark


def test_a_reload_by_signal_puts_the_new_model_in_force(quiet: Reloading) -> None:
    quiet.begin_with(1)
    new = quiet.put_model(2)
    quiet.sidecar.process.send_signal(signal.SIGHUP)
    eventually(quiet.marks, is_right=lambda marks: marks == {new.mark})
    assert hits(search(quiet.raw, "docs", query())) == exact(adapted(new))


def test_a_reload_takes_new_routes_and_drops_old_ones(quiet: Reloading) -> None:
    first = quiet.begin_with(1)
    other = write_model(quiet.folder / "other.onnx", name="other", seed=5)
    quiet.put_config(routes='[[route]]\ncollection = "other"\nadapter = "other.onnx"\n')
    assert quiet.reload().status_code == 200
    assert hits(search(quiet.raw, "other", query())) == exact(adapted(other))
    quiet.put_config()
    assert quiet.reload().status_code == 200
    assert hits(search(quiet.raw, "other", query())) == exact(adapted(first))  # an alias of docs


@pytest.mark.parametrize("what", SPOILED)
def test_a_bad_file_leaves_the_old_table_and_says_so(quiet: Reloading, what: str) -> None:
    old = quiet.begin_with(3)
    failed, logged = quiet.failed_reloads(), quiet.sidecar.log().count("reload refused")
    SPOILED[what](quiet.folder)
    answer = quiet.reload()
    assert answer.status_code == 409
    assert answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert quiet.failed_reloads() > failed
    assert quiet.sidecar.log().count("reload refused") > logged
    assert "Traceback" not in quiet.sidecar.log()
    assert quiet.marks() == {old.mark}
    assert hits(search(quiet.raw, "docs", query())) == exact(adapted(old))
    failed = quiet.failed_reloads()
    quiet.sidecar.process.send_signal(signal.SIGHUP)
    eventually(quiet.failed_reloads, is_right=lambda count: count > failed)
    assert quiet.marks() == {old.mark}
    quiet.begin_with(4)  # and the next good one counts


def test_a_rollback_goes_back_and_forth(quiet: Reloading) -> None:
    old = quiet.begin_with(1)
    new = quiet.put_model(2)
    quiet.reload()
    for expected in (old, new, old):
        assert quiet.admin.post("/rollback").status_code == 200
        assert quiet.marks() == {expected.mark}
        answer = search(quiet.raw, "docs", query())
        assert hits(answer) == exact(adapted(expected))
        assert mark_of(answer) == expected.mark
    assert samples(quiet.sidecar)["trimtab_reloads_total", "rollback"] >= 3


def test_a_reload_of_the_same_files_keeps_the_model_to_go_back_to(quiet: Reloading) -> None:
    old = quiet.begin_with(1)
    quiet.put_model(2)
    for _ in range(3):
        assert quiet.reload().status_code == 200
    assert quiet.admin.post("/rollback").status_code == 200
    assert quiet.marks() == {old.mark}


class Asking(threading.Thread):
    """A client that asks until it is told to stop, and checks every answer."""

    def __init__(self, url: str, wanted: dict[str, list[Any]], stop: threading.Event) -> None:
        super().__init__()
        self.url, self.wanted, self.stop = url, wanted, stop
        self.seen: list[str] = []
        self.wrong: list[Any] = []

    def run(self) -> None:
        body = {"searches": [{"query": query(seed), "limit": DEPTH} for seed in range(3)]}
        while not self.stop.is_set():
            with new_client(self.url) as client:
                for _ in range(5):
                    try:
                        self.ask(client, body)
                    except Exception as error:  # told by the test
                        self.wrong.append(error)

    def ask(self, client: httpx.Client, body: dict[str, Any]) -> None:
        answer = client.post("/collections/docs/points/query/batch", json=body)
        mark = mark_of(answer)
        got = [[each["id"] for each in one["points"]] for one in answer.json()["result"]]
        if got != self.wanted.get(mark):
            self.wrong.append((answer.status_code, mark, got))
        self.seen.append(mark)


def test_no_request_is_lost_or_mixed_while_models_change(quiet: Reloading) -> None:
    models = [quiet.begin_with(seed) for seed in (11, 12)]
    wanted = {
        model.mark: [[point for point, _ in exact(adapted(model, seed))] for seed in range(3)]
        for model in models
    }
    stop = threading.Event()
    clients = [Asking(quiet.sidecar.rest_url, wanted, stop) for _ in range(N_CLIENTS)]
    for client in clients:
        client.start()
    try:
        for turn in range(N_RELOADS):
            quiet.put_model(11 + turn % 2)
            answered = [len(client.seen) for client in clients]
            assert quiet.reload().status_code == 200
            eventually(
                lambda seen=answered: all(
                    len(client.seen) > n or client.wrong
                    for client, n in zip(clients, seen, strict=True)
                )
            )
            if turn % 3 == 2:
                assert quiet.admin.post("/rollback").status_code == 200
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert [wrong for client in clients for wrong in client.wrong] == []
    assert {mark for client in clients for mark in client.seen} == set(wanted)


def in_place(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def by_rename(path: Path, content: bytes) -> None:
    partial = path.with_name("partial")
    partial.write_bytes(content)
    partial.replace(path)


def by_link(path: Path, content: bytes) -> None:
    """Lead a link to another file of the same size and time, as out of an image or an archive."""
    file = path.with_name(f"{hashlib.sha256(content).hexdigest()}.onnx")
    file.write_bytes(content)
    os.utime(file, (0, 0))
    link = path.with_name("link")
    link.symlink_to(file.name)
    link.replace(path)


@pytest.mark.parametrize("put", [in_place, by_rename, by_link])
def test_a_changed_model_file_is_taken(
    watching: Reloading, put: Callable[[Path, bytes], None]
) -> None:
    for seed in (21, 22):
        content = linear_bytes(dim_in=DIM, dim_out=DIM, use="relevance", name="model", seed=seed)
        new = Adapter.from_bytes(content)
        put(watching.folder / "model.onnx", content)
        eventually(watching.marks, is_right=lambda marks, new=new: marks == {new.mark})
        assert hits(search(watching.raw, "docs", query())) == exact(adapted(new))


@pytest.mark.parametrize("put", [in_place, by_rename])
def test_a_changed_settings_file_is_taken_with_the_models_that_it_names(
    watching: Reloading, put: Callable[[Path, bytes], None]
) -> None:
    config = watching.folder / "sidecar.toml"
    name = f"{put.__name__}.onnx"
    before = config.read_bytes()
    first = write_model(watching.folder / name, name="first", seed=31)
    put(config, before.replace(b"model.onnx", name.encode()))
    eventually(watching.marks, is_right=lambda marks: marks == {first.mark})
    second = write_model(watching.folder / name, name="second", seed=32)
    eventually(watching.marks, is_right=lambda marks: marks == {second.mark})
    put(config, before)
    eventually(watching.marks, is_right=lambda marks: second.mark not in marks)


def test_a_bad_file_is_told_once_and_the_next_good_one_is_taken(watching: Reloading) -> None:
    path = watching.folder / "model.onnx"
    old, failed = watching.marks(), watching.failed_reloads()
    by_rename(path, b"no model")
    eventually(watching.failed_reloads, is_right=lambda count: count > failed)
    assert watching.marks() == old
    new = watching.put_model(41)
    eventually(watching.marks, is_right=lambda marks: marks == {new.mark})
    assert watching.failed_reloads() == failed + 1


def test_a_rollback_stays_though_the_file_of_the_newer_model_does(watching: Reloading) -> None:
    old = watching.put_model(51)
    eventually(watching.marks, is_right=lambda marks: marks == {old.mark})
    new = watching.put_model(52)
    eventually(watching.marks, is_right=lambda marks: marks == {new.mark})
    assert watching.admin.post("/rollback").status_code == 200
    reloads = samples(watching.sidecar)["trimtab_reloads_total", "ok"]
    assert watching.marks() == {old.mark}
    third = watching.put_model(53)  # which is noticed after everything that was there to notice
    eventually(watching.marks, is_right=lambda marks: marks == {third.mark})
    assert samples(watching.sidecar)["trimtab_reloads_total", "ok"] == reloads + 1


def test_workers_that_take_the_place_of_dead_ones_keep_what_only_a_restart_changes(
    tmp_path: Path,
) -> None:
    with raw_upstream() as qdrant, running_place(tmp_path, [qdrant], "--workers", "2") as place:

        def pids() -> set[int]:
            return {worker["pid"] for worker in place.admin("routes")["workers"]}

        config, killed = tmp_path / "sidecar.toml", pids()
        config.write_text(
            config.read_text().replace("[upstream]\n", '[upstream]\npath_prefix = "/x"\n')
        )
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        eventually(pids, is_right=lambda seen: len(seen) == 2 and not seen & killed)

        assert place.ask(query_bytes()).status == 200
        assert [request.target for request in qdrant.requests] == [QUERY_PATH]


def test_a_hangup_during_the_start_is_a_reload_after_it(tmp_path: Path) -> None:
    write_model(tmp_path / "model.onnx", name="model")
    program = str(Path(sys.executable).with_name("trimtab"))
    with socket.create_server(("127.0.0.1", 0)) as qdrant:
        qdrant.settimeout(_WAIT_S)
        address = f"127.0.0.1:{qdrant.getsockname()[1]}"
        flags = ["--route", f"docs={tmp_path / 'model.onnx'}", "--upstream-rest", address]
        flags += ["--rest", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--json"]
        with subprocess.Popen(
            [program, "-v", "serve", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            asking, _ = qdrant.accept()  # what the collection is, before anybody is served
            process.send_signal(signal.SIGHUP)
            asking.close()
            qdrant.close()
            assert json.loads(process.stdout.readline())["rest"]
            told = iter(process.stderr.readline, "")
            assert any("routes reloaded" in line for line in told)
            process.terminate()
            assert process.wait(_WAIT_S) == 0
