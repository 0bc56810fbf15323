"""A client's connection, its transport and its exchanges played: order, timers, what goes wrong."""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from trimtab.server.paths import Paths
from trimtab.server.request_head import RequestHead
from trimtab.server.rest import client_connection as qdrant_rest
from trimtab.server.rest.client_connection import ClientConnection
from trimtab.settings import Limits, ListenSettings, UpstreamSettings

REQUEST = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
LIMITS = Limits(connections=2)


class PlayedTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.is_reading = True
        self.is_ended = False
        self.is_gone = False
        self.n_unsent = 0

    def write(self, data: bytes) -> None:
        assert not self.is_ended, "written behind the end"
        self.written += data

    def write_eof(self) -> None:
        self.is_ended = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def set_write_buffer_limits(self, high: int) -> None:
        """Nothing is ever full."""

    def get_write_buffer_size(self) -> int:
        return self.n_unsent

    def abort(self) -> None:
        self.is_ended = self.is_gone = True

    close = abort


class PlayedExchange:
    """Ends when the test says so, or as soon as it is started."""

    made: list["PlayedExchange"]
    at_start: Callable[["PlayedExchange"], None] = staticmethod(lambda exchange: None)
    has_answered = False

    def __init__(self, state: Any, client: ClientConnection, head: RequestHead) -> None:
        self.client, self.head = client, head
        self.is_started = False
        self.made.append(self)

    def start(self) -> None:
        self.is_started = True
        type(self).at_start(self)

    def start_whole(self, body: bytes) -> None:
        self.start()

    def end(self, *, keep_alive: bool = True) -> None:
        self.client.write(b"<answer>")
        self.client.exchange_ended(self, keep_alive=keep_alive)  # type: ignore[arg-type]  # played

    def body_received(self, data: bytes) -> None:
        """Take it."""

    def client_writable(self, *, writable: bool) -> None:
        """Know it."""

    body_ended = check = client_gone = lambda self, *_: None


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[PlayedExchange]]:
    class Played(PlayedExchange):
        made: list[PlayedExchange] = []  # noqa: RUF012  # of this test alone

    monkeypatch.setattr(qdrant_rest, "Exchange", Played)
    return Played


def with_connection(
    play: Callable[[ClientConnection, PlayedTransport], None], *, prefix: str = ""
) -> PlayedTransport:
    """Play a connection in a loop of its own."""
    telemetry = SimpleNamespace(count=lambda *_: None)
    table = SimpleNamespace(settings=SimpleNamespace(limits=LIMITS))
    state: Any = SimpleNamespace(
        table=table,
        is_draining=False,
        telemetry=telemetry,
        heads={},
        paths=Paths(ListenSettings(path_prefix=prefix), UpstreamSettings()),
    )
    transport: Any = PlayedTransport()

    async def main() -> None:
        connection = ClientConnection(state, set())
        connection.connection_made(transport)
        play(connection, transport)
        connection.connection_lost(None)

    asyncio.run(main())
    return transport  # type: ignore[no-any-return]  # played


