"""Metrics by hand: linear gains, cutoffs, and queries that find nothing."""

import numpy as np
import pytest

from trimtab_training.retrieval.metrics import (
    DEPTH,
    expected_ndcg,
    grades_of,
    hit,
    measure,
    ndcg,
    recall,
    reciprocal_rank,
)

EXACT = 1e-12  # one or two roundings in float64


def ranking(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


def one(rows: list[int], wanted: dict[int, float]) -> dict[str, float]:
    return {name: float(values[0]) for name, values in measure(ranking(rows), [wanted]).items()}


def test_perfect_ranking_scores_one() -> None:
    assert one([4, 2, 9], {4: 2.0, 2: 1.0}) == {
        "ndcg@10": 1.0,
        "mrr@10": 1.0,
        "hit@10": 1.0,
        "recall@100": 1.0,
    }


def test_query_that_finds_nothing_relevant_scores_zero() -> None:
    assert set(one([4, 2, 9], {5: 1.0}).values()) == {0.0}


def test_query_without_anything_relevant_scores_zero() -> None:
    assert set(one([4, 2, 9], {}).values()) == {0.0}


def test_ndcg_discounts_by_the_logarithm_of_the_rank() -> None:
    scores = one([9, 8, 4, 7], {4: 1.0, 7: 1.0})
    gained = 1 / np.log2(4) + 1 / np.log2(5)
    assert scores["ndcg@10"] == pytest.approx(gained / (1 + 1 / np.log2(3)), abs=EXACT)
    assert scores["mrr@10"] == pytest.approx(1 / 3, abs=EXACT)


def test_gains_are_linear_in_the_grade() -> None:
    scores = one([7, 4], {4: 3.0, 7: 1.0})
    assert scores["ndcg@10"] == pytest.approx(
        (1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3)), abs=EXACT
    )


def test_grades_may_be_fractions() -> None:
    assert one([4, 7], {4: 0.5, 7: 0.25})["ndcg@10"] == pytest.approx(1.0, abs=EXACT)


def test_ideal_ranking_is_cut_at_k_too() -> None:
    wanted = dict.fromkeys(range(30), 1.0)
    assert one(list(range(30)), wanted)["ndcg@10"] == pytest.approx(1.0, abs=EXACT)


def test_cutoffs_look_no_further() -> None:
    rows = [*range(100, 110), 1, *range(200, 290)]  # the relevant one stands 11th
    assert len(rows) == 101
    scores = one(rows, {1: 1.0, 289: 1.0})  # 289 stands 101st
    assert (scores["ndcg@10"], scores["mrr@10"], scores["hit@10"]) == (0, 0, 0)
    assert scores["recall@100"] == 0.5
    assert DEPTH == 100


def test_tenth_document_still_counts() -> None:
    scores = one([*range(100, 109), 1], {1: 1.0})
    assert scores["ndcg@10"] == pytest.approx(1 / np.log2(11), abs=EXACT)
    assert scores["mrr@10"] == pytest.approx(0.1, abs=EXACT)
    assert scores["hit@10"] == 1.0


def test_corpus_smaller_than_the_cutoff_is_no_trouble() -> None:
    scores = one([3, 1], {1: 1.0, 0: 1.0, 2: 1.0})
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert scores["ndcg@10"] == pytest.approx(1 / np.log2(3) / ideal, abs=EXACT)
    assert scores["recall@100"] == pytest.approx(1 / 3, abs=EXACT)


def test_recall_counts_documents_whatever_their_grade() -> None:
    assert one([1, 9], {1: 1.0, 2: 5.0})["recall@100"] == 0.5


def test_every_query_has_its_own_score() -> None:
    rows = ranking([0, 1], [0, 1], [0, 1])
    scores = measure(rows, [{0: 1.0}, {1: 1.0}, {5: 1.0}])
    np.testing.assert_array_equal(scores["mrr@10"], [1.0, 0.5, 0.0])
    np.testing.assert_array_equal(scores["hit@10"], [1.0, 1.0, 0.0])


def test_grades_stand_where_their_documents_stand() -> None:
    grades = grades_of(ranking([5, 6, 7], [7, 5, 6]), [{6: 2.0, 9: 1.0}, {7: 1.0, 5: 3.0}])
    np.testing.assert_array_equal(grades, [[0, 2, 0], [1, 3, 0]])


def test_each_metric_takes_its_own_cutoff() -> None:
    wanted = [{3: 1.0, 4: 1.0}]
    grades = grades_of(ranking([1, 3, 4]), wanted)
    assert ndcg(grades, wanted, 1)[0] == 0
    assert reciprocal_rank(grades, 1)[0] == 0
    assert hit(grades, 2)[0] == 1
    assert recall(grades, wanted, 2)[0] == 0.5
    assert recall(grades, wanted, 3)[0] == 1


@pytest.mark.parametrize("n_documents", [4, 12])
def test_expected_ndcg_is_the_mean_over_all_orders(n_documents: int) -> None:
    wanted = [{0: 1.0}, {0: 3.0, 1: 1.0}, {}]
    places = [(one, other) for one in range(n_documents) for other in range(n_documents)]
    rankings = []  # every place that documents 0 and 1 can have, the others anywhere
    for one, other in places:
        if one != other:
            rows = np.full(n_documents, 99)
            rows[one], rows[other] = 0, 1
            rankings.append(rows)
    for query, labels in enumerate(wanted):
        grades = grades_of(np.array(rankings), [labels] * len(rankings))
        mean = ndcg(grades, [labels] * len(rankings), 10).mean()
        assert expected_ndcg(wanted, n_documents, 10)[query] == pytest.approx(mean, abs=EXACT)
