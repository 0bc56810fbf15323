"""Heads that two readers may read in two ways are refused."""

from typing import Any

import pytest

from trimtab.server.request_head import Refusal, RequestHead, check_head, index_fields, read_head
from trimtab.upstream.http1 import Fields

HOST = (b"Host", b"qdrant")


def check(*fields: tuple[bytes, bytes], version: str = "1.1", **more: Any) -> None:
    given: Fields = list(fields)
    head = RequestHead(
        method=more.get("method", b"POST"),
        target=more.get("target", b"/collections"),
        fields=given,
        values=index_fields(given),
        keep_alive=True,
        is_http_10=version == "1.0",
    )
    check_head(head, version)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"Content-Length", b"0")],
        [(b"CONTENT-LENGTH", b"17")],
        [(b"Transfer-Encoding", b"chunked")],
        [(b"transfer-encoding", b"Chunked")],
        [(b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"x")],
        [(b"Upgrade", b"TLS/1.2"), (b"Connection", b"Upgrade")],
        [(b"Upgrade", b"websocket"), (b"Upgrade", b"h2c")],
        [(b"X-Note", b"tab\tand \xff bytes")],
        [(b"X-Twice", b"1"), (b"X-Twice", b"2")],
    ],
)
def test_clear_heads_pass(fields: Fields) -> None:
    check(HOST, *fields)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b"Content-Length", b"1"), (b"Content-Length", b"1")], 400),
        ([(b"Content-Length", b"1"), (b"content-length", b"2")], 400),
        ([(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")], 400),
        ([(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")], 400),
        ([(b"Transfer-Encoding", b"gzip, chunked")], 501),
        ([(b"Transfer-Encoding", b"xchunked")], 501),
        ([(b"Transfer-Encoding", b"identity")], 501),
        ([(b"Content-Length", b"+1")], 400),
        ([(b"Content-Length", b"-1")], 400),
        ([(b"Content-Length", b"0x10")], 400),
        ([(b"Content-Length", b"1, 1")], 400),
        ([(b"Content-Length", b"")], 400),
        ([(b"Content-Length", b"9" * 30)], 400),
        ([(b"Host", b"other")], 400),
        ([(b"X-Note", b"a\rb")], 400),
        ([(b"X-Note", b"a\nb")], 400),
        ([(b"X-Note", b"a\x00b")], 400),
        ([(b"X-Note", b"fine"), (b"X-Note", b"a\x7fb")], 400),
        ([(b"Transfer-Encoding", b"chunked\x0b")], 400),
    ],
)
def test_heads_with_two_readings_are_refused(fields: Fields, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        check(HOST, *fields)
    assert caught.value.status == status
    assert caught.value.message


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        (b"CONNECT", b"qdrant:6333", 501),
        (b"GET", b"collections", 400),
        (b"GET", b"*", 400),
        (b"GET", b"/a#b", 400),
        (b"GET", b"", 400),
    ],
)
def test_targets_that_are_no_path_are_refused(method: bytes, target: bytes, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        check(HOST, method=method, target=target)
    assert caught.value.status == status


def test_options_may_ask_about_everything() -> None:
    check(HOST, method=b"OPTIONS", target=b"*")


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(Refusal) as caught:
        check(HOST, version=version)
    assert caught.value.status == 505


def test_http_10_needs_no_host_and_knows_no_chunks() -> None:
    check(version="1.0")
    with pytest.raises(Refusal, match="Transfer-Encoding"):
        check(HOST, (b"Transfer-Encoding", b"chunked"), version="1.0")
    with pytest.raises(Refusal, match="Host"):
        check()


def read(target: bytes, *fields: tuple[bytes, bytes], version: str = "1.1") -> RequestHead:
    return read_head(b"GET", target, list(fields or (HOST,)), version)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://a", b"/"),
        (b"http://a/", b"/"),
        (b"http://a?x=1", b"/?x=1"),
        (b"http://a?back=/collections/docs", b"/?back=/collections/docs"),
        (b"HTTP://a:6333/b?c", b"/b?c"),
        (b"https://[::1]/b@c", b"/b@c"),
    ],
)
def test_a_target_that_names_a_host_goes_on_as_its_path_and_that_host(
    target: bytes, path: bytes
) -> None:
    head = read(target, (b"A", b"1"), (b"hOsT", b"other"), (b"B", b"2"))
    authority = target.split(b"//")[1].partition(b"?")[0].partition(b"/")[0]
    assert head.target == path
    assert head.fields == [(b"A", b"1"), (b"hOsT", authority), (b"B", b"2")]


def test_options_for_a_whole_host_asks_about_everything() -> None:
    assert read_head(b"OPTIONS", b"http://a", [HOST], "1.1").target == b"*"
    assert read_head(b"OPTIONS", b"http://a/", [HOST], "1.1").target == b"/"


@pytest.mark.parametrize(
    "target",
    [b"http://", b"http:///a", b"http://?a", b"http://u@a/b", b"http://u:p@a", b"http://a#b",
     b"http://a/b#c", b"ftp://a/b", b"rtsp://a/b", b"a:6333", b""],
)  # fmt: skip
def test_targets_that_name_no_host_of_ours_are_refused(target: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        read(target)
    assert caught.value.status == 400


def test_a_target_that_names_its_host_needs_host_all_the_same() -> None:
    with pytest.raises(Refusal, match="Host"):
        read(b"http://a/b", (b"A", b"1"))
    assert (b"Host", b"a") in read(b"http://a/b", (b"A", b"1"), version="1.0").fields


@pytest.mark.parametrize("host", [b"a b", b"a/b", b"u@a", b"a?b", b"a#b", b'"a"', b"a\\b"])
def test_a_host_that_is_none_is_refused(host: bytes) -> None:
    with pytest.raises(Refusal, match="Host"):
        check((b"Host", host))


@pytest.mark.parametrize("host", [b"", b"a_b:6333", b"[::1]:80", b"127.0.0.1", b"a%41.b"])
def test_a_host_may_look_odd(host: bytes) -> None:
    check((b"Host", host))


def test_a_client_of_http_10_without_a_host_gets_the_upstreams() -> None:
    head = read(b"/a", (b"A", b"1"), version="1.0")
    assert head.lacks_host
    encoded = head.encode_streamed() + b"\r\nHost: body"
    assert head.renamed(encoded, b"up:1") == (
        b"GET /a HTTP/1.1\r\nA: 1\r\nHost: up:1\r\n\r\n\r\nHost: body"
    )


def test_another_host_takes_the_place_of_host_and_of_nothing_else() -> None:
    head = read(b"/a", (b"X-First", b"qdrant"), (b"Host", b"qdrant"), (b"X-Last", b"qdrant"))
    assert head.renamed(head.encode_streamed(), b"up:1") == (
        b"GET /a HTTP/1.1\r\nX-First: qdrant\r\nHost: up:1\r\nX-Last: qdrant\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        ("1.1", None, True),
        ("1.1", b"close", False),
        ("1.1", b"Close , x", False),
        ("1.1", b"keep-alive, close", False),
        ("1.1", b"x,\tkeep-alive", True),
        ("1.0", None, False),
        ("1.0", b"Keep-Alive", True),
        ("1.0", b"close, keep-alive", False),
    ],
)
def test_close_ends_a_connection_whatever_else_is_said(
    version: str, connection: bytes | None, keeps: bool
) -> None:
    more = () if connection is None else ((b"Connection", connection),)
    assert read(b"/", HOST, *more, version=version).keep_alive is keeps
