"""A failing upstream: what a caller sees, what is sent again and what never is."""

import contextlib
import itertools
import threading
from collections.abc import Callable

import pytest

from tests.support.raw_faults import FAULTS
from tests.support.raw_http import answer_bytes, request_bytes
from tests.support.raw_place import (
    CUT,
    SAFE,
    UNSAFE,
    Place,
    assert_qdrant_error,
    outcome,
    query_bytes,
)
from tests.support.raw_upstream import (
    GOOD,
    GOOD_BODY,
    JSON_LINE,
    Exchange,
    die_when_asked,
    say,
    say_and_close,
    say_and_hang,
)


@pytest.fixture
def place_of(request: pytest.FixtureRequest) -> Callable[[str], Place]:
    """Give the place for a fault: with short limits where nothing comes before they pass."""

    def find(fault: str) -> Place:
        name = "hasty_place" if FAULTS[fault].is_timeout else "place"
        found: Place = request.getfixturevalue(name)
        return found

    return find


@pytest.mark.parametrize("name", FAULTS)
def test_query_to_a_failing_upstream_ends_clearly(
    place_of: Callable[[str], Place], name: str
) -> None:
    fault, place = FAULTS[name], place_of(name)
    fault.inject(place.upstream)

    status, answer = outcome(place, query_bytes())

    assert status in fault.seen
    if status in {502, 504}:
        assert_qdrant_error(answer)


@pytest.mark.parametrize("name", FAULTS)
def test_sidecar_serves_on_as_soon_as_the_upstream_does(
    place_of: Callable[[str], Place], name: str
) -> None:
    place = place_of(name)
    FAULTS[name].inject(place.upstream)
    outcome(place, query_bytes())
    place.recover()

    if FAULTS[name].is_timeout:
        place.ask_until(query_bytes(), 200)
        return
    answers = [place.ask(query_bytes()) for _ in range(3)]

    assert [(answer.status, answer.body) for answer in answers] == [(200, GOOD_BODY)] * 3


@pytest.mark.parametrize("fault", [name for name in FAULTS if not FAULTS[name].is_timeout])
@pytest.mark.parametrize("kind", UNSAFE)
def test_unsafe_request_is_sent_once_whatever_happens(place: Place, kind: str, fault: str) -> None:
    FAULTS[fault].inject(place.upstream)

    outcome(place, UNSAFE[kind])

    assert len(place.upstream.requests) <= 1


def test_timed_out_query_is_not_sent_again(hasty_place: Place) -> None:
    place = hasty_place
    place.ask_until(query_bytes(), 200)
    place.upstream.forget()
    place.upstream.answer = say_and_hang()

    status, _ = outcome(place, SAFE["query"])

    assert status == 504
    assert len(place.upstream.wait_for_requests(1)) == 1


@pytest.mark.parametrize("kind", SAFE)
def test_safe_request_over_a_stale_connection_is_sent_once_more(place: Place, kind: str) -> None:
    place.upstream.answer = die_when_asked(1, GOOD)
    place.ask(SAFE["list"])

    answer = place.ask(SAFE[kind])

    assert answer.status == 200
    assert len(place.upstream.requests) == 3


@pytest.mark.parametrize("kind", SAFE)
@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 600 Odd\r\n\r\n"],
)
def test_safe_request_that_was_answered_badly_is_not_sent_again(
    place: Place, kind: str, said: bytes
) -> None:
    place.ask(SAFE["list"])
    place.upstream.answer = say_and_close(said)

    answer = place.ask(SAFE[kind])

    assert answer.status == 502
    assert len(place.upstream.requests) == 2


@pytest.mark.parametrize("kind", UNSAFE)
def test_unsafe_request_over_a_stale_connection_fails_once(place: Place, kind: str) -> None:
    place.upstream.answer = die_when_asked(1, GOOD)
    place.ask(SAFE["list"])

    answer = place.ask(UNSAFE[kind])

    assert len(place.upstream.requests) == 2
    assert answer.status == 502
    assert_qdrant_error(answer)


@pytest.mark.parametrize("kind", SAFE)
def test_safe_request_is_not_sent_for_ever(place: Place, kind: str) -> None:
    place.ask(SAFE["list"])
    place.upstream.answer = say_and_close(b"")

    answer = place.ask(SAFE[kind])

    assert answer.status == 502
    assert len(place.upstream.requests) <= 3


@pytest.mark.parametrize("kind", UNSAFE)
def test_unsafe_request_never_meets_a_connection_known_to_be_closed(
    place: Place, kind: str
) -> None:
    place.ask(SAFE["list"])
    place.upstream.drop_connections()
    place.wait_for(lambda nodes: not nodes[0]["connections"])

    assert place.ask(UNSAFE[kind]).status == 200
    assert len(place.upstream.requests) == 2


def test_connection_that_the_upstream_will_close_is_not_used_again(place: Place) -> None:
    place.upstream.answer = say_and_close(answer_bytes(200, GOOD_BODY, "Connection: close"))

    answers = [place.ask(UNSAFE["upsert"]) for _ in range(5)]

    assert [answer.status for answer in answers] == [200] * 5
    assert len(place.upstream.requests) == 5


def test_announced_close_ends_no_connection_of_the_client(place: Place) -> None:
    place.upstream.answer = say_and_close(answer_bytes(200, GOOD_BODY, "Connection: close"))

    with place.connect() as wire:
        answers = [wire.ask(query_bytes()) for _ in range(3)]

    assert [answer.status for answer in answers] == [200] * 3
    assert all("close" not in answer.value("connection") for answer in answers)


