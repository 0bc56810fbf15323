"""`trimtab synthesize` against an endpoint over real sockets, in every mood of a real one."""

import asyncio
import json
import random
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.llm_endpoint import (
    LlmEndpoint,
    closes,
    cut_short,
    endless,
    good,
    hangs,
    queries_about,
    raw,
    running_endpoint,
    says,
    status,
    waits_then_good,
    with_headers,
    write_corpus,
)
from trimtab_training.data.dataset import Dataset
from trimtab_training.errors import ConfigError, EndpointError
from trimtab_training.synthesis.endpoint import LlmEndpoint as Client
from trimtab_training.synthesis.endpoint import LlmSettings
from trimtab_training.synthesis.pacing import Pacer
from trimtab_training.synthesis.prompts import Writing
from trimtab_training.synthesis.requests import ask_all
from trimtab_training.synthesis.run import Job, Plan, ask_missing, build_dataset, make_plan
from trimtab_training.synthesis.store import AnswerStore

WORDS = (
    "copper", "violin", "harbour", "lantern", "orchid", "glacier", "pepper", "saddle", "walnut",
    "thunder", "marble", "falcon",
)  # fmt: skip
TEXTS = [
    f"Encyclopaedia entry number {n}: everything known of the {w}" for n, w in enumerate(WORDS)
]
WRITING = Writing(api="chat", model="toy", styles=("question",), per_document=3)


@pytest.fixture
def endpoint() -> Iterator[LlmEndpoint]:
    with running_endpoint() as server:
        yield server


def plan_in(folder: Path, texts: list[str] = TEXTS, **changes: Any) -> Plan:
    corpus = write_corpus(folder / "corpus.jsonl", texts)
    job = {"source": corpus, "output": folder / "out", "kept": folder / "kept", "writing": WRITING}
    return make_plan(Job(**{**job, **changes}))


def settings(endpoint: LlmEndpoint, **changes: Any) -> LlmSettings:
    return LlmSettings(**{"base_url": endpoint.url, "concurrency": 4, "timeout_s": 30.0, **changes})


