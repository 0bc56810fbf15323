"""A sidecar under broken and hostile HTTP; benchmarks/hostile sends a hundred times as much."""

import asyncio
import random
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.hostile.admin import broken_requests, unauthorised_requests
from tests.support.hostile.arena import Arena, Case
from tests.support.hostile.bodies import large_cases
from tests.support.hostile.corpus import answer_cases, small_cases
from tests.support.hostile.messages import QUERY_PATH, join, measured, query_body, upsert_body
from tests.support.hostile.mutations import PLACE, random_case, tag_of, tagged
from tests.support.hostile.slow import crowd, reset_midway, slow_kinds
from tests.support.hostile.spellings import plain_case, plain_requests, random_spelling
from tests.support.hostile.stage import staged
from tests.support.sidecar import Sidecar

SEED = 7
LANES = 16
N_MUTATIONS = 2000
BOUND_S = 6.0
"""Well above the stage's limits of 1 and 2 s, so that only a hang passes it."""

CONNECTIONS = 100
TOKEN = "not-for-everybody"  # noqa: S105  # of a test
RELAXED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Stage:
    """A sidecar on stage; the loop in which its upstream lives runs while something is sent."""

    def __init__(self, runner: asyncio.Runner, arena: Arena, sidecar: Sidecar) -> None:
        self.runner, self.arena, self.sidecar = runner, arena, sidecar
        self.n_sent = 0

    def run(self, doing: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(doing)

    def attack(self, cases: list[Case]) -> None:
        """Send all, several at once; nothing may have gone wrong, and a query still works."""
        named = []
        for case in cases:
            self.n_sent += 1
            named.append(tagged(case, tag_of(SEED + 1, self.n_sent)))
        self.run(_attack(self.arena, named))
        self.check()

    def check(self) -> None:
        self.n_sent += 1
        self.run(self.arena.attack(plain_case(tag_of(SEED, 9_000_000 + self.n_sent))))
        found, self.arena.problems = self.arena.problems, []
        assert not found, "\n".join(f"{name}: {text}" for name, text in found[:10])
        assert self.sidecar.process.poll() is None


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    yield from _stage(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    yield from _stage(tmp_path_factory.mktemp("guarded"), token=TOKEN, connections=CONNECTIONS)


def _stage(folder: Path, token: str = "", **limits: float) -> Iterator[Stage]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opened = staged(folder, token=token, **limits)
        arena, sidecar = runner.run(opened.__aenter__())
        arena.bound_s = BOUND_S
        yield Stage(runner, arena, sidecar)
        said = sidecar.log()
        runner.run(opened.__aexit__(None, None, None))
    assert "Traceback" not in said, said
    assert "never awaited" not in said, said


async def _attack(arena: Arena, cases: list[Case]) -> None:
    waiting = iter(cases)

    async def lane() -> None:
        for case in waiting:
            await arena.attack(case)

    await asyncio.gather(*(lane() for _ in range(LANES)))


def test_known_shapes_are_refused_or_passed_on_as_the_one_request_they_are(stage: Stage) -> None:
    kept = [case for case in small_cases(PLACE) if not case.may_cut]
    stage.attack(kept)


def test_hostile_answers_of_the_upstream_reach_nobody_else(stage: Stage) -> None:
    for case in answer_cases(PLACE):
        stage.attack([case])


def test_mutated_requests_never_reach_the_upstream_as_others(stage: Stage) -> None:
    corpus = [case for case in small_cases(PLACE) if not case.may_cut]
    stage.attack([random_case(SEED, number, corpus) for number in range(N_MUTATIONS)])


def test_bombs_are_refused_unpacked_no_further_than_the_limit(stage: Stage) -> None:
    stage.attack([case for case in large_cases(PLACE) if "bomb" in case.name])


def test_deep_json_is_survived(stage: Stage) -> None:
    stage.attack([case for case in large_cases(PLACE) if "depth" in case.name])


@RELAXED
@given(data=st.binary(min_size=1, max_size=300))
def test_any_bytes_are_answered_or_closed(stage: Stage, data: bytes) -> None:
    stage.run(stage.arena.attack(Case("bytes", data, ends=True)))
    stage.check()


@RELAXED
@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(["Transfer-Encoding", "Content-Length", "Connection", "Expect", "X"]),
            st.sampled_from([":", ": ", " :", ":\t", ""]),
            st.sampled_from(["chunked", "5", "0", "close", "content-length", "\x0b5", "x,y", ""]),
        ),
        max_size=4,
    ),
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE"]),
    body=st.sampled_from([b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n"]),
)
def test_framing_fields_in_any_mix_mean_one_thing(
    stage: Stage, lines: list[tuple[str, str, str]], method: str, body: bytes
) -> None:
    stage.n_sent += 1
    target = f"/collections/other?{tag_of(SEED, stage.n_sent)}"
    hidden = join("GET", f"/smuggled?{tag_of(SEED, stage.n_sent)}")
    data = join(method, target, ["".join(line) for line in lines], body) + hidden
    stage.run(stage.arena.attack(Case("framing", data)))
    stage.check()


@RELAXED
@given(seed=st.integers(0, 2**32))
def test_no_spelling_of_a_path_gets_round_the_adapter(stage: Stage, seed: int) -> None:
    stage.n_sent += 1
    rng = random.Random(seed)  # noqa: S311  # hostile, not secret
    stage.run(stage.arena.attack(random_spelling(rng, tag_of(SEED, stage.n_sent))))
    stage.check()


@RELAXED
@given(junk=st.text(max_size=30), key=st.sampled_from(["x", "query ", "points", "using"]))
def test_a_write_is_never_adapted_whatever_it_looks_like(stage: Stage, junk: str, key: str) -> None:
    stage.n_sent += 1
    body = query_body(**{key: junk}, searches=[{"query": [1, 2, 3, 4]}])
    target = f"/collections/docs/points?{tag_of(SEED, stage.n_sent)}"
    stage.run(stage.arena.attack(Case("write", measured("PUT", target, body), "pass")))
    stage.check()


def test_slow_clients_are_told_off_in_time(guarded: Stage) -> None:
    async def all_at_once() -> dict[str, str]:
        kinds = slow_kinds(guarded.sidecar.rest_address, "slow=", BOUND_S)
        found = await asyncio.gather(*(kind() for kind in kinds.values()))
        return {name: text for name, text in zip(kinds, found, strict=True) if text}

    assert guarded.run(all_at_once()) == {}
    guarded.check()


def test_connections_above_the_limit_are_closed_and_the_others_served(guarded: Stage) -> None:
    assert guarded.run(crowd(guarded.sidecar.rest_address, CONNECTIONS, BOUND_S)) == ""
    guarded.check()


def test_resets_in_the_middle_leave_nothing_behind(guarded: Stage) -> None:
    rng = random.Random(SEED)  # noqa: S311  # hostile, not secret

    async def resets() -> None:
        for _ in range(200):
            data = rng.choice(plain_requests("reset="))
            await reset_midway(guarded.sidecar.rest_address, data, rng)

    guarded.run(resets())
    guarded.check()


def test_a_half_closed_connection_is_answered_or_closed(guarded: Stage) -> None:
    query = plain_case(tag_of(SEED, 5))
    write = measured("PUT", f"/collections/docs/points?{tag_of(SEED, 6)}", upsert_body())
    chunks = join("POST", f"{QUERY_PATH}?{tag_of(SEED, 7)}", ["Transfer-Encoding: chunked"])
    body = query_body()
    chunks += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    guarded.attack(
        [
            Case("half-closed query", query.data, ends=True),
            Case("half-closed chunks", chunks, ends=True),
            Case("half-closed write", write, ends=True),
        ]
    )


def test_broken_http_on_the_admin_address_changes_nothing(guarded: Stage) -> None:
    before = _reloads(guarded)
    for name, data in broken_requests("x"):
        outcome = guarded.run(guarded.arena.knock(_admin(guarded), data))
        assert outcome.how in {"closed", "reset"}, name
        assert not any(answer.status < 400 for answer in outcome.answers), name
    assert _reloads(guarded) == before
    guarded.check()


def test_no_admin_request_without_the_token_is_served(guarded: Stage) -> None:
    before = _reloads(guarded)
    for name, data in unauthorised_requests(TOKEN):
        outcome = guarded.run(guarded.arena.knock(_admin(guarded), data))
        assert not any(answer.status < 300 for answer in outcome.answers), (name, outcome)
    assert _reloads(guarded) == before


def _admin(stage: Stage) -> tuple[str, int]:
    host, _, port = stage.sidecar.admin.rpartition(":")
    return host, int(port)


def _reloads(stage: Stage) -> list[str]:
    answer = httpx.get(
        f"{stage.sidecar.admin_url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    return [line for line in answer.text.splitlines() if line.startswith("trimtab_reloads")]
