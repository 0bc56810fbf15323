"""Whether a second look helps, how strongly documents are held, and how much each score counts.

The maps are trained on the folds of the fit, with the weights that it has chosen, and judged by the
queries that it judges its adapters by: what the second look makes of the order that the adapter
itself gives.
"""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab_training.adapters import Adapter, ComposedAdapter
from trimtab_training.errors import ConfigError
from trimtab_training.fit.device import seeded
from trimtab_training.fit.model_selection import (
    ACCEPTED_ERRORS,
    Scores,
    expect_chosen_gain,
    harmed,
    standard_error,
)
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.second_look.two_sided import TwoSided, TwoSidedTrainer
from trimtab_training.fit.trainer import Weights
from trimtab_training.fit.trial_plan import DOCUMENT_ANCHORS, TrialPlan
from trimtab_training.fit.trial_runner import TrialRunner
from trimtab_training.fit.validation import ValidationSet
from trimtab_training.retrieval.exact_search import normalise

RANK = 128
"""Of the map of documents: on hpo_lay as good as any rank, at a sixth of the work at 1,536 values
(docs/decisions/0018-second-look.md)."""

MIXES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the second score to choose from."""

_DOCUMENTS_AT_ONCE = 6400
"""Of several queries, whose vectors are held at a time."""


@dataclass(frozen=True)
class FirstLook:
    """The adapter that a fit has chosen.

    Attributes:
        weights: The loss weights that it was trained with.
        blend: The share of its change that is applied.
        rank: Rank of its linear part; 0 for any.
    """

    weights: Weights
    blend: float
    rank: int


@dataclass(frozen=True)
class SecondLookFit:
    """What became of a second look.

    Attributes:
        helps: Whether it is to be shipped.
        verdict: One sentence: what was chosen and why.
        maps: The adapter and the map of documents, trained on all queries; None where it is not
            shipped.
        depth: Documents that are looked at again.
        mix: Share of the second score.
        document_anchor: How strongly documents were held.
        validation: Held-out nDCG@10 of the adapter, and by what was tried.
        seconds: Time taken.
    """

    helps: bool
    verdict: str
    maps: TwoSided | None
    depth: int
    mix: float
    document_anchor: float
    validation: dict[str, Any]
    seconds: float


def check_rescore(adapter: Adapter, recipe: Recipe) -> None:
    """Refuse a second look where vectors' lengths count: it scores by angles alone.

    Args:
        adapter: An adapter as the fit trains it.
        recipe: The knobs.

    Raises:
        ConfigError: A second look is asked for.
    """
    if recipe.rescore and not adapter.normalised:
        raise ConfigError(
            f"recipe key 'rescore' is {recipe.rescore}, but the index compares by "
            f"{recipe.compares_by} and the documents have no unit length: a second look compares "
            "by cosine; leave the key out"
        )


def fit_second_look(runner: TrialRunner, first: FirstLook, plan: TrialPlan) -> SecondLookFit:
    """Train maps on the folds, choose by what they leave out, and train the chosen ones on all.

    How strongly documents are held is chosen on the folds that choose the loss's weights; the mix,
    and whether the look helps at all, on all that judge: no mix that clearly harms queries about
    seen documents, or those about unseen ones, is chosen.

    Args:
        runner: The fit's trials.
        first: The adapter that it chose.
        plan: What the fit tries.
    """
    started = time.monotonic()
    look = _SecondLook(runner, first, plan.recipe.rescore)
    few = range(min(plan.n_screened, plan.n_folds))
    screened = {
        (anchor, mix): gains
        for anchor in DOCUMENT_ANCHORS
        for mix, gains in look.gains(anchor, few).items()
    }
    anchor, _ = max(screened, key=lambda key: float(screened[key].mean()))
    gains = look.gains(anchor, range(plan.n_folds))
    is_harmed = harmed(np.stack(list(gains.values())), look.is_seen(range(plan.n_folds)))
    harmless = [mix for mix, harms in zip(gains, is_harmed, strict=True) if not harms]
    mix = max(harmless or gains, key=lambda each: (float(gains[each].mean()), -each))
    optimism = float(screened[anchor, mix].mean()) - expect_chosen_gain(list(screened.values()))
    gain, error = float(gains[mix].mean()) - max(0.0, optimism), standard_error(gains[mix])
    helps = bool(harmless) and gain >= max(plan.recipe.min_gain, ACCEPTED_ERRORS * error)
    before = look.before(range(plan.n_folds))
    verdict = (
        f"A second look at the best {look.depth} documents {'helps' if helps else 'does not help'}:"
        f" nDCG@10 {gain:+.4f} over the adapter expected from {len(before)} held-out queries, "
        f"standard error {error:.4f}."
    )
    if not harmless:
        verdict += " Every mix harms queries about seen documents, or those about unseen ones."
    return SecondLookFit(
        helps,
        verdict,
        look.finished(anchor) if helps else None,
        look.depth,
        mix,
        anchor,
        {
            "n_queries": len(before),
            "adapter_ndcg@10": float(before.mean()),
            "second_look_ndcg@10": float((before + gains[mix]).mean()),
            "expected_gain": gain,
            "standard_error": error,
            "trials": [
                {"document_anchor": key[0], "mix": key[1], "gain": float(each.mean())}
                for key, each in screened.items()
            ],
        },
        time.monotonic() - started,
    )


class _SecondLook:
    """The trials of one second look."""

    def __init__(self, runner: TrialRunner, first: FirstLook, depth: int) -> None:
        """Have trained nothing yet."""
        self._runner, self._first, self.depth = runner, first, depth
        self._trained: dict[tuple[float, int | None], TwoSided] = {}
        self._adapters: dict[int, Adapter] = {}
        self._scores: dict[tuple[float, int], Mapping[float, Scores]] = {}

    def gains(self, anchor: float, folds: range) -> dict[float, Scores]:
        """Give what held-out queries gain over the adapter alone, by mix."""
        scored = [self._score(anchor, fold) for fold in folds]
        return {mix: np.concatenate([one[mix] - one[0.0] for one in scored]) for mix in MIXES}

    def before(self, folds: range) -> Scores:
        """Give what held-out queries score by the adapter alone."""
        known = {fold: scores[0.0] for (_, fold), scores in self._scores.items()}
        return np.concatenate([known[fold] for fold in folds])

    def is_seen(self, folds: range) -> NDArray[np.bool_]:
        """Tell of which held-out queries a relevant document was trained on."""
        cross_validation = self._runner.context.cross_validation
        return np.concatenate([cross_validation.validation(fold).is_seen for fold in folds])

    def _first_look(self, fold: int) -> Adapter:
        """Give the adapter of one fold, as it would be shipped."""
        if fold not in self._adapters:
            trained = self._runner.trained_on(self._first.weights, fold, self._first.rank)
            adapter = copy.deepcopy(trained).to(self._runner.context.device)
            with torch.no_grad():
                adapter.blend.fill_(self._first.blend)
            self._adapters[fold] = adapter
        return self._adapters[fold]

    def _score(self, anchor: float, fold: int) -> Mapping[float, Scores]:
        """Score one fold's queries at every mix, once; 0 is the adapter alone."""
        if (anchor, fold) not in self._scores:
            first, second = self._first_look(fold), self.train(anchor, fold)
            self._scores[anchor, fold] = self._measure(first, second, fold)
        return self._scores[anchor, fold]

    @torch.no_grad()
    def _measure(self, first: Adapter, second: TwoSided, fold: int) -> Mapping[float, Scores]:
        """Search with the one, look again with the other, and measure."""
        cross_validation = self._runner.context.cross_validation
        validation, queries = cross_validation.validation(fold), cross_validation.raw_queries(fold)
        adapted, again = normalise(first(queries)), second(queries)
        places = validation.pool.rank(adapted, self.depth)
        step = max(1, _DOCUMENTS_AT_ONCE // self.depth)
        parts = [
            _score_both(validation, second, places[at], adapted[at], again[at])
            for at in np.split(np.arange(len(places)), range(step, len(places), step))
        ]
        old, new = (np.concatenate(each) for each in zip(*parts, strict=True))
        return {mix: _ndcg_at(validation, places, old, new, mix) for mix in (0.0, *MIXES)}

    def finished(self, anchor: float) -> TwoSided:
        """Give the maps of all queries as they are exported: ranges known, on the processor."""
        maps = self.train(anchor, None)
        if isinstance(maps.queries, ComposedAdapter):
            maps.queries.calibrate(self._runner.sample_queries(self._first.weights))
        return maps.cpu().eval()

    def train(self, anchor: float, fold: int | None) -> TwoSided:
        """Train both maps on what a fold keeps, or on all queries; once each."""
        runner, weights = self._runner, self._first.weights
        context, fold = runner.context, runner.key_of(weights, fold)
        if (anchor, fold) not in self._trained:
            name = f"{weights.name}-two-sided{anchor:g}-"
            name += "all" if fold is None else f"fold{fold}"
            offset = len(context.folds) if fold is None else fold
            with seeded(context.seed * 1009 + offset, context.device):
                queries = context.initialisation.make(runner.queries(weights, fold))
                maps = TwoSided(queries, min(RANK, queries.dim_out))
                trainer = runner.make_trainer(
                    name,
                    maps,
                    weights,
                    fold,
                    kind=partial(TwoSidedTrainer, document_anchor=anchor),
                )
                trained = runner.run_two_sided(trainer, weights, fold)
            self._trained[anchor, fold] = cast(TwoSided, trained)
        return self._trained[anchor, fold]


def _score_both(
    validation: ValidationSet,
    second: TwoSided,
    places: NDArray[np.int64],
    adapted: Tensor,
    again: Tensor,
) -> tuple[Scores, Scores]:
    """Score what some queries have found, by the adapter and by the second pair of maps."""
    documents = normalise(validation.pool.take(places))
    old = (documents @ adapted[:, :, None])[:, :, 0]
    new = (second.map_documents(documents) @ again[:, :, None])[:, :, 0]
    return old.double().cpu().numpy(), new.double().cpu().numpy()


def _ndcg_at(
    validation: ValidationSet, places: NDArray[np.int64], old: Scores, new: Scores, mix: float
) -> Scores:
    """Put documents in the order of a mix of both scores, and measure each query."""
    order = np.argsort(-((1 - mix) * old + mix * new), axis=1, kind="stable")
    return validation.ndcg_of(np.take_along_axis(places, order, axis=1))
