"""The training loop of a tuning: one encoder, one share of the queries, one choice of weights."""

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trimtab_training.adapters import IdentityAdapter
from trimtab_training.data.qrels import Qrels
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DivergedError
from trimtab_training.fit.adamw import AdamW
from trimtab_training.fit.candidates import (
    CandidatePool,
    Candidates,
    Targets,
    labelled_rows,
    make_targets,
)
from trimtab_training.fit.checkpoint import Workspace
from trimtab_training.fit.device import threads_for
from trimtab_training.fit.losses import anchor_loss, softmax_loss
from trimtab_training.fit.model_selection import Scores
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.trainer import KEEP_EVERY_S, ROUND, score_unit
from trimtab_training.fit.tuning.corpus_queries import CorpusQueries
from trimtab_training.fit.tuning.outcome import Tuned, read_group, write_groups
from trimtab_training.fit.tuning.settings import TuningSettings, TuningWeights
from trimtab_training.fit.tuning.trainable_encoder import TrainableEncoder
from trimtab_training.retrieval.exact_search import normalise

logger = logging.getLogger(__name__)

Validate = Callable[[], dict[str, Scores]]
"""Scores held-out queries by the encoder as it stands, in each way that they can be used."""

_NONE = torch.empty(0, dtype=torch.long)
_WARM_UP_STEPS = 10
_NO_DECAY = 0.0
"""Weights are pulled to the start by the vectors that they give, not to zero by their size."""


@dataclass(frozen=True)
class TuningData:
    """What one trial trains on.

    Attributes:
        train: Labels.
        texts: Text of every query among them.
        synthetic: Queries among them that an LLM wrote.
        corpus: Queries that documents are for themselves.
    """

    train: Qrels
    texts: Mapping[str, str]
    synthetic: Collection[str]
    corpus: CorpusQueries


