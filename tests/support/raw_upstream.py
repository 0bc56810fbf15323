"""An upstream whose every byte a test decides: it stalls, cuts, lies and vanishes on demand.

It runs in threads of the test. What the sidecar asks for itself (facts of collections, health) is
answered well unless ``accept`` or ``health`` is replaced; everything else goes to ``answer``, which
a test replaces at any time, and is kept in ``requests``.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.support.raw_http import PATIENCE_S, Message, Wire, answer_bytes

GOOD_BODY = b'{"result":{"points":[]},"status":"ok","time":0.0}'
JSON_LINE = "Content-Type: application/json"


@dataclass
class Exchange:
    """One request as it arrives; the body is read when it is asked for."""

    upstream: "RawUpstream"
    wire: Wire
    request: Message
    connection: int
    has_read: bool = False

    def read_body(self) -> bytes:
        if not self.has_read:
            self.has_read = True
            self.wire.trailers = b""
            self.request.body = b"".join(self.wire.body_blocks(self.request))
            self.request.trailers = self.wire.trailers
        return self.request.body

    def blocks(self) -> Iterator[bytes]:
        """Give the body in blocks, for one too large to keep."""
        self.has_read = True
        return self.wire.body_blocks(self.request)

    def send(self, data: bytes) -> None:
        self.wire.send(data)

    def hang(self) -> None:
        """Say nothing more until the other side gives up; note that it did."""
        self.wire.wait_until_closed()
        self.upstream.abandoned.set()


Answer = Callable[[Exchange], None]


def welcome(_wire: Wire) -> bool:
    """Take a connection."""
    return True


@dataclass
class RawUpstream:
    """A listener on loopback.

    Attributes:
        answer: What is done with each request.
        health: The status with which a check is answered.
        accept: What is done with each new connection before anything is read; False ends it.
        requests: Every request but the sidecar's own, in order of arrival.
        questions: The sidecar's own.
        abandoned: Set when the other side ended a connection that hung.
        aliases: Collections by alias, as far as who asks may see them.
    """

    vectors: dict[str, Any]
    collection: str = "docs"
    port: int = 0
    accept: Callable[[Wire], bool] = welcome
    health: int = 200
    requests: list[Message] = field(default_factory=list)
    questions: list[Message] = field(default_factory=list)
    n_connections: int = 0
    most_open: int = 0
    abandoned: threading.Event = field(default_factory=threading.Event)
    aliases: Callable[[Message], dict[str, str]] = lambda _: {}

    def __post_init__(self) -> None:
        self.answer: Answer = GOOD
        self._open: set[Wire] = set()
        self._changed = threading.Condition()
        self._listener: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Die: connections end, new ones are refused."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.drop_connections()

    def recover(self) -> None:
        """Answer well again, and listen."""
        self.answer, self.accept, self.health = GOOD, welcome, 200
        if self._listener is None:
            self.start()

    def forget(self) -> None:
        """Forget what has arrived."""
        with self._changed:
            self.requests, self.questions, self.n_connections = [], [], 0
        self.abandoned.clear()

    def drop_connections(self) -> None:
        """End every connection."""
        with self._changed:
            dropped, self._open = self._open, set()
        for wire in dropped:
            wire.close()

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so that a request or a connection makes so."""
        with self._changed:
            assert self._changed.wait_for(is_so, PATIENCE_S), "it did not come to be so"

    def wait_for_requests(self, count: int) -> list[Message]:
        """Wait until so many requests have arrived."""
        self.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                return
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire = Wire(connected)
            wire.socket.settimeout(None)  # an idle connection waits for as long as it is kept
            with self._changed:
                self._open.add(wire)
                self.most_open = max(self.most_open, len(self._open))
                self.n_connections += 1
                number = self.n_connections
                self._changed.notify_all()
            threading.Thread(target=self._serve, args=(wire, number), daemon=True).start()

    def _serve(self, wire: Wire, number: int) -> None:
        with contextlib.suppress(OSError):
            is_welcome = self.accept(wire)
            while is_welcome and (request := wire.read_request()) is not None:
                exchange = Exchange(self, wire, request, number)
                known = self.own_answer(request)
                self._note(self.requests if known is None else self.questions, request)
                if known is None:
                    self.answer(exchange)
                else:
                    wire.send(known)
                if wire.socket.fileno() < 0:
                    break
                exchange.read_body()
        with self._changed:
            self._open.discard(wire)
            self._changed.notify_all()
        wire.close()

    def _note(self, into: list[Message], request: Message) -> None:
        with self._changed:
            into.append(request)
            self._changed.notify_all()

    def own_answer(self, request: Message) -> bytes | None:
        """Answer what the sidecar asks for itself."""
        config = {"params": {"vectors": self.vectors}}
        shown = self.aliases(request).items()
        aliases = [{"alias_name": alias, "collection_name": name} for alias, name in shown]
        facts: dict[str, Any] = {
            f"/collections/{self.collection}": {"status": "green", "config": config},
            "/aliases": {"aliases": aliases},
            "/collections/aliases": {"aliases": aliases},
        }
        path = request.target.partition("?")[0]
        if request.method != "GET":
            return None
        if path == "/" or path.endswith(("/healthz", "/readyz", "/livez")):
            return answer_bytes(self.health, b"ok")
        if path not in facts:
            return None
        body = {"result": facts[path], "status": "ok", "time": 0.0}
        return answer_bytes(200, json.dumps(body).encode(), JSON_LINE)


@contextlib.contextmanager
def raw_upstream(dim: int = 6, **settings: Any) -> Iterator[RawUpstream]:
    """Run an upstream with one collection, ``docs``, until the block ends."""
    upstream = RawUpstream({"size": dim, "distance": "Cosine"}, **settings)
    upstream.start()
    try:
        yield upstream
    finally:
        upstream.stop()


def hang_up(wire: Wire) -> bool:
    """End a connection as soon as it is there."""
    wire.reset()
    return False


def keep_waiting(wire: Wire) -> bool:
    """Take a connection and never answer on it."""
    wire.wait_until_closed()
    return False


def say(data: bytes) -> Answer:
    """Read the body, then send bytes as they are."""

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(data)

    return answer


GOOD = say(answer_bytes(200, GOOD_BODY, JSON_LINE))


def say_and_close(data: bytes) -> Answer:
    """Send bytes and end the connection: a cut, or a body that the end delimits."""

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(data)
        exchange.wire.close()

    return answer


def say_and_reset(data: bytes = b"") -> Answer:
    """Send bytes and end the connection with RST."""

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(data)
        exchange.wire.reset()

    return answer


def say_and_hang(data: bytes = b"") -> Answer:
    """Send bytes, then nothing."""

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(data)
        exchange.hang()

    return answer


def say_early(data: bytes) -> Answer:
    """Send bytes before the body is read."""
    return lambda exchange: exchange.send(data)


def say_slowly(data: bytes, pause_s: float = 0.001) -> Answer:
    """Send byte by byte, each in a segment of its own."""
    pause = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        for at, to in pairwise(range(len(data) + 1)):
            exchange.send(data[at:to])
            pause.wait(pause_s)

    return answer


def die_when_asked(after: int, then: Answer) -> Answer:
    """Close a kept-alive connection at the moment of its next request, unread.

    Args:
        after: Requests that a connection answers before.
        then: How it answers them.
    """
    served: dict[int, int] = {}

    def answer(exchange: Exchange) -> None:
        count = served[exchange.connection] = served.get(exchange.connection, 0) + 1
        if count > after:
            exchange.wire.reset()
        else:
            then(exchange)

    return answer
