"""Several addresses of one upstream: one dies, hangs, vanishes and returns."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.raw_faults import FAULTS
from tests.support.raw_http import answer_bytes
from tests.support.raw_place import (
    CONNECT_TIMEOUT_S,
    HASTY,
    QUERY_TIMEOUT_S,
    SAFE,
    UNSAFE,
    Place,
    assert_qdrant_error,
    outcome,
    query_bytes,
    running_place,
)
from tests.support.raw_upstream import RawUpstream, raw_upstream, say
from tests.support.sidecar_world import ask, eventually, samples


@pytest.fixture
def pair() -> Iterator[list[RawUpstream]]:
    with raw_upstream() as first, raw_upstream() as second:
        yield [first, second]


@pytest.fixture(scope="module")
def running_before_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("two")
    with (
        raw_upstream() as first,
        raw_upstream() as second,
        running_place(folder, [first, second]) as place,
    ):
        yield place


@pytest.fixture
def before_two(running_before_two: Place) -> Place:
    """A sidecar before two addresses, for tests that need no settings of their own."""
    running_before_two.recover()
    return running_before_two


def test_dead_address_costs_no_request(before_two: Place) -> None:
    dead, alive = before_two.upstreams
    dead.stop()

    answers = [before_two.ask(each) for each in [*SAFE.values(), *UNSAFE.values()] * 3]

    assert {answer.status for answer in answers} == {200}
    assert len(alive.requests) == len(answers)


def test_address_dead_from_the_start_costs_no_request(
    pair: list[RawUpstream], tmp_path: Path
) -> None:
    pair[0].stop()
    with running_place(tmp_path, pair) as place:
        answers = [place.ask(query_bytes()) for _ in range(10)]

        assert {answer.status for answer in answers} == {200}


def test_address_that_returns_is_used_again(before_two: Place) -> None:
    gone = before_two.upstreams[0]
    gone.stop()
    for _ in range(6):
        before_two.ask(query_bytes())
    before_two.wait_for(lambda nodes: [node["is_up"] for node in nodes].count(False) == 1)
    gone.start()
    before_two.wait_for(lambda nodes: all(node["is_up"] for node in nodes))
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(before_two.connect()) for _ in range(20)]
        statuses = {wire.ask(query_bytes()).status for wire in wires}

    assert statuses == {200}
    assert gone.requests


def test_hanging_address_is_left_after_few_timeouts(
    pair: list[RawUpstream], tmp_path: Path
) -> None:
    limit = {"query_timeout_s": 3.0}  # the other address must answer within it
    with running_place(tmp_path, pair, upstream=limit) as place:
        FAULTS["accepts and never answers"].inject(pair[0])

        statuses: list[int] = []
        while place.nodes()[0]["is_up"] and len(statuses) < 100:
            statuses.append(place.ask(query_bytes()).status)
        after = {place.ask(query_bytes()).status for _ in range(9)}

        assert statuses.count(504) in {1, 2, 3}
        assert after == {200}
        pair[0].recover()
        pair[0].drop_connections()
        place.wait_for(lambda nodes: all(node["is_up"] for node in nodes))


def test_address_that_never_completes_a_connection_costs_no_request(
    pair: list[RawUpstream], tmp_path: Path
) -> None:
    with (
        black_hole() as port,
        running_place(
            tmp_path,
            pair[1:],
            upstream={
                "rest": [f"http://127.0.0.1:{port}", pair[1].url],
                "connect_timeout_s": CONNECT_TIMEOUT_S,
            },
        ) as place,
    ):
        answers = [place.ask(each) for each in [*SAFE.values(), *UNSAFE.values()]]

        assert {answer.status for answer in answers} == {200}


def test_black_hole_alone_ends_with_an_error_in_time(
    pair: list[RawUpstream], tmp_path: Path
) -> None:
    with (
        black_hole() as port,
        running_place(
            tmp_path, pair[1:], upstream={"rest": [f"http://127.0.0.1:{port}"], **HASTY}
        ) as place,
    ):
        for request in (SAFE["list"], query_bytes(), UNSAFE["upsert"]):
            status, answer = outcome(place, request)
            assert status in {502, 504}
            assert_qdrant_error(answer)


@pytest.mark.parametrize("status", [500, 503])
def test_address_that_answers_5xx_is_not_taken_for_dead(before_two: Place, status: int) -> None:
    for upstream in before_two.upstreams:
        upstream.answer = say(answer_bytes(status))
    statuses = {before_two.ask(query_bytes()).status for _ in range(6)}

    assert statuses == {status}
    assert sum(len(upstream.requests) for upstream in before_two.upstreams) == 6


def test_address_that_answers_its_check_with_5xx_is_left_until_it_is_well(
    before_two: Place,
) -> None:
    failing, other = before_two.upstreams
    failing.answer, failing.health = say(answer_bytes(503)), 503
    before_two.wait_for(lambda nodes: [node["is_up"] for node in nodes] == [False, True])
    failing.forget()
    statuses = [before_two.ask(query_bytes()).status for _ in range(20)]

    assert statuses == [200] * 20
    assert not failing.requests
    assert len(other.requests) == 20
    failing.recover()
    before_two.wait_for(lambda nodes: all(node["is_up"] for node in nodes))


@pytest.mark.parametrize("fault", ["refuses connections", "accepts and never answers"])
def test_a_lone_address_that_nobody_asks_is_seen_to_be_gone_and_back(
    tmp_path: Path, fault: str
) -> None:
    with raw_upstream() as qdrant, running_place(tmp_path, [qdrant]) as place:
        address = f"127.0.0.1:{qdrant.port}"

        def seen() -> tuple[int, float]:
            ready = ask("GET", f"{place.sidecar.admin_url}/ready").status_code
            return ready, samples(place.sidecar)["trimtab_upstream_up", address]

        eventually(seen, is_right=lambda found: found == (200, 1))
        FAULTS[fault].inject(qdrant)
        eventually(seen, is_right=lambda found: found == (503, 0))
        qdrant.recover()
        qdrant.drop_connections()
        eventually(seen, is_right=lambda found: found == (200, 1))
        assert not qdrant.requests


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Give a port that drops what asks for a connection: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        while True:
            asking = stack.enter_context(socket.socket())
            asking.settimeout(QUERY_TIMEOUT_S / 2)
            try:
                asking.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        yield port
