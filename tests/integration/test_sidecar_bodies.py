"""Queries in every coding and framing are adapted; bodies that are none pass byte for byte."""

import gzip
import json
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from tests.support.raw_http import BLOCK, answer_bytes, chunked, request_bytes
from tests.support.raw_memory import GROWTH_KB, PeakMemory
from tests.support.raw_place import QUERY_PATH, Place, assert_adapted, query_body, query_bytes
from tests.support.raw_upstream import JSON_LINE, say

LARGE_BYTES = 160 * 2**20
_BLOCK = bytes(range(256)) * (BLOCK // 256)


def packed_with(encoding: str, body: bytes) -> bytes:
    ways: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "br": lambda plain: brotli.compress(plain, quality=1),
        "zstd": zstandard.compress,
        "identity": bytes,
    }
    return ways[encoding](body)


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity", "GZip"])
def test_compressed_query_is_adapted(place: Place, encoding: str, is_chunked: bool) -> None:
    body = packed_with(encoding.lower(), query_body())
    lines = (JSON_LINE, f"Content-Encoding: {encoding}")
    if is_chunked:
        request = request_bytes("POST", QUERY_PATH, None, *lines, "Transfer-Encoding: chunked")
        request += chunked(body[:7], body[7:])
    else:
        request = request_bytes("POST", QUERY_PATH, body, *lines)

    answer = place.ask(request)

    assert answer.status == 200
    assert answer.value("x-trimtab-adapter").startswith("toy@")
    assert_adapted(place, place.upstream.requests[0])


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_compressed_body_that_is_no_query_passes_as_it_is(place: Place, encoding: str) -> None:
    body = packed_with(encoding, b'{"points": [{"id": 1, "vector": [1, 2, 3, 4, 5, 6]}]}')
    line = f"Content-Encoding: {encoding}"
    place.ask(request_bytes("PUT", "/collections/docs/points", body, JSON_LINE, line))

    assert place.upstream.requests[0].body == body
    assert place.upstream.requests[0].value("content-encoding") == encoding


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_garbled_compression_is_refused_with_a_reason(place: Place, encoding: str) -> None:
    line = f"Content-Encoding: {encoding}"
    answer = place.ask(request_bytes("POST", QUERY_PATH, b"garbled", JSON_LINE, line))

    assert answer.status == 400
    assert "content coding" in json.loads(answer.body)["status"]["error"]
    assert place.upstream.requests == []


def test_unknown_content_coding_is_left_to_the_upstream(place: Place) -> None:
    place.upstream.answer = say(answer_bytes(400, b"what is this?"))
    line = "Content-Encoding: unheard-of"
    answer = place.ask(request_bytes("POST", QUERY_PATH, b"?", JSON_LINE, line))

    assert (answer.status, answer.body) == (400, b"what is this?")
    assert place.upstream.requests[0].value("content-encoding") == "unheard-of"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_decompression_bomb_is_refused_in_little_memory(place: Place, encoding: str) -> None:
    bomb = packed_with(encoding, b" " * LARGE_BYTES)
    peak = PeakMemory(place)
    line = f"Content-Encoding: {encoding}"
    answer = place.ask(request_bytes("POST", QUERY_PATH, bomb, JSON_LINE, line))

    assert answer.status == 413
    assert place.upstream.requests == []
    assert peak.growth_kb() < 3 * GROWTH_KB


@pytest.mark.parametrize("size", [1, 3, 50])
def test_query_in_small_pieces_is_adapted(place: Place, size: int) -> None:
    request = query_bytes()
    with place.connect() as wire:
        for at in range(0, len(request), size):
            wire.send(request[at : at + size])
        assert wire.read_answer().status == 200

    assert_adapted(place, place.upstream.requests[0])


def test_query_with_the_mark_is_not_adapted_again(place: Place) -> None:
    place.ask(query_bytes("x-trimtab-adapter: other@1"))

    assert place.upstream.requests[0].body == query_body()


def test_trailers_of_an_adapted_query_do_no_harm(place: Place) -> None:
    lines = (JSON_LINE, "Transfer-Encoding: chunked", "Trailer: X-Sum")
    head = request_bytes("POST", QUERY_PATH, None, *lines)
    answer = place.ask(head + chunked(query_body(), trailers=b"X-Sum: 1\r\n"))

    assert answer.status == 200
    assert_adapted(place, place.upstream.requests[0])


ODD_BODIES = {
    "spaces": b' { "points" : [ ] } \n',
    "duplicate keys": b'{"points": [], "points": [1.0e2]}',
    "not json": b"\x00\xff\r\n\r\n0\r\n\r\n",
    "like a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "empty": b"",
    "large": _BLOCK * 4,
}


@pytest.mark.parametrize("name", ODD_BODIES)
@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE", "GET", "PURGE"])
def test_body_passes_byte_for_byte_both_ways(place: Place, method: str, name: str) -> None:
    body = ODD_BODIES[name]
    place.upstream.answer = say(answer_bytes(200, body, "Content-Type: x/y"))

    answer = place.ask(request_bytes(method, "/collections/docs/points?wait=true", body))

    request = place.upstream.requests[0]
    assert (request.start, request.body) == (
        f"{method} /collections/docs/points?wait=true HTTP/1.1",
        body,
    )
    assert (answer.status, answer.body) == (200, body)
