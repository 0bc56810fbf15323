"""Fit an adapter: try, cross-validate, choose, and say so where nothing helps.

Every trial leaves one fold of the training queries out and stops by it (or by the dev split, where
the data has one), so no query is scored by an adapter that has seen it. The choice among trials,
the share of the change that is kept, and the choice of no adapter at all are made on those
held-out scores. The chosen weights are then fitted on all training queries. Test queries are
never looked at.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.adapters import Adapter
from training.checkpoint import Resume, State, Workspace
from training.config import Recipe
from training.dataset import Dataset, Qrels, relevant, relevant_documents, unit_hash
from training.device import find_device, seeded
from training.embeddings import Embeddings
from training.errors import DataError
from training.folds import Fold, make_folds
from training.judgement import (
    HeldOut,
    Scores,
    best_blend,
    describe,
    honest_scores,
    join,
    judge,
    objective,
)
from training.start import copy_adapter, digest_of, start_adapter
from training.trial import TrainedTrial, Trial, Weights
from training.validation import DocumentPool, ValidationSet, validation_rows

logger = logging.getLogger(__name__)

MIN_QUERIES = 2

Progress = Callable[[int, int], None]
"""Called with the number of trials finished and of all trials, after every epoch."""


@dataclass(frozen=True)
class FitSettings:
    """What a fit is told beside data and recipe.

    Attributes:
        seed: Seed of every random choice.
        device: Where to compute: ``cpu``, ``cuda`` or ``mps``.
        workspace: Folder for unfinished work; None keeps none.
        resume: Whether to continue what stands in the workspace; see :class:`Workspace`.
        start_from: A trained adapter to start from instead of the identity.
    """

    seed: int = 0
    device: str = "cpu"
    workspace: Path | None = None
    resume: Resume = "never"
    start_from: Adapter | None = None


@dataclass(frozen=True)
class FitResult:
    """What came out of a fit.

    Attributes:
        adapter: The chosen adapter, or None where no adapter helps.
        verdict: One sentence: what was chosen and why.
        weights: The loss weights that were chosen.
        blend: The share of the learned change that was chosen.
        validation: Held-out nDCG@10: base, adapted, gains by slice, and by trial.
        curves: Training loss and validation objective of each chosen trial, by epoch.
        seconds: Time taken.
        seed: The seed.
        recipe: The recipe.
    """

    adapter: Adapter | None
    verdict: str
    weights: Weights
    blend: float
    validation: dict[str, Any]
    curves: list[list[dict[str, float]]]
    seconds: float
    seed: int
    recipe: Recipe = field(default_factory=Recipe)


def fit_adapter(
    dataset: Dataset,
    embeddings: Embeddings,
    recipe: Recipe | None = None,
    settings: FitSettings | None = None,
    *,
    progress: Progress = lambda _done, _all: None,
) -> FitResult:
    """Fit the best adapter that the training queries support, or none.

    The same data, recipe and seed give the same bytes of weights on one machine, interrupted and
    resumed or not.

    Args:
        dataset: Labels; the ``test`` split is not used.
        embeddings: Vectors of every labelled query and document.
        recipe: The knobs; the defaults where absent.
        settings: Seed, device and workspace; the defaults where absent.
        progress: Called after every epoch.

    Raises:
        DataError: Fewer than two usable training queries, labels without vectors, or a workspace
            of another fit.
        ConfigError: The recipe does not fit the vectors, or the device is not there.
        DivergedError: A loss is no longer finite.
    """
    return _Fit(dataset, embeddings, recipe or Recipe(), settings or FitSettings(), progress).run()


class _Fit:
    """The steps of one fit, over data that they share."""

    def __init__(
        self,
        dataset: Dataset,
        embeddings: Embeddings,
        recipe: Recipe,
        settings: FitSettings,
        progress: Progress,
    ) -> None:
        """Look at the data and open the workspace."""
        self.recipe, self.settings, self.embeddings = recipe, settings, embeddings
        embeddings.require(dataset.splits)
        self.train = _usable(dataset.split("train"))
        if len(self.train) < MIN_QUERIES:
            raise DataError(
                f"dataset {dataset.name} has {len(self.train)} training queries with a relevant "
                f"document; a fit needs at least {MIN_QUERIES}, and pays from a few hundred"
            )
        self.dev = _usable(dataset.splits.get("dev", {}))
        self.device = find_device(settings.device)
        self._progress = progress
        self._done = 0
        self._n_trials = 0
        self.workspace = Workspace(
            settings.workspace,
            {
                "recipe": recipe.as_dict(),
                "seed": settings.seed,
                "labels": dataset.content_hash(),
                "vectors": embeddings.content_hash() if settings.workspace else "",
                "start": digest_of(settings.start_from),
            },
            resume=settings.resume,
        )
        self.folds = self._make_folds()
        held_out = [self._held_out_labels(fold) for fold in self.folds]
        rows = validation_rows(embeddings, held_out, recipe, np.random.default_rng(settings.seed))
        if len(rows) < len(embeddings.documents):
            logger.warning(
                "too many documents to validate on; ranking hard and random ones",
                extra={"ranked": len(rows), "documents": len(embeddings.documents)},
            )
        self.pool = DocumentPool(embeddings.documents, rows, recipe.similarity).to(self.device)
        self.validations = [
            ValidationSet.make(labels, fold.train, embeddings, self.pool)
            for labels, fold in zip(held_out, self.folds, strict=True)
        ]

    def run(self) -> FitResult:
        """Compare trials on some folds, finish the winner on all, then choose what to keep."""
        started = time.monotonic()
        choices = [
            Weights(unlabelled, anchor)
            for unlabelled, anchor in product(self.recipe.unlabelled_weights, self.recipe.anchors)
        ]
        n_folds = len(self.folds)
        self._n_trials = len(choices) * n_folds + self._n_refits()
        finished = {
            choice: [self._trial(choice, fold) for fold in range(n_folds)] for choice in choices
        }
        held_out = {choice: self._held_out(trials) for choice, trials in finished.items()}
        winner = max(choices, key=lambda choice: objective(held_out[choice]))
        trials = finished[winner]
        adapter = self._refit(winner, trials)
        # What may be shipped is scored itself on dev; else its folds on what they left out.
        evidence = self._scores(adapter, self.validations[0]) if self.dev else held_out[winner]
        blend = best_blend(evidence)
        histories = {
            choice: [trial.history for trial in tried] for choice, tried in finished.items()
        }
        honest = self._join(honest_scores(histories, [part.is_seen for part in self.validations]))
        verdict = judge(evidence, blend, honest, held_out[winner].base, self.recipe.min_gain)
        with torch.no_grad():
            adapter.blend.fill_(blend)
        rated = [
            {
                "unlabelled_weight": choice.unlabelled,
                "anchor": choice.anchor,
                "objective": objective(scores),
            }
            for choice, scores in held_out.items()
        ]
        logger.info("fit finished", extra={"verdict": verdict.text})
        return FitResult(
            adapter=adapter.cpu().eval() if verdict.helps else None,
            verdict=verdict.text,
            weights=winner,
            blend=blend,
            validation={
                "on": "dev split" if self.dev else f"{n_folds} cross-fitted folds",
                **describe(evidence, verdict, blend, rated),
            },
            curves=[trial.curve for trial in trials],
            seconds=time.monotonic() - started,
            seed=self.settings.seed,
            recipe=self.recipe,
        )

    def _make_folds(self) -> list[Fold]:
        """Make the folds that it takes to hold out enough queries; usually fewer than all."""
        n_documents = len(self.embeddings.documents)
        folds = make_folds(
            self.train,
            n_folds=self.recipe.folds,
            unlabelled_share=1 - len(relevant_documents(self.train)) / n_documents,
            seed=self.settings.seed,
        )
        sizes = np.cumsum([len(self._held_out_labels(fold)) for fold in folds])
        return folds[: 1 + int(np.searchsorted(sizes, self.recipe.compared_queries))]

    def _held_out_labels(self, fold: Fold) -> Qrels:
        """Give what a fold's trial stops by: the dev split, else what the fold leaves out."""
        labels = self.dev or fold.held_out
        chosen = sorted(labels, key=lambda query: unit_hash(query, "held out"))
        return {query: labels[query] for query in chosen[: self.recipe.max_held_out]}

    def _make_adapter(self) -> Adapter:
        """Make an untrained adapter, or a copy of the one to start from."""
        given = self.settings.start_from
        return (
            copy_adapter(given)
            if given
            else start_adapter(self.recipe, self.train, self.embeddings)
        )

    def _trial(self, weights: Weights, fold: int) -> TrainedTrial:
        """Train on all but one fold."""
        name = f"u{weights.unlabelled:g}-a{weights.anchor:g}-fold{fold}"
        trained = self._run(
            name, weights, self.folds[fold].train, self.validations[fold], self.recipe.epochs, fold
        )
        logger.info(
            "trial finished",
            extra={"trial": name, "epoch": trained.epoch, "validation": round(trained.score, 4)},
        )
        return trained

    def _run(
        self,
        name: str,
        weights: Weights,
        train: Qrels,
        validation: ValidationSet | None,
        epochs: int,
        offset: int,
    ) -> TrainedTrial:
        """Run one trial under its own seed."""
        with seeded(self.settings.seed * 1009 + offset, self.device):
            trial = Trial(
                name,
                self._make_adapter(),
                weights,
                train=train,
                validation=validation,
                embeddings=self.embeddings,
                recipe=self.recipe,
                device=self.device,
            )
            trained = trial.run(
                self.workspace,
                epochs=epochs,
                on_epoch=lambda: self._progress(self._done, self._n_trials),
            )
        self._done += 1
        self._progress(self._done, self._n_trials)
        return trained

    def _untrained(self) -> Adapter:
        """Make an adapter where training starts."""
        with seeded(self.settings.seed, self.device):
            return self._make_adapter().to(self.device).eval()

    def _restore(self, state: State) -> Adapter:
        """Make an adapter with a trial's state."""
        adapter = self._untrained()
        adapter.load_state_dict(state)
        return adapter

    def _n_refits(self) -> int:
        """Count the fits on all queries: several where their mean is an adapter of the kind."""
        return self.recipe.refits if self._untrained().averages else 1

    def _refit(self, weights: Weights, trials: list[TrainedTrial]) -> Adapter:
        """Fit on all queries, for as many steps as the folds did best with.

        The mean of linear maps is one linear map, so fits under several seeds are averaged into
        one at no cost at query time.
        """
        share = float(np.mean([len(fold.train) for fold in self.folds])) / len(self.train)
        epochs = round(share * float(np.mean([trial.epoch for trial in trials])))
        if epochs == 0:
            return self._untrained()
        states = [
            self._run(
                f"u{weights.unlabelled:g}-a{weights.anchor:g}-all{number}",
                weights,
                self.train,
                None,
                epochs,
                len(self.folds) + number,
            ).state
            for number in range(self._n_refits())
        ]
        return self._restore(
            {key: torch.stack([state[key] for state in states]).mean(dim=0) for key in states[0]}
        )

    @torch.no_grad()
    def _scores(self, adapter: Adapter, validation: ValidationSet) -> HeldOut:
        """Score one adapter at every blend on one validation set."""
        base = self._base_scores(validation)
        scores = {0.0: base} if adapter.dim_in == adapter.dim_out else {}
        for blend in sorted({*self.recipe.blends, 1.0} - {0.0}):
            adapter.blend.fill_(blend)
            scores[blend] = validation.ndcg(adapter(validation.queries.to(self.device)))
        return HeldOut(base, scores, validation.is_seen, self.recipe.blends)

    def _held_out(self, trials: list[TrainedTrial]) -> HeldOut:
        """Join the scores of each fold's adapter on what it has not seen."""
        parts = [
            self._scores(self._restore(trial.state), validation)
            for trial, validation in zip(trials, self.validations, strict=True)
        ]
        return HeldOut(
            self._join([part.base for part in parts]),
            {
                blend: self._join([part.adapted[blend] for part in parts])
                for blend in parts[0].adapted
            },
            parts[0].is_seen if self.dev else np.concatenate([part.is_seen for part in parts]),
            self.recipe.blends,
        )

    def _join(self, parts: Sequence[Scores]) -> Scores:
        """Put the folds' scores together; with a dev split, all scored the same queries."""
        return join(parts, same_queries=bool(self.dev))

    def _base_scores(self, validation: ValidationSet) -> Scores:
        """Score the raw queries; those of another width than the documents find nothing."""
        if self.embeddings.queries.dim != self.embeddings.documents.dim:
            return np.zeros(len(validation.queries))
        return validation.ndcg(validation.queries.to(self.device))


def _usable(qrels: Qrels) -> Qrels:
    """Keep queries that have a relevant document; the others can teach nothing."""
    return {query: labels for query, labels in qrels.items() if relevant(labels)}
