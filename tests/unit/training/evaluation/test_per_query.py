"""Who changed: small counts, and the queries that changed most, with ranks and texts."""

from pathlib import Path

import numpy as np

from tests.support.sets import write_dataset
from trimtab_training.data.dataset import Dataset
from trimtab_training.evaluation.per_query import (
    Found,
    FoundDocument,
    Searched,
    count_changes,
    most_changed,
)
from trimtab_training.retrieval.metrics import measure


def scores(ndcg: list[float], hit: list[float] | None = None) -> dict[str, np.ndarray]:
    return {"ndcg@10": np.array(ndcg), "hit@10": np.array(hit or [1.0] * len(ndcg))}


def test_every_query_is_counted_once() -> None:
    base = scores([0.5, 0.5, 0.0, 1.0, 0.2], [1, 1, 0, 1, 1])
    adapted = scores([0.5, 0.8, 1.0, 0.0, 0.2 + 1e-12], [1, 1, 1, 0, 1])
    changes = count_changes(base, adapted)
    assert changes.unchanged == 2
    assert sum(changes.counts) == 3
    assert len(changes.edges) == len(changes.counts) + 1
    assert changes.found == Found(both=3, only_adapted=1, only_base=1, neither=0)


def test_losses_stand_left_of_the_middle_and_gains_right_of_it() -> None:
    changes = count_changes(scores([0.5] * 3), scores([0.45, 0.55, 0.6]))
    middle = len(changes.counts) // 2
    assert changes.edges[middle] == 0
    assert sum(changes.counts[:middle]) == 1
    assert sum(changes.counts[middle:]) == 2


def test_equal_changes_are_counted_together_whatever_their_last_bit() -> None:
    base, adapted = np.array([0.0, 0.3, 0.7]), np.array([0.1, 0.4, 0.8])
    assert len(set((adapted - base).tolist())) > 1
    counts = count_changes(scores(base.tolist()), scores(adapted.tolist())).counts
    assert max(counts) == 3


def test_counts_stay_small_for_many_queries() -> None:
    many = np.random.default_rng(0).random(10_000).tolist()
    assert len(count_changes(scores(many), scores(many[::-1])).counts) == 20


def searched_of(folder: Path) -> tuple[Searched, Dataset]:
    """Three queries: the first loses its document, the second gains it, the third stays."""
    documents = {f"d{row}": f"text {row}" for row in range(4)}
    write_dataset(folder, documents=documents, queries={"q0": "one", "q1": "two", "q2": "three"})
    base = np.array([[0, 1, 2], [3, 2, 1], [2, 0, 1]])
    adapted = np.array([[1, 2, 3], [1, 2, 3], [2, 0, 1]])
    nothing = np.zeros((3, 3), dtype=np.float32)
    relevant = [{0: 1.0}, {1: 1.0}, {2: 1.0}]
    ids = ["d0", "d1", "d2", "d3"]
    searched = Searched(["q0", "q1", "q2"], relevant, ids, (base, nothing), (adapted, nothing))
    return searched, Dataset.load(folder)


def test_losses_and_gains_are_named_with_ranks_and_texts(tmp_path: Path) -> None:
    searched, dataset = searched_of(tmp_path)
    before = measure(searched.base[0], searched.relevant_rows)
    after = measure(searched.adapted[0], searched.relevant_rows)
    losses, gains = most_changed(searched, dataset, before, after)
    assert [one.query_id for one in losses] == ["q0"]
    assert [one.query_id for one in gains] == ["q1"]
    assert (losses[0].rank_before, losses[0].rank_after) == (1, None)
    assert (gains[0].rank_before, gains[0].rank_after) == (3, 1)
    assert losses[0].query == "one"
    assert losses[0].found_before[0] == FoundDocument(doc_id="d0", text="text 0", is_relevant=True)
    assert [one.is_relevant for one in losses[0].found_after] == [False] * 3


def test_missing_results_are_not_taken_for_documents(tmp_path: Path) -> None:
    searched, dataset = searched_of(tmp_path)
    empty = np.full((3, 1), -1), np.zeros((3, 1), dtype=np.float32)
    blind = Searched(
        searched.query_ids, searched.relevant_rows, searched.document_ids, empty, searched.adapted
    )
    before = measure(empty[0], searched.relevant_rows)
    after = measure(searched.adapted[0], searched.relevant_rows)
    _, gains = most_changed(blind, dataset, before, after)
    assert gains[0].found_before == []
    assert gains[0].rank_before is None
