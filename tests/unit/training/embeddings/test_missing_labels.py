"""Labels of what has no vector: left out up to a share, counted, and never in silence."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.worlds import World, make_world
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels
from trimtab_training.embeddings.missing_labels import keep_embedded
from trimtab_training.errors import DataError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "docs", n_documents=20, n_queries=12)


def dataset_of(world: World, **splits: Qrels) -> Dataset:
    return replace(world.dataset, splits=splits)


TEST: Qrels = {"q1": {"d1": 1.0}, "q2": {"d2": 1.0, "d3": 0.0}}


def test_everything_stays_where_everything_has_a_vector(world: World) -> None:
    dataset = dataset_of(world, train=TEST, test=TEST)
    assert keep_embedded(dataset, world.embeddings, 0.0) == (dataset, None)


def test_labels_of_what_is_gone_are_left_out_and_counted(world: World) -> None:
    train: Qrels = {
        "q3": {"d1": 1.0, "gone": 2.0},  # one answer is left
        "q4": {"gone": 1.0, "d2": 0.0},  # no answer is left
        "q5": {"d4": 0.0, "old": 0.0},  # never had one
        "nobody": {"d4": 1.0, "d5": 1.0},
        "q6": {"d6": 1.0},
    }
    found, dropped = keep_embedded(dataset_of(world, train=train, test=TEST), world.embeddings, 0.5)
    assert found.splits == {
        "train": {"q3": {"d1": 1.0}, "q5": {"d4": 0.0}, "q6": {"d6": 1.0}},
        "test": TEST,
    }
    assert dropped is not None
    assert dropped.as_dict() == {
        "labels": {"train": [6, 9], "test": [0, 3]},
        "queries": {"train": [2, 5], "test": [0, 2]},
        "share": 0.5,
        "documents_without_vector": 2,
        "queries_without_vector": 1,
        "examples": ["gone", "nobody", "old"],
    }
    said = dropped.sentence()
    assert "6 of 12 labels (50.0%)" in said
    assert "2 of 5 train, 0 of 2 test queries" in said
    assert "2 ('gone', 'old') documents and 1 ('nobody') queries have no vector" in said


def test_more_than_the_share_is_refused_with_the_option_that_allows_it(world: World) -> None:
    train: Qrels = {"q3": {"d1": 1.0, "gone": 1.0}, "q4": {"d5": 1.0}}
    dataset = dataset_of(world, train=train, test=TEST)
    assert keep_embedded(dataset, world.embeddings, 1 / 6)[1] is not None
    with pytest.raises(DataError, match=r"1 of 6 labels .*more than --max-dropped 0\.16 allows"):
        keep_embedded(dataset, world.embeddings, 0.16)


@pytest.mark.parametrize("split", ["train", "test"])
def test_split_that_is_left_without_a_query_is_refused(world: World, split: str) -> None:
    splits: dict[str, Qrels] = {"train": TEST, "test": TEST, split: {"q3": {"gone": 1.0}}}
    with pytest.raises(DataError, match=f"no query of the {split} split is left: 1 of 4 labels"):
        keep_embedded(dataset_of(world, **splits), world.embeddings, 1.0)


def test_only_the_splits_that_are_measured_are_looked_at(world: World) -> None:
    train: Qrels = {"q3": {"gone": 1.0}}
    dataset = dataset_of(world, train=train, test=TEST)
    assert keep_embedded(dataset, world.embeddings, 0.0, splits=("test",)) == (dataset, None)


def test_embeddings_of_no_label_are_one_line(world: World, tmp_path: Path) -> None:
    splits: dict[str, Qrels] = {"train": {"a": {"x": 1.0}}, "test": {"b": {"y": 1.0}}}
    with pytest.raises(DataError, match=r"2 of 2 labels \(100\.0%\)"):
        keep_embedded(dataset_of(world, **splits), world.embeddings)
