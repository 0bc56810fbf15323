"""Runs the trials of one fit, each under its own seed: on all folds but one, or on all queries."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from training.adapters import Adapter
from training.checkpoint import State, Workspace
from training.config import Recipe
from training.dataset import Qrels, unit_hash
from training.device import seeded
from training.embeddings import Embeddings
from training.folds import Fold
from training.roles import Roles
from training.start import Starts
from training.trial import TrainedTrial, Trial, Weights
from training.validation import ValidationSet

logger = logging.getLogger(__name__)

_MAX_SAMPLED = 20_000

Progress = Callable[[int, int], None]
"""Called with the number of trials finished and of all trials, after every epoch."""


@dataclass(frozen=True)
class Bench:
    """What all trials of a fit share.

    Attributes:
        roles: Who trains.
        folds: What is left out of the training queries, and what remains.
        embeddings: The vectors.
        recipe: The knobs.
        starts: Makes untrained adapters.
        workspace: Where unfinished work is kept.
        seed: Seed of the fit.
        device: Where to compute.
    """

    roles: Roles
    folds: Sequence[Fold]
    embeddings: Embeddings
    recipe: Recipe
    starts: Starts
    workspace: Workspace
    seed: int
    device: torch.device


class Runner:
    """Runs trials and counts them."""

    def __init__(self, bench: Bench, progress: Progress) -> None:
        """Take what trials share; nothing runs yet."""
        self._bench = bench
        self._progress = progress
        self._done = 0
        self._n_trials = 0
        self._fold_trains = [fold.train for fold in bench.folds]
        self._all = bench.roles.train
        if bench.roles.is_mixed:  # made once: what is known of some queries is kept by their object
            self._real_fold_trains = [bench.roles.only_real(train) for train in self._fold_trains]
            self._all_real = bench.roles.only_real(self._all)

    def expect(self, n_trials: int) -> None:
        """Say how many trials are to come, for a progress bar."""
        self._n_trials = self._done + n_trials

    def hold_out(
        self, family: str, weights: Weights, fold: int, validation: ValidationSet
    ) -> TrainedTrial:
        """Train on all but one fold; validation stops it."""
        name = f"{_file_name(family)}-{weights.name}-fold{fold}"
        train = self.queries(weights, fold)
        trained = self._run(name, (family, weights, train, validation), self._recipe.epochs, fold)
        logger.info(
            "trial finished",
            extra={"trial": name, "epoch": trained.epoch, "validation": round(trained.score, 4)},
        )
        return trained

    def fit_all(self, family: str, weights: Weights, number: int, epochs: int) -> Adapter:
        """Train on all queries, for so many epochs."""
        name = f"{_file_name(family)}-{weights.name}-all{number}"
        train = self.queries(weights)
        offset = len(self._bench.folds) + number
        state = self._run(name, (family, weights, train, None), epochs, offset).state
        return self.restore(family, train, state)

    def queries(self, weights: Weights, fold: int | None = None) -> Qrels:
        """Give the training queries that count for anything: all, or all but one fold's."""
        if weights.synthetic == 0 and self._bench.roles.is_mixed:
            return self._all_real if fold is None else self._real_fold_trains[fold]
        return self._all if fold is None else self._fold_trains[fold]

    def sample_queries(self, weights: Weights) -> Float[Tensor, "queries dim"]:
        """Give the vectors of training queries, or of some of them where they are very many."""
        wanted = sorted(self.queries(weights), key=lambda query: unit_hash(query, "sampled"))
        return torch.from_numpy(self._bench.embeddings.queries.take_ids(wanted[:_MAX_SAMPLED]))

    def untrained(self, family: str, train: Qrels) -> Adapter:
        """Make an adapter where training starts."""
        with seeded(self._bench.seed, self._bench.device):
            return self._bench.starts.make(family, train).to(self._bench.device).eval()

    def restore(self, family: str, train: Qrels, state: State) -> Adapter:
        """Make an adapter with a trial's state."""
        adapter = self.untrained(family, train)
        adapter.load_state_dict(state)
        return adapter

    @property
    def _recipe(self) -> Recipe:
        return self._bench.recipe

    def _run(
        self,
        name: str,
        what: tuple[str, Weights, Qrels, ValidationSet | None],
        epochs: int,
        offset: int,
    ) -> TrainedTrial:
        """Run one trial under its own seed."""
        bench = self._bench
        family, weights, train, validation = what
        with seeded(bench.seed * 1009 + offset, bench.device):
            trial = Trial(
                name,
                bench.starts.make(family, train),
                weights,
                train=train,
                synthetic=bench.roles.synthetic,
                validation=validation,
                embeddings=bench.embeddings,
                recipe=bench.recipe,
                device=bench.device,
            )
            trained = trial.run(
                bench.workspace,
                epochs=epochs,
                on_epoch=lambda: self._progress(self._done, self._n_trials),
            )
        self._done += 1
        self._progress(self._done, self._n_trials)
        return trained


def _file_name(family: str) -> str:
    """Write a family as a part of a file's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in family)
