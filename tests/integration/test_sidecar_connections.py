"""Connections of clients: kept, pipelined, old, upgraded, too many and too slow."""

import threading
from pathlib import Path

import pytest

from tests.support.raw_http import PATIENCE_S, Message, Wire, answer_bytes, chunked, request_bytes
from tests.support.raw_place import (
    QUERY_PATH,
    UNSAFE,
    Place,
    assert_adapted,
    query_bytes,
    running_place,
)
from tests.support.raw_upstream import GOOD_BODY, JSON_LINE, Exchange, raw_upstream, say
from tests.support.ways import Authority


def test_connection_serves_many_requests(place: Place) -> None:
    kinds = [*UNSAFE.values(), query_bytes(), request_bytes("HEAD", "/"), query_bytes()]
    with place.connect() as wire:
        statuses = [wire.ask(request).status for request in kinds * 5]

    assert set(statuses) == {200}


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 Fine\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"{", b"}"),
        b"HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_one_upstream_connection_serves_many_requests(place: Place, said: bytes) -> None:
    used: set[int] = set()

    def answer(exchange: Exchange) -> None:
        used.add(exchange.connection)
        say(said)(exchange)

    place.upstream.answer = answer
    with place.connect() as wire:
        statuses = {wire.ask(query_bytes()).status for _ in range(10)}

    assert len(statuses) == 1
    assert len(used) == 1


def go_on_behind_the_last_request(wire: Wire, line: str = "Connection: close") -> Message:
    """Send more than the sidecar answers, and only then read its answer."""
    wire.send(query_bytes(line))
    wire.wait_for_bytes()
    for _ in range(20):
        wire.send(query_bytes())
        threading.Event().wait(0.01)
    return wire.read_answer()


@pytest.mark.parametrize("line", ["Connection: close", "Connection: Close, x"])
def test_client_that_goes_on_behind_its_last_request_still_gets_its_answer(
    place: Place, line: str
) -> None:
    with place.connect() as wire:
        answer = go_on_behind_the_last_request(wire, line)
        wire.wait_until_closed()

    assert answer.status == 200
    assert len(place.upstream.requests) == 1


def test_so_does_one_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        raw_upstream() as upstream,
        running_place(tmp_path, [upstream], listen=authority.listen) as place,
    ):
        place.context = authority.context
        with place.connect() as wire:
            answer = go_on_behind_the_last_request(wire)

    assert answer.status == 200


def test_a_query_of_too_many_vectors_keeps_no_other_client_waiting(place: Place) -> None:
    many = b'{"prefetch": [%b{}]}' % (b'{"query": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}, ' * 100_000)
    assert place.ask(query_bytes()).status == 200  # what must be asked of Qdrant is asked
    with place.connect() as heavy:
        heavy.send(request_bytes("POST", QUERY_PATH, many, JSON_LINE))
        assert place.ask(query_bytes()).status == 200
        assert heavy.is_quiet(0)
        assert heavy.read_answer().status == 413


def test_pipelined_requests_are_answered_in_order(place: Place) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        number = exchange.request.target.rpartition("=")[2]
        threading.Event().wait(0.01 * (9 - int(number)))
        exchange.send(answer_bytes(200, number.encode()))

    place.upstream.answer = answer
    with place.connect() as wire:
        wire.send(
            b"".join(
                query_bytes(path=f"{QUERY_PATH}?n={number}")
                if number % 2
                else request_bytes("PUT", f"/collections/docs/points?n={number}", b"{}")
                for number in range(10)
            )
        )
        bodies = [wire.read_answer().body for _ in range(10)]

    assert bodies == [b"%d" % number for number in range(10)]


def test_requests_after_close_are_not_read(place: Place) -> None:
    last = request_bytes("GET", "/collections", None, "Connection: close")
    with place.connect() as wire:
        wire.send(query_bytes() + last + query_bytes())
        first, second = wire.read_answer(), wire.read_answer()
        assert wire.read_head() == b""

    assert (first.status, second.status) == (200, 200)
    assert "close" in second.value("connection").lower()
    assert len(place.upstream.requests) == 2


def http_1_0(place: Place, *lines: str) -> Wire:
    wire = place.connect()
    wire.send("\r\n".join(["GET /collections HTTP/1.0", *lines, "", ""]).encode())
    return wire


def test_http_1_0_client_gets_no_chunks(place: Place) -> None:
    place.upstream.answer = say(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"one", b"two")
    )
    with http_1_0(place) as wire:
        answer = wire.read_answer()
        assert wire.read_head() == b""

    assert answer.value("transfer-encoding") == ""
    assert answer.body == b"onetwo"


