"""What a client gets directly and what it gets through the sidecar is the same, byte for byte.

Some two hundred requests and a hundred answers of our own; test_strangers_http.py sends those of
other projects.
"""

from collections.abc import Iterator

import pytest

from tests.support.raw_answers import ANSWERS
from tests.support.raw_answers import DIFFERENCES as OTHER_ANSWERS
from tests.support.raw_origin import Fate, Origin, answer_directly, answer_through, send_raw
from tests.support.raw_place import Place
from tests.support.raw_requests import DIFFERENCES as OTHER_REQUESTS
from tests.support.raw_requests import REQUESTS


@pytest.fixture(scope="module")
def origin_place(running_raw_place: Place) -> Iterator[tuple[Place, Origin]]:
    place = running_raw_place
    place.recover()
    n_before = len(place.sidecar.log())
    yield place, Origin(place.upstream)
    place.upstream.recover()
    place.upstream.drop_connections()
    assert "Traceback" not in place.sidecar.log()[n_before:]


def send_both_ways(origin_place: tuple[Place, Origin], data: bytes) -> tuple[Fate, Fate]:
    place, origin = origin_place
    directly = send_raw(("127.0.0.1", place.upstream.port), data, origin)
    return directly, send_raw(place.sidecar.rest_address, data, origin)


@pytest.mark.parametrize("name", [name for name in REQUESTS if name not in OTHER_REQUESTS])
def test_requests_fare_through_the_sidecar_as_without_it(
    origin_place: tuple[Place, Origin], name: str
) -> None:
    directly, through = send_both_ways(origin_place, REQUESTS[name])

    assert directly.served == through.served
    assert (directly.rest, through.rest) == (b"", b"")
    if not directly.is_refused:
        assert 400 not in directly.statuses or 400 in through.statuses


@pytest.mark.parametrize("name", OTHER_REQUESTS)
def test_requests_that_fare_otherwise_are_known_with_a_reason(
    origin_place: tuple[Place, Origin], name: str
) -> None:
    directly, through = send_both_ways(origin_place, REQUESTS[name])

    assert directly.served != through.served, "no difference any more"
    meant = [(seen.method, seen.target, seen.body) for seen in directly.seen]
    got = [(seen.method, seen.target, seen.body) for seen in through.seen]
    assert got == meant[: len(got)]
    assert got or through.statuses == (400,)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_read_through_the_sidecar_as_without_it(
    origin_place: tuple[Place, Origin], name: str, method: str
) -> None:
    place, origin = origin_place
    directly = answer_directly(ANSWERS[name], method)
    through = answer_through(place.sidecar.rest_address, ANSWERS[name], method, origin)

    if name in OTHER_ANSWERS:
        assert directly is None, "no difference any more"
        assert through is not None
        assert through[0] == 200
    elif directly is None:
        assert through is None or through[0] == 502
    else:
        assert through == directly
