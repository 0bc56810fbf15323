"""Runs the trials of one fit, each under its own seed: on all folds but one, or on all queries."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from training.adapters import Adapter, ComposedAdapter
from training.checkpoint import State, Workspace
from training.config import Recipe
from training.dataset import Qrels, unit_hash
from training.device import seeded
from training.embeddings import Embeddings
from training.folds import Fold
from training.judgement import HeldOut
from training.ranks import MOST_QUERIES
from training.referee import Referee
from training.roles import Roles
from training.start import Starts
from training.trial import Curve, TrainedTrial, Trial, Weights, plan_steps

logger = logging.getLogger(__name__)

_MAX_SAMPLED = 20_000
_DONE, _SCORES = "done", "scores."

Progress = Callable[[int, int], None]
"""Called with the number of steps taken and of all steps."""


@dataclass(frozen=True)
class Bench:
    """What all trials of a fit share.

    Attributes:
        roles: Who trains.
        folds: What is left out of the training queries, and what remains.
        referee: Scores adapters on what the folds leave out.
        embeddings: The vectors.
        recipe: The knobs.
        starts: Makes untrained adapters.
        ranks: Ranks of the linear part to try, the lowest first.
        workspace: Where unfinished work is kept.
        seed: Seed of the fit.
        device: Where to compute.
    """

    roles: Roles
    folds: Sequence[Fold]
    referee: Referee
    embeddings: Embeddings
    recipe: Recipe
    starts: Starts
    ranks: Sequence[int]
    workspace: Workspace
    seed: int
    device: torch.device


@dataclass
class Runner:
    """Runs trials, each of them once, and counts their steps.

    Attributes:
        bench: What trials share.
        progress: Told how far the fit has come.
        curves: The curves of all finished trials, on folds and on all queries, by what was tried.
    """

    bench: Bench
    progress: Progress
    curves: dict[Weights, list[Curve]] = field(default_factory=dict)
    _n_taken: int = 0
    _n_expected: int = 0
    _trains: dict[tuple[int | None, bool], Qrels] = field(default_factory=dict)
    _scores: dict[str, HeldOut] = field(default_factory=dict)
    _fitted: dict[Weights, Adapter] = field(default_factory=dict)
    _narrow: dict[tuple[Weights, int | None], ComposedAdapter] = field(default_factory=dict)

    def expect(self, to_come: Sequence[tuple[float, int | None]]) -> None:
        """Say what is to come, for a progress bar.

        Args:
            to_come: Of each trial, the share of the steps that it takes, and the number of the fold
                that it leaves out; None for all queries.
        """
        bench = self.bench
        trains = [
            bench.roles.train if fold is None else bench.folds[fold].train for _, fold in to_come
        ]
        self._n_expected = self._n_taken + sum(
            plan_steps(len(train), bench.recipe, share).n_steps
            for train, (share, _) in zip(trains, to_come, strict=True)
        )

    def hold_out(self, weights: Weights, fold: int) -> HeldOut:
        """Train on what a fold keeps and score what it leaves out."""
        name = f"{weights.name}-fold{fold}"
        if name not in self._scores:
            self._scores[name] = (
                self.bench.referee.score(self.fit_all(weights), fold)
                if self._leaves_out_nothing(weights, fold)
                else self._hold_out(name, weights, fold)
            )
        return self._scores[name]

    def narrowed(self, weights: Weights, fold: int | None) -> ComposedAdapter:
        """Give what training on a fold came to, or on all queries, at the highest rank to try.

        A fold whose scores are from before an interruption is trained on again: its adapter was
        not kept.
        """
        if fold is not None and self._leaves_out_nothing(weights, fold):
            fold = None
        if (weights, fold) not in self._narrow:
            if fold is None:
                self._keep_narrowed(self.fit_all(weights), weights, None)
            else:
                self._train(f"{weights.name}-fold{fold}-again", weights, fold, lambda _n: None)
        return self._narrow[weights, fold]

    def forget_others(self, weights: Collection[Weights]) -> None:
        """Let go of adapters that were trained with other weights."""
        self._narrow = {key: kept for key, kept in self._narrow.items() if key[0] in weights}

    def fit_all(self, weights: Weights) -> Adapter:
        """Train on all queries."""
        if weights not in self._fitted:
            self._fitted[weights] = self._fit_all(f"{weights.name}-all", weights)
        return self._fitted[weights]

    def queries(self, weights: Weights, fold: int | None = None) -> Qrels:
        """Give the training queries that count for anything: all, or those that a fold keeps.

        The same object for the same question: what is known of some queries is kept by it.
        """
        roles = self.bench.roles
        only_real = weights.synthetic == 0 and roles.is_mixed
        key = fold, only_real
        if key not in self._trains:
            train = roles.train if fold is None else self.bench.folds[fold].train
            self._trains[key] = roles.only_real(train) if only_real else train
        return self._trains[key]

    def sample_queries(
        self, weights: Weights, fold: int | None = None, most: int = _MAX_SAMPLED
    ) -> Float[Tensor, "queries dim"]:
        """Give the vectors of training queries, or of some of them where they are very many."""
        wanted = self.queries(weights, fold)
        chosen = sorted(wanted, key=lambda query: unit_hash(query, "sampled"))[:most]
        vectors = self.bench.embeddings.queries.take_ids(chosen)
        return torch.from_numpy(vectors).to(self.bench.device)

    def _leaves_out_nothing(self, weights: Weights, fold: int) -> bool:
        """Tell whether a fold trains on all queries: then a dev split is left out."""
        return len(self.queries(weights, fold)) == len(self.queries(weights))

    def _keep_narrowed(self, adapter: Adapter, weights: Weights, fold: int | None) -> None:
        """Keep an adapter at the highest rank to try: the lower ones are parts of it."""
        if self.bench.ranks and isinstance(adapter, ComposedAdapter):
            queries = self.sample_queries(weights, fold, MOST_QUERIES)
            self._narrow[weights, fold] = adapter.of_rank(self.bench.ranks[-1], queries)

    def _hold_out(self, name: str, weights: Weights, fold: int) -> HeldOut:
        """Do one trial, or take what is known of it; only its scores are kept."""
        referee = self.bench.referee
        found = self._finished(name, weights)
        if found is not None:
            scores = {
                float(key.removeprefix(_SCORES)): value.double().numpy()
                for key, value in found.items()
            }
            return referee.held_out(scores, fold)
        trained = self._train(name, weights, fold, self._show)
        self._count(weights, trained.curve)
        held_out = referee.score(trained.adapter, fold)
        state = {
            f"{_SCORES}{blend}": torch.from_numpy(scores)
            for blend, scores in held_out.adapted.items()
        }
        self.bench.workspace.save(name, state, {_DONE: True, "curve": trained.curve})
        logger.info("trial finished", extra={"trial": name, "gain": round(held_out.gain(1.0), 4)})
        return held_out

    def _fit_all(self, name: str, weights: Weights) -> Adapter:
        """Fit on all queries, or take what is known of it."""
        train = self.queries(weights)
        found = self._finished(name, weights)
        if found is not None:
            with seeded(self.bench.seed, self.bench.device):
                adapter = self.bench.starts.make(train).to(self.bench.device).eval()
            adapter.load_state_dict(found)
            return adapter
        trained = self._train(name, weights, None, self._show)
        self._count(weights, trained.curve)
        record = {_DONE: True, "curve": trained.curve}
        self.bench.workspace.save(name, trained.adapter.state_dict(), record)
        return trained.adapter

    def _finished(self, name: str, weights: Weights) -> State | None:
        """Find what an earlier run left of a finished trial."""
        found = self.bench.workspace.load(name)
        if found is None or _DONE not in found[1]:
            return None
        self._count(weights, found[1]["curve"])
        return found[0]

    def _train(
        self, name: str, weights: Weights, fold: int | None, on_round: Callable[[int], None]
    ) -> TrainedTrial:
        """Run one trial under its own seed."""
        bench = self.bench
        train = self.queries(weights, fold)
        offset = len(bench.folds) if fold is None else fold
        with seeded(bench.seed * 1009 + offset, bench.device):
            trial = Trial(
                name,
                bench.starts.make(train),
                weights,
                train=train,
                synthetic=bench.roles.synthetic,
                embeddings=bench.embeddings,
                recipe=bench.recipe,
                device=bench.device,
            )
            trained = trial.run(bench.workspace, on_round=on_round)
        self._keep_narrowed(trained.adapter, weights, fold)
        return trained

    def _count(self, weights: Weights, curve: Curve) -> None:
        """Count a trial as finished."""
        self.curves.setdefault(weights, []).append(curve)
        self._n_taken += int(curve[-1]["step"])
        self._show()

    def _show(self, n_under_way: int = 0) -> None:
        """Tell how far the fit has come: finished trials, and steps of the one under way."""
        n_taken = self._n_taken + n_under_way
        self.progress(n_taken, max(self._n_expected, n_taken))
