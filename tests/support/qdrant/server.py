"""`python -m tests.support.qdrant.server`: both protocols over one folder, until SIGTERM.

Prints one line of JSON with the ports once both listen.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import uvicorn
from pydantic import BaseModel

if __name__ == "__main__":  # and not where pytest looks for doctests
    sys.modules["fastembed"] = None  # type: ignore[assignment]  # the client takes it where it is
with patch.object(BaseModel, "model_rebuild"):  # each of the client's models once it is used
    from tests.support.qdrant.record import Recorder
    from tests.support.qdrant.registry import Registry
    from tests.support.qdrant.rest import RestApp
    from tests.support.qdrant.rpc import start_rpc

HOST = "127.0.0.1"
_GRACE_S = 1.0


class _HttpServer(uvicorn.Server):
    """Uvicorn, leaving the signals to us and telling when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    return listener


async def _serve(arguments: argparse.Namespace, registry: Registry) -> None:
    recorder = Recorder()
    app = RestApp(registry, recorder, arguments.api_key)
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    http = _HttpServer(config)
    listener = _listen(arguments.rest_port)
    rpc, rpc_port = await start_rpc(
        registry, recorder, arguments.api_key, f"{HOST}:{arguments.grpc_port}"
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, http, "should_exit", True)
    serving = asyncio.create_task(http.serve(sockets=[listener]))
    await http.ready.wait()
    ports = {"rest_port": listener.getsockname()[1], "grpc_port": rpc_port}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await serving
    await rpc.stop(_GRACE_S)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rest-port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--grpc-port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--api-key", help="the key that every request must then carry")
    parser.add_argument("--path", type=Path, required=True, help="an empty folder")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    arguments = _parse(argv)
    with contextlib.ExitStack() as stack:
        registry = Registry(arguments.path)
        stack.callback(registry.close)
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_serve(arguments, registry))


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


if __name__ == "__main__":
    main()
