"""Fit an adapter: try families, cross-validate, choose, and say so where nothing helps.

Every trial leaves one fold of the training queries out and stops by it (or by the dev split, where
the data has one), so no query is scored by an adapter that has seen it. The choice among trials,
the share of the change that is kept, and the choice of no adapter at all are made on those
held-out scores. The chosen families are then fitted on all training queries, several times, and
composed into one adapter. Test queries are never looked at.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.adapters import Adapter
from training.checkpoint import Resume, State, Workspace
from training.config import Recipe
from training.dataset import Dataset, Qrels, relevant, relevant_documents
from training.device import find_device, seeded
from training.embeddings import Embeddings
from training.errors import DataError
from training.folds import Fold, make_folds
from training.judgement import (
    HeldOut,
    best_blend,
    choose,
    describe,
    flattery,
    honest_scores,
    judge,
    objective,
)
from training.referee import Referee, held_out_labels
from training.start import Families, Starts, can_merge, combinations, digest_of, merge
from training.trial import TrainedTrial, Trial, Weights
from training.validation import ValidationSet

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
        families: Families of adapters that it is composed of.
        stores_queries: True where it holds the direction of a single training query.
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
    families: Families
    stores_queries: bool
    blend: float
    validation: dict[str, Any]
    curves: list[list[dict[str, float]]]
    seconds: float
    seed: int
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class Attempt:
    """One family trained with one choice of weights on every fold.

    Attributes:
        family: The family.
        weights: The loss weights.
        trials: One trial a fold.
        adapters: What each has trained.
        scores: Scores of each on what it has not seen.
    """

    family: str
    weights: Weights
    trials: list[TrainedTrial]
    adapters: list[Adapter]
    scores: HeldOut

    def as_dict(self) -> dict[str, Any]:
        """Write down how it did."""
        return {
            "family": self.family,
            "unlabelled_weight": self.weights.unlabelled,
            "anchor": self.weights.anchor,
            "objective": objective(self.scores),
        }


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
        self.starts = Starts(recipe, self.train, embeddings, settings.start_from, settings.seed)
        self.folds = self._make_folds()
        self.referee = Referee(
            self.folds, self.dev, embeddings, recipe, seed=settings.seed, device=self.device
        )

    def run(self) -> FitResult:
        """Compare trials on some folds, finish the winners on all, then choose what to keep."""
        started = time.monotonic()
        first, *others = self.starts.families
        n_weights = len(self.recipe.unlabelled_weights) + len(self.recipe.anchors) - 1
        self._n_trials = (n_weights + len(others)) * len(self.folds)
        tried = self._try_weights(first)
        weights = max(tried, key=lambda each: objective(tried[each].scores))
        families = {first: tried[weights], **{name: self._try(name, weights) for name in others}}
        rated = {names: self._rate(names, families) for names in combinations(tuple(families))}
        chosen = choose(rated)
        adapter = self._refit(weights, {name: families[name].trials for name in chosen})
        # What may be shipped is scored itself on dev; else its folds on what they left out.
        evidence = self.referee.score(adapter) if self.dev else rated[chosen]
        blend = best_blend(evidence)
        # The rule of choice among families looks for no best one, so it flatters little.
        flattered = float(
            np.mean(
                [
                    self._flattery(list(tried.values()) if name == first else [families[name]])
                    for name in chosen
                ]
            )
        )
        verdict = judge(evidence, blend, flattered, self.recipe.min_gain)
        with torch.no_grad():
            adapter.blend.fill_(blend)
        logger.info("fit finished", extra={"verdict": verdict.text})
        attempts = [*tried.values(), *(families[name] for name in others)]
        return FitResult(
            adapter=adapter.cpu().eval() if verdict.helps else None,
            verdict=verdict.text,
            weights=weights,
            families=chosen,
            stores_queries="prototypes" in chosen
            and self.starts.locality(self.train).holds_queries,
            blend=blend,
            validation={
                "on": "dev split" if self.dev else f"{len(self.folds)} cross-fitted folds",
                "families": {"+".join(names): objective(rated[names]) for names in rated},
                **describe(evidence, verdict, blend, [attempt.as_dict() for attempt in attempts]),
            },
            curves=[trial.curve for name in chosen for trial in families[name].trials],
            seconds=time.monotonic() - started,
            seed=self.settings.seed,
            recipe=self.recipe,
        )

    def _try_weights(self, family: str) -> dict[Weights, Attempt]:
        """Try one loss weight after the other: what is best of the first goes with the second."""
        tried: dict[Weights, Attempt] = {}
        anchor, *more = self.recipe.anchors
        for unlabelled in self.recipe.unlabelled_weights:
            weights = Weights(unlabelled, anchor)
            tried[weights] = self._try(family, weights)
        best = max(tried, key=lambda each: objective(tried[each].scores))
        for anchor in more:
            weights = Weights(best.unlabelled, anchor)
            tried[weights] = self._try(family, weights)
        return tried

    def _try(self, family: str, weights: Weights) -> Attempt:
        """Train one family on all folds but what each leaves out, and score it there."""
        trials = [self._trial(family, weights, fold) for fold in range(len(self.folds))]
        adapters = [
            self._restore(family, fold.train, trial.state)
            for fold, trial in zip(self.folds, trials, strict=True)
        ]
        parts = [self.referee.score(adapter, fold) for fold, adapter in enumerate(adapters)]
        return Attempt(family, weights, trials, adapters, self.referee.join(parts))

    def _rate(self, names: Families, families: Mapping[str, Attempt]) -> HeldOut:
        """Score the mean of some families on every fold; one alone has its scores already."""
        if len(names) == 1:
            return families[names[0]].scores
        return self.referee.join(
            [
                self.referee.score(
                    merge([families[name].adapters[fold] for name in names]).to(self.device), fold
                )
                for fold in range(len(self.folds))
            ]
        )

    def _flattery(self, attempts: Sequence[Attempt]) -> float:
        """Tell by how much scores are too good because the queries chose epoch and weights."""
        histories = {
            attempt.weights: [trial.history for trial in attempt.trials] for attempt in attempts
        }
        best = max((attempt.scores for attempt in attempts), key=objective).adapted[1.0]
        honest = self.referee.join_scores(honest_scores(histories, self.referee.is_seen))
        return flattery(best, honest, self.referee.joined_is_seen)

    def _make_folds(self) -> list[Fold]:
        """Make the folds that it takes to hold out enough queries; usually fewer than all."""
        n_documents = len(self.embeddings.documents)
        folds = make_folds(
            self.train,
            n_folds=self.recipe.folds,
            unlabelled_share=1 - len(relevant_documents(self.train)) / n_documents,
            seed=self.settings.seed,
        )
        sizes = np.cumsum([len(held_out_labels(fold, self.dev, self.recipe)) for fold in folds])
        return folds[: 1 + int(np.searchsorted(sizes, self.recipe.compared_queries))]

    def _trial(self, family: str, weights: Weights, fold: int) -> TrainedTrial:
        """Train on all but one fold."""
        name = f"{_file_name(family)}-u{weights.unlabelled:g}-a{weights.anchor:g}-fold{fold}"
        trained = self._run(
            name,
            (family, weights),
            self.folds[fold].train,
            self.referee.validations[fold],
            self.recipe.epochs,
            fold,
        )
        logger.info(
            "trial finished",
            extra={"trial": name, "epoch": trained.epoch, "validation": round(trained.score, 4)},
        )
        return trained

    def _run(
        self,
        name: str,
        what: tuple[str, Weights],
        train: Qrels,
        validation: ValidationSet | None,
        epochs: int,
        offset: int,
    ) -> TrainedTrial:
        """Run one trial under its own seed."""
        family, weights = what
        with seeded(self.settings.seed * 1009 + offset, self.device):
            trial = Trial(
                name,
                self.starts.make(family, train),
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

    def _untrained(self, family: str, train: Qrels) -> Adapter:
        """Make an adapter where training starts."""
        with seeded(self.settings.seed, self.device):
            return self.starts.make(family, train).to(self.device).eval()

    def _restore(self, family: str, train: Qrels, state: State) -> Adapter:
        """Make an adapter with a trial's state."""
        adapter = self._untrained(family, train)
        adapter.load_state_dict(state)
        return adapter

    def _refit(self, weights: Weights, chosen: Mapping[str, Sequence[TrainedTrial]]) -> Adapter:
        """Fit the chosen families on all queries, for as many steps as the folds did best with.

        Fits under several seeds are merged into one adapter, where the kind allows it.
        """
        share = float(np.mean([len(fold.train) for fold in self.folds])) / len(self.train)
        epochs = {
            family: round(share * float(np.mean([trial.epoch for trial in trials])))
            for family, trials in chosen.items()
        }
        numbers = {
            family: range(self._n_refits(family)) if epochs[family] else range(0)
            for family in chosen
        }
        self._n_trials += sum(len(each) for each in numbers.values())
        fitted = [
            self._restore(
                family, self.train, self._run_all(family, weights, number, epochs[family])
            )
            for family in chosen
            for number in numbers[family]
        ]
        adapter = merge(fitted) if fitted else self._untrained(next(iter(chosen)), self.train)
        return adapter.to(self.device).eval()

    def _n_refits(self, family: str) -> int:
        """Count a family's fits on all queries: several where they can be merged."""
        adapter = self._untrained(family, self.train)
        is_fresh = self.settings.start_from is None
        return self.recipe.refits if can_merge(adapter, is_fresh=is_fresh) else 1

    def _run_all(self, family: str, weights: Weights, number: int, epochs: int) -> State:
        """Fit one family on all queries."""
        return self._run(
            f"{_file_name(family)}-u{weights.unlabelled:g}-a{weights.anchor:g}-all{number}",
            (family, weights),
            self.train,
            None,
            epochs,
            len(self.folds) + number,
        ).state


def _file_name(family: str) -> str:
    """Write a family as a part of a file's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in family)


def _usable(qrels: Qrels) -> Qrels:
    """Keep queries that have a relevant document; the others can teach nothing."""
    return {query: labels for query, labels in qrels.items() if relevant(labels)}
