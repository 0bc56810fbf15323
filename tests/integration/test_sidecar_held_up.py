"""A sidecar that was held up, as where the machine slept, blames nobody for its own time."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.raw_http import Wire, answer_bytes
from tests.support.raw_place import QUERY_PATH, Place, query_bytes, running_place
from tests.support.raw_upstream import GOOD_BODY, Exchange, raw_upstream

LIMIT_S = 3.0
"""Of everything that is waited for; the sidecar is held up for longer."""
LIMITS = dict.fromkeys(("head_timeout_s", "body_timeout_s", "idle_timeout_s"), LIMIT_S)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    upstream_limits = {"query_timeout_s": LIMIT_S}
    with (
        raw_upstream() as upstream,
        running_place(tmp_path, [upstream], limits=LIMITS, upstream=upstream_limits) as place,
    ):
        yield place


@contextlib.contextmanager
def held_up(place: Place) -> Iterator[None]:
    """Stop the sidecar, let something happen, and have it go on once every limit has passed."""
    pid = place.sidecar.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
        time.sleep(LIMIT_S + 1)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_what_came_in_time_is_read_before_anybody_is_late(place: Place) -> None:
    request, may_answer = query_bytes(), threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        if "held" in exchange.request.target:
            may_answer.wait()
        exchange.send(answer_bytes(200, GOOD_BODY))

    place.upstream.answer = answer
    with contextlib.ExitStack() as open_wires:
        kept, head, body, asked = wires = [
            open_wires.enter_context(place.connect()) for _ in range(4)
        ]
        kept.ask(request)
        head.send(request[:20])
        body.send(request[:-5])
        asked.send(query_bytes(path=f"{QUERY_PATH}?held=yes"))
        place.upstream.wait_for(
            lambda: any("held" in one.target for one in place.upstream.requests)
        )
        with held_up(place):
            kept.send(request)
            head.send(request[20:])
            body.send(request[-5:])
            may_answer.set()
        statuses = [status_of(wire) for wire in wires]
    assert statuses == [200] * 4


def status_of(wire: Wire) -> int | str:
    """Give what was answered, or how the connection ended."""
    try:
        return wire.read_answer().status
    except ConnectionError as error:
        return type(error).__name__
