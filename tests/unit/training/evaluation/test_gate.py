"""The gate: what an interval, the raw query and the slices make of a newer model."""

from typing import Any

import msgspec
import pytest

from trimtab_training.evaluation.gate import Gate, judge
from trimtab_training.evaluation.record import Compared


def metric(low: float, high: float, a: float = 0.5) -> dict[str, Any]:
    delta = (low + high) / 2
    return {
        "raw": 0.4, "a": a, "b": a + delta, "delta": delta, "ci95": [low, high],
        "p_value": 0.5 if low <= 0 <= high else 0.001,
    }  # fmt: skip


def record(
    interval: tuple[float, float],
    *,
    raw: tuple[float, float] | None = (0.05, 0.15),
    n_queries: int = 500,
    kept: bool = False,
    unseen: tuple[int, float, float] = (0, 0.0, 0.0),
    limits: tuple[float, float] | None = None,
    p_value: float | None = None,
) -> Compared:
    n_unseen, low, high = unseen
    part = {"ndcg@10": metric(low, high)} if n_unseen else None
    side = {"name": "m", "model": "m", "kind": "linear"}
    counts = {"n_queries": 0, "used_by_a": 0, "used_by_b": 0, "kept": kept}
    limit, raw_limit = limits or (interval[0], raw[0] if raw else 0.0)
    headline = metric(*interval)
    if p_value is not None:
        headline["p_value"] = p_value
    measured = {
        "dataset": "docs", "split": "test", "n_queries": n_queries, "a": side, "b": side,
        "metrics": {"ndcg@10": headline},
        "slices": {
            "seen_documents": {"n_queries": 0, "metrics": None},
            "unseen_documents": {"n_queries": n_unseen, "metrics": part},
        },
        "against_raw": {"a": None, "b": metric(*raw) if raw else None},
        "lower_limits": {"a": limit, "raw": raw_limit if raw else None},
        "wins": 0, "losses": 0, "ties": 0, "left_out": counts, "notes": [],
        "largest_losses": [], "largest_wins": [],
    }  # fmt: skip
    return msgspec.convert(measured, Compared)


@pytest.mark.parametrize(
    ("interval", "decision", "code"),
    [
        ((0.001, 0.02), "better", 0),
        ((-0.004, 0.02), "no worse", 0),
        ((0.0, 0.0), "no worse", 0),
        ((-0.004, -0.001), "no worse", 0),
        ((-0.005, 0.02), "no worse", 0),
        ((-0.02, -0.001), "worse", 3),
        ((-0.02, 0.02), "can't tell", 4),
    ],
)
def test_interval_of_the_difference_decides(
    interval: tuple[float, float], decision: str, code: int
) -> None:
    said = judge(record(interval), Gate())
    assert (said.decision, said.exit_code, said.passes) == (decision, code, code == 0)
    assert bool(said.reasons) == (code != 0)


@pytest.mark.parametrize(
    ("interval", "code"), [((0.001, 0.02), 0), ((-0.004, 0.02), 4), ((-0.02, -0.01), 3)]
)
def test_better_may_be_required(interval: tuple[float, float], code: int) -> None:
    assert judge(record(interval), Gate("better")).exit_code == code


def test_margin_is_the_users() -> None:
    assert judge(record((-0.004, 0.02)), Gate(margin=0.0)).exit_code == 4
    assert judge(record((-0.02, 0.02)), Gate(margin=0.03)).exit_code == 0


@pytest.mark.parametrize(
    ("raw", "code", "said"),
    [
        ((-0.05, -0.01), 3, "below the raw query"),
        ((-0.05, 0.03), 4, "no worse than the raw query is not shown"),
        ((-0.004, 0.03), 0, ""),
        (None, 0, ""),
    ],
)
def test_better_than_a_bad_one_is_not_enough(
    raw: tuple[float, float] | None, code: int, said: str
) -> None:
    found = judge(record((0.01, 0.03), raw=raw), Gate())
    assert found.decision == "better"
    assert found.exit_code == code
    assert said in "; ".join(found.reasons)


@pytest.mark.parametrize(
    ("unseen", "code"),
    [
        ((100, -0.05, -0.01), 3),
        ((29, -0.05, -0.01), 0),  # too few to tell
        ((100, -0.05, 0.01), 0),  # chance would do
        ((100, -0.006, -0.001), 0),  # within the margin
        ((500, -0.05, -0.01), 0),  # these are all queries, which are judged as such
    ],
)
def test_slice_that_surely_loses_forbids(unseen: tuple[int, float, float], code: int) -> None:
    assert judge(record((0.01, 0.03), unseen=unseen), Gate()).exit_code == code


@pytest.mark.parametrize("interval", [(0.1, 0.3), (-0.3, -0.1)])
def test_few_queries_conclude_nothing(interval: tuple[float, float]) -> None:
    said = judge(record(interval, n_queries=29, raw=(-0.3, -0.1)), Gate())
    assert (said.decision, said.exit_code) == ("can't tell", 4)
    assert "30 are the least" in said.sentence


def test_queries_that_were_trained_on_conclude_nothing() -> None:
    said = judge(record((0.1, 0.3), kept=True), Gate())
    assert (said.decision, said.exit_code) == ("can't tell", 4)
    assert "was trained on" in said.sentence


def test_losses_too_rare_to_show_are_allowed_for() -> None:
    said = judge(record((0.0, 0.0), limits=(-0.0068, 0.05), n_queries=270), Gate())
    assert (said.decision, said.exit_code) == ("can't tell", 4)
    assert "losses too rare for these queries to show may bring it to -0.007" in said.sentence
    assert "about 370 could" in said.sentence
    said = judge(record((0.01, 0.03), limits=(-0.004, -0.02), n_queries=100), Gate())
    assert (said.decision, said.exit_code) == ("better", 4)
    assert "may bring it to -0.020" in said.reasons[0]


def test_gain_that_its_p_value_denies_is_no_worse_and_not_better() -> None:
    doubtful = record((0.01, 0.1), p_value=0.12)
    assert judge(doubtful, Gate()).decision == "no worse"
    assert judge(doubtful, Gate("better")).exit_code == 4


def test_loss_needs_no_p_value() -> None:
    doubtful = record((-0.1, -0.01), p_value=0.12)
    assert judge(doubtful, Gate()).exit_code == 3


def test_number_of_queries_that_could_tell_is_said() -> None:
    # half an interval of 0.02 must shrink to the margin: 16 times the queries, and 369 more leave
    # room in it for losses that none of them shows
    assert "about 8,400 could" in judge(record((-0.02, 0.02)), Gate()).sentence
    assert "could" not in judge(record((-0.04, 0.02)), Gate()).sentence
