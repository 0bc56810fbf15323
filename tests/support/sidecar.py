"""Starts `trimtab serve` in a process of its own, as a user does, and ends it."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_ROOT = Path(__file__).parents[2]
_START_TIMEOUT_S = 240  # of a machine that is busy with other things
_STOP_TIMEOUT_S = 40


@dataclass
class Sidecar:
    """A running sidecar; addresses are empty for listeners that are off."""

    process: subprocess.Popen[str]
    rest: str
    grpc: str
    admin: str
    _errors: IO[str]

    @property
    def rest_url(self) -> str:
        return f"http://{self.rest}"

    @property
    def admin_url(self) -> str:
        return f"http://{self.admin}/trimtab"

    @property
    def rest_address(self) -> tuple[str, int]:
        return _split(self.rest)

    @property
    def grpc_address(self) -> tuple[str, int]:
        return _split(self.grpc)

    def log(self) -> str:
        """What it has written on stderr so far."""
        self._errors.seek(0)
        return self._errors.read()


@contextlib.contextmanager
def running_sidecar(
    *flags: str,
    config: Path | None = None,
    env: Mapping[str, str] | None = None,
    exit_code: int = 0,
) -> Iterator[Sidecar]:
    """Run a sidecar until the block ends; it must then end well.

    Args:
        flags: Of ``trimtab serve``. Listeners that are not named get free ports (REST, admin) or
            are off (gRPC), unless a config file names them.
        config: A sidecar.toml.
        env: Variables beside this process's own.
        exit_code: What it must end with.
    """
    command = [str(Path(sys.executable).with_name("trimtab")), "-v", "serve", "--json", *flags]
    if config is not None:
        command += ["--config", str(config)]
    listen = {} if config is None else tomllib.loads(config.read_text()).get("listen", {})
    for name in ("rest", "admin"):
        if f"--{name}" not in flags and name not in listen:
            command += [f"--{name}", "127.0.0.1:0"]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            said = _first_line(process, errors)
            yield Sidecar(
                process, said.get("rest", ""), said.get("grpc", ""), said.get("admin", ""), errors
            )
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            code = process.wait(_STOP_TIMEOUT_S)
            errors.seek(0)
            assert code == exit_code, errors.read()
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _first_line(process: subprocess.Popen[str], errors: IO[str]) -> dict[str, str]:
    """Wait for the line that says where it listens."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(_START_TIMEOUT_S) else ""
    if line:
        return json.loads(line)
    errors.seek(0)
    raise RuntimeError(f"the sidecar did not start; it said:\n{errors.read()}")


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
