"""What a model was trained on: told by text whatever the ids, handed on, and tied to its model."""

import io
from pathlib import Path

import numpy as np
import pytest

from tests.support.sets import write_dataset
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.model_files import TRAINED_ON

MADE_BY = {"labels": "sha256:l", "vectors": "sha256:v", "seed": 0}


def dataset(folder: Path, queries: dict[str, str], **splits: dict[str, str]) -> Dataset:
    labels = {
        split: {query: {doc_id: 1} for query, doc_id in pairs.items()}
        for split, pairs in splits.items()
    }
    return Dataset.load(write_dataset(folder, queries=queries, splits=labels))


@pytest.fixture
def old(tmp_path: Path) -> Dataset:
    return dataset(
        tmp_path / "old",
        {"q1": "Money  back?", "q2": "opening hours", "q3": "a test query", "q4": ""},
        train={"q1": "d1", "q4": "d4"}, dev={"q2": "d2"}, test={"q3": "d3"},
    )  # fmt: skip


def test_queries_are_known_by_their_text_under_any_id(tmp_path: Path, old: Dataset) -> None:
    new = dataset(
        tmp_path / "new",
        {"n1": "money back?", "n2": "Opening hours", "n3": "a test query", "q4": ""},
        train={"n1": "d1"}, test={"n2": "d2", "n3": "d3", "q4": "d4"},
    )  # fmt: skip
    known = TrainedOn.of(old).has_query(new, ["n1", "n2", "n3", "q4"])
    assert known.tolist() == [True, True, False, True]  # without a text, by id


def test_documents_are_those_of_training_queries(old: Dataset) -> None:
    assert TrainedOn.of(old).has_document(["d1", "d2", "d3"]).tolist() == [True, False, False]


def test_start_hands_on_what_it_was_trained_on(tmp_path: Path, old: Dataset) -> None:
    new = dataset(tmp_path / "new", {"n1": "new"}, train={"n1": "d9"}, test={"n2": "d2"})
    both = TrainedOn.of(new, TrainedOn.of(old))
    assert both.has_query(old, ["q1"]).all()
    assert both.has_document(["d1", "d9"]).all()
    assert both.is_complete
    empty = np.array([], dtype=np.uint64)
    assert not TrainedOn.of(new, TrainedOn(empty, empty, is_complete=False)).is_complete


def test_model_of_a_divided_test_split_is_known_by_the_labels_it_was_divided_from(
    tmp_path: Path,
) -> None:
    queries = {f"q{n}": f"query {n}" for n in range(40)}
    whole = dataset(tmp_path / "docs", queries, test={query: f"d{query}" for query in queries})
    fitted = whole.for_fit()
    training = {"labels": fitted.content_hash(), "made_splits": fitted.made_splits}
    known = TrainedOn.find(tmp_path / "no model", training, whole)
    assert known is not None
    assert known.has_query(whole, list(fitted.split("train"))).all()
    assert not known.has_query(whole, list(fitted.split("test"))).any()
    other = dataset(tmp_path / "other", {"q1": "one"}, test={"q1": "d1"})  # can't be divided
    assert TrainedOn.find(tmp_path / "no model", training, other) is None


def test_file_is_read_back_beside_its_model_alone(tmp_path: Path, old: Dataset) -> None:
    known = TrainedOn.of(old)
    (tmp_path / TRAINED_ON).write_bytes(known.encode(MADE_BY))
    for model in (tmp_path, tmp_path / "adapter.onnx"):
        found = TrainedOn.beside(model, MADE_BY)
        assert found is not None
        np.testing.assert_array_equal(found.queries, known.queries)
        np.testing.assert_array_equal(found.documents, known.documents)
        assert found.is_complete
    assert TrainedOn.beside(tmp_path, {**MADE_BY, "labels": "sha256:other"}) is None
    assert TrainedOn.beside(tmp_path, {}) is None
    assert TrainedOn.beside(tmp_path / "none" / "adapter.onnx", MADE_BY) is None


def test_damaged_file_is_as_good_as_none(tmp_path: Path, old: Dataset) -> None:
    whole = TrainedOn.of(old).encode(MADE_BY)
    one, packed = io.BytesIO(), io.BytesIO()
    np.save(one, np.zeros(3))
    np.savez_compressed(packed, made_by=np.array("{}" * 100))
    spoilt = packed.getvalue()[:80] + b"\xff" * 10 + packed.getvalue()[90:]
    for content in (b"", b"not an archive", whole[:50], one.getvalue(), spoilt):
        (tmp_path / TRAINED_ON).write_bytes(content)
        assert TrainedOn.beside(tmp_path, MADE_BY) is None


def test_file_holds_no_text_and_is_the_same_every_time(old: Dataset) -> None:
    content = TrainedOn.of(old).encode(MADE_BY)
    assert content == TrainedOn.of(old).encode(MADE_BY)
    assert b"oney" not in content
