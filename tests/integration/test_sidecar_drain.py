"""How the sidecar ends: what is under way is answered, nothing new is taken."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import ask, eventually, new_client, samples

WAIT_S = 60
ANSWER = {"result": {"points": []}, "status": "ok", "time": 0.0}


class Holding(ThreadingHTTPServer):
    """A Qdrant that holds its answers to queries back until it is told to give them."""

    daemon_threads = True

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)
        self.release = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that the sidecar broke."""

    def wait_for_query(self) -> None:
        assert self.came.acquire(timeout=WAIT_S)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Holding

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.came.release()
        assert self.server.release.wait(WAIT_S)
        self._answer(ANSWER)

    def do_GET(self) -> None:
        self._answer({"title": "qdrant - vector search engine"})

    def _answer(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # the base's name
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[Holding]:
    server = Holding()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def begin_query(pool: ThreadPoolExecutor, sidecar: Sidecar) -> "Future[httpx.Response]":
    url = f"{sidecar.rest_url}/collections/docs/points/query"
    return pool.submit(lambda: ask("POST", url, json={"query": [1.0]}, timeout=WAIT_S))


def is_refused(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, WAIT_S) as opened:
        # A connection that the system took before the listener was gone ends without an answer.
        opened.settimeout(WAIT_S)
        with contextlib.suppress(ConnectionError):
            opened.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return not opened.recv(1).startswith(b"H")
    return True


def start(upstream: Holding, *flags: str, **more: Any) -> Any:
    address = f"http://127.0.0.1:{upstream.server_port}"
    return running_sidecar("--upstream-rest", address, *flags, **more)


def end_under_a_query(upstream: Holding, pool: ThreadPoolExecutor, sidecar: Sidecar) -> None:
    """End a sidecar while Qdrant holds a query, which the limit cuts off."""
    answer = begin_query(pool, sidecar)
    upstream.wait_for_query()
    sidecar.process.send_signal(signal.SIGTERM)
    assert sidecar.process.wait(WAIT_S) == 0
    with pytest.raises(httpx.TransportError):
        answer.result(WAIT_S)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_requests_under_way_are_answered_and_no_new_ones_taken(
    upstream: Holding, pool: ThreadPoolExecutor, number: signal.Signals, workers: int
) -> None:
    with start(upstream, "--workers", str(workers)) as sidecar:
        assert ask("GET", f"{sidecar.admin_url}/ready").status_code == 200
        with new_client(sidecar.rest_url) as idle:
            assert idle.get("/").status_code == 200
            answers = [begin_query(pool, sidecar) for _ in range(3)]
            for _ in answers:
                upstream.wait_for_query()
            sidecar.process.send_signal(number)
            eventually(lambda: is_refused(sidecar.rest_address))
            assert sidecar.process.poll() is None
            try:
                assert ask("GET", f"{sidecar.admin_url}/ready").status_code == 503
                assert ask("GET", f"{sidecar.admin_url}/health").status_code == 200
                assert samples(sidecar)["trimtab_draining",] >= 1  # idle workers have ended
            finally:
                upstream.release.set()
            for answer in answers:
                got = answer.result(WAIT_S)
                assert (got.status_code, got.json()) == (200, ANSWER)
            assert sidecar.process.wait(WAIT_S) == 0
        assert "Traceback" not in sidecar.log()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_at_once(
    upstream: Holding, pool: ThreadPoolExecutor, workers: str
) -> None:
    with start(upstream, "--workers", workers, exit_code=130) as sidecar:
        answer = begin_query(pool, sidecar)
        upstream.wait_for_query()
        sidecar.process.send_signal(signal.SIGTERM)
        eventually(lambda: is_refused(sidecar.rest_address))
        sidecar.process.send_signal(signal.SIGTERM)
        assert sidecar.process.wait(WAIT_S) == 130
        with pytest.raises(httpx.TransportError):  # no worker is left who would wait for Qdrant
            answer.result(WAIT_S)


def test_a_request_that_never_ends_is_given_up_after_the_limit(
    upstream: Holding, pool: ThreadPoolExecutor, tmp_path: Any
) -> None:
    config = tmp_path / "sidecar.toml"
    address = f"http://127.0.0.1:{upstream.server_port}"
    config.write_text(
        f'upstream.rest = "{address}"\n[limits]\ndrain_timeout_s = 0.2\n', encoding="utf-8"
    )
    with running_sidecar(config=config) as sidecar:
        end_under_a_query(upstream, pool, sidecar)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_limit_is_the_one_that_was_reloaded(
    upstream: Holding, pool: ThreadPoolExecutor, tmp_path: Any, workers: str
) -> None:
    config = tmp_path / "sidecar.toml"
    address = f"http://127.0.0.1:{upstream.server_port}"
    settings = f'upstream.rest = "{address}"\nreload.watch = false\n[limits]\ndrain_timeout_s = '
    config.write_text(f"{settings}600", encoding="utf-8")
    with running_sidecar("--workers", workers, config=config) as sidecar:
        config.write_text(f"{settings}0.2", encoding="utf-8")
        assert ask("POST", f"{sidecar.admin_url}/reload").status_code == 200
        end_under_a_query(upstream, pool, sidecar)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_sidecar_whose_words_nobody_reads_serves_and_ends_well(stream: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        admin = f"127.0.0.1:{taken.getsockname()[1]}"
    program = str(Path(sys.executable).with_name("trimtab"))
    flags = ["--upstream-rest", "127.0.0.1:9", "--rest", "127.0.0.1:0", "--admin", admin]
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: writer}
    with subprocess.Popen([program, "serve", *flags], **streams) as process:  # type: ignore[call-overload]  # of keywords in a dict
        os.close(writer)

        def is_up() -> bool:
            assert process.poll() is None
            try:
                return ask("GET", f"http://{admin}/trimtab/health").status_code == 200
            except httpx.TransportError:
                return False

        eventually(is_up)
        ask("GET", f"http://{admin}/trimtab/routes").raise_for_status()
        process.terminate()
        assert process.wait(WAIT_S) == 0
