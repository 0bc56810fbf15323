"""Qdrant under a path, clients with a prefix, and searches that nobody understands."""

import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.raw_http import answer_bytes, request_bytes
from tests.support.raw_place import QUERY, Place, assert_adapted, query_bytes, running_place
from tests.support.raw_upstream import GOOD_BODY, JSON_LINE, Exchange, raw_upstream
from trimtab.server.bypass import Bypass

TAIL = "/collections/docs/points/query"
VECTOR_BODY = json.dumps({"needle": QUERY}).encode()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Place]]:
    """Places by the prefixes of their settings, each started once."""
    with contextlib.ExitStack() as stack:
        made: dict[tuple[str, str], Place] = {}

        def start(listen: str, upstream: str) -> Place:
            if (listen, upstream) not in made:
                behind = stack.enter_context(raw_upstream())
                place = running_place(
                    tmp_path_factory.mktemp("prefix"),
                    [behind],
                    listen={"path_prefix": listen},
                    upstream={"path_prefix": upstream, "query_timeout_s": 20},
                )
                made[listen, upstream] = stack.enter_context(place)
            found = made[listen, upstream]
            found.upstream.answer = answer
            found.upstream.forget()
            return found

        yield start


def answer(exchange: Exchange) -> None:
    """Answer what is asked of a Qdrant under any path."""
    exchange.read_body()
    body = GOOD_BODY
    if exchange.request.target.endswith("/aliases"):
        body = b'{"result":{"aliases":[]},"status":"ok","time":0}'
    exchange.send(answer_bytes(200, body, JSON_LINE))


def bypassed(place: Place) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["protocol"], sample.labels["reason"]): sample.value
        for family in text_string_to_metric_families(place.admin("metrics"))
        for sample in family.samples
        if sample.name == "trimtab_bypassed_requests_total" and sample.value
    }


@pytest.mark.parametrize(
    ("listen", "upstream", "path", "sent"),
    [
        ("any", "", f"/qdrant{TAIL}", f"/qdrant{TAIL}"),
        ("any", "", f"/a/%62{TAIL}/", f"/a/%62{TAIL}/"),
        ("/qdrant", "", f"/qdrant{TAIL}?timeout=3", f"{TAIL}?timeout=3"),
        ("/qdrant", "", TAIL, TAIL),
        ("/qdrant", "/deep/down", f"/qdrant{TAIL}", f"/deep/down{TAIL}"),
    ],
)
def test_a_query_under_a_path_is_adapted(
    running: Callable[[str, str], Place], listen: str, upstream: str, path: str, sent: str
) -> None:
    place = running(listen, upstream)
    before = bypassed(place)
    for _ in range(2):  # the second time its head is known
        assert place.ask(query_bytes(path=path)).status == 200
        request = place.upstream.requests[-1]
        assert request.target == sent
        assert_adapted(place, request)
    assert bypassed(place) == before


def test_the_sidecars_own_questions_go_under_qdrants_path(
    running: Callable[[str, str], Place],
) -> None:
    place = running("/qdrant", "/deep/down")
    path = TAIL.replace("docs", "an-alias")
    assert place.ask(query_bytes(path=f"/qdrant{path}")).status == 200
    asked = [each.target for each in place.upstream.requests]
    assert asked == ["/deep/down/aliases", f"/deep/down{path}"]
    checks = place.upstream.questions
    place.upstream.wait_for(lambda: "/deep/down/healthz" in {each.target for each in checks})


SUSPECT = {
    "another prefix": (Bypass.PATH_PREFIX, f"/elsewhere{TAIL}", VECTOR_BODY),
    "a call of the future": (Bypass.PATH, f"{TAIL}/v2", VECTOR_BODY),
    "gRPC-web": (Bypass.GRPC_WEB, "/x/qdrant.Points/Query", b"\0\0\0\0\0"),
    "a vector in the body": (Bypass.BODY, "/collections/docs/points/find", VECTOR_BODY),
    "a field of the future": (Bypass.FIELD, TAIL, VECTOR_BODY),
}


EXAMPLES_BODY = json.dumps({"query": {"recommend": {"targets": [QUERY]}}}).encode()


def test_an_example_that_is_not_understood_is_counted(
    running: Callable[[str, str], Place],
) -> None:
    place = running("/qdrant", "")
    before = bypassed(place).get(("rest", Bypass.FIELD), 0)
    assert place.ask(request_bytes("POST", TAIL, EXAMPLES_BODY, JSON_LINE)).status == 200
    assert place.upstream.requests[-1].body == EXAMPLES_BODY
    assert bypassed(place)["rest", Bypass.FIELD] == before + 1


@pytest.mark.parametrize("what", SUSPECT)
def test_a_search_that_is_not_understood_is_passed_counted_and_told_once(
    running: Callable[[str, str], Place], what: str
) -> None:
    reason, path, body = SUSPECT[what]
    place = running("/qdrant", "")
    before = bypassed(place).get(("rest", reason), 0)
    for _ in range(2):
        assert place.ask(request_bytes("POST", path, body, JSON_LINE)).status == 200
        assert place.upstream.requests[-1].body == body
        assert place.upstream.requests[-1].target == path
    assert bypassed(place)["rest", reason] == before + 2
    told = [line for line in place.sidecar.log().splitlines() if f"reason={reason.value} " in line]
    assert len(told) == 1
    assert str(QUERY[-1]) not in told[0]


@pytest.mark.parametrize("how", ["in pieces", "packed", "chunked"])
def test_a_vector_is_seen_however_its_body_comes(
    running: Callable[[str, str], Place], how: str
) -> None:
    place = running("/qdrant", "")
    before = bypassed(place).get(("rest", Bypass.BODY), 0)
    path = "/collections/docs/points/find"
    if how == "packed":
        body = gzip.compress(VECTOR_BODY, mtime=0)
        request = request_bytes("POST", path, body, JSON_LINE, "Content-Encoding: gzip")
        assert place.ask(request).status == 200
    else:
        whole = request_bytes("POST", path, VECTOR_BODY, JSON_LINE)
        if how == "chunked":
            head = f"POST {path} HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n"
            whole = head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(VECTOR_BODY), VECTOR_BODY)
        with place.connect() as wire:
            wire.send(whole[:-30])
            place.upstream.wait_for_requests(1)
            wire.send(whole[-30:])
            assert wire.read_answer().status == 200
    sent = gzip.compress(VECTOR_BODY, mtime=0) if how == "packed" else VECTOR_BODY
    assert place.upstream.requests[-1].body == sent
    assert bypassed(place)["rest", Bypass.BODY] == before + 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/collections/docs/points/scroll", b'{"limit": 3}'),
        ("/collections/docs/points", b'{"ids": [1, 2, 3, 4, 5, 6, 7, 8]}'),
        ("/collections/docs/points/delete", b'{"points": [1, 2, 3, 4]}'),
        ("/collections/docs/points/search/matrix/pairs", b'{"sample": 10}'),
        ("/collections/docs/unknown", b'{"a": 1}'),
        (TAIL, b'{"query": {"sample": "random"}}'),
    ],
)
def test_what_is_no_search_is_not_counted(
    running: Callable[[str, str], Place], path: str, body: bytes
) -> None:
    place = running("/qdrant", "")
    before = bypassed(place)
    assert place.ask(request_bytes("POST", path, body, JSON_LINE)).status == 200
    assert bypassed(place) == before


def test_the_settings_of_the_place_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sidecar.md").read_text(encoding="utf-8")
    for reason in Bypass:
        assert f"`{reason.value}`" in page
