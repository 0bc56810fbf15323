"""What an upstream may do wrong, and what a caller of the sidecar must see then."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.support.raw_http import answer_bytes, chunked
from tests.support.raw_place import CUT
from tests.support.raw_upstream import (
    GOOD_BODY,
    JSON_LINE,
    Answer,
    RawUpstream,
    hang_up,
    keep_waiting,
    say,
    say_and_close,
    say_and_hang,
    say_and_reset,
    say_slowly,
)

_WHOLE = answer_bytes(200, GOOD_BODY, JSON_LINE)
_HEAD, _, _ = _WHOLE.partition(b"\r\n\r\n")
_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNKED = _CHUNKED_HEAD + chunked(GOOD_BODY[:20], GOOD_BODY[20:])


@dataclass(frozen=True)
class Fault:
    """One way to fail.

    Attributes:
        inject: Makes an upstream fail so.
        seen: Statuses that a query may end with; :data:`CUT` for an answer cut short.
        is_timeout: True where the caller waits for the configured time.
    """

    inject: Callable[[RawUpstream], None]
    seen: tuple[int, ...]
    is_timeout: bool = False


def _answers(answer: Answer) -> Callable[[RawUpstream], None]:
    def inject(upstream: RawUpstream) -> None:
        upstream.answer = answer

    return inject


def _refuses(upstream: RawUpstream) -> None:
    upstream.stop()


def _hangs_up(upstream: RawUpstream) -> None:
    upstream.accept = hang_up
    upstream.drop_connections()


def _never_answers(upstream: RawUpstream) -> None:
    upstream.accept = keep_waiting
    upstream.drop_connections()


def _odd(head: bytes, body: bytes = GOOD_BODY) -> Callable[[RawUpstream], None]:
    return _answers(say_and_close(head + b"\r\n\r\n" + body))


_SLOW_HEAD_S = 0.03
FAULTS: dict[str, Fault] = {
    "refuses connections": Fault(_refuses, (502,)),
    "resets connections at once": Fault(_hangs_up, (502,)),
    "accepts and never answers": Fault(_never_answers, (504,), is_timeout=True),
    "reads and never answers": Fault(_answers(say_and_hang()), (504,), is_timeout=True),
    "hangs within the head": Fault(_answers(say_and_hang(_HEAD)), (504,), is_timeout=True),
    "head byte by byte, too slowly": Fault(
        _answers(say_slowly(_WHOLE, _SLOW_HEAD_S)), (504,), is_timeout=True
    ),
    "hangs within the body": Fault(
        _answers(say_and_hang(_WHOLE[:-5])), (504, CUT), is_timeout=True
    ),
    "hangs within a chunk": Fault(
        _answers(say_and_hang(_CHUNKED[:-20])), (504, CUT), is_timeout=True
    ),
    "byte by byte, in time": Fault(_answers(say_slowly(_WHOLE)), (200,)),
    "closes without an answer": Fault(_answers(say_and_close(b"")), (502,)),
    "resets without an answer": Fault(_answers(say_and_reset()), (502,)),
    "cuts within the head": Fault(_answers(say_and_close(_HEAD[:40])), (502,)),
    "cuts within the body": Fault(_answers(say_and_close(_WHOLE[:-5])), (502, CUT)),
    "resets within the body": Fault(_answers(say_and_reset(_WHOLE[:-5])), (502, CUT)),
    "cuts within a chunk": Fault(_answers(say_and_close(_CHUNKED[:-20])), (502, CUT)),
    "cuts before the last chunk": Fault(_answers(say_and_close(_CHUNKED[:-5])), (502, CUT)),
    "sends garbage": Fault(_answers(say_and_close(b"\x00\xff SSH-2.0 \r\n\r\n")), (502,)),
    "sends a garbled chunk size": Fault(
        _answers(say_and_close(_CHUNKED_HEAD + b"zz\r\nabc\r\n0\r\n\r\n")), (502, CUT)
    ),
    "sends two lengths": Fault(
        _odd(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 49"), (502,)
    ),
    "sends a length that is none": Fault(_odd(b"HTTP/1.1 200 OK\r\nContent-Length: +49"), (502,)),
    "switches protocols unasked": Fault(
        _odd(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade"), (502,)
    ),
    "sends a head without an end": Fault(
        _answers(say_and_close(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**21)), (502,)
    ),
    "answers 500": Fault(_answers(say(answer_bytes(500, b'{"status":{"error":"e"}}'))), (500,)),
    "answers 503": Fault(_answers(say(answer_bytes(503, b"overloaded"))), (503,)),
    "answers 429": Fault(_answers(say(answer_bytes(429, b"", "Retry-After: 1"))), (429,)),
}
"""By what the upstream does."""
