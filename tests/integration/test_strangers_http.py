"""Raw messages of other projects' tests, sent directly and through the sidecar.

Opt-in: ``TRIMTAB_LLHTTP`` names a checkout of github.com/nodejs/llhttp, ``TRIMTAB_HTTP_GARDEN`` one
of github.com/narfindustries/http-garden; docs/reliability.md has the commits and the outcome.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.raw_origin import Origin, answer_directly, answer_through, send_raw
from tests.support.raw_place import Place
from tests.support.strangers import garden_payloads, llhttp_messages, with_host

Messages = list[tuple[str, bytes]]

LLHTTP, GARDEN = "TRIMTAB_LLHTTP", "TRIMTAB_HTTP_GARDEN"
STRICTER = {
    "request/invalid.md:68": "ANNOUNCE is RTSP's method",
    "request/invalid.md:358": "MKCOLA is nobody's method",
    "request/transfer-encoding.md:330": "a chunk extension without a name",
}
"""Requests that our origin serves and the sidecar refuses."""
STRICTER_ANSWERS = {"response/transfer-encoding.md:250": "a chunk extension without a name"}
LENIENT_ANSWERS = {
    "response/connection.md:588": "an empty line before an answer",
    "response/sample.md:293": "no space before no reason",
    "response/sample.md:697": "an empty line before an answer",
}
"""Answers that our strict client does not take and the sidecar passes on."""


def checkout(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} names no checkout; see docs/reliability.md")
    return Path(path)


@pytest.fixture(scope="module")
def origin_place(running_raw_place: Place) -> Iterator[tuple[Place, Origin]]:
    place = running_raw_place
    place.recover()
    n_before = len(place.sidecar.log())
    yield place, Origin(place.upstream)
    place.upstream.recover()
    place.upstream.drop_connections()
    assert "Traceback" not in place.sidecar.log()[n_before:]


def send_all(messages: Messages, place: Place, origin: Origin) -> Counter[str]:
    """Send each as it is and with a Host; everything must be served alike, or be known."""
    count: Counter[str] = Counter()
    wrong = []
    for name, message in messages:
        for data in dict.fromkeys((message, with_host(message))):
            directly = send_raw(("127.0.0.1", place.upstream.port), data, origin)
            through = send_raw(place.sidecar.rest_address, data, origin)
            if directly.is_like(through):
                count["alike"] += 1
            elif name in STRICTER and through.is_refused:
                count["refused"] += 1
            elif b" HTTP/1.0\r\n" in data and b"\nHost" not in data:
                count["with a host added"] += 1
                assert [seen.body for seen in through.seen] == [seen.body for seen in directly.seen]
            else:
                wrong.append((name, data[:200], directly, through))
    assert not wrong, wrong[:5]
    return count


def test_llhttps_requests_fare_alike(origin_place: tuple[Place, Origin]) -> None:
    messages = list(llhttp_messages(checkout(LLHTTP), "request"))
    count = send_all(messages, *origin_place)

    assert len(messages) > 150, "fewer than were there once; has the format changed?"
    assert count["alike"] > 250


def test_http_gardens_payloads_fare_alike(origin_place: tuple[Place, Origin]) -> None:
    messages = list(garden_payloads(checkout(GARDEN)))
    count = send_all(messages, *origin_place)

    assert len(messages) > 70, "fewer than were there once; has the format changed?"
    assert set(count) == {"alike"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_llhttps_answers_are_read_alike(origin_place: tuple[Place, Origin], method: str) -> None:
    place, origin = origin_place
    messages = list(llhttp_messages(checkout(LLHTTP), "response"))
    wrong = []
    for name, data in messages:
        directly = answer_directly(data, method)
        through = answer_through(place.sidecar.rest_address, data, method, origin)
        is_refused = through is None or through[0] == 502
        known = STRICTER_ANSWERS if is_refused else LENIENT_ANSWERS
        is_alike = is_refused if directly is None else through == directly
        if not is_alike and name not in known:
            wrong.append((name, data[:200], directly, through))

    assert len(messages) > 80, "fewer than were there once; has the format changed?"
    assert not wrong, wrong[:5]
