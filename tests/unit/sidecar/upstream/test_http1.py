"""Heads, framing and content codings."""

import gzip
import json
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from trimtab.errors import MalformedError, TooLargeError
from trimtab.upstream.http1 import (
    Fields,
    chunk,
    encode_head,
    end_to_end,
    error_reply,
    field_of,
    reply,
    split_absolute,
    status_line,
    unpack,
)

CONTENT = b'{"query": [0.25, 0.5]}' * 40
LIMIT = len(CONTENT)


def raw_deflate(content: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return machine.compress(content) + machine.flush()


def zstd_stream(content: bytes) -> bytes:
    """A frame that does not say how much is in it."""
    machine = zstandard.ZstdCompressor().compressobj()
    return machine.compress(content) + machine.flush()


CODINGS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"x-gzip", gzip.compress),
    "capitals": (b" GZip ", gzip.compress),
    "zlib": (b"deflate", zlib.compress),
    "raw deflate": (b"deflate", raw_deflate),
    "brotli": (b"br", brotli.compress),
    "zstd": (b"zstd", zstandard.ZstdCompressor().compress),
    "zstd stream": (b"zstd", zstd_stream),
}


@pytest.mark.parametrize("what", CODINGS)
def test_a_body_is_unpacked_up_to_its_limit(what: str) -> None:
    coding, pack = CODINGS[what]
    assert unpack(pack(CONTENT), coding, LIMIT) == CONTENT
    with pytest.raises(TooLargeError, match=str(LIMIT - 1)):
        unpack(pack(CONTENT), coding, LIMIT - 1)
    assert unpack(pack(b""), coding, 0) == b""


@pytest.mark.parametrize("what", CODINGS)
def test_a_bomb_is_given_up_at_the_limit(what: str) -> None:
    coding, pack = CODINGS[what]
    with pytest.raises(TooLargeError):
        unpack(pack(bytes(2**22)), coding, 1000)


