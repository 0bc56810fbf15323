"""Comparisons of raw and adapted answers."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from trimtab import metrics as t
from trimtab.errors import UnavailableError
from trimtab.metrics import Telemetry
from trimtab.server.shadow import ANSWER_LIMIT_BYTES, Capture, Shadow
from trimtab.settings import ShadowSettings
from trimtab.upstream.rest_connection import AnswerHead


def body(*ids: int, more: str = "") -> bytes:
    result = {"points": [{"id": each, "payload": {"text": f"topsecret{more}"}} for each in ids]}
    return json.dumps({"result": result, "status": "ok"}).encode()


class Compared:
    """A shadow that has compared what it was given."""

    def __init__(self, **settings: Any) -> None:
        self.telemetry = Telemetry()
        self.shadow = Shadow(ShadowSettings(**settings), self.telemetry)

    def number(self, metric: t.Metric, *labels: str) -> float:
        return self.telemetry.numbers.get((metric.name, *labels), 0)

    def watch(
        self, pieces: Sequence[bytes], ask_shadow: Any, *, status: int = 200, coding: bytes = b""
    ) -> None:
        async def run() -> None:
            watch = Capture(self.shadow, "docs", ask_shadow)
            fields = [(b"Content-Encoding", coding)] if coding else []
            watch.head_received(AnswerHead(status, b"", fields, is_chunked=False))
            for piece in pieces:
                watch.data_received(piece)
            watch.answer_ended()
            await others()

        asyncio.run(run())


async def others() -> None:
    """Wait for every other task."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
    await asyncio.gather(*tasks)


def twin_of(*rankings: Sequence[str]) -> Callable[[], Awaitable[Any]]:
    async def ask_shadow() -> Any:
        return dict(enumerate(rankings))

    return ask_shadow


def test_a_comparison_holds_ids_and_numbers_and_nothing_else() -> None:
    compared = Compared()
    whole = body(1, 2)
    compared.watch([whole[:7], whole[7:]], twin_of(["2", "3"]))
    (found,) = compared.shadow.comparisons()
    assert found.pop("time").startswith("20")
    assert found == {
        "collection": "docs",
        "overlap": 0.5,
        "rank_distance": pytest.approx((2 + 1 + 1) / 6),
        "raw": ["1", "2"],
        "adapted": ["2", "3"],
    }
    overlaps = compared.telemetry.histograms[t.SHADOW_OVERLAP.name, "docs"]
    assert (sum(overlaps.counts), overlaps.total) == (1, 0.5)


def test_a_packed_answer_is_read() -> None:
    compared = Compared()
    compared.watch([gzip.compress(body(1))], twin_of(["1"]), coding=b"gzip")
    assert compared.shadow.comparisons()[0]["overlap"] == 1


def test_only_the_last_comparisons_are_kept() -> None:
    compared = Compared(kept=2)
    for number in range(4):
        compared.watch([body(number)], twin_of([str(number)]))
    assert [each["raw"] for each in compared.shadow.comparisons()] == [["2"], ["3"]]


@pytest.mark.parametrize(
    ("answer", "coding"), [(b"no JSON", b""), (b"", b""), (b"{}", b""), (b"no gzip", b"gzip")]
)
def test_an_answer_that_cannot_be_read_is_counted(answer: bytes, coding: bytes) -> None:
    compared = Compared()
    compared.watch([answer], twin_of(["1"]), coding=coding)
    assert not compared.shadow.comparisons()
    skipped = sum(
        value
        for key, value in compared.telemetry.numbers.items()
        if key[0] == t.SHADOW_SKIPPED.name
    )
    assert skipped == 1


def test_a_twin_that_fails_or_is_not_adapted_is_counted() -> None:
    async def failing() -> Any:
        raise UnavailableError("gone")

    compared = Compared()
    compared.watch([body(1)], failing)
    compared.watch([body(1)], twin_of())
    assert compared.number(t.SHADOW_SKIPPED, "failed") == 1
    assert compared.number(t.SHADOW_SKIPPED, "not_adapted") == 1
    assert not compared.shadow.comparisons()


def test_errors_and_huge_answers_are_not_compared() -> None:
    compared = Compared()
    compared.watch([body(1)], twin_of(["1"]), status=400)
    compared.watch([body(1, more="x" * ANSWER_LIMIT_BYTES)], twin_of(["1"]))
    assert not compared.shadow.comparisons()


def test_no_more_twins_than_allowed_are_under_way() -> None:
    compared = Compared(concurrent=2)

    async def run() -> None:
        gate = asyncio.Event()

        async def waiting() -> Any:
            await gate.wait()
            return {0: ["1"]}

        for _ in range(2):
            assert compared.shadow.is_wanted()
            compared.shadow.offer("docs", lambda: [["1"]], waiting)
        assert not compared.shadow.is_wanted()
        gate.set()
        await others()
        assert compared.shadow.is_wanted()

    asyncio.run(run())
    assert compared.number(t.SHADOW_SKIPPED, "busy") == 1
    assert len(compared.shadow.comparisons()) == 2


def test_requests_that_are_answered_at_once_have_no_more_twins_than_allowed() -> None:
    compared = Compared(concurrent=2)
    asked: list[int] = []

    async def run() -> None:
        gate = asyncio.Event()

        async def waiting() -> Any:
            asked.append(1)
            await gate.wait()
            return {0: ["1"]}

        wanted = [compared.shadow.is_wanted() for _ in range(5)]  # all before the first answer
        for _ in range(sum(wanted)):
            compared.shadow.offer("docs", lambda: [["1"]], waiting)
        await asyncio.sleep(0)
        assert len(asked) == 2
        gate.set()
        await others()

    asyncio.run(run())
    assert compared.number(t.SHADOW_SKIPPED, "busy") == 3
    assert len(compared.shadow.comparisons()) == 2


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 200)])
def test_a_share_of_the_requests_is_wanted(share: float, expected: int) -> None:
    shadow = Compared(share=share).shadow
    assert sum(shadow.is_wanted() for _ in range(200)) == expected
