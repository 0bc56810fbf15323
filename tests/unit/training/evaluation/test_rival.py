"""What a tuned encoder's file is measured on: queries that had no part in it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.worlds import make_world
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.evaluation.rival import measure_tuned


@pytest.mark.parametrize(("n_used", "n_left_out"), [(10, 10), (40, 0)])
def test_test_queries_that_were_trained_on_are_left_out_unless_there_are_no_others(
    tmp_path: Path, n_used: int, n_left_out: int
) -> None:
    world = make_world(tmp_path)
    test, embeddings = world.dataset.split("test"), world.embeddings
    known = dict(list(test.items())[:n_used])
    vectors = embeddings.queries.take_ids(list(test)).copy()
    vectors[:n_used] = embeddings.documents.take_ids([*map(next, map(iter, known.values()))])
    found, runs = measure_tuned(
        vectors,
        None,
        world.dataset,
        embeddings,
        trained_on=TrainedOn.of(replace(world.dataset, splits={"train": known})),
        similarity="cosine",
    )
    assert (found.n_queries, found.n_left_out) == (40 - n_left_out, n_left_out)
    assert (found.against_raw.delta > 0) == (n_left_out == 0)  # the others' vectors are raw
    assert sum(part.n_queries for part in found.slices.values()) == found.n_queries
    assert ("that had no part in it" in found.queries) == (n_left_out > 0)
    assert len(runs.qrels) == 40


def test_queries_that_nothing_answers_are_about_no_unseen_document(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    test = {
        query: dict.fromkeys(labels, 0.0) for query, labels in world.dataset.split("test").items()
    }
    answered = dict(list(world.dataset.split("test").items())[:25])
    found, _ = measure_tuned(
        world.embeddings.queries.take_ids(list(test)),
        None,
        replace(world.dataset, splits={"test": {**test, **answered}}),
        world.embeddings,
        trained_on=TrainedOn.nothing(),
        similarity="cosine",
    )
    assert found.slices["unseen_documents"].n_queries == 25
