"""Broken and hostile HTTP/2, by hand: what a gRPC listener's parser must survive."""

import random
import struct
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = (
    0, 1, 2, 3, 4, 6, 7, 8, 9,
)  # fmt: skip
END_HEADERS, END_STREAM = 4, 1
_FLOOD = 2000


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Write one frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name: bytes, value: bytes) -> bytes:
    """Write a header field without HPACK's tables."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def call_headers(path: bytes = b"/qdrant.Points/Query") -> bytes:
    """Write the head of a gRPC call."""
    fields = {
        b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"x",
        b"content-type": b"application/grpc", b"te": b"trailers",
    }  # fmt: skip
    return b"".join(_field(name, value) for name, value in fields.items())


def _open(*frames: bytes) -> bytes:
    return PREFACE + frame(SETTINGS) + b"".join(frames)


def _begin(stream: int = 1, flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, call_headers())


SHAPES: dict[str, Callable[[random.Random], bytes]] = {
    "random bytes": lambda rng: rng.randbytes(rng.randrange(1, 400)),
    "http/1.1": lambda _: b"POST /qdrant.Points/Query HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a preface": lambda rng: PREFACE[: rng.randrange(len(PREFACE))],
    "random bytes behind the preface": lambda rng: _open(rng.randbytes(200)),
    "a damaged call": lambda rng: _damaged(rng, _open(_begin(), frame(DATA, 1, 1, b"\0" * 9))),
    "random hpack": lambda rng: _open(frame(HEADERS, END_HEADERS, 1, rng.randbytes(60))),
    "data without a stream": lambda _: _open(frame(DATA, 0, 5, b"abc")),
    "data on stream 0": lambda _: _open(frame(DATA, 0, 0, b"abc")),
    "an even stream": lambda _: _open(_begin(2)),
    "a stream that goes back": lambda _: _open(_begin(5), _begin(3)),
    "endless continuation": lambda _: _open(
        frame(HEADERS, 0, 1, call_headers()),
        *(frame(CONTINUATION, 0, 1, _field(b"x", b"y" * 100)) for _ in range(_FLOOD)),
    ),
    "continuation out of the blue": lambda _: _open(frame(CONTINUATION, END_HEADERS, 1, b"")),
    "settings without end": lambda _: _open(*[frame(SETTINGS)] * _FLOOD),
    "pings without end": lambda _: _open(*[frame(PING, 0, 0, b"12345678")] * _FLOOD),
    "resets without end": lambda _: _open(
        *(_begin(n) + frame(RST, 0, n, b"\0\0\0\x08") for n in range(1, 401, 2))
    ),
    "a window too wide": lambda _: _open(*[frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff")] * 2),
    "a window of nothing": lambda _: _open(frame(WINDOW, 0, 0, b"\0\0\0\0")),
    "a frame too long": lambda _: _open(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"),
    "a message that says it is 4 GB": lambda _: _open(
        _begin(), frame(DATA, END_STREAM, 1, b"\x00\xff\xff\xff\xffabc")
    ),
    "a message cut short": lambda _: _open(
        _begin(), frame(DATA, END_STREAM, 1, b"\x00\x00\x00\x00\x64abc")
    ),
    "an unknown compression": lambda _: _open(
        _begin(), frame(DATA, END_STREAM, 1, b"\x01\x00\x00\x00\x03abc")
    ),
    "goodbye at once": lambda _: _open(frame(GOAWAY, 0, 0, b"\0" * 8), _begin()),
    "a priority on itself": lambda _: _open(frame(PRIORITY, 0, 1, b"\0\0\0\x01\x10")),
    "a head byte and no more": lambda _: _open(frame(HEADERS, 0, 1, call_headers())[:12]),
}
"""What a client sends at once, by name."""


def _damaged(rng: random.Random, data: bytes) -> bytes:
    """Damage some bytes behind the preface."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(PREFACE), len(changed))] = rng.randrange(256)
    return bytes(changed)
