"""Fit an adapter: try families, cross-validate, choose, and say so where nothing helps.

Every trial leaves one fold of the training queries out and stops by it (or by the dev split, where
the data has one), so no query is scored by an adapter that has seen it. The choice among trials,
the share of the change that is kept, and the choice of no adapter at all are made on those
held-out scores. The chosen families are then fitted on all training queries, several times, and
composed into one adapter. Test queries are never looked at.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.adapters import Adapter, ComposedAdapter
from training.checkpoint import Resume, Tell, Workspace
from training.config import Recipe
from training.dataset import Dataset, Qrels
from training.device import find_device
from training.embeddings import Embeddings
from training.folds import Fold
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
from training.roles import assign_roles
from training.runner import Bench, Progress, Runner
from training.start import Families, Starts, can_merge, combinations, digest_of, merge
from training.trained_on import TrainedOn
from training.trial import TrainedTrial, Weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitSettings:
    """What a fit is told beside data and recipe.

    Attributes:
        seed: Seed of every random choice.
        device: Where to compute: ``cpu``, ``cuda`` or ``mps``.
        workspace: Folder for unfinished work; None keeps none.
        resume: Whether to continue what stands in the workspace; see :class:`Workspace`.
        start_from: A trained adapter to start from instead of the identity.
        start_trained_on: What ``start_from`` was trained on, or None where that is not known: then
            a dev split has to judge.
        tell: Told what becomes of unfinished work, where there is some.
    """

    seed: int = 0
    device: str = "cpu"
    workspace: Path | None = None
    resume: Resume = "never"
    start_from: Adapter | None = None
    start_trained_on: TrainedOn | None = None
    tell: Tell = lambda _text: None


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
        training_splits: The splits whose queries were trained on: a small dev split is among them.
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
    training_splits: tuple[str, ...] = ("train",)
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
            "temperature": self.weights.temperature,
            "synthetic_weight": self.weights.synthetic,
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
        self.recipe, self.settings = recipe, settings
        embeddings.require(dataset.splits)
        self.roles = assign_roles(dataset, _used_by_start(dataset, settings))
        device = find_device(settings.device)
        workspace = Workspace(
            settings.workspace,
            {
                "recipe": recipe.as_dict(),
                "seed": settings.seed,
                "device": settings.device,
                "labels": dataset.content_hash(),
                "vectors": embeddings.content_hash() if settings.workspace else "",
                "start": digest_of(settings.start_from),
            },
            resume=settings.resume,
            tell=settings.tell,
        )
        self.starts = Starts(recipe, embeddings, settings.start_from, settings.seed)
        self.folds = self._choose_folds(embeddings)
        self.referee = Referee(
            self.folds, self.roles.dev, embeddings, recipe, seed=settings.seed, device=device
        )
        self.runner = Runner(
            Bench(
                self.roles,
                self.folds,
                embeddings,
                recipe,
                self.starts,
                workspace,
                settings.seed,
                device,
            ),
            progress,
        )

    def run(self) -> FitResult:
        """Compare trials on some folds, finish the winners on all, then choose what to keep."""
        started = time.monotonic()
        first, *others = self.starts.families
        self.runner.expect(self._count_trials(first, others))
        tried, weights = self._try_weights(first)
        families = {first: tried[weights], **{name: self._try(name, weights) for name in others}}
        rated = {names: self._rate(names, families) for names in combinations(tuple(families))}
        chosen = choose(rated)
        adapter = self._refit(weights, {name: families[name].trials for name in chosen})
        # What may be shipped is scored itself on dev; else its folds on what they left out.
        evidence = self.referee.score(adapter) if self.roles.dev else rated[chosen]
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
        if isinstance(adapter, ComposedAdapter):
            adapter.calibrate(self.runner.sample_queries(weights).to(adapter.blend.device))
        logger.info("fit finished", extra={"verdict": verdict.text})
        attempts = [*tried.values(), *(families[name] for name in others)]
        return FitResult(
            adapter=adapter.cpu().eval() if verdict.helps else None,
            verdict=verdict.text,
            weights=weights,
            families=chosen,
            stores_queries="prototypes" in chosen
            and self.starts.locality(self.runner.queries(weights)).holds_queries,
            blend=blend,
            validation={
                "on": self._judges(),
                "families": {"+".join(names): objective(rated[names]) for names in rated},
                **describe(evidence, verdict, blend, [attempt.as_dict() for attempt in attempts]),
            },
            curves=[trial.curve for name in chosen for trial in families[name].trials],
            seconds=time.monotonic() - started,
            seed=self.settings.seed,
            training_splits=self.roles.training_splits,
            recipe=self.recipe,
        )

    def _judges(self) -> str:
        """Say whose scores decided."""
        what = "dev split" if self.roles.dev else f"{len(self.folds)} cross-fitted folds"
        if self.roles.n_joined:
            what += f" (with the dev split, whose {self.roles.n_joined} queries are too few alone)"
        if self.roles.n_used and not self.roles.dev:
            what += f" (without {self.roles.n_used} queries that the start may have seen)"
        return what if self.roles.judges == "real" else f"{what} of {self.roles.judges} queries"

    def _count_trials(self, first: str, others: Sequence[str]) -> int:
        """Count the trials of this fit, at most: which families are fitted again shows later."""
        knobs = [self.recipe.unlabelled_weights, self.recipe.temperatures, self.recipe.anchors]
        knobs += [self.recipe.synthetic_weights] if self.roles.is_mixed else []
        n_weights = 1 + sum(len(values) - 1 for values in knobs)
        n_refits = sum(self._n_refits(name, self.roles.train) for name in (first, *others))
        return (n_weights + len(others)) * len(self.folds) + n_refits

    def _try_weights(self, family: str) -> tuple[dict[Weights, Attempt], Weights]:
        """Try one loss weight after the other; what is chosen of the first goes with the next.

        The softmax over the whole corpus drives queries away from documents that nobody has asked
        for yet. So a smaller weight of unlabelled documents wins unless it is clearly worse.
        """
        recipe = self.recipe
        synthetic = recipe.synthetic_weights if self.roles.is_mixed else (1.0,)
        best = Weights(
            recipe.unlabelled_weights[0], recipe.anchors[0], recipe.temperatures[0], synthetic[0]
        )
        tried = {best: self._try(family, best)}
        for key, values in (
            ("unlabelled", sorted(recipe.unlabelled_weights)),
            ("temperature", recipe.temperatures),
            ("anchor", recipe.anchors),
            ("synthetic", synthetic),
        ):
            rivals = [replace(best, **{key: value}) for value in values]
            for weights in rivals:
                tried[weights] = tried.get(weights) or self._try(family, weights)
            if key == "unlabelled":
                best = choose({weights: tried[weights].scores for weights in rivals})
            else:
                best = max(rivals, key=lambda each: objective(tried[each].scores))
        return tried, best

    def _try(self, family: str, weights: Weights) -> Attempt:
        """Train one family on all folds but what each leaves out, and score it there."""
        trials = [
            self.runner.hold_out(family, weights, fold, self.referee.validations[fold])
            for fold in range(len(self.folds))
        ]
        adapters = [
            self.runner.restore(family, self.runner.queries(weights, fold), trial.state)
            for fold, trial in enumerate(trials)
        ]
        parts = [self.referee.score(adapter, fold) for fold, adapter in enumerate(adapters)]
        return Attempt(family, weights, trials, adapters, self.referee.join(parts))

    def _rate(self, names: Families, families: Mapping[str, Attempt]) -> HeldOut:
        """Score the mean of some families on every fold; one alone has its scores already."""
        if len(names) == 1:
            return families[names[0]].scores
        return self.referee.join(
            [
                self.referee.score(merge([families[name].adapters[fold] for name in names]), fold)
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

    def _choose_folds(self, embeddings: Embeddings) -> list[Fold]:
        """Make the folds that it takes to hold out enough queries; usually fewer than all."""
        folds = self.roles.make_folds(embeddings, self.recipe, self.settings.seed)
        sizes = np.cumsum(
            [len(held_out_labels(fold, self.roles.dev, self.recipe)) for fold in folds]
        )
        return folds[: 1 + int(np.searchsorted(sizes, self.recipe.compared_queries))]

    def _refit(self, weights: Weights, chosen: Mapping[str, Sequence[TrainedTrial]]) -> Adapter:
        """Fit the chosen families on all queries, for as many steps as the folds did best with.

        Fits under several seeds are merged into one adapter, where the kind allows it.
        """
        train = self.runner.queries(weights)
        sizes = [len(self.runner.queries(weights, fold)) for fold in range(len(self.folds))]
        share = float(np.mean(sizes)) / len(train)
        epochs = {
            family: round(share * float(np.mean([trial.epoch for trial in trials])))
            for family, trials in chosen.items()
        }
        numbers = {
            family: range(self._n_refits(family, train)) if epochs[family] else range(0)
            for family in chosen
        }
        self.runner.expect(sum(len(each) for each in numbers.values()))
        fitted = [
            self.runner.fit_all(family, weights, number, epochs[family])
            for family in chosen
            for number in numbers[family]
        ]
        return merge(fitted or [self.runner.untrained(next(iter(chosen)), train)]).eval()

    def _n_refits(self, family: str, train: Qrels) -> int:
        """Count a family's fits on all queries: several where they can be merged."""
        is_fresh = self.settings.start_from is None
        can = can_merge(self.runner.untrained(family, train), is_fresh=is_fresh)
        return self.recipe.refits if can else 1


def _used_by_start(dataset: Dataset, settings: FitSettings) -> frozenset[str]:
    """Name the queries that may not judge: the start was trained on them, or may have been."""
    if settings.start_from is None:
        return frozenset()
    before = settings.start_trained_on
    train, dev = list(dataset.split("train")), list(dataset.splits.get("dev", {}))
    if before is None or not before.is_complete:
        return frozenset(train)
    queries = [*train, *dev]
    is_used = before.has_query(dataset, queries)
    return frozenset(query for query, used in zip(queries, is_used, strict=True) if used)