class Naps:
    """Sleeps that take no time and are noted; the clock follows them."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def pacer(self) -> Pacer:
        return Pacer(sleep=self.sleep, clock=lambda: self.now, rng=random.Random(0))  # noqa: S311


def ask(plan: Plan, given: LlmSettings, naps: Naps | None = None) -> Naps:
    """Ask for what is missing, with sleeps that take no time."""
    naps = naps or Naps()

    async def run() -> None:
        async with Client(given, naps.pacer()) as client:
            await ask_all(plan.requests(), client, plan.store, concurrency=given.concurrency)

    with plan.store.opened():
        asyncio.run(run())
    return naps


def failures(plan: Plan) -> list[str]:
    return [answer.failure for answer in plan.store.failures.values()]


# A good day


def test_corpus_becomes_a_dataset_that_the_other_commands_read(
    endpoint: LlmEndpoint, tmp_path: Path
) -> None:
    plan = plan_in(tmp_path)
    ask_missing(plan, settings(endpoint, api_key="secret"))
    summary = build_dataset(plan, round_trip=None)
    dataset = Dataset.load(tmp_path / "out")
    assert sum(len(qrels) for qrels in dataset.splits.values()) == len(TEXTS) * 3
    assert summary["queries"]["kept"] == len(TEXTS) * 3
    assert endpoint.keys == {"Bearer secret"}
    assert (tmp_path / "out" / "corpus.jsonl").read_bytes() == plan.corpus.path.read_bytes()
    for line in (tmp_path / "out" / "queries.jsonl").read_text().splitlines():
        record = json.loads(line)
        (doc_id,) = [
            doc for qrels in dataset.splits.values() for doc in qrels.get(record["_id"], {})
        ]
        assert record["metadata"] == {
            "synthetic": True,
            "style": "question",
            "doc_id": doc_id,
            "model": "toy",
        }
        assert record["text"] in queries_about(TEXTS[int(doc_id[1:])], 3)


def test_no_more_requests_are_under_way_than_allowed(endpoint: LlmEndpoint, tmp_path: Path) -> None:
    ask(plan_in(tmp_path), settings(endpoint, concurrency=3))
    assert endpoint.most_at_once <= 3


def test_base_models_continue_examples_and_end_at_the_line(
    endpoint: LlmEndpoint, tmp_path: Path
) -> None:
    writing = Writing(api="completions", model="base", styles=("layperson",), per_document=2)
    plan = plan_in(tmp_path, writing=writing)
    ask(plan, settings(endpoint, api="completions"))
    assert len(endpoint.bodies) == len(TEXTS) * 2
    assert all(body["stop"] == ["\n"] for body in endpoint.bodies)
    assert all(body["prompt"].endswith("\nQuery:") for body in endpoint.bodies)
    assert build_dataset(plan, round_trip=None)["queries"]["dropped"]["duplicate"] == len(TEXTS)


# Limits


def test_retry_after_holds_every_worker_back(endpoint: LlmEndpoint, tmp_path: Path) -> None:
    endpoint.moods = [status(429, retry_after="7"), status(503, retry_after_ms="2500")]
    plan = plan_in(tmp_path)
    naps = ask(plan, settings(endpoint))
    assert len(plan.store.answers) == len(TEXTS)
    assert max(naps.taken) >= 7
    assert naps.now >= 7


def test_run_slows_down_before_it_hits_a_limit(endpoint: LlmEndpoint, tmp_path: Path) -> None:
    endpoint.moods = [
        with_headers(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="1m3s"),
        with_headers(x_ratelimit_remaining_tokens="3", x_ratelimit_reset_tokens="90s"),
    ]
    naps = ask(plan_in(tmp_path), settings(endpoint, concurrency=1))
    assert [int(nap) for nap in naps.taken] == [63, 90]


def test_plenty_left_means_no_pause(endpoint: LlmEndpoint, tmp_path: Path) -> None:
    endpoint.moods = [
        with_headers(x_ratelimit_remaining_requests="9", x_ratelimit_reset_requests="1m3s"),
        with_headers(x_ratelimit_remaining_tokens="-1", x_ratelimit_reset_tokens="0"),
    ]
    assert ask(plan_in(tmp_path), settings(endpoint, concurrency=1)).taken == []


def test_failures_without_a_hint_are_tried_later_and_later(
    endpoint: LlmEndpoint, tmp_path: Path
) -> None:
    endpoint.moods = [status(500)] * 4
    naps = ask(plan_in(tmp_path, TEXTS[:1]), settings(endpoint))
    assert len(naps.taken) == 4
    for attempt, nap in enumerate(naps.taken):
        assert 0.25 * 2**attempt <= nap <= 0.75 * 2**attempt


def test_limit_that_resets_in_hours_ends_the_run_with_advice(
    endpoint: LlmEndpoint, tmp_path: Path
) -> None:
    endpoint.default = status(429, "daily limit", retry_after="7200")
    with pytest.raises(EndpointError, match=r"asks to wait 120 minutes \(429: daily limit\)"):
        ask(plan_in(tmp_path), settings(endpoint))


# Bad days: each fault passes, and every request is answered all the same


@pytest.mark.parametrize(
    "fault",
    [
        closes,
        cut_short,
        endless,
        raw(b"<html>gateway</html>"),
        raw(b'{"choices": []}'),
        raw(b'{"choices": "none"}'),
        raw(b"[" * 100_000),
        status(500),
        status(408),
    ],
    ids=["closes", "cut_short", "endless", "html", "no_choice", "no_list", "deep", "500", "408"],
)
def test_fault_that_passes_is_tried_again(
    endpoint: LlmEndpoint, tmp_path: Path, fault: Callable[[Any], None]
) -> None:
    endpoint.moods = [fault, fault]
    plan = plan_in(tmp_path)
    ask(plan, settings(endpoint))
    assert len(plan.store.answers) == len(TEXTS)
    assert failures(plan) == []
    assert set(endpoint.paid.values()) == {1}


def test_answer_that_never_comes_ends_at_the_timeout(endpoint: LlmEndpoint, tmp_path: Path) -> None:
    endpoint.default = hangs
    plan = plan_in(tmp_path, TEXTS[:1])
    naps = ask(plan, settings(endpoint, timeout_s=0.2, retries=2))
    assert failures(plan) == ["no answer in 0.2 s"]
    assert len(naps.taken) == 2
    endpoint.default = good
    ask(plan_in(tmp_path, TEXTS[:1]), settings(endpoint))
    assert len(AnswerStore(plan.store.path).answers) == 1


@pytest.mark.parametrize(
    ("mood", "failure"),
    [
        (says("I'm sorry, but I can't help with that."), "refused"),
        (says(None, refusal="no"), "refused"),
        (says('["half a', finish="length"), "cut off before the first query; raise --max-tokens"),
        (says(""), "an empty answer"),
        (says({"not": "a text"}), "an empty answer"),
        (says("Here are your queries:"), "no query in the answer"),
        (status(400, "too long"), "status 400: too long"),
    ],
)
def test_what_lasts_is_a_failure_that_the_next_run_tries_again(
    endpoint: LlmEndpoint, tmp_path: Path, mood: Callable[[Any], None], failure: str
) -> None:
    endpoint.moods = [mood]
    plan = plan_in(tmp_path)
    ask(plan, settings(endpoint, concurrency=1))
    assert failures(plan) == [failure]
    summary = build_dataset(plan, round_trip=None)
    assert summary["requests"]["failed"] == 1
    (line,) = (tmp_path / "out" / "synthesis" / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["failure"] == failure
    again = plan_in(tmp_path)
    ask(again, settings(endpoint))
    assert failures(again) == []
    assert len(endpoint.bodies) == len(TEXTS) + 1
    assert endpoint.bodies[-1]["seed"] == endpoint.bodies[0]["seed"] + 1  # or it could end the same
    assert build_dataset(again, round_trip=None)["requests"]["failed"] == 0


def test_wrong_counts_are_counted(endpoint: LlmEndpoint, tmp_path: Path) -> None:
    many = [f"what is known about subject {w} today" for w in WORDS]
    endpoint.moods = [says(json.dumps(many[:1])), says(json.dumps(many[1:8]))]
    plan = plan_in(tmp_path)
    ask(plan, settings(endpoint, concurrency=1))
    queries = build_dataset(plan, round_trip=None)["queries"]
    assert (queries["missing_in_answers"], queries["surplus_in_answers"]) == (2, 4)


def test_cut_off_answer_keeps_its_whole_queries(endpoint: LlmEndpoint, tmp_path: Path) -> None:
    endpoint.default = says('["how is copper ore smelted", "who plays the vio', finish="length")
    plan = plan_in(tmp_path, TEXTS[:1])
    ask(plan, settings(endpoint))
    build_dataset(plan, round_trip=None)
    (line,) = (tmp_path / "out" / "queries.jsonl").read_text().splitlines()
    assert json.loads(line)["text"] == "how is copper ore smelted"


def test_newer_name_of_a_field_is_learnt_from_the_refusal(
    endpoint: LlmEndpoint, tmp_path: Path
) -> None:
    endpoint.moods = [status(400, "use 'max_completion_tokens' instead of 'max_tokens'")]
    plan = plan_in(tmp_path)
    ask(plan, settings(endpoint, concurrency=1))
    assert len(plan.store.answers) == len(TEXTS)
    assert ["max_tokens" in body for body in endpoint.bodies] == [True] + [False] * len(TEXTS)


# Lost causes: the run ends at once, with a line that says what to do


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        (status(401, "bad key"), r"answered 401: bad key; check the key \(--key-variable\)"),
        (status(404, "no model"), r"answered 404: no model; check --base-url, --api and --model"),
        (status(429, "insufficient_quota"), "answered 429: insufficient_quota; run the same"),
        (status(307, "elsewhere"), r"redirects \(307\); give its target as --base-url"),
    ],
)
def test_lost_cause_ends_the_run_at_once(
    endpoint: LlmEndpoint, tmp_path: Path, mood: Callable[[Any], None], message: str
) -> None:
    endpoint.default = mood
    with pytest.raises(EndpointError, match=message):
        ask(plan_in(tmp_path), settings(endpoint, concurrency=2))
    assert len(endpoint.bodies) <= 2


def test_endpoint_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with running_endpoint() as gone:
        url = gone.url
    with pytest.raises(EndpointError, match=r"can't reach http://127.*check --base-url"):
        ask(plan_in(tmp_path), LlmSettings(url, retries=1))


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        (status(401, "no"), "answered 401"),
        (status(307, "no"), "redirects"),
        (status(429, "no", retry_after="9000"), "asks to wait 150 minutes"),
    ],
)
def test_a_password_in_the_address_is_sent_and_never_shown(
    endpoint: LlmEndpoint,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mood: Callable[[Any], None],
    message: str,
) -> None:
    endpoint.default = mood
    given = settings(endpoint, base_url=endpoint.url.replace("//", "//me:s3cret@"))
    with caplog.at_level("DEBUG"), pytest.raises(EndpointError, match=message) as refused:
        ask(plan_in(tmp_path), given)
    assert endpoint.keys == {"Basic bWU6czNjcmV0"}
    kept = [path.read_text() for path in (tmp_path / "kept").iterdir() if path.is_file()]
    said = [str(refused.value), repr(given), caplog.text, *kept]
    assert not [text for text in said if "s3cret" in text]


@pytest.mark.parametrize("address", ["http://me:s3cret@[::1/v1", "ftp://me:s3cret@host/v1"])
def test_address_that_is_refused_is_shown_without_its_password(address: str) -> None:
    with pytest.raises(ConfigError, match="endpoint's address") as refused:
        Client(LlmSettings(address))
    assert "s3cret" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("key", ["sk-secret\n2", "schlüssel"])
def test_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Client(LlmSettings("http://127.0.0.1:1/v1", api_key=key))
    assert key not in str(refused.value)
    assert key not in repr(LlmSettings("http://127.0.0.1:1/v1", api_key=key))


def test_endless_row_of_failures_ends_the_run(endpoint: LlmEndpoint, tmp_path: Path) -> None:
    endpoint.default = status(400, "unknown field temperature")
    texts = [f"Entry {n} of a long list of entries that nobody reads" for n in range(60)]
    plan = plan_in(tmp_path, texts)
    with pytest.raises(EndpointError, match=r"last 25 requests failed, .* field temperature"):
        ask(plan, settings(endpoint, concurrency=1))
    assert len(endpoint.bodies) == 25


class Halting(Pacer):
    """A pacer that lets the endpoint answer once the run has read a refusal and halts."""

    def __init__(self, endpoint: LlmEndpoint) -> None:
        super().__init__()
        self._endpoint = endpoint
        self.n_begun: list[int] = []
        self.turns = 0

    async def turn(self) -> None:
        await super().turn()
        self.turns += 1

    def halt(self) -> None:
        super().halt()
        self.n_begun.append(self.turns)
        self._endpoint.release.set()


@pytest.mark.parametrize("concurrency", [2, 5])
@pytest.mark.parametrize("n_good", [0, 1, 3])
def test_after_a_refusal_nothing_is_begun_and_what_was_under_way_is_kept(
    endpoint: LlmEndpoint, tmp_path: Path, n_good: int, concurrency: int
) -> None:
    refused = status(402, "no credit")

    def refuse_once_the_others_came(exchange: Any) -> None:
        for _ in range(n_good + concurrency):
            exchange.server.came.acquire()
        refused(exchange)

    endpoint.moods = [good] * n_good + [refuse_once_the_others_came]
    endpoint.default = waits_then_good
    plan = plan_in(tmp_path)
    pacer = Halting(endpoint)

    async def run() -> None:
        async with Client(settings(endpoint, concurrency=concurrency), pacer) as client:
            await ask_all(plan.requests(), client, plan.store, concurrency=concurrency)

    with pytest.raises(EndpointError, match="402: no credit"), plan.store.opened():
        asyncio.run(run())
    assert pacer.turns == pacer.n_begun[0] == len(endpoint.bodies) == n_good + concurrency
    kept = AnswerStore(plan.store.path).answers
    assert len(kept) == sum(endpoint.paid.values()) == n_good + concurrency - 1


@pytest.mark.parametrize("refusals", [1, 4])
def test_whatever_the_order_of_answers_all_that_was_paid_for_is_kept(
    endpoint: LlmEndpoint, tmp_path: Path, refusals: int
) -> None:
    endpoint.moods = [good] * 3 + [status(402, "no credit")] * refusals
    plan = plan_in(tmp_path)
    with pytest.raises(EndpointError, match="402: no credit"):
        ask(plan, settings(endpoint, concurrency=4))
    kept = AnswerStore(plan.store.path).answers
    assert len(kept) == sum(endpoint.paid.values())
    assert len(endpoint.bodies) <= len(TEXTS)


# Never paid twice


@pytest.mark.parametrize("answered", [0, 1, 5, 11])
def test_second_run_asks_only_for_the_rest(
    endpoint: LlmEndpoint, tmp_path: Path, answered: int
) -> None:
    endpoint.moods = [good] * answered + [status(401)]
    with pytest.raises(EndpointError):
        ask(plan_in(tmp_path), settings(endpoint, concurrency=1))
    again = plan_in(tmp_path)
    assert again.n_kept == answered
    ask(again, settings(endpoint))
    assert len(endpoint.paid) == len(TEXTS)
    assert set(endpoint.paid.values()) == {1}


def test_changed_and_reordered_corpus_costs_only_its_new_texts(
    endpoint: LlmEndpoint, tmp_path: Path
) -> None:
    ask(plan_in(tmp_path), settings(endpoint))
    changed = ["A wholly new text about the weather in the mountains", *reversed(TEXTS[2:])]
    again = plan_in(tmp_path, changed)  # other ids, too: ids are places here
    ask(again, settings(endpoint))
    assert len(endpoint.paid) == len(TEXTS) + 1
    assert set(endpoint.paid.values()) == {1}
    assert build_dataset(again, round_trip=None)["queries"]["kept"] == 3 * len(changed)


def test_equal_texts_are_asked_about_once_and_labelled_all(
    endpoint: LlmEndpoint, tmp_path: Path
) -> None:
    plan = plan_in(tmp_path, [TEXTS[0], TEXTS[1], TEXTS[0]])
    ask(plan, settings(endpoint))
    assert set(endpoint.paid.values()) == {1}
    assert len(endpoint.paid) == 2
    build_dataset(plan, round_trip=None)
    dataset = Dataset.load(tmp_path / "out")
    labelled = [set(docs) for qrels in dataset.splits.values() for docs in qrels.values()]
    assert {frozenset(docs) for docs in labelled} == {frozenset({"d0", "d2"}), frozenset({"d1"})}


def test_larger_budget_keeps_what_was_written(endpoint: LlmEndpoint, tmp_path: Path) -> None:
    ask(plan_in(tmp_path, budget=4), settings(endpoint))
    again = plan_in(tmp_path, budget=9)
    assert (again.n_requests, again.n_kept) == (9, 4)


def test_other_model_or_prompt_is_another_answer(endpoint: LlmEndpoint, tmp_path: Path) -> None:
    ask(plan_in(tmp_path), settings(endpoint))
    other = Writing(api="chat", model="other", styles=("question",), per_document=3)
    assert plan_in(tmp_path, writing=other).n_kept == 0
    warmer = Writing(api="chat", model="toy", styles=("question",), temperature=1.1)
    assert plan_in(tmp_path, writing=warmer).n_kept == 0
