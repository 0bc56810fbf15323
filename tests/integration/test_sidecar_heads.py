"""Targets, fields and statuses pass as they are spelt; interim answers and trailers too."""

import pytest

from tests.support.raw_http import BLOCK, answer_bytes, chunked, request_bytes
from tests.support.raw_place import (
    QUERY_PATH,
    UPLOAD_PATH,
    Place,
    assert_adapted,
    query_body,
    query_bytes,
)
from tests.support.raw_upstream import GOOD_BODY, JSON_LINE, Exchange, say, say_and_close, say_early

_BLOCK = bytes(range(256)) * (BLOCK // 256)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/dashboard/",
        "/metrics?anonymize=true",
        "//collections//docs/",
        "/collections/a%2Fb/points?x=%20&&y",
        "/collections/d%6Fcs/points/1",
        "/a/../b/./c",
    ],
)
def test_target_passes_as_it_is_spelt(place: Place, target: str) -> None:
    place.upstream.answer = say(answer_bytes(200, b"x"))
    place.ask(request_bytes("DELETE", target))

    assert place.upstream.requests[0].target == target


def test_fields_pass_in_order_and_spelling(place: Place) -> None:
    lines = [
        "api-key: secret",
        "X-Unknown: a",
        "x-unknown: b",
        "Authorization: Bearer t",
        "OpenAI-Api-Key: k",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "X-Empty:",
        "x-LaTin: \xe9",
        "Accept-Encoding: gzip",
        "Cookie: a=b; c=d",
    ]
    sent = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
    said = ["Set-Cookie: a=1", "X-Odd: 1", "Set-Cookie: b=2", "x-odd: 2", "Server: q"]
    for request in (
        request_bytes("GET", "/collections", None, *lines),
        request_bytes("PUT", "/collections/docs/points", b"{}", *lines),
        query_bytes(*lines),
    ):
        place.upstream.forget()
        place.upstream.answer = say(answer_bytes(200, GOOD_BODY, *said))
        answer = place.ask(request)
        got = place.upstream.requests[0].fields
        assert [pair for pair in got if pair in sent] == sent
        assert {name.lower() for name, _ in got} <= {name.lower() for name, _ in sent} | {
            "host",
            "content-type",
            "content-length",
            "x-trimtab-adapter",
        }
        seen = [f"{name}: {value}" for name, value in answer.fields]
        assert [line for line in seen if line in said] == said