def test_http_1_0_client_that_asks_keeps_its_connection(place: Place) -> None:
    with http_1_0(place, "Connection: keep-alive") as wire:
        answer = wire.read_answer()
        is_kept = answer.value("connection").lower() == "keep-alive"
        again = wire.ask(request_bytes("GET", "/collections")) if is_kept else answer
        at_end = b"" if is_kept else wire.read_head()

    assert (again.status, again.body, at_end) == (200, GOOD_BODY, b"")


def test_offer_of_h2c_is_ignored(place: Place) -> None:
    lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")
    with place.connect() as wire:
        answer = wire.ask(request_bytes("GET", "/collections", None, *lines))
        again = wire.ask(query_bytes())

    assert (answer.status, answer.body, again.status) == (200, GOOD_BODY, 200)
    names = {name.lower() for name, _ in place.upstream.requests[0].fields}
    assert not names & {"upgrade", "http2-settings", "connection"}


def test_http_2_preface_is_refused(place: Place) -> None:
    with place.connect() as wire:
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        answer = wire.read_answer()
        assert wire.read_head() == b""

    assert answer.status in {400, 505}
    assert place.upstream.requests == []


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        ("Upgrade: TLS/1.2", "Connection: Upgrade"),
        ("Upgrade: websocket",),
        ("Connection: keep-alive, Upgrade", "Upgrade: h2c, websocket", "Upgrade: TLS/1.3"),
    ],
)
def test_any_offer_of_another_protocol_is_ignored(place: Place, lines: tuple[str, ...]) -> None:
    for request in (request_bytes("GET", "/dashboard", None, *lines), query_bytes(*lines)):
        place.upstream.forget()
        answers = place.ask(request), place.ask(request)
        assert [answer.status for answer in answers] == [200, 200]
        for seen in place.upstream.requests:
            assert not {name.lower() for name, _ in seen.fields} & {"upgrade", "connection"}
    assert_adapted(place, place.upstream.requests[0])


def test_connect_method_is_refused(place: Place) -> None:
    answer = place.ask(b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n")

    assert 400 <= answer.status < 600
    assert place.upstream.requests == []


def test_connections_beyond_the_limit_wait_or_are_refused_and_harm_none(tmp_path: Path) -> None:
    with (
        raw_upstream() as upstream,
        running_place(tmp_path, [upstream], limits={"connections": 3}) as place,
    ):
        kept = [place.connect() for _ in range(3)]
        try:
            assert {wire.ask(query_bytes()).status for wire in kept} == {200}
            with place.connect() as beyond:
                assert refused(beyond)
            assert {wire.ask(query_bytes()).status for wire in kept} == {200}
        finally:
            for wire in kept:
                wire.close()
        place.upstream.drop_connections()
        statuses = until_accepted(place)

    assert statuses[-1] == 200


def refused(wire: Wire) -> bool:
    """Tell whether a connection beyond the limit gets 503 or an end, not an answer."""
    try:
        return wire.ask(query_bytes()).status == 503
    except ConnectionError:
        return True


def until_accepted(place: Place) -> list[int]:
    """Connect until the sidecar has seen that there is room again."""
    statuses: list[int] = []
    while len(statuses) < 200 and 200 not in statuses:
        with place.connect() as wire:
            statuses.append(503 if refused(wire) else 200)
    return statuses


def test_upstream_connections_stay_within_their_limit(tmp_path: Path) -> None:
    go_on = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        go_on.wait(PATIENCE_S)
        exchange.send(answer_bytes(200, GOOD_BODY))

    with (
        raw_upstream() as upstream,
        running_place(tmp_path, [upstream], upstream={"max_connections": 2}) as place,
    ):
        upstream.answer = answer
        wires = [place.connect() for _ in range(8)]
        try:
            for wire in wires:
                wire.send(query_bytes())
            upstream.wait_for_requests(2)
            go_on.set()
            statuses = [wire.read_answer().status for wire in wires]
        finally:
            for wire in wires:
                wire.close()

        assert upstream.most_open <= 2 + 1  # one may ask for facts
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 2


def test_slow_clients_are_not_waited_for_for_ever(tmp_path: Path) -> None:
    limits = {"head_timeout_s": 0.5, "body_timeout_s": 0.4, "idle_timeout_s": 0.3}
    refusal = "HTTP/1.1 408 Request Timeout"
    kinds = [
        (b"POST /collections/docs/points/query HTT", refusal),
        (request_bytes("POST", QUERY_PATH, None, "Content-Length: 5"), refusal),
        (b"", ""),  # nothing was asked, so nothing is answered
    ]
    with (
        raw_upstream() as upstream,
        running_place(tmp_path, [upstream], limits=limits) as place,
    ):
        for sent, said in kinds:
            with place.connect() as wire:
                wire.send(sent)
                assert wire.read_head().decode().partition("\r\n")[0] == said
                wire.wait_until_closed()