@pytest.mark.parametrize("what", CODINGS)
@pytest.mark.parametrize("spoil", ["cut", "garbage", "extra"])
def test_a_broken_body_is_malformed(what: str, spoil: str) -> None:
    coding, pack = CODINGS[what]
    packed = pack(CONTENT)
    broken = {
        "cut": packed[: len(packed) // 2],
        "garbage": b"\xee" * 40,
        "extra": packed + b"\xee\xee\xee\xee\xee",
    }[spoil]
    with pytest.raises(MalformedError):
        unpack(broken, coding, LIMIT)


@pytest.mark.parametrize("what", ["gzip", "zstd"])
def test_several_members_are_one_body(what: str) -> None:
    coding, pack = CODINGS[what]
    both = pack(CONTENT[:10]) + pack(CONTENT[10:])
    assert unpack(both, coding, LIMIT) == CONTENT
    with pytest.raises(TooLargeError):
        unpack(both, coding, LIMIT - 1)


def test_no_coding_leaves_a_body_and_an_unknown_one_is_told() -> None:
    assert unpack(CONTENT, b"", 1) is CONTENT
    assert unpack(CONTENT, b"identity", 1) is CONTENT
    assert unpack(CONTENT, b"snappy", LIMIT) is None
    assert unpack(CONTENT, b"gzip, br", LIMIT) is None


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ([(b"Host", b"a"), (b"X-Y", b"1")], [b"Host", b"X-Y"]),
        ([(b"Connection", b"keep-alive"), (b"Keep-Alive", b"5"), (b"A", b"1")], [b"A"]),
        ([(b"connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"B", b"2")], [b"B"]),
        ([(b"X-Hop", b"1"), (b"Connection", b"x-hop"), (b"B", b"2")], [b"B"]),
        ([(b"Connection", b"a"), (b"Connection", b"b"), (b"A", b""), (b"B", b""), (b"C", b"")],
         [b"C"]),
        ([(b"TE", b"trailers"), (b"Trailer", b"x"), (b"Transfer-Encoding", b"chunked")], []),
        ([(b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"x"), (b"Proxy-Connection", b"y")], []),
        ([(b"Connection", b"content-length, api-key"), (b"Content-Length", b"3"),
          (b"api-key", b"k")], [b"Content-Length", b"api-key"]),
        ([(b"Connection", b""), (b"A", b"1")], [b"A"]),
    ],
)  # fmt: skip
def test_fields_of_one_connection_end_there(fields: Fields, kept: list[bytes]) -> None:
    before = list(fields)
    assert [name for name, _ in end_to_end(fields)] == kept
    assert fields == before


def test_order_and_spelling_of_fields_stay() -> None:
    fields = [(b"B", b"1"), (b"a", b"2"), (b"B", b"3")]
    assert end_to_end(fields) == fields
    assert (
        encode_head(b"GET / HTTP/1.1", fields) == b"GET / HTTP/1.1\r\nB: 1\r\na: 2\r\nB: 3\r\n\r\n"
    )
    assert encode_head(b"HTTP/1.1 204 No Content", []) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_the_first_field_of_a_name_is_given() -> None:
    fields = [(b"X-A", b"1"), (b"x-a", b"2")]
    assert field_of(fields, b"x-a") == b"1"
    assert field_of(fields, b"x-b") is None


def test_a_chunk_has_its_length_before_it() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"http://qdrant:6333/a?b", (b"qdrant:6333", b"/a?b")),
        (b"HTTPS://qdrant/a//b", (b"qdrant", b"/a//b")),
        (b"http://qdrant", (b"qdrant", b"")),
        (b"http://qdrant?back=/a", (b"qdrant", b"?back=/a")),
        (b"http://qdrant#x/y?z", (b"qdrant", b"#x/y?z")),
        (b"http://u:p@qdrant/a", (b"u:p@qdrant", b"/a")),
        (b"http://[::1]:80?a@b", (b"[::1]:80", b"?a@b")),
        (b"http:///a", (b"", b"/a")),
        (b"/a?b=http://c/d", None),
        (b"//host/a", None),
        (b"*", None),
        (b"a/b", None),
        (b"http:/a", None),
        (b"ftp://qdrant/a", None),
        (b"qdrant:6333", None),
    ],
)
def test_a_targets_authority_ends_where_its_path_query_or_fragment_begins(
    target: bytes, parts: tuple[bytes, bytes] | None
) -> None:
    assert split_absolute(target) == parts


def test_a_status_without_a_reason_gets_the_usual_one() -> None:
    assert status_line(404) == b"HTTP/1.1 404 Not Found"
    assert status_line(200, b"OK") == b"HTTP/1.1 200 OK"
    assert status_line(200, b"Fine") == b"HTTP/1.1 200 Fine"
    assert status_line(299) == b"HTTP/1.1 299 "


@pytest.mark.parametrize("keep_alive", [True, False])
def test_an_error_is_shaped_like_qdrants_own(keep_alive: bool) -> None:
    head, _, body = error_reply(422, 'say "no"\n', keep_alive=keep_alive).partition(b"\r\n\r\n")
    said = json.loads(body)
    assert said["status"] == {"error": 'trimtab: say "no"\n'}
    assert said["result"] is None
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 422 ")
    assert b"content-length: %d" % len(body) in lines
    assert (b"connection: close" in lines) is not keep_alive


def test_an_answer_to_head_says_its_length_and_has_no_body() -> None:
    whole = error_reply(502, "no", keep_alive=True)
    head, _, body = whole.partition(b"\r\n\r\n")
    bare = error_reply(502, "no", keep_alive=True, is_bodiless=True)
    assert bare == head + b"\r\n\r\n"
    assert b"content-length: %d" % len(body) in bare


def test_an_answer_may_have_more_fields() -> None:
    written = reply(200, b"{}", b"application/json", keep_alive=True, fields=[(b"X-A", b"1")])
    assert b"\r\nX-A: 1\r\n" in written
    assert written.endswith(b"\r\n\r\n{}")
