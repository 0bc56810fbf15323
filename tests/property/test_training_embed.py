"""Embedding, interrupted anywhere: nothing is lost, and nothing is paid for twice."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sets import CountingEncoder, vector_of, write_dataset
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.embed import embed_dataset
from trimtab_training.embeddings.journal import Journal
from trimtab_training.embeddings.store import Embeddings

DIM = 4
TEXTS = st.lists(st.sampled_from([f"text {n}" for n in range(9)]), min_size=1, max_size=12)


def key_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def vectors_of(numbers: list[int]) -> np.ndarray:
    return np.stack([vector_of(str(number), DIM) for number in numbers])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_journal_cut_anywhere_keeps_every_whole_record(
    sizes: list[int], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        journal = Journal(path)
        n_records = 0
        for size in sizes:
            numbers = list(range(n_records, n_records + size))
            journal.append([key_of(number) for number in numbers], vectors_of(numbers))
            n_records += size
        cut = data.draw(st.integers(0, path.stat().st_size))
        with path.open("r+b") as file:
            file.truncate(cut)
        left = max(0, cut - 8) // (32 + 4 * DIM)
        again = Journal(path)
        assert again.places == {key_of(number): number for number in range(left)}
        missing = list(range(left, n_records))
        if missing:
            again.append([key_of(number) for number in missing], vectors_of(missing))
        matrix = np.empty((n_records, DIM), dtype=np.float32)
        reopened = Journal(path)
        reopened.fill(matrix, [key_of(number) for number in range(n_records)])
        np.testing.assert_array_equal(matrix, vectors_of(list(range(n_records))))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(TEXTS, TEXTS, st.lists(st.integers(0, 3), max_size=4))
def test_any_number_of_interruptions_costs_nothing_twice(
    documents: list[str], queries: list[str], crashes: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.load(
            write_dataset(
                Path(folder) / "set",
                documents={f"d{n}": text for n, text in enumerate(documents)},
                queries={f"q{n}": text for n, text in enumerate(queries)},
            )
        )
        output = Path(folder) / "emb"
        counting = CountingEncoder()
        encoder = counting.encoder(query_prefix="query: ", batch_size=3)
        for after in [*crashes, None]:
            counting.fails_after = after
            try:
                embed_dataset(dataset, encoder, output)
            except ConnectionError:
                assert not output.exists()
            else:
                break
        wanted = {*documents, *(f"query: {text}" for text in queries)}
        assert Counter(counting.asked) == Counter(wanted)
        found = Embeddings.open(output)
        np.testing.assert_array_equal(
            found.documents.matrix, [vector_of(text) for text in documents]
        )
        np.testing.assert_array_equal(
            found.queries.matrix, [vector_of(f"query: {text}") for text in queries]
        )