def test_fields_of_one_connection_stay_on_it(place: Place) -> None:
    place.upstream.answer = say(
        answer_bytes(200, b"", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5")
    )
    answer = place.ask(
        request_bytes(
            *("GET", "/collections", None),
            *("Connection: keep-alive, X-Mine", "X-Mine: 1", "Keep-Alive: 5"),
            *("Proxy-Connection: keep-alive", "TE: trailers", "X-Kept: 1"),
        )
    )

    names = {name.lower() for name, _ in place.upstream.requests[0].fields}
    assert "x-kept" in names
    assert not names & {"x-mine", "keep-alive", "proxy-connection", "te", "upgrade"}
    assert not {name.lower() for name, _ in answer.fields} & {"x-hop", "keep-alive"}


@pytest.mark.parametrize("status", [200, 201, 204, 206, 301, 304, 400, 401, 404, 409, 422, 500])
def test_status_and_body_pass(place: Place, status: int) -> None:
    body = b"" if status in {204, 304} else b"said"
    line = "ETag: w"
    head = f"HTTP/1.1 {status} Own Reason\r\n{line}\r\n"
    head += "\r\n" if status in {204, 304} else f"Content-Length: {len(body)}\r\n\r\n"
    place.upstream.answer = say(head.encode() + body)

    with place.connect() as wire:
        answers = [wire.ask(request_bytes("GET", "/collections")) for _ in range(3)]

    assert {(answer.start, answer.body, answer.value("etag")) for answer in answers} == {
        (f"HTTP/1.1 {status} Own Reason", body, "w")
    }


def test_answer_to_head_keeps_its_length_and_has_no_body(place: Place) -> None:
    place.upstream.answer = say(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
    with place.connect() as wire:
        answers = [wire.ask(request_bytes("HEAD", "/collections")) for _ in range(3)]

    assert [answer.value("content-length") for answer in answers] == ["1234"] * 3


def test_304_may_name_a_length_and_has_no_body(place: Place) -> None:
    place.upstream.answer = say(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n")
    with place.connect() as wire:
        answers = [wire.ask(request_bytes("GET", "/dashboard")) for _ in range(3)]

    assert [answer.status for answer in answers] == [304] * 3


def test_own_answer_to_head_has_no_body_and_the_next_one_is_whole(place: Place) -> None:
    with place.connect() as wire:
        place.upstream.stop()
        own = wire.ask(request_bytes("HEAD", "/collections"))
        place.upstream.recover()
        answer = wire.ask(request_bytes("GET", "/collections"))

    assert (own.status, own.body) == (502, b"")
    assert int(own.value("content-length")) > 0
    assert (answer.status, answer.body) == (200, GOOD_BODY)


def test_204_and_interim_answers_name_no_length(place: Place) -> None:
    line = b"\r\nContent-Length: 7\r\n\r\n"
    place.upstream.answer = say(b"HTTP/1.1 103 Hint" + line + b"HTTP/1.1 204 No Content" + line)
    with place.connect() as wire:
        answers = [wire.ask(request_bytes("DELETE", "/a")) for _ in range(3)]

    assert [answer.status for answer in answers] == [204] * 3
    for said in [*answers, *(each for answer in answers for each in answer.interim)]:
        assert said.value("content-length") == ""


def test_an_answer_before_the_body_is_whole_ends_the_connection_and_says_so(place: Place) -> None:
    place.upstream.answer = say_early(answer_bytes(413, b"too much"))
    with place.connect() as wire:
        wire.send(request_bytes("POST", UPLOAD_PATH, None, "Content-Length: 9") + b"some")
        answer = wire.read_answer()
        wire.wait_until_closed()

    assert (answer.status, answer.body) == (413, b"too much")
    assert answer.value("connection") == "close"


def test_interim_answers_pass_before_the_final_one(place: Place) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    place.upstream.answer = say(hint + hint + answer_bytes(200, b"x"))

    answer = place.ask(request_bytes("GET", "/dashboard"))

    assert (answer.status, answer.body) == (200, b"x")
    assert [each.status for each in answer.interim] == [103, 103]
    assert answer.interim[0].value("link") == "</a>"


def test_trailers_pass_both_ways(place: Place) -> None:
    place.upstream.answer = say(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        + chunked(b"one", b"two", trailers=b"X-Sum: 6\r\n")
    )
    lines = ("Transfer-Encoding: chunked", "TE: trailers")
    answer = place.ask(request_bytes("POST", UPLOAD_PATH, None, *lines) + chunked(b"a", b"bc"))

    assert place.upstream.requests[0].body == b"abc"
    assert answer.body == b"onetwo"
    assert answer.trailers in {b"X-Sum: 6\r\n", b""}  # RFC 9110, 6.5.1: may be dropped


def test_body_that_the_end_delimits_passes_whole(place: Place) -> None:
    place.upstream.answer = say_and_close(b"HTTP/1.1 200 OK\r\n\r\n" + _BLOCK)

    answer = place.ask(request_bytes("GET", "/dashboard"))

    assert answer.body == _BLOCK


def test_http_1_0_upstream_is_understood(place: Place) -> None:
    place.upstream.answer = say_and_close(b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nbody")

    answers = [place.ask(request_bytes("GET", "/dashboard")) for _ in range(2)]

    assert [(answer.status, answer.body) for answer in answers] == [(200, b"body")] * 2


EXPECT = "Expect: 100-continue"


def test_client_that_asks_first_is_told_to_go_on(place: Place) -> None:
    def answer(exchange: Exchange) -> None:
        if exchange.request.value("expect"):
            exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange.read_body()
        exchange.send(answer_bytes(200, b"x"))

    place.upstream.answer = answer
    for path in (UPLOAD_PATH, QUERY_PATH):
        body = query_body()
        with place.connect() as wire:
            line = f"Content-Length: {len(body)}"
            wire.send(request_bytes("POST", path, None, JSON_LINE, EXPECT, line))
            assert wire.read_head().startswith(b"HTTP/1.1 100")
            wire.send(body)
            answers = wire.read_answer()
        assert (answers.status, answers.body, answers.interim) == (200, b"x", [])

    assert place.upstream.requests[0].body == body
    assert_adapted(place, place.upstream.requests[1])


def test_refusal_in_place_of_go_on_reaches_the_client(place: Place) -> None:
    place.upstream.answer = lambda exchange: (
        say_early(answer_bytes(401, b"no key", "Connection: close"))(exchange),
        exchange.wire.close(),
    )[0]
    with place.connect() as wire:
        wire.send(request_bytes("POST", UPLOAD_PATH, None, EXPECT, "Content-Length: 9"))
        answer = wire.read_answer()

    assert (answer.status, answer.body) == (401, b"no key")
    assert all(each.status == 100 for each in answer.interim)
