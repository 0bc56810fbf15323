"""What a fit looks at to choose: nDCG@10 of held-out queries, seen and unseen documents apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from trimtab_training.data.qrels import Qrels, only_relevant
from trimtab_training.data.splits import has_seen_document
from trimtab_training.embeddings.store import Embeddings, VectorTable
from trimtab_training.fit.recipe import Recipe
from trimtab_training.retrieval.exact_search import best_of, normalise, prepare_documents, search
from trimtab_training.retrieval.metrics import HEADLINE_CUTOFF, expected_ndcg, grades_of, ndcg

_HARD_DEPTH = 100
_QUERIES_AT_ONCE = 512


def validation_rows(
    embeddings: Embeddings, splits: Sequence[Qrels], recipe: Recipe, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose the documents that validation ranks: all, or a pool where they are too many.

    The pool holds every labelled document, what the raw queries find, and random ones.
    """
    documents = embeddings.documents
    if len(documents) <= recipe.max_validated:
        return np.arange(len(documents))
    wanted = {
        documents.rows[doc_id] for qrels in splits for labels in qrels.values() for doc_id in labels
    }
    pool = set(wanted)
    if embeddings.queries.dim == documents.dim:
        queries = embeddings.queries.take_ids([query for qrels in splits for query in qrels])
        found, _ = search(queries, documents, depth=_HARD_DEPTH, similarity=recipe.compares_by)
        for column in found.T:  # the best of every query first, then the second best
            if len(pool) + len(column) > max(len(wanted), recipe.max_validated * 3 // 4):
                break
            pool.update(column.tolist())
    missing = max(0, recipe.max_validated - len(pool))
    others = np.setdiff1d(np.arange(len(documents)), np.fromiter(pool, dtype=np.int64))
    pool.update(rng.choice(others, size=missing, replace=False).tolist())
    return np.sort(np.fromiter(pool, dtype=np.int64))


class DocumentPool:
    """The documents that validation ranks, in memory once for all folds."""

    def __init__(self, documents: VectorTable, rows: NDArray[np.int64], similarity: str) -> None:
        """Copy the chosen documents into memory."""
        self.similarity = similarity
        self.place = {documents.ids[row]: place for place, row in enumerate(rows.tolist())}
        self._vectors, self._offsets = prepare_documents(
            torch.from_numpy(documents.take(rows)), similarity
        )

    def to(self, device: torch.device) -> "DocumentPool":
        """Move the documents to a device."""
        self._vectors, self._offsets = self._vectors.to(device), self._offsets.to(device)
        return self

    def rank(
        self, queries: Float[Tensor, "n dim"], depth: int = HEADLINE_CUTOFF
    ) -> NDArray[np.int64]:
        """Give the places of each query's nearest documents, the best first."""
        if self.similarity == "cosine":
            queries = normalise(queries)
        found = [
            best_of(torch.addmm(self._offsets, part, self._vectors.T), depth)[0]
            for part in torch.split(queries, _QUERIES_AT_ONCE)
        ]
        return torch.cat(found).cpu().numpy()

    def take(self, places: NDArray[np.int64]) -> Float[Tensor, "*places dim"]:
        """Give the vectors at some places; of unit length where the index compares by cosine."""
        return self._vectors[torch.from_numpy(places).to(self._vectors.device)]


@dataclass(frozen=True)
class ValidationSet:
    """Held-out queries and how they are scored.

    Attributes:
        queries: Their vectors, shape ``(queries, dim_in)``.
        relevant_places: For each, the grade of each relevant document by its place in the pool.
        is_seen: For each, whether a relevant document of it was trained on.
        pool: The documents that are ranked.
    """

    queries: Float[Tensor, "n dim_in"]
    relevant_places: list[dict[int, float]]
    is_seen: NDArray[np.bool_]
    pool: DocumentPool

    @classmethod
    def make(
        cls, qrels: Qrels, training: Qrels, embeddings: Embeddings, pool: DocumentPool
    ) -> "ValidationSet":
        """Gather held-out queries; ``training`` tells which documents are seen."""
        return cls(
            torch.from_numpy(embeddings.queries.take_ids(list(qrels))),
            [
                {pool.place[doc_id]: grade for doc_id, grade in labels.items()}
                for labels in only_relevant(qrels).values()
            ],
            has_seen_document(qrels, training),
            pool,
        )

    def ndcg(self, adapted: Float[Tensor, "n dim_out"]) -> NDArray[np.float64]:
        """Score adapted queries: nDCG@10 for each."""
        return self.ndcg_of(self.pool.rank(adapted))

    def ndcg_of(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score what each query has found, the best first: nDCG@10 for each."""
        found = places[:, :HEADLINE_CUTOFF]
        return ndcg(grades_of(found, self.relevant_places), self.relevant_places, HEADLINE_CUTOFF)

    def chance(self) -> NDArray[np.float64]:
        """Score the documents in an order of chance: the expected nDCG@10 of each query."""
        return expected_ndcg(self.relevant_places, len(self.pool.place), HEADLINE_CUTOFF)