def test_unasked_bytes_after_an_answer_are_nobodys_answer(place: Place) -> None:
    good = answer_bytes(200, GOOD_BODY, JSON_LINE)
    place.upstream.answer = say(good + answer_bytes(200, b"poison"))

    answers = [place.ask(query_bytes()) for _ in range(4)]

    assert {answer.body for answer in answers} == {GOOD_BODY}


def test_late_answer_to_a_timed_out_query_is_nobodys_answer(hasty_place: Place) -> None:
    place = hasty_place
    late = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        with contextlib.suppress(OSError):
            late.wait()
            exchange.send(answer_bytes(200, b"late"))

    place.upstream.answer = answer
    assert place.ask(query_bytes()).status == 504
    place.upstream.answer = GOOD
    late.set()

    assert [place.ask_until(query_bytes(), 200).body for _ in range(3)] == [GOOD_BODY] * 3


def test_endless_hints_end_with_504(hasty_place: Place) -> None:
    place = hasty_place

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        pause = threading.Event()
        while True:  # until the sidecar gives up, which ends this with an OSError
            exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            pause.wait(0.02)

    place.upstream.answer = answer

    status, _ = outcome(place, query_bytes())

    assert status == 504


def test_answer_before_the_body_is_read_reaches_the_client(place: Place) -> None:
    place.upstream.answer = lambda exchange: (
        exchange.send(answer_bytes(413, b"too much", "Connection: close")),
        exchange.wire.close(),
    )[0]
    with place.connect() as wire:
        wire.send(b"PUT /collections/docs/points HTTP/1.1\r\nHost: s\r\nContent-Length: 9\r\n\r\n")
        answer = wire.read_answer()

    assert (answer.status, answer.body) == (413, b"too much")
    assert len(place.upstream.requests) == 1


def test_client_that_leaves_ends_the_upstream_request(place: Place) -> None:
    place.upstream.answer = say_and_hang()
    scroll = SAFE["scroll"]
    with place.connect() as wire:
        wire.send(scroll)
        place.upstream.wait_for_requests(1)

    assert place.upstream.abandoned.wait(20)


def test_client_that_leaves_within_a_download_ends_it(place: Place) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                exchange.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        exchange.upstream.abandoned.set()

    place.upstream.answer = answer
    with place.connect() as wire:
        wire.send(b"GET /snapshots/s HTTP/1.1\r\nHost: s\r\n\r\n")
        wire.read_answer_head()

    assert place.upstream.abandoned.wait(20)


def test_client_that_leaves_within_an_upload_ends_it(place: Place) -> None:
    seen: list[BaseException] = []

    def answer(exchange: Exchange) -> None:
        try:
            exchange.read_body()
        except ConnectionError as error:
            seen.append(error)
            exchange.upstream.abandoned.set()

    place.upstream.answer = answer
    with place.connect() as wire:
        wire.send(
            b"POST /collections/docs/snapshots/upload HTTP/1.1\r\nHost: s\r\n"
            b"Content-Length: 1000\r\n\r\nabc"
        )
        place.upstream.wait_for_requests(1)

    assert place.upstream.abandoned.wait(20)
    assert seen, "the upload looked whole"


def test_chunked_upload_cut_by_the_client_never_looks_whole(place: Place) -> None:
    seen: list[str] = []

    def answer(exchange: Exchange) -> None:
        try:
            exchange.read_body()
            seen.append("whole")
        except ConnectionError:
            seen.append("cut")
        exchange.upstream.abandoned.set()

    place.upstream.answer = answer
    with place.connect() as wire:
        wire.send(
            b"POST /collections/docs/snapshots/upload HTTP/1.1\r\nHost: s\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        place.upstream.wait_for_requests(1)

    assert place.upstream.abandoned.wait(20)
    assert seen == ["cut"]


def test_upstream_restarted_under_load_is_used_again_and_no_write_is_repeated(
    place: Place,
) -> None:
    counted = threading.Condition()
    statuses: list[int] = []
    is_over = threading.Event()

    def call(caller: int) -> None:
        for number in itertools.count():
            path = f"/collections/docs/points?caller={caller}&n={number}"
            for request in (query_bytes(), request_bytes("PUT", path, b"{}", JSON_LINE)):
                status, _ = outcome(place, request)
                with counted:
                    statuses.append(status)
                    counted.notify_all()
            if is_over.is_set():
                return

    def wait_for(status: int, count: int) -> int:
        """Wait for more answers; tell where they begin."""
        with counted:
            start = len(statuses)
            assert counted.wait_for(lambda: statuses[start:].count(status) >= count, 20)
            return start

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    try:
        wait_for(200, 20)
        place.upstream.stop()
        wait_for(502, 20)
        place.upstream.start()
        wait_for(200, 40)
        start = wait_for(200, 100)
    finally:
        is_over.set()
        for caller in callers:
            caller.join()

    assert set(statuses) <= {200, 502, CUT}
    assert set(statuses[start:]) == {200}
    written = [each.target for each in place.upstream.requests if each.method == "PUT"]
    assert len(written) == len(set(written))


def test_connections_that_end_at_once_give_no_internal_error(place: Place) -> None:
    FAULTS["resets connections at once"].inject(place.upstream)
    statuses: list[int] = []

    def call() -> None:
        for _ in range(60):
            statuses.append(outcome(place, query_bytes())[0])
            statuses.append(outcome(place, UNSAFE["upsert"])[0])

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert set(statuses) == {502}
    assert "Traceback" not in place.sidecar.log()
