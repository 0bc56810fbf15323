"""The verdict: one sentence that says no more than the figures do."""

from typing import Any

import pytest

from tests.support.records import make_fit, make_metric, make_record, make_sweep
from trimtab_training.evaluation.record import Evaluation, Verdict
from trimtab_training.evaluation.verdict import decide, signed


def metric(delta: float, half_width: float, base: float = 0.6) -> dict[str, Any]:
    return make_metric(base, delta, half_width)


def part(n_queries: int, delta: float = 0.1, half_width: float = 0.02) -> dict[str, Any]:
    metrics = {"ndcg@10": metric(delta, half_width)} if n_queries else None
    return {"n_queries": n_queries, "metrics": metrics}


def record(delta: float = 0.1, half_width: float = 0.02, **more: Any) -> Evaluation:
    measured = {
        "metrics": {"ndcg@10": metric(delta, half_width), "recall@100": metric(0.01, 0.02)},
        "slices": {"seen_documents": part(200), "unseen_documents": part(100, 0.0)},
        "wins": 90,
        "losses": 20,
        "approximate": None,
    }
    return make_record(**{**measured, **more})


def sweep(adapted: float, restores: int | None) -> dict[str, Any]:
    return make_sweep(
        served_value=64,
        raw_recall_at_served=0.98,
        adapted_recall_at_served=adapted,
        restores=restores,
    )


def reasons(verdict: Verdict, weight: str) -> str:
    return "\n".join(one.text for one in verdict.reasons if one.weight == weight)


def test_gain_beyond_chance_in_all_and_no_slice_lost_is_shipped() -> None:
    verdict = decide(record())
    assert verdict.decision == "ship"
    assert verdict.sentence == (
        "Ship: nDCG@10 rises from 0.600 to 0.700 (+0.100, 95 % interval +0.080 to +0.120) "
        "on 300 test queries, and no slice shows a loss."
    )


def test_no_slice_is_praised_where_none_can_be_judged() -> None:
    few = {"seen_documents": part(0), "unseen_documents": part(29)}
    verdict = decide(record(slices=few))
    assert verdict.decision == "ship"
    assert "slice" not in verdict.sentence
    assert "29 queries about unseen documents: too few to judge" in reasons(verdict, "note")
    assert "no queries about seen documents: too few to judge" in reasons(verdict, "note")


def test_fit_that_found_nothing_stops_it_whatever_the_test_says() -> None:
    verdict = decide(record(fit=make_fit(helps=False)))
    assert verdict.decision == "do not ship"
    assert verdict.sentence == (
        "Do not ship: the fit found no adapter that beats the raw query; keep the raw queries."
    )


def test_model_that_changes_nothing_is_not_shipped() -> None:
    verdict = decide(record(0.0, 0.0, wins=0, losses=0))
    assert verdict.decision == "do not ship"
    assert "changes nDCG@10 for no query" in verdict.sentence


def test_loss_beyond_chance_stops_it() -> None:
    verdict = decide(record(-0.1))
    assert verdict.decision == "do not ship"
    assert "nDCG@10 falls: -0.100 (-0.120 to -0.080)" in verdict.sentence


def test_too_small_a_test_is_care_with_half_width_and_the_size_that_could_tell() -> None:
    verdict = decide(record(0.01, 0.02))
    assert verdict.decision == "ship with care"
    assert "300 queries can't tell the change from chance: +0.010, give or take 0.020" in (
        verdict.sentence
    )
    assert "about 1,200 could" in verdict.sentence


def test_size_that_could_tell_is_not_named_where_it_is_out_of_reach() -> None:
    assert "could" not in decide(record(0.0001, 0.02)).sentence


def test_no_gain_on_the_test_is_care_behind_a_fit_that_helped_and_a_stop_without_one() -> None:
    assert decide(record(-0.001, 0.02)).decision == "ship with care"
    verdict = decide(record(-0.001, 0.02, fit=None))
    assert verdict.decision == "do not ship"
    assert "does not rise" in verdict.sentence


def test_gain_on_few_queries_is_care() -> None:
    verdict = decide(record(n_queries=29))
    assert verdict.decision == "ship with care"
    assert "too few to trust" in verdict.sentence