def now_and(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


LATE = LIMITS.head_timeout_s + 1


def test_the_time_for_a_head_does_not_run_while_requests_before_it_are_in_work(
    exchanges: type[PlayedExchange],
) -> None:
    def play(connection: ClientConnection, transport: PlayedTransport) -> None:
        connection.data_received(REQUEST + REQUEST + REQUEST[:20])
        assert not transport.is_reading
        connection.check(now_and(LATE))
        exchanges.made[0].end()
        assert transport.is_reading
        connection.check(now_and(LATE))
        exchanges.made[1].end()
        assert b"408" not in transport.written
        connection.check(now_and(LATE - 2))
        assert b"408" not in transport.written
        connection.check(now_and(LATE))

    written = with_connection(play).written
    assert written.startswith(b"<answer><answer>HTTP/1.1 408 ")


def test_the_time_for_a_head_begins_with_the_end_of_the_answers_before_it(
    exchanges: type[PlayedExchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(connection: ClientConnection, transport: PlayedTransport) -> None:
        connection.data_received(REQUEST + REQUEST[:20])
        later = now_and(2 * LATE)  # a long answer
        monkeypatch.setattr(connection._loop, "time", lambda: later)
        exchanges.made[0].end()
        connection.check(later + LATE - 2)
        assert transport.written == b"<answer>"
        connection.check(later + LATE)
        monkeypatch.undo()

    assert with_connection(play).written.startswith(b"<answer>HTTP/1.1 408 ")


def test_a_connection_is_idle_from_the_end_of_its_last_answer_on(
    exchanges: type[PlayedExchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(connection: ClientConnection, transport: PlayedTransport) -> None:
        connection.data_received(REQUEST)
        loop = asyncio.get_running_loop()
        later = loop.time() + 2 * LIMITS.idle_timeout_s  # a long answer
        monkeypatch.setattr(connection._loop, "time", lambda: later)
        exchanges.made[0].end()
        connection.check(later + 1)
        assert not transport.is_ended
        connection.check(later + LIMITS.idle_timeout_s + 1)
        assert transport.is_ended
        monkeypatch.undo()

    with_connection(play)


LINGER_S = qdrant_rest._LINGER_S


def test_behind_the_last_answer_a_client_may_go_on_for_a_while(
    exchanges: type[PlayedExchange],
) -> None:
    def play(connection: ClientConnection, transport: PlayedTransport) -> None:
        connection.data_received(REQUEST)
        exchanges.made[0].end(keep_alive=False)
        connection.data_received(REQUEST)  # which a reset would punish, and with it the answer
        connection.check(now_and(LINGER_S - 1))
        assert transport.is_ended
        assert transport.is_reading
        assert not transport.is_gone
        connection.check(now_and(LINGER_S + 1))
        assert transport.is_gone

    assert with_connection(play).written == b"<answer>"
    assert len(exchanges.made) == 1


def test_the_last_answer_may_be_taken_slowly_but_not_left(
    exchanges: type[PlayedExchange],
) -> None:
    def play(connection: ClientConnection, transport: PlayedTransport) -> None:
        connection.data_received(REQUEST)
        transport.n_unsent = 9
        exchanges.made[0].end(keep_alive=False)
        passed = 0.0
        while transport.n_unsent:
            passed += LIMITS.body_timeout_s - 1
            connection.check(now_and(passed))  # in which nothing was taken
            assert not transport.is_gone
            transport.n_unsent -= 1
            connection.check(now_and(passed))
        connection.check(now_and(passed + LINGER_S - 1))
        assert not transport.is_gone
        transport.n_unsent = 9
        connection.check(now_and(passed))
        connection.check(now_and(passed + LIMITS.body_timeout_s + 1))
        assert transport.is_gone

    with_connection(play)


def test_any_number_of_requests_may_be_answered_at_once(
    exchanges: type[PlayedExchange],
) -> None:
    n_requests = 5000
    exchanges.at_start = staticmethod(lambda exchange: None)

    def play(connection: ClientConnection, _: PlayedTransport) -> None:
        connection.data_received(REQUEST * n_requests)
        exchanges.at_start = staticmethod(PlayedExchange.end)
        exchanges.made[0].end()

    assert with_connection(play).written == b"<answer>" * n_requests


def test_a_prefix_is_taken_away_once_from_a_head_that_is_known(
    exchanges: type[PlayedExchange],
) -> None:
    def play(connection: ClientConnection, _: PlayedTransport) -> None:
        for _ in range(3):
            connection.data_received(b"GET /a/a/a HTTP/1.1\r\nHost: a\r\n\r\n")
            exchanges.made[-1].end()

    with_connection(play, prefix="/a")
    assert [exchange.head.target for exchange in exchanges.made] == [b"/a/a"] * 3
    assert exchanges.made[1].head is exchanges.made[2].head


def test_heads_that_are_cut_anywhere_are_measured_one_by_one(
    exchanges: type[PlayedExchange],
) -> None:
    n_requests = LIMITS.head_bytes // len(REQUEST) + 10

    def play(connection: ClientConnection, _: PlayedTransport) -> None:
        connection.data_received(REQUEST[:9])
        for n in range(3):
            connection.data_received(REQUEST[9:] + REQUEST * n_requests + REQUEST[:9])
            for exchange in exchanges.made[n * (n_requests + 1) :]:
                exchange.end()

    assert with_connection(play).written == b"<answer>" * 3 * (n_requests + 1)


def test_a_client_that_does_not_read_its_answers_is_read_no_further(
    exchanges: type[PlayedExchange],
) -> None:
    def play(connection: ClientConnection, transport: PlayedTransport) -> None:
        connection.data_received(REQUEST * 3)
        first, second, third = exchanges.made
        connection.pause_writing()
        first.end()
        assert not second.is_started
        connection.resume_writing()
        assert second.is_started
        second.end()
        assert transport.is_reading
        connection.pause_writing()
        assert not transport.is_reading
        third.end()
        assert not transport.is_reading
        connection.resume_writing()
        assert transport.is_reading

    assert with_connection(play).written == b"<answer>" * 3


def test_a_client_that_does_not_read_is_not_blamed_for_what_is_not_read_of_it(
    exchanges: type[PlayedExchange],
) -> None:
    def play(connection: ClientConnection, transport: PlayedTransport) -> None:
        connection.data_received(REQUEST + REQUEST[:20])
        exchanges.made[0].end()
        connection.pause_writing()
        connection.check(now_and(LATE))
        assert transport.written == b"<answer>"
        assert not transport.is_ended
        connection.check(now_and(LIMITS.body_timeout_s + 1))
        assert transport.is_ended

    with_connection(play)


def test_any_number_of_requests_may_offer_another_protocol(
    exchanges: type[PlayedExchange],
) -> None:
    offer = REQUEST[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    body = b"Content-Length: 3\r\n\r\nabc"

    def play(connection: ClientConnection, _: PlayedTransport) -> None:
        connection.data_received((offer + b"\r\n" + offer + body) * 2000)

    with_connection(play)
    assert len(exchanges.made) == 4000


@pytest.mark.parametrize("behind", [b"X : y\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n"])
def test_what_can_not_be_read_is_answered_behind_the_answers_before_it(
    exchanges: type[PlayedExchange], behind: bytes
) -> None:
    offer = b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"

    def play(connection: ClientConnection, transport: PlayedTransport) -> None:
        connection.data_received(offer + b"Content-Length: 3\r\n\r\nabc" + behind)
        assert transport.written == b""
        exchanges.made[0].end()

    assert with_connection(play).written.startswith(b"<answer>HTTP/1.1 400 ")


def test_an_error_that_nobody_foresaw_is_answered_behind_the_answers_before_it(
    exchanges: type[PlayedExchange],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def play(connection: ClientConnection, transport: PlayedTransport) -> None:
        connection.data_received(REQUEST)
        monkeypatch.setattr(qdrant_rest, "Exchange", lambda *_: 1 / 0)
        connection.data_received(REQUEST)
        assert transport.written == b""
        exchanges.made[0].end()

    written = with_connection(play).written
    assert written.startswith(b"<answer>HTTP/1.1 500 ")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "data",
    [
        b"HEAD a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\n\r\n",
        b"HEAD /a HTTP/2.0\r\nHost: a\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nX : a\r\n",
        b"HEAD /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"\r\nHEAD /a RTSP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_a_refusal_of_head_has_no_body(exchanges: type[PlayedExchange], data: bytes) -> None:
    written = with_connection(lambda connection, _: connection.data_received(data)).written

    head, _, body = written.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
    assert b"content-length: 0" not in head
    assert body == b""


@pytest.mark.parametrize("start", [b"HEAD ", b"HEAD /a", b"HEAD /a HTTP/1.1\r\nHost: a\r\n"])
def test_a_head_request_that_does_not_come_is_told_so_without_a_body(
    exchanges: type[PlayedExchange], start: bytes
) -> None:
    def play(connection: ClientConnection, _: PlayedTransport) -> None:
        connection.data_received(start)
        connection.check(now_and(LATE))

    head, _, body = with_connection(play).written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert body == b""


def test_a_refusal_of_anything_behind_head_has_a_body(exchanges: type[PlayedExchange]) -> None:
    def play(connection: ClientConnection, _: PlayedTransport) -> None:
        connection.data_received(b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n")
        exchanges.made[0].end()

    assert with_connection(play).written.partition(b"\r\n\r\n")[2].startswith(b'{"status"')


def test_a_connection_too_many_is_told_so_once_it_asks(exchanges: type[PlayedExchange]) -> None:
    def play(connection: ClientConnection, transport: PlayedTransport) -> None:
        crowd: Any = [object(), object()]
        for data, has_body in ((REQUEST, True), (REQUEST.replace(b"GET", b"HEAD"), False)):
            extra, played = ClientConnection(connection._state, set(crowd)), PlayedTransport()
            extra.connection_made(played)  # type: ignore[arg-type]  # played
            assert played.written == b""
            extra.data_received(data)
            head, _, body = played.written.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert bool(body) is has_body

    with_connection(play)
    assert exchanges.made == []
