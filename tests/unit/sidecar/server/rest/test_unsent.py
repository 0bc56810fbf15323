"""What of an answer is still on its way, with TLS and without."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tests.support.ways import Authority
from trimtab.server.event_loop import new_event_loop
from trimtab.server.rest.unsent import Unsent, look_at_unsent

ANSWER = b"x" * 12_000_000  # more than the system keeps
WAIT_S = 60


class Serving(asyncio.Protocol):
    """Answers at once and ends the connection."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        type(self).transport = cast(asyncio.Transport, transport)
        self.transport.write(ANSWER)
        self.transport.close()


async def until(holds: Callable[[Unsent], bool]) -> Unsent:
    """Look until it does."""
    async with asyncio.timeout(WAIT_S):
        while not holds(found := look_at_unsent(Serving.transport)):
            await asyncio.sleep(0.01)
        return found


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="Linux alone tells what lies below TLS")
def test_what_a_slow_client_takes_shows(tmp_path: Path, is_tls: bool) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "listener.pem", tmp_path / "listener.key")

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            Serving,
            "127.0.0.1",
            0,
            ssl=context if is_tls else None,
            ssl_shutdown_timeout=WAIT_S if is_tls else None,
        )
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        await asyncio.to_thread(opened.connect, server.sockets[0].getsockname())
        opened.setblocking(False)
        reader, writer = await asyncio.open_connection(
            sock=opened,
            ssl=authority.context if is_tls else None,
            server_hostname="localhost" if is_tls else None,
            limit=65_536,
        )
        try:
            await take(reader)
        finally:  # or the loop waits for them
            writer.transport.abort()
            Serving.transport.abort()
            server.close()

    async def take(reader: asyncio.StreamReader) -> None:
        n_read, before = len(await reader.read(1)), Unsent(0, 0)
        while n_read < len(ANSWER):
            if n_read < len(ANSWER) // 2:  # beyond, what is left may lie with the client's system
                found = await until(lambda now, old=before: now != old)  # type: ignore[misc]
                assert found.n_bytes > 0
                before = found
            n_read += len(await reader.readexactly(min(2_000_000, len(ANSWER) - n_read)))
        assert await reader.read() == b""

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run())