@pytest.mark.parametrize(
    ("delta", "half_width", "decision", "words"),
    [
        (-0.004, 0.003, "ship with care", "a slice loses: 100 queries about unseen documents"),
        (-0.006, 0.02, "ship with care", "a slice may lose: 100 queries about unseen documents"),
        (-0.004, 0.02, "ship", "no slice shows a loss"),
    ],
)
def test_slice_that_loses_beyond_chance_or_by_much_is_care(
    delta: float, half_width: float, decision: str, words: str
) -> None:
    slices = {"seen_documents": part(200), "unseen_documents": part(100, delta, half_width)}
    verdict = decide(record(slices=slices))
    assert verdict.decision == decision
    assert words in verdict.sentence


def test_other_metric_that_falls_is_care() -> None:
    metrics = {"ndcg@10": metric(0.1, 0.02), "recall@100": metric(-0.03, 0.01)}
    verdict = decide(record(metrics=metrics))
    assert verdict.decision == "ship with care"
    assert "recall@100 falls" in verdict.sentence


def test_index_that_loses_recall_is_care_with_the_value_that_restores_it() -> None:
    verdict = decide(record(approximate=sweep(0.93, 128)))
    assert verdict.decision == "ship with care"
    assert "falls from 0.980 to 0.930 at efSearch 64: raise efSearch to 128" in verdict.sentence
    lost = decide(record(approximate=sweep(0.93, None)))
    assert "no efSearch that was tried restores it" in lost.sentence


def test_index_that_keeps_its_recall_speaks_for_it() -> None:
    verdict = decide(record(approximate=sweep(0.975, 80)))
    assert verdict.decision == "ship"
    assert "keeps its recall at efSearch 64" in reasons(verdict, "good")


@pytest.mark.parametrize(
    ("more", "decision", "words"),
    [
        ({"split": "train"}, "can't tell", "these are training queries"),
        ({"split": "dev"}, "ship with care", "it was chosen by"),
        (
            {"split": "dev", "fit": make_fit(training_splits=["train", "dev"])},
            "can't tell",
            "it was trained on the dev split",
        ),
        ({"split_is_made": True, "n_used": None}, "can't tell", "it may have seen them all"),
        (
            {"n_used": 300, "fresh_queries": {"n_queries": 0, "metrics": None}},
            "can't tell",
            "every one of these queries",
        ),
    ],
)
def test_queries_that_made_the_model_prove_nothing(
    more: dict[str, Any], decision: str, words: str
) -> None:
    verdict = decide(record(**more))
    assert verdict.decision == decision
    assert words in verdict.sentence


def test_dev_split_that_no_fit_has_used_may_judge_a_model_of_unknown_training() -> None:
    verdict = decide(record(split="dev", split_is_made=False, n_used=None, fit=None))
    assert verdict.decision == "ship"
    assert "is not known" in reasons(verdict, "note")


@pytest.mark.parametrize("split", ["train", "dev"])
def test_split_of_other_labels_is_judged_by_what_the_model_has_seen_of_it(split: str) -> None:
    fit = make_fit(training_splits=["train", "dev"])
    other = {"split": split, "labels": "sha256:other", "fit": fit}
    assert decide(record(n_used=0, **other)).decision == "ship"
    some = {"n_used": 200, "fresh_queries": part(100, -0.1)}
    assert decide(record(**some, **other)).decision == "do not ship"
    every = {"n_used": 300, "fresh_queries": part(0)}
    assert decide(record(**every, **other)).decision == "can't tell"


def test_dev_split_of_other_labels_is_not_the_one_that_the_fit_was_trained_on() -> None:
    fit = make_fit(training_splits=["train", "dev"])
    verdict = decide(record(split="dev", labels="sha256:other", fit=fit))
    assert "whether it was chosen by these queries is not known" in reasons(verdict, "note")


def test_split_that_was_made_proves_where_the_model_is_known_not_to_have_seen_it() -> None:
    assert decide(record(split_is_made=True, n_used=0)).decision == "ship"


def test_queries_that_had_no_part_in_the_model_judge_it() -> None:
    verdict = decide(record(0.3, n_used=200, fresh_queries=part(100, -0.1)))
    assert verdict.decision == "do not ship"


