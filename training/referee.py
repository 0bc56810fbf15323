"""Who scores adapters on queries that they have not seen, raw and at every blend."""

import logging
from collections.abc import Sequence

import numpy as np
import torch

from training.adapters import Adapter
from training.config import Recipe
from training.dataset import Qrels, unit_hash
from training.embeddings import Embeddings
from training.folds import Fold
from training.judgement import HeldOut, Scores, join
from training.validation import DocumentPool, ValidationSet, validation_rows

logger = logging.getLogger(__name__)


class Referee:
    """The held-out queries of every fold: the dev split's where there is one, else the fold's own.

    Attributes:
        validations: One set of queries a fold.
        is_seen: For each fold, which slice its queries belong to.
    """

    def __init__(
        self,
        folds: Sequence[Fold],
        dev: Qrels,
        embeddings: Embeddings,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        """Gather the queries, and the documents that they rank."""
        self._recipe, self._device, self._has_dev = recipe, device, bool(dev)
        labels = [held_out_labels(fold, dev, recipe) for fold in folds]
        rows = validation_rows(embeddings, labels, recipe, np.random.default_rng(seed))
        if len(rows) < len(embeddings.documents):
            logger.warning(
                "too many documents to validate on; ranking hard and random ones",
                extra={"ranked": len(rows), "documents": len(embeddings.documents)},
            )
        pool = DocumentPool(embeddings.documents, rows, recipe.similarity).to(device)
        use = recipe.use_between(embeddings.queries.dim, embeddings.documents.dim)
        self._is_comparable = use == "relevance"
        self.validations = [
            ValidationSet.make(each, fold.train, embeddings, pool)
            for each, fold in zip(labels, folds, strict=True)
        ]
        self.is_seen = [validation.is_seen for validation in self.validations]
        self._bases = [self._base_scores(validation) for validation in self.validations]

    @torch.no_grad()
    def score(self, adapter: Adapter, fold: int = 0) -> HeldOut:
        """Score one adapter at every blend on one fold's queries."""
        validation, base = self.validations[fold], self._bases[fold]
        scores = {0.0: base} if self._is_comparable else {}
        for blend in sorted({0.0, *self._recipe.blends, 1.0} - scores.keys()):
            adapter.blend.fill_(blend)
            scores[blend] = validation.ndcg(adapter(validation.queries.to(self._device)))
        return HeldOut(
            base,
            scores,
            validation.is_seen,
            self._recipe.blends,
            is_comparable=self._is_comparable,
        )

    def join(self, parts: Sequence[HeldOut]) -> HeldOut:
        """Join the scores of each fold's adapter on what it has not seen."""
        return HeldOut(
            self.join_scores([part.base for part in parts]),
            {
                blend: self.join_scores([part.adapted[blend] for part in parts])
                for blend in parts[0].adapted
            },
            self.joined_is_seen,
            self._recipe.blends,
            is_comparable=self._is_comparable,
        )

    @property
    def joined_is_seen(self) -> np.ndarray:
        """Give the slice of each query that joined scores are of."""
        return self.is_seen[0] if self._has_dev else np.concatenate(self.is_seen)

    def join_scores(self, parts: Sequence[Scores]) -> Scores:
        """Put the folds' scores together; with a dev split, all scored the same queries."""
        return join(parts, same_queries=self._has_dev)

    def _base_scores(self, validation: ValidationSet) -> Scores:
        """Score the raw queries; those of another encoder can do no better than chance."""
        if not self._is_comparable:
            return validation.chance()
        return validation.ndcg(validation.queries.to(self._device))


def held_out_labels(fold: Fold, dev: Qrels, recipe: Recipe) -> Qrels:
    """Give what a fold's trial stops by: the dev split, else what the fold leaves out."""
    labels = dev or fold.held_out
    chosen = sorted(labels, key=lambda query: unit_hash(query, "held out"))
    return {query: labels[query] for query in chosen[: recipe.max_held_out]}
