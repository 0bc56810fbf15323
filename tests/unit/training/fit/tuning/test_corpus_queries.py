"""Corpus queries: which text of a document asks for it, and which are left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.sets import table, write_dataset, write_jsonl
from trimtab_training.data.dataset import Dataset
from trimtab_training.errors import DataError
from trimtab_training.fit.tuning.corpus_queries import CorpusQueries, read_corpus_queries

RECORDS = [
    {"_id": "d0", "title": "Fever", "text": "A raised temperature. It may pass."},
    {"_id": "d1", "title": "", "text": "Pain in the head. Often dull. Rarely sharp."},
    {"_id": "d2", "title": "", "text": ""},
    {"_id": "gone", "title": "Has no vector", "text": ""},
]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = write_dataset(tmp_path / "set")
    write_jsonl(folder / "corpus.jsonl", RECORDS)
    return Dataset.load(folder)


def read(dataset: Dataset, kind: Any, most: int = 10, seed: int = 0) -> CorpusQueries:
    documents = table(np.eye(3, dtype=np.float32))
    return read_corpus_queries(dataset, documents, kind, most=most, seed=seed)


def test_title_asks_for_its_document_and_else_the_first_sentence(dataset: Dataset) -> None:
    found = read(dataset, "titles")
    assert found.texts == ["Fever", "Pain in the head."]
    assert found.rows.tolist() == [0, 1]


def test_sentences_are_drawn_by_the_seed(dataset: Dataset) -> None:
    drawn = {read(dataset, "sentences", seed=seed).texts[1] for seed in range(20)}
    assert drawn == {"Pain in the head.", "Often dull.", "Rarely sharp."}
    assert read(dataset, "sentences", seed=3).texts == read(dataset, "sentences", seed=3).texts


def test_no_more_are_read_than_wanted(dataset: Dataset) -> None:
    assert len(read(dataset, "titles", most=1)) == 1


def test_none_are_made_of_no_kind(dataset: Dataset) -> None:
    assert len(read(dataset, "none")) == 0


def test_one_that_reads_like_another_query_is_left_out(dataset: Dataset) -> None:
    left = read(dataset, "titles").without(["  FEVER "])
    assert left.texts == ["Pain in the head."]
    assert left.rows.tolist() == [1]


def test_corpus_without_a_file_is_refused(dataset: Dataset) -> None:
    (dataset.folder / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match="corpus queries need the documents' texts"):
        read(dataset, "titles")
