"""Large bodies in both directions: constant memory, and nobody overrun."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.raw_http import BLOCK, PATIENCE_S, answer_bytes, request_bytes
from tests.support.raw_memory import GROWTH_KB, PeakMemory
from tests.support.raw_place import LOOK_S, UPLOAD_PATH, Place, query_bytes, running_place
from tests.support.raw_upstream import GOOD_BODY, Exchange, raw_upstream, say

LARGE_BYTES = 120 * 2**20
HELD_BYTES = 32 * 2**20
"""Most that lies between a sender and a reader that has stopped: kernel buffers and ours."""
_BLOCK = bytes(range(256)) * (BLOCK // 256)


def digest_of(blocks: Iterator[bytes]) -> tuple[int, str]:
    """Give the size and the hash of a body."""
    size, digest = 0, hashlib.blake2b()
    for block in blocks:
        size += len(block)
        digest.update(block)
    return size, digest.hexdigest()


def large_blocks() -> Iterator[bytes]:
    for number in range(LARGE_BYTES // BLOCK):
        yield number.to_bytes(8, "big") + _BLOCK[8:]


def as_chunks(blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        yield b"%x\r\n%b\r\n" % (len(block), block)
    yield b"0\r\n\r\n"


def framed(is_chunked: bool) -> tuple[bytes, Iterator[bytes]]:
    """Give the line of a head and the wire's blocks of a large body."""
    if is_chunked:
        return b"Transfer-Encoding: chunked", as_chunks(large_blocks())
    return b"Content-Length: %d" % LARGE_BYTES, large_blocks()


