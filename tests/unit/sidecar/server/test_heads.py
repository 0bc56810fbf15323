"""Heads that two readers may read in two ways are refused."""

from typing import Any

import pytest

from sidecar.http1 import Fields
from sidecar.server.heads import Refusal, RequestHead, check_head, index_fields

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
        ([(b"Upgrade", b"websocket")], 501),
        ([(b"Upgrade", b"h2c, websocket")], 501),
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
