"""Starts the server in a process of its own, since the engine holds the GIL, and ends it."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).parents[3]
_START_TIMEOUT_S = 300
_STOP_TIMEOUT_S = 60


@dataclass
class Server:
    """A running server; ``process`` is None where somebody else runs it."""

    rest_url: str
    rest_port: int
    grpc_port: int
    api_key: str | None = field(default=None, repr=False)
    process: subprocess.Popen[str] | None = None
    host: str = "127.0.0.1"

    def kill(self) -> None:
        """End it as a crash would: at once, saying goodbye to nobody."""
        if self.process is None:
            raise RuntimeError("this server was not started by the tests; they do not kill it")
        self.process.kill()
        self.process.wait()

    def requests(self) -> list[dict[str, Any]]:
        """The last requests that arrived, oldest first; ``body`` as bytes."""
        with urllib.request.urlopen(f"{self.rest_url}/_test/requests") as response:
            kept = json.load(response)["result"]
        return [{**one, "body": b64decode(one["body"])} for one in kept]

    def clear_requests(self) -> None:
        url = f"{self.rest_url}/_test/requests"
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE")):
            pass


@contextlib.contextmanager
def running_server(
    api_key: str | None = None, *, rest_port: int = 0, grpc_port: int = 0
) -> Iterator[Server]:
    """Run a server until the block ends.

    Args:
        api_key: The key it asks for; None asks for none.
        rest_port: 0 takes a free port; a number lets a second server take the place of a first.
        grpc_port: Same.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="qdrant-"))
        errors = stack.enter_context(tempfile.TemporaryFile("w+"))
        command = [sys.executable, "-m", "tests.support.qdrant.server", "--path", folder]
        command += ["--rest-port", str(rest_port), "--grpc-port", str(grpc_port)]
        command += ["--api-key", api_key] if api_key else []
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        stack.callback(_stop, process)
        ports = _ports(process, errors)
        rest = ports["rest_port"]
        yield Server(f"http://127.0.0.1:{rest}", rest, ports["grpc_port"], api_key, process)


def _ports(process: subprocess.Popen[str], errors: IO[str]) -> dict[str, int]:
    """Wait for the one line that says where the server listens."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(_START_TIMEOUT_S) else ""
    if line:
        return json.loads(line)
    process.kill()
    process.wait()
    errors.seek(0)
    raise RuntimeError(
        f"the Qdrant test server did not start within {_START_TIMEOUT_S} s; it said:\n"
        + errors.read()
    )


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
