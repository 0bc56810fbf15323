"""A recording upstream: reads strictly, tells a judge of every request, answers with an echo.

Requests to ``/answer/NAME`` get a hostile answer instead, from ``ANSWERS``.
"""

import asyncio
import json
from collections.abc import Callable
from typing import cast

from tests.support.hostile.meaning import path_of
from tests.support.hostile.reading import (
    IncompleteError,
    Request,
    UnreadableError,
    read_request,
)

_EVIL = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-evil: 1\r\n\r\nEVIL"
_OK = b"HTTP/1.1 200 OK\r\n"
_INFO = b'{"result": {"config": {"params": {"vectors": {"size": 4, "distance": "Cosine"}}}}}'
"""What Qdrant says of the adapted collection, as far as the sidecar asks."""

ANSWERS: dict[str, bytes] = {
    "extra": _OK + b"content-length: 2\r\n\r\nok" + _EVIL,
    "extra-bytes": _OK + b"content-length: 2\r\n\r\nokEVIL",
    "two-lengths": _OK + b"content-length: 2\r\ncontent-length: 40\r\n\r\nok" + _EVIL,
    "length-list": _OK + b"content-length: 2, 40\r\n\r\nok" + _EVIL,
    "signed-length": _OK + b"content-length: +2\r\n\r\nok" + _EVIL,
    "huge-length": _OK + b"content-length: 18446744073709551618\r\n\r\nok" + _EVIL,
    "both-framings": _OK
    + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    + _EVIL,
    "both-framings-reversed": _OK
    + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    + _EVIL,
    "odd-coding": _OK + b"transfer-encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + _EVIL,
    "coding-list": _OK
    + b"transfer-encoding: chunked, identity\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    + _EVIL,
    "bad-chunk": _OK + b"transfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n" + _EVIL,
    "long-chunk": _OK + b"transfer-encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n" + _EVIL,
    "overflowing-chunk": _OK
    + b"transfer-encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n"
    + _EVIL,
    "trailer-framing": _OK
    + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ncontent-length: 9\r\n\r\n"
    + _EVIL,
    "bare-lf": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok" + _EVIL,
    "bare-cr-value": _OK + b"x-a: b\rcontent-length: 9\r\ncontent-length: 2\r\n\r\nok" + _EVIL,
    "folded": _OK + b"x-a: b\r\n content-length: 9\r\ncontent-length: 2\r\n\r\nok" + _EVIL,
    "space-colon": _OK + b"content-length : 9\r\ncontent-length: 2\r\n\r\nok" + _EVIL,
    "nul": _OK + b"x-a: b\x00c\r\ncontent-length: 2\r\n\r\nok" + _EVIL,
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
    b"connection: upgrade\r\n\r\n" + _EVIL,
    "hundreds": b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + _OK + b"content-length: 2\r\n\r\nok",
    "early-hints": b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    + _OK
    + b"content-length: 2\r\n\r\nok"
    + _EVIL,
    "no-content-with-body": b"HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nEVIL" + _EVIL,
    "not-modified-with-body": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nEVIL",
    "status-zero": b"HTTP/1.1 000 Zero\r\ncontent-length: 2\r\n\r\nok",
    "status-999": b"HTTP/1.1 9999 Big\r\ncontent-length: 2\r\n\r\nok",
    "other-protocol": b"SSH-2.0-OpenSSH_9.7\r\n",
    "http2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
    "long-head": _OK + b"x-a: " + b"a" * 300_000 + b"\r\ncontent-length: 2\r\n\r\nok",
    "many-fields": _OK + b"x-a: b\r\n" * 20_000 + b"content-length: 2\r\n\r\nok",
    "empty": b"",
}
"""Answers that a proxy must not take at their word."""


class _Connection(asyncio.Protocol):
    """One connection of the proxy to this upstream."""

    def __init__(self, tell: Callable[[Request], None], complain: Callable[[str], None]) -> None:
        self._tell, self._complain = tell, complain
        self._data = b""
        self._wanted = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while self._data and len(self._data) >= self._wanted:
            try:
                request = read_request(self._data)
            except IncompleteError as error:
                self._wanted = error.wanted
                return
            except UnreadableError as error:
                self._complain(
                    f"upstream got bytes of two meanings ({error}): {self._data[:400]!r}"
                )
                self._transport.close()
                return
            self._data, self._wanted = self._data[request.end :], 0
            if request.values(b"upgrade"):
                self._complain(f"an upgrade was passed on: {request.fields!r}")
            self._tell(request)
            self._answer(request)

    def _answer(self, request: Request) -> None:
        name = path_of(request.target).rpartition(b"/answer/")[2].decode("latin-1")
        if name in ANSWERS:
            self._transport.write(ANSWERS[name])
            if not ANSWERS[name]:
                self._transport.close()
            return
        echo = {"method": request.method.decode(), "target": request.target.decode("latin-1")}
        body = (
            _INFO
            if path_of(request.target) == b"/collections/docs"
            else json.dumps({"echo": echo, "result": None, "status": "ok", "time": 0}).encode()
        )
        shown = b"" if request.method == b"HEAD" else body
        length = b"content-length: %d\r\n\r\n" % len(body)
        self._transport.write(_OK + b"content-type: application/json\r\n" + length + shown)
        if request.is_last:
            self._transport.close()


async def start_upstream(
    tell: Callable[[Request], None], complain: Callable[[str], None]
) -> asyncio.Server:
    """Listen on a free port of loopback.

    Args:
        tell: Gets every request that arrives whole.
        complain: Gets what no upstream should ever see.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Connection(tell, complain), "127.0.0.1", 0)
