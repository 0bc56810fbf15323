"""Runs the trials of one tuning, each under its own seed: without a fold, or on all queries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trimtab_training.adapters import Adapter
from trimtab_training.data.folds import Fold
from trimtab_training.data.qrels import Qrels
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.fit.checkpoint import Workspace
from trimtab_training.fit.cross_validation import CrossValidation, held_out_labels
from trimtab_training.fit.device import seeded
from trimtab_training.fit.model_selection import HeldOut
from trimtab_training.fit.query_split import QuerySplit
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.trainer import Curve
from trimtab_training.fit.tuning.corpus_queries import CorpusQueries, without_texts
from trimtab_training.fit.tuning.outcome import Tuned
from trimtab_training.fit.tuning.settings import TuningSettings, TuningWeights
from trimtab_training.fit.tuning.trainable_encoder import TrainableEncoder
from trimtab_training.fit.tuning.tuner import Tuner, TuningData, Validate
from trimtab_training.retrieval.exact_search import normalise

TUNED, MEAN = "tuned", "mean"
_SEEDS = 1009
_DONE = "done"

Progress = Callable[[int, int], None]
"""Called with the queries that were passed and all that may be; fewer where a trial ends early."""


@dataclass(frozen=True)
class Candidate:
    """What may be shipped.

    Attributes:
        way: ``tuned``, or ``mean`` of tuned and adapted vectors.
        weights: What it was trained with.
        n_passes: Passes over the training queries.
    """

    way: str
    weights: TuningWeights
    n_passes: int


@dataclass(frozen=True)
class TuningContext:
    """What all trials of a tuning share.

    Attributes:
        encoder: Trained in place, and put back for every trial.
        query_split: Which queries teach, and which judge.
        folds: What is left out of the training queries, and what remains.
        cross_validation: Scores vectors of what the folds leave out.
        adapters: The vector adapter of each fold; none where no adapter helps.
        texts: Text of every training and held-out query.
        corpus: Queries that documents are for themselves.
        embeddings: The vectors.
        recipe: The knobs of the fit.
        settings: Those of the tuning.
        workspace: Where unfinished work is kept.
    """

    encoder: TrainableEncoder
    query_split: QuerySplit
    folds: Sequence[Fold]
    cross_validation: CrossValidation
    adapters: Sequence[Adapter]
    texts: Mapping[str, str]
    corpus: CorpusQueries
    embeddings: Embeddings
    recipe: Recipe
    settings: TuningSettings
    workspace: Workspace

    @property
    def has_mean(self) -> bool:
        """Whether there is a mean to rate: of unit vectors alone, as the file of it gives."""
        return bool(self.adapters) and self.encoder.is_unit


@dataclass
class TuningTrials:
    """Runs trials, each of them once.

    Attributes:
        context: What they share.
        progress: Told how far the tuning has come.
        curves: Training loss of every trial, by its name.
    """

    context: TuningContext
    progress: Progress
    curves: dict[str, Curve] = field(default_factory=dict)
    _n_done: int = 0
    _n_expected: int = 0
    _tuned: dict[tuple[TuningWeights, int], Tuned] = field(default_factory=dict)

    def expect(self, n_trials: int) -> None:
        """Say how many trials are to come, for a progress bar."""
        n_queries = len(self.context.query_split.train) * self.context.settings.epochs
        self._n_expected = self._n_done + n_trials * n_queries

    def hold_out(self, weights: TuningWeights, n_folds: int) -> dict[Candidate, HeldOut]:
        """Train without each of some folds, and score what they hold out.

        Args:
            weights: What to train with.
            n_folds: Number of folds, the first ones.

        Returns:
            Held-out scores after every pass that all folds came to, for each way of use.
        """
        n_passes = self.context.settings.epochs
        for fold in range(n_folds):
            n_passes = min(n_passes, len(self._run_fold(weights, fold, n_passes).held_out))
        ways = (TUNED, MEAN) if self.context.has_mean else (TUNED,)
        return {
            Candidate(way, weights, number): HeldOut.join(
                [self._held_out(weights, way, number, fold) for fold in range(n_folds)]
            )
            for way in ways
            for number in range(1, n_passes + 1)
        }

    def fit_all(self, chosen: Candidate) -> None:
        """Leave the encoder trained on all training queries as a candidate says.

        Where a dev split judges, that is what was judged.
        """
        context = self.context
        if context.query_split.dev:
            context.encoder.load_weights(self._tuned[chosen.weights, 0].best[chosen.way])
            return
        name = f"{chosen.weights.name}-all-{chosen.n_passes}"
        data = self._data(chosen.weights, context.query_split.train, ())
        with seeded(context.settings.seed * _SEEDS + len(context.folds), _device(context)):
            self._tuner(name, chosen.weights, data).run(
                context.workspace, chosen.n_passes, on_round=self._shower(data)
            )

    def forget(self, weights: TuningWeights) -> None:
        """Let go of the weights of a trial that was not chosen; its scores stay."""
        for (tried, _), tuned in self._tuned.items():
            if tried == weights:
                tuned.best.clear()

    def _run_fold(self, weights: TuningWeights, fold: int, n_passes: int) -> Tuned:
        """Do one trial, or take what is known of it."""
        if (weights, fold) not in self._tuned:
            name = f"{weights.name}-fold{fold}"
            tuned = self._finished(name) or self._train(name, weights, fold, n_passes)
            self.curves[name] = tuned.curve
            self._tuned[weights, fold] = tuned
        return self._tuned[weights, fold]

    def _train(self, name: str, weights: TuningWeights, fold: int, n_passes: int) -> Tuned:
        """Train on what a fold keeps, scored after every pass on what it leaves out."""
        context = self.context
        held_out = list(held_out_labels(context.folds[fold], context.recipe))
        texts = [context.texts[query] for query in held_out]
        left_out = [context.texts[query] for query in context.folds[fold].held_out]
        data = self._data(weights, context.folds[fold].train, left_out)
        with seeded(context.settings.seed * _SEEDS + fold, _device(context)):
            tuned = self._tuner(name, weights, data).run(
                context.workspace,
                n_passes,
                self._validate(texts, fold),
                on_round=self._shower(data),
            )
        if not context.query_split.dev:  # what a fold is for are its scores
            tuned.best.clear()
        context.workspace.save(name, tuned.state(), {**tuned.record(), _DONE: True})
        return tuned

    def _data(self, weights: TuningWeights, train: Qrels, left_out: Sequence[str]) -> TuningData:
        """Gather what a trial trains on: nothing that reads like a query that is left out."""
        context = self.context
        only_real = weights.synthetic == 0 and context.query_split.is_mixed
        train = context.query_split.only_real(train) if only_real else train
        texts = without_texts({query: context.texts[query] for query in train}, left_out)
        return TuningData(
            {query: train[query] for query in texts},
            texts,
            context.query_split.synthetic & set(texts),
            context.corpus.without(left_out),
        )

    def _tuner(self, name: str, weights: TuningWeights, data: TuningData) -> Tuner:
        """Set up one trial."""
        context = self.context
        return Tuner(
            name,
            context.encoder,
            weights,
            data=data,
            embeddings=context.embeddings,
            recipe=context.recipe,
            settings=context.settings,
        )

    def _validate(self, texts: list[str], fold: int) -> Validate:
        """Make what scores a fold's queries by the encoder, alone and beside the adapter."""
        context = self.context
        cross_validation = context.cross_validation
        adapted = None
        if context.has_mean:
            with torch.no_grad():
                adapted = context.adapters[fold](cross_validation.raw_queries(fold))

        def validate() -> dict[str, np.ndarray]:
            vectors = context.encoder.embed(texts)
            scores = {TUNED: cross_validation.score_vectors(vectors, fold)}
            if adapted is not None:
                both = mean_of(vectors, adapted)
                scores[MEAN] = cross_validation.score_vectors(both, fold)
            return scores

        return validate

    def _held_out(self, weights: TuningWeights, way: str, number: int, fold: int) -> HeldOut:
        """Put the scores after one pass beside those of the raw queries."""
        cross_validation = self.context.cross_validation
        base = cross_validation.score_vectors(cross_validation.raw_queries(fold), fold)
        scores = self._tuned[weights, fold].held_out[number - 1][way]
        return cross_validation.held_out({0.0: base, 1.0: scores}, fold)

    def _finished(self, name: str) -> Tuned | None:
        """Find what an earlier run left of a finished trial."""
        found = self.context.workspace.load(name)
        if found is None or _DONE not in found[1]:
            return None
        return Tuned.read(*found)

    def _shower(self, data: TuningData) -> Callable[[int], None]:
        """Make what is told a trial's steps and shows them."""
        before = self._n_done
        n_all = len(data.train) * self.context.settings.epochs

        def show(n_steps: int) -> None:
            n_passed = min(n_all, n_steps * self.context.settings.batch_size)
            self._n_done = before + n_passed
            self.progress(self._n_done, max(self._n_expected, self._n_done))

        return show


def mean_of(
    tuned: Float[Tensor, "queries dim"], adapted: Float[Tensor, "queries dim"]
) -> Float[Tensor, "queries dim"]:
    """Give the unit vectors midway between tuned and adapted queries of unit length.

    Args:
        tuned: Of the tuned encoder.
        adapted: Of the untouched encoder, through the adapter.
    """
    return normalise((tuned + adapted) / 2)


def _device(context: TuningContext) -> torch.device:
    """Give where a tuning computes."""
    return torch.device(context.settings.device)
