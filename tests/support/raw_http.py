"""HTTP/1.1 by hand over a blocking socket, so that a test sees and sends every byte itself."""

import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

PATIENCE_S = 60.0
"""Longest wait for a byte; far above every timeout that tests configure."""
BLOCK = 256 * 1024
_BODILESS = (204, 304)


@dataclass
class Message:
    """A request or an answer; ``head`` as it came, ``body`` without its chunks' framing."""

    head: bytes
    body: bytes = b""
    trailers: bytes = b""
    interim: list["Message"] = field(default_factory=list)

    @property
    def start(self) -> str:
        return self.head.partition(b"\r\n")[0].decode("latin-1")

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    @property
    def method(self) -> str:
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        return self.start.split(" ")[1]

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names as they are spelt, in order."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return [(name, value.strip()) for name, _, value in pairs]

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.fields if each.lower() == name]

    def value(self, name: str) -> str:
        """All of a field's values, joined as HTTP does; empty for none."""
        return ", ".join(self.values(name))


class Wire:
    """One end of a connection."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(PATIENCE_S)
        self.socket = connected
        self._held = bytearray()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        """End the connection as a process's end does."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def reset(self) -> None:
        """End the connection with RST."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait_until_closed(self) -> None:
        """Read on until the other side ends the connection."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(BLOCK):
                pass

    def wait_for_bytes(self) -> None:
        """Wait until something has come, and leave it there."""
        assert select.select([self.socket], [], [], PATIENCE_S)[0], "nothing came"

    def is_quiet(self, seconds: float) -> bool:
        """Tell whether nothing arrives, not even an end, for some time."""
        return not self._held and not select.select([self.socket], [], [], seconds)[0]

    def read_until(self, end: bytes) -> bytes:
        """Read up to and with ``end``; what came where the other side ended before."""
        at = 0
        while (found := self._held.find(end, max(0, at - len(end)))) < 0:
            at = len(self._held)
            block = self.socket.recv(BLOCK)
            if not block:
                return self._take(len(self._held))
            self._held += block
        return self._take(found + len(end))

    def read_head(self) -> bytes:
        """Read a head with its empty line; empty where the connection ended."""
        return self.read_until(b"\r\n\r\n")

    def blocks(self, size: int | None) -> Iterator[bytes]:
        """Give ``size`` bytes, or all until the end, in blocks."""
        left = size
        while left is None or left:
            most = BLOCK if left is None else min(BLOCK, left)
            block = self._take(min(most, len(self._held))) or self.socket.recv(most)
            if not block:
                if left:
                    raise ConnectionResetError(f"ended {left} bytes before the body's end")
                return
            left = None if left is None else left - len(block)
            yield block

    def chunks(self) -> Iterator[bytes]:
        """Give the data of chunks; the trailers are then in ``trailers``."""
        while True:
            line = self.read_until(b"\r\n")
            if not line.endswith(b"\r\n"):
                raise ConnectionResetError("ended within the chunks")
            size = int(line.split(b";")[0], 16)
            if not size:
                break
            yield from self.blocks(size)
            if b"".join(self.blocks(2)) != b"\r\n":
                raise ValueError("a chunk without its end")
        self.trailers = b""
        while (line := self.read_until(b"\r\n")) not in {b"\r\n", b""}:
            self.trailers += line

    def body_blocks(self, message: Message, *, until_end: bool = False) -> Iterator[bytes]:
        """Give a message's body as its head frames it."""
        if message.value("transfer-encoding").lower() == "chunked":
            return self.chunks()
        length = message.value("content-length")
        if not length and not until_end:
            return iter(())
        return self.blocks(int(length) if length else None)

    def read_request(self) -> Message | None:
        """Read a request's head; None where the connection ended."""
        head = self.read_head()
        return Message(head) if head.endswith(b"\r\n\r\n") else None

    def read_answer_head(self) -> Message:
        """Read an answer's head and the interim ones before it."""
        interim: list[Message] = []
        while True:
            head = self.read_head()
            if not head.endswith(b"\r\n\r\n"):
                raise ConnectionResetError(f"ended within a head: {head[:80]!r}")
            message = Message(head, interim=interim)
            if message.status >= 200 or message.status == 101:
                return message
            interim.append(message)

    def read_answer(self, method: str = "GET") -> Message:
        """Read a whole answer."""
        answer = self.read_answer_head()
        if method != "HEAD" and answer.status not in _BODILESS:
            self.trailers = b""
            answer.body = b"".join(self.body_blocks(answer, until_end=True))
            answer.trailers = self.trailers
        return answer

    def ask(self, request: bytes) -> Message:
        """Send a request and read its answer."""
        self.send(request)
        return self.read_answer(request.split(b" ", 1)[0].decode())

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken


def connect(address: tuple[str, int], context: ssl.SSLContext | None = None) -> Wire:
    """Open a client's connection; with TLS where there is a context that trusts the listener."""
    connected = socket.create_connection(address, PATIENCE_S)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        connected = context.wrap_socket(connected, server_hostname="localhost")
    return Wire(connected)


def request_bytes(
    method: str, target: str, body: bytes | None = None, *lines: str, host: str = "sidecar"
) -> bytes:
    """Write a request with ``Content-Length`` where it has a body.

    Args:
        lines: More header lines, as in ``"X-Mark: 1"``.
    """
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines]
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (body or b"")


def answer_bytes(status: int, body: bytes = b"", *lines: str) -> bytes:
    """Write an answer with ``Content-Length``."""
    head = [f"HTTP/1.1 {status} Said", *lines, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def chunked(*blocks: bytes, trailers: bytes = b"") -> bytes:
    """Frame blocks as chunks."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks)
    return framed + b"0\r\n" + trailers + b"\r\n"
