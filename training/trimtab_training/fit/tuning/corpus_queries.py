"""Free training queries: what a document says of itself, asked of it.

They teach the encoder what documents are called that nobody has asked for yet.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_training.data.dataset import Dataset
from trimtab_training.data.json_lines import read_texts
from trimtab_training.data.splits import unit_hash
from trimtab_training.embeddings.store import VectorTable
from trimtab_training.errors import DataError

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LEAST_WORDS, _MOST_WORDS = 2, 32
"""Of a sentence: less says nothing, and a query is rarely longer."""


@dataclass(frozen=True)
class CorpusQueries:
    """Texts of documents, each a query for its own document.

    Attributes:
        texts: The queries.
        rows: Row of each one's document among the document vectors.
    """

    texts: list[str]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the queries."""
        return len(self.texts)

    def without(self, others: Iterable[str]) -> "CorpusQueries":
        """Leave out those that are one of some queries, but for case and spaces."""
        known = {plain(text) for text in others}
        kept = [place for place, text in enumerate(self.texts) if plain(text) not in known]
        return CorpusQueries([self.texts[place] for place in kept], self.rows[kept])


def read_corpus_queries(
    dataset: Dataset, documents: VectorTable, kind: str, *, most: int, seed: int
) -> CorpusQueries:
    """Make a query of every document, or of some where they are many.

    Args:
        dataset: Texts of the documents.
        documents: Their vectors; documents without one have no query.
        kind: ``titles`` takes the title, or the first sentence where there is none;
            ``sentences`` a sentence drawn by chance; ``none`` makes no queries.
        most: Most queries; documents are drawn by a hash of their id.
        seed: Draws documents and sentences.

    Raises:
        DataError: There is no corpus file, or no document has any such text.
    """
    if kind == "none":
        return CorpusQueries([], np.empty(0, np.int64))
    path = dataset.folder / "corpus.jsonl"
    if not path.exists():
        raise DataError(f"corpus queries need the documents' texts, but there is no {path}")
    records = (record for record in read_texts(path) if record["_id"] in documents.rows)
    chosen = nsmallest(most, _drawn(records, kind, seed), key=lambda one: one[0])
    if not chosen:
        raise DataError(f"no document in {path} has a text to make a corpus query of")
    pairs = sorted((documents.rows[doc_id], text) for _, doc_id, text in chosen)
    return CorpusQueries(
        [text for _, text in pairs], np.array([row for row, _ in pairs], dtype=np.int64)
    )


def plain(text: str) -> str:
    """Give what two texts have in common that differ in case and spaces alone."""
    return " ".join(text.casefold().split())


def without_texts(texts: dict[str, str], others: Collection[str]) -> dict[str, str]:
    """Leave out queries whose text is one of others, but for case and spaces."""
    known = {plain(text) for text in others}
    return {name: text for name, text in texts.items() if plain(text) not in known}


def _drawn(
    records: Iterable[dict[str, Any]], kind: str, seed: int
) -> Iterable[tuple[float, str, str]]:
    """Yield a number of chance, id and query of every document that has such a text."""
    for record in records:
        words = _query_of(record, kind, seed).split()
        if words:
            drawn = unit_hash(record["_id"], f"corpus {seed}")
            yield drawn, record["_id"], " ".join(words[:_MOST_WORDS])


def _query_of(record: dict[str, Any], kind: str, seed: int) -> str:
    """Give a document's title or a sentence of it; empty where there is none."""
    title = (record["title"] or "").strip()
    if kind == "titles" and title:
        return title
    sentences = [
        sentence.strip()
        for sentence in _SENTENCE_END.split((record["text"] or "").strip())
        if len(sentence.split()) >= _LEAST_WORDS
    ]
    if not sentences:
        return title
    drawn = unit_hash(record["_id"], f"sentence {seed}") if kind == "sentences" else 0.0
    return sentences[int(drawn * len(sentences))]
