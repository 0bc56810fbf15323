"""Who scores adapters on queries that they have not seen, raw and at every blend."""

import logging
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trimtab_training.adapters import Adapter
from trimtab_training.data.folds import Fold
from trimtab_training.data.qrels import Qrels
from trimtab_training.data.splits import unit_hash
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.fit.model_selection import HeldOut, Scores
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.validation import DocumentPool, ValidationSet, validation_rows

logger = logging.getLogger(__name__)


class CrossValidation:
    """The held-out queries of every fold, and their raw scores.

    Attributes:
        score_s: Seconds that it took to score one fold's queries.
    """

    def __init__(
        self,
        folds: Sequence[Fold],
        embeddings: Embeddings,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        """Gather the queries, and the documents that they rank."""
        self._recipe, self._device = recipe, device
        labels = [held_out_labels(fold, recipe) for fold in folds]
        rows = validation_rows(embeddings, labels, recipe, np.random.default_rng(seed))
        if len(rows) < len(embeddings.documents):
            logger.warning(
                "too many documents to validate on; ranking hard and random ones",
                extra={"ranked": len(rows), "documents": len(embeddings.documents)},
            )
        pool = DocumentPool(embeddings.documents, rows, recipe.compares_by).to(device)
        use = recipe.use_between(embeddings.queries.dim, embeddings.documents.dim)
        self._is_comparable = use == "relevance"
        self._validations = [
            ValidationSet.make(each, fold.train, embeddings, pool)
            for each, fold in zip(labels, folds, strict=True)
        ]
        started = time.perf_counter()
        self._bases = [self._base_scores(validation) for validation in self._validations]
        self.score_s = (time.perf_counter() - started) / len(folds)

    @property
    def n_blends(self) -> int:
        """Number of blends that an adapter is scored at; of no change, the scores are known."""
        return len({0.0, *self._recipe.blends, 1.0}) - self._is_comparable

    def score(self, adapter: Adapter, fold: int = 0) -> HeldOut:
        """Score one adapter at every blend on one fold's queries."""
        scores = {0.0: self._bases[fold]} if self._is_comparable else {}
        for blend in sorted({0.0, *self._recipe.blends, 1.0} - scores.keys()):
            scores[blend] = self.score_at(adapter, blend, fold)
        return self.held_out(scores, fold)

    @torch.no_grad()
    def score_at(self, adapter: Adapter, blend: float, fold: int) -> Scores:
        """Score one adapter at one blend on one fold's queries."""
        adapter.blend.fill_(blend)
        return self.score_vectors(adapter(self.raw_queries(fold)), fold)

    def raw_queries(self, fold: int) -> Float[Tensor, "queries dim_in"]:
        """Give the raw vectors of one fold's queries, in the order of :func:`held_out_labels`."""
        return self._validations[fold].queries.to(self._device)

    def score_vectors(self, vectors: Float[Tensor, "queries dim_out"], fold: int) -> Scores:
        """Score one fold's queries by whatever vectors something makes of them."""
        return self._validations[fold].ndcg(vectors)

    def validation(self, fold: int) -> ValidationSet:
        """Give one fold's held-out queries, and the documents that they rank."""
        return self._validations[fold]

    def held_out(self, scores: Mapping[float, Scores], fold: int) -> HeldOut:
        """Put scores by blend beside what is known of a fold's queries."""
        return HeldOut(
            self._bases[fold],
            scores,
            self._validations[fold].is_seen,
            self._recipe.blends,
            is_comparable=self._is_comparable,
        )

    def _base_scores(self, validation: ValidationSet) -> Scores:
        """Score the raw queries; those of another encoder can do no better than chance."""
        if not self._is_comparable:
            return validation.chance()
        return validation.ndcg(validation.queries.to(self._device))


def held_out_labels(fold: Fold, recipe: Recipe) -> Qrels:
    """Give the queries that a fold is scored on: those that it leaves out, or some of them."""
    chosen = sorted(fold.held_out, key=lambda query: unit_hash(query, "held out"))
    return {query: fold.held_out[query] for query in chosen[: recipe.max_held_out]}


def count_folds(folds: Sequence[Fold], recipe: Recipe, n_queries: int) -> int:
    """Count the folds that it takes to hold out so many queries; at most all."""
    sizes = [len(held_out_labels(fold, recipe)) for fold in folds]
    return min(len(folds), 1 + int(np.searchsorted(np.cumsum(sizes), n_queries)))
