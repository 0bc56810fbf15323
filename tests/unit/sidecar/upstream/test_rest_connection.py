"""A connection to Qdrant, its transport played: what is an answer, and who gets the connection."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from trimtab.errors import UpstreamError
from trimtab.upstream.rest_connection import AnswerHead, Connection

ANSWER = b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class PlayedReceiver:
    """Notes what it gets."""

    takes_plain_answers = True

    def __init__(self, *, is_request_whole: bool = True) -> None:
        self.is_request_whole = is_request_whole
        self.got: list[Any] = []

    def head_received(self, head: AnswerHead) -> None:
        self.got.append(head.status)

    def interim_received(self, head: AnswerHead) -> None:
        self.got.append(head.status)

    def plain_answer_received(self, head: bytes, body: bytes) -> None:
        self.got.append(200)

    def data_received(self, data: bytes) -> None:
        """Part of the answer."""

    def answer_ended(self) -> None:
        self.got.append("end")

    def answer_failed(self, error: UpstreamError) -> None:
        self.got.append(str(error))

    def upstream_writable(self, *, writable: bool) -> None:
        """Nothing is ever full."""


def play(receiver: PlayedReceiver, *pieces: bytes) -> tuple[list[Any], bool]:
    """Answer in pieces; give what the receiver got, and whether the connection was kept."""
    kept: list[Connection] = []

    async def main() -> None:
        origin = SimpleNamespace(address="qdrant:6333", is_tls=False)
        owner: Any = SimpleNamespace(
            origin=origin, connection_free=kept.append, connection_closed=lambda _: None
        )
        transport: Any = SimpleNamespace(
            write=lambda _: None, abort=lambda: None, set_write_buffer_limits=lambda high: None
        )
        connection = Connection(owner)
        connection.connection_made(transport)
        connection.send(b"", receiver, is_head_request=False)
        for piece in pieces:
            connection.data_received(piece)
        connection.connection_lost(None)

    asyncio.run(main())
    return receiver.got, bool(kept)


@pytest.mark.parametrize("answer", [ANSWER, PLAIN])
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_connection_is_kept_only_where_nothing_of_the_request_is_still_to_come(
    answer: bytes, is_whole: bool
) -> None:
    got, is_kept = play(PlayedReceiver(is_request_whole=is_whole), answer)
    assert got[-1] == "end"
    assert is_kept is is_whole


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_in_pieces_is_still_one_of_http(size: int) -> None:
    answer = b"HTTP/1.1 103 Hint\r\nLink: a\r\n\r\n" + ANSWER
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    assert play(PlayedReceiver(), *pieces) == ([103, 413, "end"], True)
    other = b"RTSP" + ANSWER[4:]
    pieces = [other[at : at + size] for at in range(0, len(other), size)]
    got, is_kept = play(PlayedReceiver(), *pieces)
    assert "not HTTP/1.1" in got[0]
    assert not is_kept


def test_a_head_without_an_end_is_given_up() -> None:
    pieces = [b"HTTP/1.1 200 OK\r\nX: ", *[b"x" * 2**16] * 17]
    got, is_kept = play(PlayedReceiver(), *pieces)
    assert got == ["the head of Qdrant's answer does not end"]
    assert not is_kept


def test_a_receiver_that_fails_is_logged_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(PlayedReceiver):
        def head_received(self, head: AnswerHead) -> None:
            raise ZeroDivisionError

    got, is_kept = play(Failing(), ANSWER)
    assert len(got) == 1
    assert not is_kept
    assert "ZeroDivisionError" in caplog.text