@pytest.fixture(scope="module")
def large_digest() -> tuple[int, str]:
    return digest_of(large_blocks())


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize(
    "request_sent",
    [request_bytes("GET", "/collections/docs/snapshots/s.snapshot"), query_bytes()],
    ids=["snapshot", "adapted query"],
)
def test_large_download_passes_in_constant_memory(
    place: Place, large_digest: tuple[int, str], request_sent: bytes, is_chunked: bool
) -> None:
    def answer(exchange: Exchange) -> None:
        line, blocks = framed(is_chunked)
        exchange.send(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n")
        for block in blocks:
            exchange.send(block)

    place.upstream.answer = answer
    peak = PeakMemory(place)
    with place.connect() as wire:
        wire.send(request_sent)
        got = digest_of(wire.body_blocks(wire.read_answer_head()))

    assert got == large_digest
    assert peak.growth_kb() < GROWTH_KB


@pytest.mark.parametrize("is_chunked", [False, True])
def test_large_upload_passes_in_constant_memory(
    place: Place, large_digest: tuple[int, str], is_chunked: bool
) -> None:
    got: list[tuple[int, str]] = []

    def answer(exchange: Exchange) -> None:
        got.append(digest_of(exchange.blocks()))
        exchange.send(answer_bytes(200, GOOD_BODY))

    place.upstream.answer = answer
    peak = PeakMemory(place)
    line, blocks = framed(is_chunked)
    with place.connect() as wire:
        wire.send(f"POST {UPLOAD_PATH} HTTP/1.1\r\nHost: s\r\n".encode() + line + b"\r\n\r\n")
        for block in blocks:
            wire.send(block)
        assert wire.read_answer().status == 200

    assert got == [large_digest]
    assert peak.growth_kb() < GROWTH_KB


def send_until_stuck(send: Callable[[bytes], int], stuck: threading.Event) -> int:
    """Send until no byte goes for a while."""
    sent = 0
    try:
        while sent < LARGE_BYTES:
            sent += send(_BLOCK)
    except TimeoutError:
        stuck.set()
    return sent


def test_client_that_does_not_read_holds_the_upstream_back(place: Place) -> None:
    stuck, go_on = threading.Event(), threading.Event()
    sent: list[int] = []

    def answer(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES)
        exchange.wire.socket.settimeout(0.5)
        sent.append(send_until_stuck(exchange.wire.socket.send, stuck))
        exchange.wire.socket.settimeout(None)
        go_on.wait(PATIENCE_S)
        exchange.send(bytes(LARGE_BYTES - sent[0]))

    place.upstream.answer = answer
    with place.connect() as wire:
        wire.send(request_bytes("GET", "/collections/docs/snapshots/s.snapshot"))
        head = wire.read_answer_head()
        assert stuck.wait(PATIENCE_S)
        go_on.set()
        size, _ = digest_of(wire.body_blocks(head))

    assert sent[0] < HELD_BYTES
    assert size == LARGE_BYTES


def test_upstream_that_does_not_read_holds_the_client_back(place: Place) -> None:
    go_on = threading.Event()
    got: list[int] = []

    def answer(exchange: Exchange) -> None:
        go_on.wait(PATIENCE_S)
        got.append(digest_of(exchange.blocks())[0])
        exchange.send(answer_bytes(200))

    place.upstream.answer = answer
    with place.connect() as wire:
        wire.send(request_bytes("POST", UPLOAD_PATH, None, f"Content-Length: {LARGE_BYTES}"))
        wire.socket.settimeout(0.5)
        stuck = threading.Event()
        sent = send_until_stuck(wire.socket.send, stuck)
        go_on.set()
        wire.socket.settimeout(PATIENCE_S)
        wire.send(bytes(LARGE_BYTES - sent))
        assert wire.read_answer().status == 200

    assert stuck.is_set()
    assert sent < HELD_BYTES
    assert got == [LARGE_BYTES]


def test_upstream_that_refuses_an_upload_early_is_heard(place: Place) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.send(answer_bytes(413, b"too large", "Connection: close"))
        with_rest = threading.Event()
        with_rest.wait(0.2)
        exchange.wire.close()

    place.upstream.answer = answer
    with place.connect() as wire:
        wire.send(request_bytes("POST", UPLOAD_PATH, None, f"Content-Length: {LARGE_BYTES}"))
        wire.send(_BLOCK)
        answer_seen = wire.read_answer()

    assert (answer_seen.status, answer_seen.body) == (413, b"too large")


def test_answer_is_not_held_until_its_end(place: Place) -> None:
    go_on = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        go_on.wait(PATIENCE_S)
        exchange.send(b"3\r\ntwo\r\n0\r\n\r\n")

    place.upstream.answer = answer
    with place.connect() as wire:
        wire.send(request_bytes("GET", "/metrics"))
        blocks = wire.body_blocks(wire.read_answer_head())
        first = next(blocks)
        go_on.set()
        rest = b"".join(blocks)

    assert (first, rest) == (b"one", b"two")


def test_body_is_not_held_until_its_end(place: Place) -> None:
    arrived = threading.Event()

    def answer(exchange: Exchange) -> None:
        blocks = exchange.blocks()
        assert next(blocks) == b"one"
        arrived.set()
        b"".join(blocks)
        exchange.send(answer_bytes(200))

    place.upstream.answer = answer
    with place.connect() as wire:
        wire.send(request_bytes("POST", UPLOAD_PATH, None, "Transfer-Encoding: chunked"))
        wire.send(b"3\r\none\r\n")
        assert arrived.wait(PATIENCE_S)
        wire.send(b"3\r\ntwo\r\n0\r\n\r\n")
        assert wire.read_answer().status == 200


def test_answer_to_a_query_may_take_longer_than_the_wait_for_its_head(tmp_path: Path) -> None:
    limit_s = 2.0
    block = b"6\r\nblock.\r\n"

    def answer(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        pause = threading.Event()
        for _ in range(12):
            exchange.send(block)
            pause.wait(limit_s / 10)
        exchange.send(b"0\r\n\r\n")

    with (
        raw_upstream() as upstream,
        running_place(tmp_path, [upstream], upstream={"query_timeout_s": limit_s}) as place,
    ):
        place.ask_until(query_bytes(), 200)  # connected, so that the limit is for the answer alone
        upstream.answer = answer
        assert place.ask(query_bytes()).body == b"block." * 12


def test_shadow_is_waited_for_where_queries_have_no_limit(tmp_path: Path) -> None:
    found = b'{"result":{"points":[{"id":1,"score":0.5}]}}'
    tables = {"upstream": {"query_timeout_s": 0}, "route": {"mode": "shadow"}}
    with raw_upstream() as upstream, running_place(tmp_path, [upstream], **tables) as place:
        upstream.answer = say(answer_bytes(200, found))
        assert place.ask(query_bytes()).body == found
        end = time.monotonic() + PATIENCE_S
        while 'trimtab_shadow_overlap_count{collection="docs"} 1' not in place.admin("metrics"):
            assert "trimtab_shadow_skipped_total{" not in place.admin("metrics")
            assert time.monotonic() < end
            time.sleep(LOOK_S)


def test_many_clients_that_do_not_read_cost_little_memory(place: Place) -> None:
    n_clients = 30
    stuck = threading.Semaphore(0)

    def answer(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES)
        exchange.wire.socket.settimeout(0.5)
        flag = threading.Event()
        send_until_stuck(exchange.wire.socket.send, flag)
        if flag.is_set():
            stuck.release()
        exchange.wire.close()

    place.upstream.answer = answer
    peak = PeakMemory(place)
    with contextlib.ExitStack() as stack:
        for _ in range(n_clients):
            wire = stack.enter_context(place.connect())
            wire.send(request_bytes("GET", "/collections/docs/snapshots/s.snapshot"))
        assert all(stuck.acquire(timeout=PATIENCE_S) for _ in range(n_clients))

    assert peak.growth_kb() < GROWTH_KB
