"""Puts TLS between clients that write bytes of their own and a listener that wants it.

Hostile clients are plain sockets; what they send comes out of a TLS connection of its own, and the
end or the reset of one side becomes that of the other.
"""

import asyncio
import contextlib
import ssl

BLOCK = 64 * 1024


class TlsRelay:
    """A plain port before a TLS listener.

    Attributes:
        address: Where plain clients connect.
    """

    def __init__(self, target: tuple[str, int], context: ssl.SSLContext) -> None:
        self.address = ("", 0)
        self._target, self._context = target, context
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=BLOCK)
        self.address = self._server.sockets[0].getsockname()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry both ways until either side has ended."""
        try:
            inner_reader, inner_writer = await asyncio.open_connection(
                *self._target, ssl=self._context, server_hostname="localhost", limit=BLOCK
            )
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.ensure_future(_carry(reader, inner_writer)),
            asyncio.ensure_future(_carry(inner_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for each in (inner_writer, writer):
                each.close()  # what is written already is still sent
            await asyncio.wait(ways, timeout=1.0)
        finally:
            for way in ways:
                way.cancel()
            for each in (inner_writer, writer):
                each.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one way, no faster than the other side takes it."""
    with contextlib.suppress(OSError, ssl.SSLError):
        while block := await reader.read(BLOCK):
            writer.write(block)
            await writer.drain()
