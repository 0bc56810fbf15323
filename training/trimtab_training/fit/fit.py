"""Fit an adapter: choose the loss's weights, cross-validate, and say so where nothing helps.

Every trial leaves one fold of the training queries out (or the dev split, where the data has one),
so no query is scored by an adapter that has seen it. The choice of weights, the share of the change
that is kept, and the choice of no adapter at all are made on those held-out scores. What is chosen
is then fitted on all training queries. Test queries are never looked at.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trimtab_training.adapters import Adapter, ComposedAdapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.fit.checkpoint import Resume, Tell, Workspace
from trimtab_training.fit.cross_validation import CrossValidation, count_folds
from trimtab_training.fit.device import find_device, seeded
from trimtab_training.fit.forecast import describe_needs
from trimtab_training.fit.initial import Initialisation, digest_of, recipe_from
from trimtab_training.fit.model_selection import (
    HeldOut,
    best_blend,
    choose,
    describe,
    objective,
    optimism_of,
    select,
    standard_error,
)
from trimtab_training.fit.query_split import split_queries, used_by_start
from trimtab_training.fit.ranks import (
    Size,
    check_budget,
    choose_size,
    ranks_to_try,
    weight_bytes,
)
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.second_look.choose import (
    FirstLook,
    SecondLookFit,
    check_rescore,
    fit_second_look,
)
from trimtab_training.fit.trainer import Curve, Weights
from trimtab_training.fit.trial_plan import Planned, TrialPlan
from trimtab_training.fit.trial_runner import (
    Progress,
    TrainingContext,
    TrialRunner,
    describe_trials,
)

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
        tell: Told what becomes of unfinished work, where there is some, and what the fit takes.
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
        families: What it is composed of.
        blend: The share of the learned change that was chosen.
        rank: The rank of the linear part that was chosen; 0 for any.
        sizes: The adapter at every rank of its linear part that was tried, the chosen one among
            them, each ready to be exported.
        validation: Held-out nDCG@10: base, adapted, gains by slice, and by trial.
        curves: Training loss of every whole fit with the chosen weights.
        seconds: Time taken.
        seed: The seed.
        training_splits: The splits whose queries were trained on: a small dev split is among them.
        recipe: The recipe.
        second_look: What became of a second look; None where none was tried.
    """

    adapter: Adapter | None
    verdict: str
    weights: Weights
    families: tuple[str, ...]
    blend: float
    rank: int
    sizes: tuple[Size, ...]
    validation: dict[str, Any]
    curves: list[Curve]
    seconds: float
    seed: int
    training_splits: tuple[str, ...] = ("train",)
    recipe: Recipe = field(default_factory=Recipe)
    second_look: SecondLookFit | None = None


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
        recipe: The knobs; the defaults where absent. What it leaves to the vectors' folder and to
            the start is in the result's.
        settings: Seed, device and workspace; the defaults where absent.
        progress: Called every few steps with the work that is done and all of it, in milliseconds
            as they were expected at the start.

    Raises:
        DataError: Fewer than two usable training queries, labels without vectors, or a workspace
            of another fit.
        ConfigError: The recipe does not fit the vectors or the start, or the device is not there.
        DivergedError: A loss is no longer finite.
    """
    knobs = (recipe or Recipe()).settle(embeddings)
    settings = settings or FitSettings()
    if settings.start_from is not None:
        knobs = recipe_from(settings.start_from, knobs)
    return _Fit(dataset, embeddings, knobs, settings, progress).run()


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
        is_started = settings.start_from is not None
        used = used_by_start(dataset, settings.start_trained_on) if is_started else frozenset()
        self.query_split = split_queries(dataset, used, embeddings.queries)
        device = find_device(settings.device)
        workspace = Workspace(
            settings.workspace,
            {
                "recipe": recipe.as_dict(),
                "seed": settings.seed,
                "device": settings.device,
                "labels": dataset.content_hash(),
                "vectors": embeddings.content_hash() if settings.workspace else "",
                "start": digest_of(settings.start_from, used),
            },
            resume=settings.resume,
            tell=settings.tell,
        )
        self.initialisation = Initialisation(recipe, embeddings, settings.start_from, settings.seed)
        folds = self.query_split.make_folds(embeddings, recipe, settings.seed)
        self.n_folds = count_folds(folds, recipe, recipe.compared_queries)
        n_screened = min(self.n_folds, count_folds(folds, recipe, recipe.screened_queries))
        self.cross_validation = CrossValidation(
            folds[: self.n_folds], embeddings, recipe, seed=settings.seed, device=device
        )
        self.plan = TrialPlan(
            recipe,
            self.query_split,
            recipe.use_between(embeddings.queries.dim, embeddings.documents.dim),
            self.query_split.unlabelled_share(embeddings),
            self.n_folds,
            n_screened,
        )
        n_training = min(len(fold.train) for fold in folds)
        with seeded(settings.seed, device):
            self.sample = self.initialisation.make(self.query_split.train)
        self.ranks = ranks_to_try(self.sample, recipe, n_training)
        check_budget(self.sample, self.ranks, recipe)
        check_rescore(self.sample, recipe)
        self.runner = TrialRunner(
            TrainingContext(
                self.query_split,
                folds[: self.n_folds],
                self.cross_validation,
                embeddings,
                recipe,
                self.initialisation,
                self.ranks,
                workspace,
                settings.seed,
                device,
            ),
            progress,
        )

    def run(self) -> FitResult:
        """Choose the loss's weights on some folds, score them on all, fit, and judge."""
        started = time.monotonic()
        self._say_what_it_takes()
        tried, weights = self._choose_weights()
        rated = self._rate(weights)
        weights = _best_of(rated, rated)
        evidence = rated[weights]
        blend = best_blend(evidence)
        sizes, evidence, rank = self._choose_size(weights, blend, evidence)
        adapter = next(size.adapter for size in sizes if size.rank == rank)
        optimism = max(optimism_of(list(each.values())) for each in (tried, rated) if each)
        selection = select(evidence, blend, optimism, self.recipe.min_gain)
        look = self._look_again(FirstLook(weights, blend, rank)) if selection.helps else None
        logger.info("fit finished", extra={"verdict": selection.text})
        return FitResult(
            adapter=adapter if selection.helps else None,
            verdict=selection.text,
            weights=weights,
            families=self.initialisation.parts,
            blend=blend,
            rank=rank,
            sizes=tuple(sizes),
            validation={
                "on": self.query_split.name_judges(self.n_folds),
                **describe(
                    evidence,
                    selection,
                    blend,
                    describe_trials({**tried, **rated}, self.initialisation.kind),
                ),
            },
            curves=self.runner.curves[weights],
            seconds=time.monotonic() - started,
            seed=self.settings.seed,
            training_splits=self.query_split.training_splits,
            recipe=self.recipe,
            second_look=look,
        )

    def _look_again(self, first: FirstLook) -> SecondLookFit | None:
        """Try a second look at what the adapter finds, where the recipe asks for one."""
        if not self.recipe.rescore:
            return None
        return fit_second_look(self.runner, first, self.plan)

    def _choose_size(
        self, weights: Weights, blend: float, evidence: HeldOut
    ) -> tuple[list[Size], HeldOut, int]:
        """Fit on all queries, and choose the rank of the linear part by held-out queries.

        Returns:
            The adapter at every rank; the held-out scores with those of the chosen one; its rank.
        """
        last = [] if self.query_split.dev else [Planned(weights.steps, None, [weights.unlabelled])]
        again = self.plan.to_look_again([weights.unlabelled], weights.steps)
        self.runner.expect(last, self._n_narrow_scores, again)
        whole = self.runner.fit_all(weights)
        folds = range(self.n_folds)
        # Where synthetic queries don't count, the others may be fewer than a rank.
        n_queries = min(len(self.runner.queries(weights, fold)) for fold in folds)
        ranks = sorted({min(rank, n_queries) for rank in self.ranks})
        narrow = [self.runner.narrowed(weights, fold) for fold in folds if ranks]
        by_rank = {
            rank: np.concatenate(
                [self.runner.score_at(narrow[fold].of_rank(rank), blend, fold) for fold in folds]
            )
            for rank in ranks
        }
        full = evidence.adapted[blend]
        n_bytes = {rank: weight_bytes(whole, rank) for rank in (*ranks, 0)}
        queries = self.runner.sample_queries(weights)
        sizes = []
        by_size = {**by_rank, 0: full}
        for rank, scores in by_size.items():
            adapter = self.runner.narrowed(weights, None).of_rank(rank) if rank else whole
            sizes.append(
                Size(
                    rank,
                    _finished(adapter, blend, queries),
                    gain=float((scores - evidence.base).mean()),
                    loss=float((full - scores).mean()),
                    loss_error=standard_error(full - scores),
                )
            )
        chosen = choose_size(sizes, n_bytes, self.recipe).rank
        return sizes, evidence.with_scores(blend, by_size[chosen]), chosen

    def _choose_weights(self) -> tuple[dict[Weights, HeldOut], Weights]:
        """Try weights of the loss, with few steps; nothing is tried where there is no choice.

        The softmax over the whole corpus drives queries away from documents that nobody has asked
        for yet. So a smaller weight of these wins unless a larger one is clearly better, each with
        the anchor that suits it best. The weight of synthetic queries follows.
        """
        plan, steps = self.plan, self.recipe.screened_steps
        unlabelled, anchors, synthetic = plan.unlabelled, plan.anchors, plan.synthetic
        best = Weights(unlabelled[0], anchors[0], plan.temperatures[0], synthetic[0], steps)
        if not plan.to_screen():
            return {}, best
        pairs = list(product(unlabelled, anchors))
        tried = self._screen([replace(best, unlabelled=u, anchor=anchor) for u, anchor in pairs])
        rivals = [[each for each in tried if each.unlabelled == u] for u in unlabelled]
        suited = [_best_of(each, tried) for each in rivals]
        best = choose({weights: tried[weights] for weights in suited})
        ladder = [replace(best, synthetic=weight) for weight in synthetic]
        tried |= self._screen([each for each in ladder if each not in tried])
        return tried, _best_of(ladder, tried)

    def _rate(self, weights: Weights) -> dict[Weights, HeldOut]:
        """Score few steps and all of them on every fold, each as it would be shipped.

        Further temperatures are compared with all of the steps: short trials don't tell them apart.
        """
        again = self.plan.to_look_again([weights.unlabelled])
        self.runner.expect(self.plan.to_rate([weights.unlabelled]), self._n_narrow_scores, again)
        rivals = [replace(weights, steps=steps) for steps in self.plan.steps]
        rivals += [replace(weights, steps=1.0, temperature=t) for t in self.plan.temperatures[1:]]
        self.runner.forget_others(rivals)
        return {
            each: HeldOut.join([self.runner.hold_out(each, fold) for fold in range(self.n_folds)])
            for each in rivals
        }

    @property
    def _n_narrow_scores(self) -> int:
        """Number of times that a fold's queries are scored to choose a rank."""
        return len(self.ranks) * self.n_folds

    def _say_what_it_takes(self) -> None:
        """Measure a second of the work, and say what all of it will take."""
        plan = self.plan
        anchor, temperature = plan.anchors[0], plan.temperatures[0]
        self.runner.measure([Weights(weight, anchor, temperature) for weight in plan.unlabelled])
        planned = [*plan.to_screen(), *plan.to_rate(plan.unlabelled)]
        again = plan.to_look_again(plan.unlabelled)
        seconds = self.runner.expect(planned, self._n_narrow_scores, again)
        self.settings.tell(describe_needs(seconds, self.sample, plan.n_kept))

    def _screen(self, rivals: Iterable[Weights]) -> dict[Weights, HeldOut]:
        """Try some weights on as many folds as it takes to tell them apart."""
        folds = range(self.plan.n_screened)
        return {
            weights: HeldOut.join([self.runner.hold_out(weights, fold) for fold in folds])
            for weights in rivals
        }


def _finished(adapter: Adapter, blend: float, queries: Tensor) -> Adapter:
    """Give an adapter as it is exported: blended, its ranges known, on the processor."""
    with torch.no_grad():
        adapter.blend.fill_(blend)
    if isinstance(adapter, ComposedAdapter):
        adapter.calibrate(queries.to(adapter.blend.device))
    return adapter.cpu().eval()


def _best_of(rivals: Iterable[Weights], tried: Mapping[Weights, HeldOut]) -> Weights:
    """Give the weights that held-out queries rate best."""
    return max(rivals, key=lambda weights: objective(tried[weights]))
