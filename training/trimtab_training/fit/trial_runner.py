"""Runs the trials of one fit, each under its own seed: on all folds but one, or on all queries."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab_training.adapters import Adapter, ComposedAdapter
from trimtab_training.data.folds import Fold
from trimtab_training.data.qrels import Qrels
from trimtab_training.data.splits import unit_hash
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.fit.checkpoint import State, Workspace
from trimtab_training.fit.cross_validation import CrossValidation
from trimtab_training.fit.device import one_thread, seeded
from trimtab_training.fit.forecast import Forecast
from trimtab_training.fit.initial import Initialisation
from trimtab_training.fit.model_selection import HeldOut, Scores, objective
from trimtab_training.fit.query_split import QuerySplit
from trimtab_training.fit.ranks import MOST_QUERIES
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.trainer import Curve, TrainedAdapter, Trainer, Weights, plan_steps
from trimtab_training.fit.trial_plan import Planned

logger = logging.getLogger(__name__)

_MAX_SAMPLED = 20_000
_DONE, _SCORES = "done", "scores."
_MILLISECONDS = 1000
TWO_SIDED = 2.0
"""How much longer a trial takes whose every step maps the candidates, too."""

Progress = Callable[[int, int], None]
"""Called with the work that is done and all of it, in milliseconds as first expected."""


@dataclass(frozen=True)
class TrainingContext:
    """What all trials of a fit share.

    Attributes:
        query_split: Which queries teach, and which judge.
        folds: What is left out of the training queries, and what remains.
        cross_validation: Scores adapters on what the folds leave out.
        embeddings: The vectors.
        recipe: The knobs.
        initialisation: Makes untrained adapters.
        ranks: Ranks of the linear part to try, the lowest first.
        workspace: Where unfinished work is kept.
        seed: Seed of the fit.
        device: Where to compute.
    """

    query_split: QuerySplit
    folds: Sequence[Fold]
    cross_validation: CrossValidation
    embeddings: Embeddings
    recipe: Recipe
    initialisation: Initialisation
    ranks: Sequence[int]
    workspace: Workspace
    seed: int
    device: torch.device


@dataclass
class TrialRunner:
    """Runs trials, each of them once, and counts their work.

    Attributes:
        context: What trials share.
        progress: Told how far the fit has come.
        forecast: What the parts of a fit take here; unmeasured, steps alone count.
        curves: The curves of all finished trials, on folds and on all queries, by what was tried.
    """

    context: TrainingContext
    progress: Progress
    forecast: Forecast = field(default_factory=lambda: Forecast({True: 1.0, False: 1.0}, 0.0))
    curves: dict[Weights, list[Curve]] = field(default_factory=dict)
    _done_s: float = 0.0
    _expected_s: float = 0.0
    _trains: dict[tuple[int | None, bool], Qrels] = field(default_factory=dict)
    _scores: dict[str, HeldOut] = field(default_factory=dict)
    _fitted: dict[Weights, Adapter] = field(default_factory=dict)
    _narrow: dict[tuple[Weights, int | None], ComposedAdapter] = field(default_factory=dict)
    _whole: dict[tuple[Weights, int | None], Adapter] = field(default_factory=dict)

    def measure(self, tried: Sequence[Weights]) -> None:
        """Find out what the parts of this fit take on this machine, by a second of work.

        Args:
            tried: One for each weight of unlabelled documents that will be tried.
        """
        context = self.context
        step_s: dict[bool, float] = {}
        for weights in tried:
            with seeded(context.seed, context.device):
                adapter = context.initialisation.make(self.queries(weights))
                started = time.perf_counter()
                trial = self.make_trainer("timed", adapter, weights, None)  # and thrown away
                setup_s = time.perf_counter() - started
                step_s[weights.unlabelled > 0] = trial.time_steps()
        self.forecast = Forecast(step_s, context.cross_validation.score_s, setup_s)

    def expect(
        self, to_come: Sequence[Planned], n_scores: int = 0, two_sided: Sequence[Planned] = ()
    ) -> float:
        """Say what is to come, for a progress bar.

        Args:
            to_come: The trials.
            n_scores: How often a fold's queries will be scored beside them.
            two_sided: Trials that train a map of documents, too.

        Returns:
            Seconds that it will take.
        """
        left_s = sum(map(self._expected_of, to_come)) + n_scores * self.forecast.score_s
        left_s += TWO_SIDED * sum(map(self._expected_of, two_sided))
        self._expected_s = self._done_s + left_s
        return left_s

    def score_at(self, adapter: Adapter, blend: float, fold: int) -> Scores:
        """Score one adapter at one blend on one fold's queries, beside the trials."""
        scores = self.context.cross_validation.score_at(adapter, blend, fold)
        self._done_s += self.forecast.score_s
        self._show()
        return scores

    def hold_out(self, weights: Weights, fold: int) -> HeldOut:
        """Train on what a fold keeps and score what it leaves out."""
        name = f"{weights.name}-fold{fold}"
        if name not in self._scores:
            self._scores[name] = (
                self.context.cross_validation.score(self.fit_all(weights), fold)
                if self.key_of(weights, fold) is None
                else self._hold_out(name, weights, fold)
            )
        return self._scores[name]

    def narrowed(self, weights: Weights, fold: int | None) -> ComposedAdapter:
        """Give what training on a fold came to, or on all queries, at the highest rank to try.

        A fold whose scores are from before an interruption is trained on again: its adapter was
        not kept.
        """
        fold = self.key_of(weights, fold)
        if (weights, fold) not in self._narrow:
            if fold is None:
                self._keep_narrowed(self.fit_all(weights), weights, None)
            else:
                self._train(f"{weights.name}-fold{fold}-again", weights, fold, is_shown=False)
        return self._narrow[weights, fold]

    def trained_on(self, weights: Weights, fold: int, rank: int) -> Adapter:
        """Give what training on a fold came to, at a rank or whole; trained again if not kept."""
        if rank:
            return self.narrowed(weights, fold).of_rank(rank)
        if self.key_of(weights, fold) is None:
            return self.fit_all(weights)
        if (weights, fold) not in self._whole:
            self._train(f"{weights.name}-fold{fold}-again", weights, fold, is_shown=False)
        return self._whole[weights, fold]

    def run_two_sided(self, trial: Trainer, weights: Weights, fold: int | None) -> Adapter:
        """Run a trial that trains a map of documents, too; it is kept for an interruption."""
        expected_s = TWO_SIDED * self._expected_of(_plan(weights, fold))
        workspace = self.context.workspace
        found = workspace.load(trial.name)
        if found is not None and _DONE in found[1]:
            trial.adapter.load_state_dict(found[0])
            trained = trial.adapter.eval()
        else:
            trained = trial.run(
                workspace,
                on_round=lambda n_steps: self._show(expected_s * n_steps / trial.n_planned),
            ).adapter
            workspace.save(trial.name, trained.state_dict(), {_DONE: True})
        self._done_s += expected_s
        self._show()
        return trained

    def key_of(self, weights: Weights, fold: int | None) -> int | None:
        """Give a fold, or None where it trains on all queries: then a dev split is left out."""
        if fold is None or len(self.queries(weights, fold)) == len(self.queries(weights)):
            return None
        return fold

    def forget_others(self, weights: Collection[Weights]) -> None:
        """Let go of adapters that were trained with other weights."""
        self._narrow = {key: kept for key, kept in self._narrow.items() if key[0] in weights}
        self._whole = {key: kept for key, kept in self._whole.items() if key[0] in weights}

    def fit_all(self, weights: Weights) -> Adapter:
        """Train on all queries."""
        if weights not in self._fitted:
            self._fitted[weights] = self._fit_all(f"{weights.name}-all", weights)
        return self._fitted[weights]

    def queries(self, weights: Weights, fold: int | None = None) -> Qrels:
        """Give the training queries that count for anything: all, or those that a fold keeps.

        The same object for the same question: what is known of some queries is kept by it.
        """
        query_split = self.context.query_split
        only_real = weights.synthetic == 0 and query_split.is_mixed
        key = fold, only_real
        if key not in self._trains:
            train = query_split.train if fold is None else self.context.folds[fold].train
            self._trains[key] = query_split.only_real(train) if only_real else train
        return self._trains[key]

    def sample_queries(
        self, weights: Weights, fold: int | None = None, most: int = _MAX_SAMPLED
    ) -> Float[Tensor, "queries dim"]:
        """Give the vectors of training queries, or of some of them where they are very many."""
        wanted = self.queries(weights, fold)
        chosen = sorted(wanted, key=lambda query: unit_hash(query, "sampled"))[:most]
        vectors = self.context.embeddings.queries.take_ids(chosen)
        return torch.from_numpy(vectors).to(self.context.device)

    def _keep_narrowed(self, adapter: Adapter, weights: Weights, fold: int | None) -> None:
        """Keep an adapter at the highest rank to try: the lower ones are parts of it."""
        if self.context.ranks and isinstance(adapter, ComposedAdapter):
            queries = self.sample_queries(weights, fold, MOST_QUERIES)
            with one_thread():
                self._narrow[weights, fold] = adapter.of_rank(self.context.ranks[-1], queries)

    def _hold_out(self, name: str, weights: Weights, fold: int) -> HeldOut:
        """Do one trial, or take what is known of it; only its scores are kept."""
        cross_validation = self.context.cross_validation
        found = self._finished(name, weights, fold)
        if found is not None:
            scores = {
                float(key.removeprefix(_SCORES)): value.double().numpy()
                for key, value in found.items()
            }
            return cross_validation.held_out(scores, fold)
        trained = self._train(name, weights, fold)
        held_out = cross_validation.score(trained.adapter, fold)
        self._count(weights, fold, trained.curve)
        state = {
            f"{_SCORES}{blend}": torch.from_numpy(scores)
            for blend, scores in held_out.adapted.items()
        }
        self.context.workspace.save(name, state, {_DONE: True, "curve": trained.curve})
        logger.info("trial finished", extra={"trial": name, "gain": round(held_out.gain(1.0), 4)})
        return held_out

    def _fit_all(self, name: str, weights: Weights) -> Adapter:
        """Fit on all queries, or take what is known of it."""
        train = self.queries(weights)
        found = self._finished(name, weights, None)
        if found is not None:
            with seeded(self.context.seed, self.context.device):
                adapter = self.context.initialisation.make(train).to(self.context.device).eval()
            adapter.load_state_dict(found)
            return adapter
        trained = self._train(name, weights, None)
        self._count(weights, None, trained.curve)
        record = {_DONE: True, "curve": trained.curve}
        self.context.workspace.save(name, trained.adapter.state_dict(), record)
        return trained.adapter

    def _finished(self, name: str, weights: Weights, fold: int | None) -> State | None:
        """Find what an earlier run left of a finished trial."""
        found = self.context.workspace.load(name)
        if found is None or _DONE not in found[1]:
            return None
        self._count(weights, fold, found[1]["curve"])
        return found[0]

    def _train(
        self, name: str, weights: Weights, fold: int | None, *, is_shown: bool = True
    ) -> TrainedAdapter:
        """Run one trial under its own seed."""
        context = self.context
        offset = len(context.folds) if fold is None else fold
        with seeded(context.seed * 1009 + offset, context.device):
            adapter = context.initialisation.make(self.queries(weights, fold))
            trial = self.make_trainer(name, adapter, weights, fold)
            whole_s = self._expected_of(_plan(weights, fold)) if is_shown else 0.0
            trained = trial.run(
                context.workspace,
                on_round=lambda n_steps: self._show(whole_s * n_steps / trial.n_planned),
            )
        self._keep_narrowed(trained.adapter, weights, fold)
        if context.recipe.rescore and fold is not None:
            self._whole[weights, fold] = trained.adapter
        return trained

    def _count(self, weights: Weights, fold: int | None, curve: Curve) -> None:
        """Count a trial as finished."""
        self.curves.setdefault(weights, []).append(curve)
        self._done_s += self._expected_of(_plan(weights, fold))
        self._show()

    def _expected_of(self, planned: Planned) -> float:
        """Expect the seconds of one trial."""
        context = self.context
        train = (
            context.query_split.train if planned.fold is None else context.folds[planned.fold].train
        )
        # A dev split's queries are scored by the fit on all training queries.
        is_scored = planned.fold is not None or context.query_split.dev
        return self.forecast.trial_s(
            plan_steps(len(train), context.recipe, planned.steps).n_steps,
            len(train) / len(context.query_split.train),
            planned.unlabelled,
            context.cross_validation.n_blends if is_scored else 0,
        )

    def make_trainer(
        self,
        name: str,
        adapter: Adapter,
        weights: Weights,
        fold: int | None,
        kind: Callable[..., Trainer] = Trainer,
    ) -> Trainer:
        """Set up one trial of an untrained adapter, of the usual kind or another one."""
        context = self.context
        return kind(
            name,
            adapter,
            weights,
            train=self.queries(weights, fold),
            synthetic=context.query_split.synthetic,
            embeddings=context.embeddings,
            recipe=context.recipe,
            device=context.device,
        )

    def _show(self, work_s: float = 0.0) -> None:
        """Tell how far the fit has come: what is done, and what is of the trial under way."""
        done_s = self._done_s + work_s
        self.progress(
            round(done_s * _MILLISECONDS), round(max(self._expected_s, done_s) * _MILLISECONDS)
        )


def _plan(weights: Weights, fold: int | None) -> Planned:
    """Plan a trial of which everything is known."""
    return Planned(weights.steps, fold, [weights.unlabelled])


def describe_trials(tried: Mapping[Weights, HeldOut], kind: str) -> list[dict[str, Any]]:
    """Write down which weights were tried and how they did."""
    return [
        {
            "family": kind,
            "unlabelled_weight": weights.unlabelled,
            "anchor": weights.anchor,
            "temperature": weights.temperature,
            "synthetic_weight": weights.synthetic,
            "steps": weights.steps,
            "objective": objective(scores),
        }
        for weights, scores in tried.items()
    ]