class Tuner:
    """One run of the loop, continued where it was interrupted."""

    def __init__(  # noqa: PLR0913 - the parts of a trial are what they are
        self,
        name: str,
        encoder: TrainableEncoder,
        weights: TuningWeights,
        *,
        data: TuningData,
        embeddings: Embeddings,
        recipe: Recipe,
        settings: TuningSettings,
    ) -> None:
        """Set up a trial; the encoder is put back to its start.

        Args:
            name: Name of its state in the workspace.
            encoder: Trained in place.
            weights: What this trial tries.
            data: What it trains on.
            embeddings: The frozen vectors, and the untouched query vectors.
            recipe: Names the similarity.
            settings: The knobs.
        """
        encoder.reset()
        self.name, self.encoder, self.data = name, encoder, data
        self._weights, self._settings = weights, settings
        self._device = torch.device(settings.device)
        self._embeddings = embeddings
        self._recipe = replace(recipe, sampled_documents=settings.max_candidates)
        self._query_ids = list(data.train)
        self._lengths = np.array(
            encoder.count_tokens([data.texts[name] for name in self._query_ids])
        )
        self._labelled = labelled_rows(data.train, embeddings)
        self._is_unit = recipe.compares_by == "cosine" or embeddings.unit_documents
        self._optimiser = AdamW(encoder.parameters, weight_decay=_NO_DECAY)
        self._mean = encoder.copy_weights()
        self._n_steps = 0
        self._corpus_left = _NONE
        self.tuned = Tuned()
        self._pass = self._describe_pass(_NONE, _NONE, self.steps_a_pass)
        unit = score_unit(self._identity(), self._pass.targets.queries, embeddings, recipe)
        self._scale = settings.temperature * unit
        self._pull = weights.pull / (unit**2 if not self._is_unit else 1.0)

    @property
    def steps_a_pass(self) -> int:
        """Number of steps in which all real queries are passed once."""
        return math.ceil(len(self._query_ids) / self._settings.batch_size)

    @property
    def n_passes(self) -> int:
        """Number of passes that are finished."""
        return self._n_steps // self.steps_a_pass

    def run(
        self,
        workspace: Workspace,
        n_passes: int,
        validate: Validate | None = None,
        *,
        on_round: Callable[[int], None] = lambda _n_steps: None,
    ) -> Tuned:
        """Take steps until passes are done, or held-out scores no longer rise.

        Args:
            workspace: Where unfinished work is kept, at most twice a minute.
            n_passes: Most passes; the learning rate falls as if all of the settings' were taken.
            validate: Scores held-out queries after every pass, by the running mean of the weights.
            on_round: Told the number of steps taken so far.

        Returns:
            What became of it; the encoder has the running mean of the weights at the last step.

        Raises:
            DivergedError: The loss is no longer finite.
        """
        self._restore(workspace)
        kept_at = -math.inf if workspace.is_empty else time.monotonic()
        with threads_for(self._count_operations()):
            while self.n_passes < n_passes and not self.tuned.is_past_best(self._settings.patience):
                self._train_round(validate)
                if time.monotonic() - kept_at >= KEEP_EVERY_S:
                    self._keep(workspace)
                    kept_at = time.monotonic()
                on_round(self._n_steps)
        self.encoder.load_weights(self._mean)
        return self.tuned

    def _count_operations(self) -> float:
        """Count a step's multiplications and additions, forward."""
        n_tokens = self._settings.batch_size * float(self._lengths.mean())
        return 2.0 * self.encoder.n_weights * n_tokens

    def _score(self, validate: Validate) -> None:
        """Score the running mean of the weights, and keep it where it is the best so far."""
        self.encoder.swap_weights(self._mean)
        scores = validate()
        self.tuned.held_out.append(scores)
        for way in scores:
            if self.tuned.best_pass(way) == len(self.tuned.held_out):
                self.tuned.best[way] = self.encoder.copy_weights()
        self.encoder.swap_weights(self._mean)
        means = {way: round(float(each.mean()), 4) for way, each in scores.items()}
        logger.info("pass finished", extra={"trial": self.name, "pass": self.n_passes, **means})

    def _train_round(self, validate: Validate | None) -> None:
        """Take some steps of a pass with the same candidates, and score where it ends."""
        if self._pass.is_done:
            self._pass = self._begin_pass()
        candidates = self._pass.pool.draw(self._device)
        n_steps = min(ROUND, self.steps_a_pass - self._pass.n_steps)
        loss = sum(self._step(candidates) for _ in range(n_steps)) / n_steps
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss of {self.name} is {loss} by step {self._n_steps}; lower the learning "
                "rate of the tuning, or raise its temperature"
            )
        self.tuned.curve.append({"step": float(self._n_steps), "loss": loss})
        if self._pass.is_done and validate:
            self._score(validate)

    def _begin_pass(self) -> "_Pass":
        """Shuffle the real queries, and take as many corpus queries, which all have their turn."""
        n_corpus = min(len(self._query_ids), len(self.data.corpus)) if self._weights.corpus else 0
        while len(self._corpus_left) < n_corpus:
            again = torch.randperm(len(self.data.corpus))
            self._corpus_left = torch.cat([self._corpus_left, again])
        corpus = self._corpus_left[:n_corpus]
        self._corpus_left = self._corpus_left[n_corpus:]
        return self._describe_pass(torch.randperm(len(self._query_ids)), corpus, 0)

    def _describe_pass(self, order: Tensor, corpus: Tensor, n_steps: int) -> "_Pass":
        """Put a pass's draws together with what follows from them."""
        labelled = sorted({*self._labelled, *self.data.corpus.rows[corpus.numpy()].tolist()})
        pool = CandidatePool(self._embeddings, labelled, self._recipe, self._weights.unlabelled)
        return _Pass(order, corpus, n_steps, self.steps_a_pass, self._targets(labelled), pool)

    def _targets(self, labelled: list[int]) -> Targets:
        """Lay out the real queries' documents among the labelled ones."""
        weight_of = {query: self._weights.synthetic for query in self.data.synthetic}
        return make_targets(self.data.train, self._embeddings, labelled, weight_of)

    def _step(self, candidates: Candidates) -> float:
        """Take one step; give the loss before it."""
        self._optimiser.zero_grad()
        loss = self._pass_real(candidates) + self._pass_corpus(candidates)
        nn.utils.clip_grad_norm_(self.encoder.parameters, self._settings.max_norm)
        self._optimiser.step(self._settings.rate * self._rate_share())
        self._n_steps += 1
        self._pass.n_steps += 1
        self._average()
        return loss

    def _rate_share(self) -> float:
        """Give the share of the learning rate: it rises over the warm-up, then falls to 0."""
        n_steps = self._settings.epochs * self.steps_a_pass
        n_warm = max(1, round(self._settings.warm_up * n_steps))
        rising = (self._n_steps + 1) / n_warm
        return min(rising, (n_steps - self._n_steps) / max(1, n_steps - n_warm))

    def _pass_real(self, candidates: Candidates) -> float:
        """Add the gradients of a batch of real queries, piece by piece; give its loss.

        Documents are frozen, so queries share nothing, and pieces add up to the very same batch.
        """
        chosen = self._pass.batch(self._pass.order, self._settings.batch_size)
        targets, total = self._pass.targets, 0.0
        for places in self.encoder.batches(self._lengths[chosen.numpy()].tolist()):
            part = chosen[places]
            vectors = self.encoder.vectors(
                [self.data.texts[self._query_ids[place]] for place in part.tolist()]
            )
            rows, columns, shares = (each.to(self._device) for each in targets.batch(part))
            query_weights = targets.weights[part].to(self._device)
            logits = self._logits(vectors, candidates)
            loss = softmax_loss(logits, rows, columns, shares, query_weights)
            if self._pull:
                start = targets.queries[part].to(self._device)
                start = normalise(start) if self._is_unit else start
                loss = loss + self._pull * anchor_loss(vectors, start)
            total += self._add_gradients(loss, len(part) / len(chosen))
        return total

    def _pass_corpus(self, candidates: Candidates) -> float:
        """Add the gradients of a batch of corpus queries; give their share of the loss."""
        n_at_once = math.ceil(len(self._pass.corpus) / self.steps_a_pass)
        chosen = self._pass.batch(self._pass.corpus, n_at_once)
        if not len(chosen):
            return 0.0
        texts = [self.data.corpus.texts[place] for place in chosen.tolist()]
        columns = self._pass.columns(self.data.corpus.rows[chosen.numpy()])
        total = 0.0
        for places in self.encoder.batches(self.encoder.count_tokens(texts)):
            vectors = self.encoder.vectors([texts[place] for place in places])
            rows = torch.arange(len(places), device=self._device)
            ones = torch.ones(len(places), device=self._device)
            logits = self._logits(vectors, candidates)
            loss = softmax_loss(logits, rows, columns[places].to(self._device), ones, ones)
            total += self._add_gradients(self._weights.corpus * loss, len(places) / len(texts))
        return total

    def _logits(self, vectors: Tensor, candidates: Candidates) -> Tensor:
        """Score queries against the candidates, over the temperature, with their correction."""
        addition = candidates.offsets / self._scale + candidates.log_weights
        return torch.addmm(addition, vectors, candidates.vectors.T, alpha=1 / self._scale)

    def _add_gradients(self, loss: Tensor, share: float) -> float:
        """Add the gradients of a piece of a batch; give its share of the loss."""
        torch.autograd.backward(loss * share)
        return loss.item() * share

    @torch.no_grad()
    def _average(self) -> None:
        """Take a step's weights into the running mean, which forgets its first steps sooner.

        Source:
            Polyak & Juditsky (1992), doi:10.1137/0330046, with exponential weights.
        """
        decay = min(self._settings.averaging, self._n_steps / (self._n_steps + _WARM_UP_STEPS))
        for mean, value in zip(self._mean, self.encoder.parameters, strict=True):
            mean.lerp_(value, 1 - decay)

    def _identity(self) -> IdentityAdapter:
        """Give the map of raw queries that their scores' unit is measured with."""
        identity = IdentityAdapter(self._embeddings.queries.dim)
        identity.normalised = self._is_unit
        return identity

    def _keep(self, workspace: Workspace) -> None:
        """Save everything that the next step depends on."""
        state = write_groups({"trained": self.encoder.parameters, "mean": self._mean})
        state |= {f"optimiser.{key}": value for key, value in self._optimiser.state_dict().items()}
        state |= self.tuned.state()
        state |= {
            "order": self._pass.order,
            "corpus": self._pass.corpus,
            "corpus_left": self._corpus_left,
            "random": torch.get_rng_state(),
        }
        record = {"steps": self._n_steps, "pass_steps": self._pass.n_steps}
        workspace.save(self.name, state, {**self.tuned.record(), **record})

    def _restore(self, workspace: Workspace) -> None:
        """Continue from what :meth:`_keep` saved, if there is anything."""
        found = workspace.load(self.name)
        if found is None:
            return
        state, record = found
        self.encoder.load_weights(read_group(state, "trained"))
        self._mean = [value.to(self._device) for value in read_group(state, "mean")]
        prefix = "optimiser."
        self._optimiser.load_state_dict(
            {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        )
        self._n_steps, self._corpus_left = record["steps"], state["corpus_left"]
        self._pass = self._describe_pass(state["order"], state["corpus"], record["pass_steps"])
        self.tuned = Tuned.read(state, record)
        torch.set_rng_state(state["random"])


@dataclass
class _Pass:
    """One pass over the real queries.

    Attributes:
        order: The real queries in the order of their turns.
        corpus: The corpus queries of this pass, in theirs.
        n_steps: Steps taken.
        n_planned: All of its steps.
        targets: The real queries' documents among the candidates.
        pool: What the softmax runs over.
    """

    order: Tensor
    corpus: Tensor
    n_steps: int
    n_planned: int
    targets: Targets
    pool: CandidatePool

    @property
    def is_done(self) -> bool:
        """Tell whether all of its steps are taken."""
        return self.n_steps >= self.n_planned

    def batch(self, queries: Tensor, size: int) -> Tensor:
        """Give the queries of the step that comes."""
        return queries[self.n_steps * size : (self.n_steps + 1) * size]

    def columns(self, rows: NDArray[np.int64]) -> Tensor:
        """Give the places of labelled documents among the candidates."""
        return torch.from_numpy(np.searchsorted(self.pool.labelled, rows))
