"""Who changed: small counts, and the queries that changed most, with ranks and texts."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.sets import write_dataset
from trimtab_training.data.dataset import Dataset
from trimtab_training.evaluation.per_query import (
    Found,
    FoundDocument,
    Queries,
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


def searched_of(rows: np.ndarray, queries: Queries) -> Searched:
    nothing = np.zeros(rows.shape, dtype=np.float32)
    return Searched((rows, nothing), measure(rows, queries.relevant_rows))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    documents = {f"d{row}": f"text {row}" for row in range(4)}
    write_dataset(tmp_path, documents=documents, queries={"q0": "one", "q1": "two", "q2": "three"})
    return Dataset.load(tmp_path)


QUERIES = Queries(["q0", "q1", "q2"], [{0: 1.0}, {1: 1.0}, {2: 1.0}], ["d0", "d1", "d2", "d3"])
# The first loses its document, the second gains it, the third stays.
BEFORE = searched_of(np.array([[0, 1, 2], [3, 2, 1], [2, 0, 1]]), QUERIES)
AFTER = searched_of(np.array([[1, 2, 3], [1, 2, 3], [2, 0, 1]]), QUERIES)


def test_losses_and_gains_are_named_with_ranks_and_texts(dataset: Dataset) -> None:
    losses, gains = most_changed(QUERIES, dataset, BEFORE, AFTER)
    assert [one.query_id for one in losses] == ["q0"]
    assert [one.query_id for one in gains] == ["q1"]
    assert (losses[0].rank_before, losses[0].rank_after) == (1, None)
    assert (gains[0].rank_before, gains[0].rank_after) == (3, 1)
    assert losses[0].query == "one"
    wanted = FoundDocument(doc_id="d0", text="text 0", is_relevant=True)
    assert losses[0].found_before[0] == wanted
    assert [one.is_relevant for one in losses[0].found_after] == [False] * 3


def test_missing_results_are_not_taken_for_documents(dataset: Dataset) -> None:
    nothing = searched_of(np.full((3, 1), -1), QUERIES)
    _, gains = most_changed(QUERIES, dataset, nothing, AFTER)
    assert gains[0].found_before == []
    assert gains[0].rank_before is None
