"""One exact evaluator for every method: the sets, their vectors, and per-query scores."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab_training.data.dataset import Dataset
from trimtab_training.data.folds import Fold, make_folds
from trimtab_training.data.qrels import Qrels, relevant, relevant_documents
from trimtab_training.data.splits import has_seen_document, split_qrels, unit_hash
from trimtab_training.embeddings.store import Embeddings, VectorTable
from trimtab_training.retrieval.exact_search import search
from trimtab_training.retrieval.metrics import DEPTH, measure

HEADLINE = "ndcg@10"
VALIDATION_QUERIES = 2000
N_FOLDS = 2


@dataclass(frozen=True)
class Task:
    """A dataset with its vectors.

    Attributes:
        dataset: Labels by split, and the texts.
        embeddings: Vectors of every query and document.
    """

    dataset: Dataset
    embeddings: Embeddings

    @classmethod
    def load(cls, folder: Path) -> "Task":
        """Open a dataset folder with its ``embeddings`` inside."""
        task = cls(Dataset.load(folder), Embeddings.open(folder / "embeddings"))
        task.embeddings.require(task.dataset.splits)
        return task

    @property
    def name(self) -> str:
        """Name of the set."""
        return self.dataset.name

    @property
    def train(self) -> Qrels:
        """Labels to train on, those of queries with a relevant document."""
        return {query: row for query, row in self.dataset.split("train").items() if relevant(row)}

    @property
    def test(self) -> Qrels:
        """Labels that no method sees."""
        return self.dataset.split("test")

    def queries(self, qrels: Qrels) -> NDArray[np.float32]:
        """Give the raw query vectors of some labels, in their order."""
        return self.embeddings.queries.take_ids(list(qrels))

    def is_seen(self) -> NDArray[np.bool_]:
        """Tell which test queries have a relevant document that was relevant in training."""
        return has_seen_document(self.test, self.train)

    def drawn(self, size: int | None, seed: int) -> "Task":
        """Keep some training queries, drawn by hash so that a larger draw holds every smaller one.

        The dev split goes: whoever has fifty labels has no seven hundred more to choose by.
        """
        if size is None:
            return self
        order = sorted(self.train, key=lambda query: unit_hash(query, f"size {seed}"))
        train = {query: self.train[query] for query in order[:size]}
        splits = {"train": train, "test": self.test}
        return replace(self, dataset=replace(self.dataset, splits=splits))

    def validation(self, seed: int, *, by: str) -> tuple[Qrels, Qrels]:
        """Give the labels to train on and those to choose by: dev, or a fifth of train."""
        if "dev" in self.dataset.splits:
            return self.train, first_few(self.dataset.split("dev"))
        parts = split_qrels(self.train, by=by, key=f"validation {seed}")
        return parts["train"], first_few(parts["test"])

    def folds(self) -> list[Fold]:
        """Split as ``trimtab fit`` does: dev, or the first two of its five folds.

        They hold out known and new documents in the proportion that the index has them.
        """
        if "dev" in self.dataset.splits:
            return [Fold(*self.validation(0, by="document"))]
        unlabelled = 1 - len(relevant_documents(self.train)) / len(self.embeddings.documents)
        folds = make_folds(self.train, n_folds=5, unlabelled_share=unlabelled, seed=0)[:N_FOLDS]
        return [Fold(fold.train, first_few(fold.held_out)) for fold in folds]


def first_few(qrels: Qrels) -> Qrels:
    """Keep at most ``VALIDATION_QUERIES`` queries, drawn by hash."""
    order = sorted(qrels, key=lambda query: unit_hash(query, "validated"))
    return {query: qrels[query] for query in order[:VALIDATION_QUERIES]}


def score_queries(
    queries: NDArray[np.float32], qrels: Qrels, documents: VectorTable
) -> dict[str, NDArray[np.float64]]:
    """Search exactly by cosine and give every metric for every query.

    Args:
        queries: One vector a query of ``qrels``, in its order, of any length.
        qrels: The labels to measure on.
        documents: The document vectors.
    """
    rows, _ = search(queries, documents, depth=DEPTH, similarity="cosine")
    wanted = [
        {documents.rows[doc_id]: grade for doc_id, grade in relevant(labels).items()}
        for labels in qrels.values()
    ]
    return measure(rows, wanted)


def mean_ndcg(queries: NDArray[np.float32], qrels: Qrels, documents: VectorTable) -> float:
    """Give the mean nDCG@10, for choosing."""
    return float(score_queries(queries, qrels, documents)[HEADLINE].mean())