def test_gain_that_its_p_value_denies_is_care_and_no_slice_gains() -> None:
    doubtful = {"ndcg@10": {**metric(0.1, 0.09), "p_value": 0.124}}
    verdict = decide(record(metrics=doubtful))
    assert verdict.decision == "ship with care"
    assert "too few of the 300 queries change to tell the gain from chance: p = 0.124" in (
        verdict.sentence
    )
    slices = {
        "seen_documents": part(200),
        "unseen_documents": {"n_queries": 100, "metrics": doubtful},
    }
    said = decide(record(slices=slices))
    assert "100 queries about unseen documents" not in reasons(said, "good")


def test_loss_that_its_p_value_doubts_is_still_a_loss() -> None:
    doubtful = {"ndcg@10": {**metric(-0.1, 0.09), "p_value": 0.124}}
    assert decide(record(metrics=doubtful)).decision == "do not ship"
    slices = {
        "seen_documents": part(200),
        "unseen_documents": {"n_queries": 100, "metrics": doubtful},
    }
    assert "a slice loses" in decide(record(slices=slices)).sentence


def test_queries_that_nothing_answers_are_not_counted_as_evidence() -> None:
    verdict = decide(record(answered_queries=part(29)))
    assert verdict.decision == "ship with care"
    assert "on 29 test queries with a relevant document, but" in verdict.sentence
    assert "29 queries are too few to trust" in verdict.sentence
    found = {"n_queries": 100, "metrics": {"ndcg@10": metric(0.1, 0.02, base=0.1)}}
    diluted = {"ndcg@10": metric(0.01, 0.002, base=0.01)}
    assert decide(record(metrics=diluted, answered_queries=found)).decision == "ship"


def test_verdict_speaks_of_the_queries_that_judge_alone() -> None:
    """The whole split's gain of .3, its slices and its recall are those of trained queries, too."""
    fresh = {
        "n_queries": 100,
        "metrics": {"ndcg@10": metric(0.1, 0.02), "recall@100": metric(-0.03, 0.01)},
        "slices": {"seen_documents": part(60), "unseen_documents": part(40, -0.1)},
    }
    verdict = decide(record(0.3, n_used=200, fresh_queries=fresh))
    assert verdict.sentence == (
        "Ship with care: nDCG@10 rises from 0.600 to 0.700 (+0.100, 95 % interval +0.080 to "
        "+0.120) on 100 test queries that had no part in the model, but a slice loses: 40 queries "
        "about unseen documents: nDCG@10 -0.100 (-0.120 to -0.080); recall@100 falls: -0.030 "
        "(-0.040 to -0.020)."
    )


@pytest.mark.parametrize(("chance", "is_lost"), [(0.0001, False), (0.04, True)])
def test_raw_queries_that_find_nothing_may_be_of_another_encoder(
    chance: float, is_lost: bool
) -> None:
    found = {"ndcg@10": metric(0.5, 0.02, base=0.07)}
    verdict = decide(record(metrics=found, **{"chance_ndcg@10": chance}))
    assert ("--use migration" in verdict.sentence) == is_lost
    lost = {"ndcg@10": metric(0.5, 0.02, base=0.001)}
    assert "--use migration" in decide(record(metrics=lost)).sentence


def test_queries_that_an_llm_wrote_prove_little() -> None:
    verdict = decide(record(n_synthetic=200))
    assert verdict.decision == "ship with care"
    assert "an LLM wrote 200 of" in verdict.sentence
    assert decide(record(n_synthetic=0)).decision == "ship"


def test_gain_over_a_query_that_can_not_be_searched_with_is_no_proof() -> None:
    verdict = decide(
        record(0.6, 0.02, score_shift={"rank_1": {"adapted": {"mean": 0.5, "quantiles": {}}}})
    )
    assert verdict.decision == "ship with care"
    assert "no base to compare with" in verdict.sentence
    assert "rises" not in verdict.sentence


def test_reasons_stand_in_order_of_weight() -> None:
    verdict = decide(record(n_queries=29, approximate=sweep(0.975, 80)))
    order = ["stop", "care", "good", "note"]
    weights = [order.index(one.weight) for one in verdict.reasons]
    assert weights == sorted(weights)


def test_record_without_a_fit_and_without_extras_is_judged() -> None:
    bare = record(fit=None, latency=None, size_curve=None, model=None)
    assert decide(bare).decision == "ship"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0004, "0.000"), (-0.0004, "0.000"), (0.05, "+0.050"), (-1.0, "-1.000")]
)
def test_what_rounds_to_zero_has_no_sign(value: float, text: str) -> None:
    assert signed(value) == text
