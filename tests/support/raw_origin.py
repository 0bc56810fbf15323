"""A strict origin of our own, and how raw requests fare with it directly and through a sidecar."""

import contextlib
import json
import socket
import threading
from dataclasses import dataclass, field

from tests.support.hostile.answers import Answer, AnswerError, read_answers
from tests.support.hostile.reading import (
    IncompleteError,
    Request,
    UnreadableError,
    read_request,
    read_stream,
)
from tests.support.raw_http import BLOCK, Message, Wire, connect, request_bytes
from tests.support.raw_upstream import RawUpstream

LAST = request_bytes("GET", "/last", None, "Connection: close", host="a")
"""Sent behind every request that is whole: both sides end the connection after it, and whoever
reads the requests before it otherwise reads this one otherwise too."""

_HOP = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"),
    *(b"transfer-encoding", b"content-length", b"http2-settings"),
}
_SCRIPT = b"/script"
_FACTS = {b"/collections/docs", b"/aliases", b"/healthz"}
_REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Seen:
    """A request as the origin understood it, without what concerns one connection only."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass
class Fate:
    """What became of raw requests.

    Attributes:
        answers: Status and body of each; the body of a refusal is its maker's own, and left out.
        seen: What the origin took for requests.
        rest: What came behind the last whole answer.
    """

    answers: list[tuple[int, bytes]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    rest: bytes = b""

    @property
    def statuses(self) -> tuple[int, ...]:
        """The answers' statuses, every refusal as 400."""
        return tuple(400 if status >= 400 else status for status, _ in self.answers)

    @property
    def served(self) -> tuple[list[Seen], list[tuple[int, bytes]]]:
        """What the origin saw, and what the client got of it."""
        return self.seen, [answer for answer in self.answers if answer[0] < 400]

    def is_like(self, other: "Fate") -> bool:
        """Tell whether client and origin saw the same.

        Whoever waits for the end of what can't become a request, and whoever tells it off, are
        alike: both serve nothing more.
        """
        return self.served == other.served and not self.rest and not other.rest

    @property
    def is_refused(self) -> bool:
        """Tell whether the origin saw nothing, and the client was told off or got nothing."""
        return not self.seen and self.statuses in {(), (400,)} and not self.rest


class Origin:
    """Takes the place of an upstream's ``accept``: reads as RFC 9112 says, answers with an echo.

    Attributes:
        script: What is sent, before the connection ends, to whoever asks for ``/script``.
    """

    def __init__(self, upstream: RawUpstream) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self.script = b""
        upstream.accept = self.serve
        upstream.drop_connections()

    def take_seen(self) -> list[Seen]:
        with self._lock:
            seen, self._seen = self._seen, []
        return seen

    def serve(self, wire: Wire) -> bool:
        """Serve one connection to its end."""
        with contextlib.suppress(OSError):
            self._serve(wire)
        wire.close()
        return False

    def _serve(self, wire: Wire) -> None:
        data, request = b"", None
        while request is None or not request.is_last:
            try:
                data = data.lstrip(b"\r\n")
                request = read_request(data, lenient=True)
                _check_origin(request)
            except IncompleteError:
                block = wire.socket.recv(BLOCK)
                if not block:
                    return
                data += block
                continue
            except UnreadableError:
                wire.send(_REFUSED)
                break
            data = data[request.end :]
            if request.target == _SCRIPT:
                wire.send(self.script)
                break
            wire.send(self._answer(request))
        wire.socket.shutdown(socket.SHUT_WR)
        wire.wait_until_closed()

    def _answer(self, request: Request) -> bytes:
        if request.target in _FACTS:
            known = self._upstream.own_answer(Message(b"GET %b HTTP/1.1" % request.target))
            return known or b""
        seen = _as_seen(request)
        with self._lock:
            self._seen.append(seen)
        shown = [seen.method.decode("latin-1"), seen.target.decode("latin-1"), len(seen.body)]
        body = json.dumps(shown).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        return head + (b"" if request.method == b"HEAD" else body)


def _check_origin(request: Request) -> None:
    """Refuse what a server must refuse besides what can't be read."""
    if not request.values(b"host") and not request.is_10:
        raise UnreadableError("no Host")
    target = _split(request)[1]
    if not target.startswith(b"/") and (request.method, target) != (b"OPTIONS", b"*"):
        raise UnreadableError("target")
    if b"#" in target:
        raise UnreadableError("fragment")


def _split(request: Request) -> tuple[bytes, bytes]:
    """Give the authority that a target names, or nothing, and the target in origin form."""
    scheme, mark, rest = request.target.partition(b"://")
    if not mark or scheme.lower() not in {b"http", b"https"}:
        return b"", request.target
    end = min((at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if not authority or b"@" in authority:
        raise UnreadableError("authority")
    if not path:
        return authority, b"*" if request.method == b"OPTIONS" else b"/"
    return authority, path if path.startswith(b"/") else b"/" + path


def _as_seen(request: Request) -> Seen:
    authority, target = _split(request)
    options = b",".join(request.values(b"connection")).lower().split(b",")
    dropped = _HOP | {option.strip() for option in options} - {b"host"}
    fields = [
        (name.lower(), authority or value if name.lower() == b"host" else value)
        for name, value in request.fields
        if name.lower() not in dropped
    ]
    return Seen(request.method, target, tuple(fields), request.body)


def send_raw(address: tuple[str, int], data: bytes, origin: Origin) -> Fate:
    """Send raw requests, all at once, and tell what became of them."""
    origin.take_seen()
    reading = read_stream(data)
    heads = [each.method == b"HEAD" for each in reading.requests] + [reading.is_rest_for_head]
    got = b""
    n_before_cut = len(reading.requests) if reading.is_cut else -1
    with connect(address) as wire, contextlib.suppress(OSError):
        wire.send(data if reading.is_cut else data + LAST)
        while True:
            if n_before_cut == len(_read(got, heads)[0]):
                wire.socket.shutdown(socket.SHUT_WR)  # nothing more will come
                n_before_cut = -1
            block = wire.socket.recv(BLOCK)
            if not block:
                break
            got += block
    answers, rest = _read(got, heads, is_closed=True)
    return Fate([_shown(each) for each in answers], origin.take_seen(), rest)


def _read(got: bytes, heads: list[bool], *, is_closed: bool = False) -> tuple[list[Answer], bytes]:
    try:
        return read_answers(got, heads, is_closed=is_closed)
    except AnswerError as error:
        return [], str(error).encode()


def _shown(answer: Answer) -> tuple[int, bytes]:
    return answer.status, b"" if answer.is_refusal else answer.body


def answer_directly(data: bytes, method: str) -> tuple[int, bytes] | None:
    """Read raw bytes as a strict client does: status and body, or None for what is no answer."""
    try:
        answers, _ = read_answers(data, [method == "HEAD"], is_closed=True, most=1)
    except AnswerError:
        return None
    return (answers[0].status, answers[0].body) if answers else None


def answer_through(
    address: tuple[str, int], data: bytes, method: str, origin: Origin
) -> tuple[int, bytes] | None:
    """Have the origin answer with raw bytes, and give what a client of the sidecar gets of them."""
    origin.script = data
    got = b""
    with connect(address) as wire, contextlib.suppress(OSError):
        wire.send(request_bytes(method, _SCRIPT.decode(), None, "Connection: close"))
        while block := wire.socket.recv(BLOCK):
            got += block
    return answer_directly(got, method)
