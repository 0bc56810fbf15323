"""Folds: every query held out once, and documents kept together where the index asks for it."""

import numpy as np
import pytest

from trimtab_training.data.folds import Fold, make_folds
from trimtab_training.data.qrels import Qrels
from trimtab_training.data.splits import group_by_document, has_seen_document, unit_hash
from trimtab_training.embeddings.store import VectorTable
from trimtab_training.fit.query_split import name_duplicates

QRELS: Qrels = {f"q{n}": {f"d{n // 4}": 1.0, "judged": 0.0} for n in range(400)}


def folds_of(qrels: Qrels, share: float, n_folds: int = 5, seed: int = 0) -> list[Fold]:
    return make_folds(qrels, n_folds=n_folds, unlabelled_share=share, seed=seed)


def held_in(folds: list[Fold]) -> dict[str, int]:
    return {query: number for number, fold in enumerate(folds) for query in fold.held_out}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n_folds", [2, 5, 10])
def test_each_query_is_held_out_once_and_trained_on_otherwise(share: float, n_folds: int) -> None:
    folds = folds_of(QRELS, share, n_folds)
    assert len(folds) == n_folds
    assert sorted(query for fold in folds for query in fold.held_out) == sorted(QRELS)
    for fold in folds:
        assert {**fold.train, **fold.held_out} == QRELS
        assert not fold.train.keys() & fold.held_out.keys()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_folds_are_of_like_size(share: float) -> None:
    sizes = [len(fold.held_out) for fold in folds_of(QRELS, share)]
    assert max(sizes) - min(sizes) <= 4  # a document's four queries may move as one


def test_index_full_of_labels_splits_by_query_alone() -> None:
    folds = folds_of(QRELS, 0.0)
    held = held_in(folds)
    apart = sum(len({held[f"q{4 * d + n}"] for n in range(4)}) > 1 for d in range(100))
    assert apart > 95  # four queries fall into one of five folds by chance 1 in 125 times
    assert max(len(fold.held_out) for fold in folds) == 80
    for fold in folds:
        assert has_seen_document(fold.held_out, fold.train).mean() > 0.9


@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
def test_half_the_unlabelled_share_is_held_out_with_its_documents(share: float) -> None:
    folds = folds_of(QRELS, share)
    unseen = sum((~has_seen_document(fold.held_out, fold.train)).sum() for fold in folds)
    assert unseen / len(QRELS) == pytest.approx(share / 2, abs=0.12)  # 100 documents: sd 0.05


def test_documents_that_are_kept_together_never_cross() -> None:
    pairs = {f"q{n}": {f"d{n}": 1.0, f"d{n + n % 2}": 1.0} for n in range(200)}
    held = held_in(folds_of(pairs, 1.0))
    groups = {}
    for query, name in group_by_document(pairs).items():
        groups.setdefault(name, []).append(query)
    together = [name for name in groups if unit_hash(name, "together 0") < 0.5]
    assert 30 < len(together) < len(groups)
    assert all(len({held[query] for query in groups[name]}) == 1 for name in together)
    apart = groups.keys() - together
    assert any(len({held[query] for query in groups[name]}) > 1 for name in apart)


def test_same_seed_makes_the_same_folds_whatever_the_order() -> None:
    backwards = dict(reversed(QRELS.items()))
    assert held_in(folds_of(QRELS, 0.4)) == held_in(folds_of(backwards, 0.4))
    assert held_in(folds_of(QRELS, 0.4)) != held_in(folds_of(QRELS, 0.4, seed=1))


@pytest.mark.parametrize("n_queries", [2, 3, 4])
def test_no_fold_is_empty_where_queries_are_few(n_queries: int) -> None:
    qrels = {f"q{n}": {f"d{n}": 1.0} for n in range(n_queries)}
    folds = folds_of(qrels, 0.5, n_folds=10)
    assert len(folds) == n_queries
    assert all(len(fold.held_out) == 1 and fold.train for fold in folds)


def test_every_fold_has_something_to_train_on() -> None:
    shared = {f"q{n}": {"d": 1.0} for n in range(30)}
    folds = [fold for seed in range(20) for fold in folds_of(shared, 1.0, seed=seed)]
    assert all(fold.train for fold in folds)


def test_query_has_seen_its_document_where_training_found_it_relevant() -> None:
    training = {"t1": {"a": 1.0, "b": 0.0}, "t2": {"c": 2.0}}
    qrels = {
        "seen": {"a": 1.0},
        "seen-among-others": {"x": 1.0, "c": 1.0},
        "judged-only-in-training": {"b": 1.0},
        "judged-only-here": {"a": 0.0, "x": 1.0},
        "unseen": {"x": 1.0},
    }
    found = has_seen_document(qrels, training)
    assert found.tolist() == [True, True, False, False, False]
    assert found.dtype == np.bool_


def test_nothing_was_seen_without_training() -> None:
    assert has_seen_document({"q": {"a": 1.0}}, {}).tolist() == [False]


def test_queries_with_one_vector_are_held_out_together() -> None:
    vectors = np.repeat(np.eye(100, 128, dtype=np.float32), 4, axis=0)  # q0 to q3 are the same
    duplicates = name_duplicates(QRELS, VectorTable(list(QRELS), vectors, "queries"))
    assert {duplicates[f"q{n}"] for n in range(8)} == {"q0", "q4"}
    folds = make_folds(QRELS, n_folds=5, unlabelled_share=0.0, seed=0, duplicates=duplicates)
    held = held_in(folds)
    assert all(held[query] == held[twin] for query, twin in duplicates.items())
    assert len(set(held.values())) == 5
