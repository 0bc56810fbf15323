"""The only training loop: one adapter, one share of the queries, one choice of loss weights."""

import copy
import logging
import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from training.adapters import Adapter
from training.candidates import CandidatePool, labelled_rows, make_targets
from training.checkpoint import State, Workspace
from training.config import Recipe
from training.dataset import Qrels
from training.embeddings import Embeddings
from training.errors import DivergedError
from training.losses import anchor_loss, softmax_loss
from training.search import normalise, prepare_documents
from training.validation import ValidationSet, slice_mean

logger = logging.getLogger(__name__)

KEEP_EVERY_S = 30.0
"""Seconds between two states of an unfinished trial on disk: what an interruption may cost."""

_WARM_UP_STEPS = 10
_SCALE_DOCUMENTS = 4096
_SCALE_QUERIES = 512
_USUAL_LEAD = 0.5
"""Of MiniLM's unit vectors: from .45 to .54 on the five sets of docs/quality.md."""
_LEAST_LEAD = 1e-6


@dataclass(frozen=True)
class Weights:
    """What a trial tries.

    Attributes:
        unlabelled: Weight in the softmax of documents without a training query: 1 is the exact
            softmax over the whole corpus, 0 the one over labelled documents alone.
        anchor: Weight of the document anchor.
        temperature: Divides scores inside the softmax, in units of :func:`score_unit`.
        synthetic: Weight in the loss of a query that an LLM wrote, where a real one has 1.
    """

    unlabelled: float
    anchor: float
    temperature: float
    synthetic: float = 1.0

    @property
    def name(self) -> str:
        """Write them as a part of a file's name."""
        name = f"u{self.unlabelled:g}-a{self.anchor:g}-t{self.temperature:g}"
        return name if self.synthetic == 1 else f"{name}-s{self.synthetic:g}"


@dataclass(frozen=True)
class TrainedTrial:
    """A finished trial.

    Attributes:
        state: The adapter's state at its best epoch.
        epoch: That epoch; 0 is the start.
        score: Validation objective at that epoch.
        curve: Mean training loss and validation objective of every epoch.
        history: Validation nDCG@10, shape ``(epochs + 1, queries)``, the start first.
    """

    state: State
    epoch: int
    score: float
    curve: list[dict[str, float]]
    history: NDArray[np.float64]


class Trial:
    """One run of the training loop, continued where it was interrupted."""

    def __init__(  # noqa: PLR0913 - the parts of a trial are what they are
        self,
        name: str,
        adapter: Adapter,
        weights: Weights,
        *,
        train: Qrels,
        synthetic: Collection[str],
        validation: ValidationSet | None,
        embeddings: Embeddings,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        """Set up a trial.

        Args:
            name: Name of its state in the workspace.
            adapter: Untrained adapter; trained in place.
            weights: What this trial tries.
            train: Labels to train on.
            synthetic: Queries among them that the trial's weight for synthetic ones applies to.
            validation: Queries that stop the trial, or None to run all epochs.
            embeddings: The vectors.
            recipe: The knobs.
            device: Where to compute.
        """
        self.name = name
        self.adapter = adapter.to(device)
        self._mean = copy.deepcopy(self.adapter)  # of the weights at the last steps: what is kept
        self._n_steps = 0
        self._weights = weights
        self._validation = validation
        self._recipe = recipe
        self._device = device
        self._documents = embeddings.documents
        # Documents are no queries of another encoder's: there is nothing to hold still.
        self._has_anchor = recipe.use_between(adapter.dim_in, adapter.dim_out) == "relevance"
        labelled = labelled_rows(train, embeddings)
        self._targets = make_targets(
            train, embeddings, labelled, {query: weights.synthetic for query in synthetic}
        )
        self._pool = CandidatePool(embeddings, labelled, recipe, weights.unlabelled)
        self._unit = score_unit(self.adapter, self._targets.queries, embeddings, recipe)
        self._scale = weights.temperature * self._unit
        self._batch_size, learning_rate = step_size(len(train), recipe)
        self._optimiser = torch.optim.AdamW(
            self.adapter.parameters(), lr=learning_rate, weight_decay=recipe.weight_decay
        )
        self._best = _copy(self._mean.state_dict())
        self._best_epoch = 0
        self._best_score = -np.inf
        self._curve: list[dict[str, float]] = []
        self._history: list[Float[Tensor, " queries"]] = []
        self._is_done = False

    def run(
        self,
        workspace: Workspace,
        *,
        epochs: int,
        on_epoch: Callable[[], None] = lambda: None,
    ) -> TrainedTrial:
        """Train until validation has stopped getting better, or for all epochs.

        Args:
            workspace: Where unfinished work is kept, at most twice a minute, and then its outcome.
            epochs: Most passes over the training queries.
            on_epoch: Called after every epoch, for a progress bar.

        Raises:
            DivergedError: The loss is no longer finite.
        """
        self._restore(workspace)
        if not self._history:
            self._best_score = self._score()
        # The first state is kept at once: a fit that was begun is found, and not taken for none.
        kept_at = -math.inf if workspace.is_empty else time.monotonic()
        while not self._is_done and len(self._curve) < epochs and not self._has_stopped():
            loss = self._train_epoch()
            score = self._score()
            self._curve.append({"loss": loss, "validation": score})
            if score > self._best_score or self._validation is None:
                self._best, self._best_epoch = _copy(self._mean.state_dict()), len(self._curve)
                self._best_score = score
            if time.monotonic() - kept_at >= KEEP_EVERY_S:
                self._keep(workspace)
                kept_at = time.monotonic()
            on_epoch()
        if not self._is_done:
            self._keep_outcome(workspace)
        self.adapter.load_state_dict(self._best)
        history = torch.stack(self._history).double().numpy()
        return TrainedTrial(self._best, self._best_epoch, self._best_score, self._curve, history)

    def _has_stopped(self) -> bool:
        """Tell whether validation has not got better for too long."""
        waited = len(self._curve) - self._best_epoch
        return self._validation is not None and waited >= self._recipe.patience

    def _train_epoch(self) -> float:
        """Pass once over the training queries; give the mean loss."""
        candidates = self._pool.draw(self._device)
        addition = candidates.offsets / self._scale + candidates.log_weights
        self.adapter.train()
        total, n_queries = 0.0, 0
        for chosen in self._batches():
            loss = self._loss(chosen, candidates.vectors, addition)
            self._optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self._optimiser.step()
            self._average()
            total += loss.item() * len(chosen)
            n_queries += len(chosen)
        if not np.isfinite(total):
            raise DivergedError(
                f"the loss of {self.name} is {total} in epoch {len(self._curve) + 1}; "
                "lower learning_rate or raise temperatures in the recipe"
            )
        return total / n_queries

    def _batches(self) -> Iterator[Tensor]:
        """Give an epoch's batches: one pass over the queries, or as many as make enough steps."""
        n_queries = len(self._targets.queries)
        n_passes = math.ceil(self._recipe.min_steps / math.ceil(n_queries / self._batch_size))
        for _ in range(n_passes):
            yield from torch.split(torch.randperm(n_queries), self._batch_size)

    @torch.no_grad()
    def _average(self) -> None:
        """Take a step's weights into the running mean, which forgets its first steps sooner.

        Source:
            Polyak & Juditsky (1992), doi:10.1137/0330046, with exponential weights.
        """
        self._n_steps += 1
        decay = min(self._recipe.averaging, self._n_steps / (self._n_steps + _WARM_UP_STEPS))
        for mean, value in zip(self._mean.parameters(), self.adapter.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        for kept, buffer in zip(self._mean.buffers(), self.adapter.buffers(), strict=True):
            kept.copy_(buffer)

    def _loss(self, chosen: Tensor, candidates: Tensor, addition: Tensor) -> Tensor:
        """Give the loss of one batch: softmax over candidates, and the document anchor."""
        adapted = self.adapter(self._targets.queries[chosen].to(self._device))
        logits = torch.addmm(addition, adapted, candidates.T, alpha=1 / self._scale)
        rows, columns, shares = (part.to(self._device) for part in self._targets.batch(chosen))
        query_weights = self._targets.weights[chosen].to(self._device)
        loss = softmax_loss(logits, rows, columns, shares, query_weights)
        if self._weights.anchor == 0 or not self._has_anchor:
            return loss
        drawn = torch.randint(len(self._documents), (self._recipe.anchor_batch,))
        anchors = torch.from_numpy(self._documents.take(drawn.numpy())).to(self._device)
        if self.adapter.normalised:
            anchors = normalise(anchors)
        anchor = anchor_loss(self.adapter(anchors), anchors) / self._unit**2
        return loss + self._weights.anchor * anchor

    @torch.no_grad()
    def _score(self) -> float:
        """Score the held-out queries with the adapter as it is; give the objective."""
        if self._validation is None:
            self._history.append(torch.empty(0))
            return float("nan")
        self._mean.eval()
        adapted = self._mean(self._validation.queries.to(self._device))
        scores = self._validation.ndcg(adapted)
        self._history.append(torch.from_numpy(scores).float())
        return slice_mean(scores, self._validation.is_seen)

    def _keep_outcome(self, workspace: Workspace) -> None:
        """Save what a finished trial has come to."""
        state = {f"best.{key}": value for key, value in self._best.items()}
        state["history"] = torch.stack(self._history)
        workspace.save(self.name, state, {**self._record(), "is_done": True})

    def _record(self) -> dict[str, Any]:
        """Write down where the trial stands."""
        return {
            "epoch": self._best_epoch,
            "score": self._best_score,
            "curve": self._curve,
            "steps": self._n_steps,
        }

    def _keep(self, workspace: Workspace) -> None:
        """Save everything that the next epoch depends on."""
        state = {f"adapter.{key}": value for key, value in self.adapter.state_dict().items()}
        state |= {f"mean.{key}": value for key, value in self._mean.state_dict().items()}
        state |= {f"best.{key}": value for key, value in self._best.items()}
        for number, entry in self._optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{number}.{key}": value for key, value in entry.items()}
        state["history"] = torch.stack(self._history)
        state["random"] = torch.get_rng_state()
        if self._device.type == "cuda":
            state["random.cuda"] = torch.cuda.get_rng_state(self._device)
        workspace.save(self.name, state, self._record())

    def _restore(self, workspace: Workspace) -> None:
        """Continue from what :meth:`_keep` saved, if there is anything."""
        found = workspace.load(self.name)
        if found is None:
            return
        state, record = found
        self._best = _under(state, "best.")
        self._history = list(state["history"])
        self._best_epoch, self._best_score = record["epoch"], record["score"]
        self._curve, self._n_steps = record["curve"], record["steps"]
        self._is_done = bool(record.get("is_done"))
        if self._is_done:
            return
        self.adapter.load_state_dict(_under(state, "adapter."))
        self._mean.load_state_dict(_under(state, "mean."))
        optimiser = self._optimiser.state_dict()
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(state, "optimiser.").items():
            number, _, name = key.partition(".")
            entries.setdefault(int(number), {})[name] = value
        optimiser["state"] = entries
        self._optimiser.load_state_dict(optimiser)
        torch.set_rng_state(state["random"])
        if "random.cuda" in state and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["random.cuda"], self._device)


def step_size(n_queries: int, recipe: Recipe) -> tuple[int, float]:
    """Choose batch size and learning rate: small sets take smaller steps, more of them.

    The learning rate falls in proportion to the batch (Goyal et al. 2017, arXiv:1706.02677).
    """
    batch_size = min(recipe.batch_size, max(recipe.batch_size // 8, n_queries // 16))
    return batch_size, recipe.learning_rate * batch_size / recipe.batch_size


@torch.no_grad()
def score_unit(
    adapter: Adapter,
    queries: Float[Tensor, "queries dim"],
    embeddings: Embeddings,
    recipe: Recipe,
) -> float:
    """Tell how far scores of this encoder lie apart, so that one temperature fits all encoders.

    Some encoders spread cosines over the whole range, others keep them all between .7 and .9.

    Args:
        adapter: The untrained adapter.
        queries: Training queries.
        embeddings: The vectors.
        recipe: Names the similarity.

    Returns:
        The mean lead of a query's best document over its average one, among 4,096 documents drawn
        by chance, in units of the lead that the defaults were measured with.
    """
    rng = np.random.default_rng(0)
    n_documents = len(embeddings.documents)
    chosen = np.sort(rng.permutation(n_documents)[:_SCALE_DOCUMENTS])
    some = torch.from_numpy(np.sort(rng.permutation(len(queries))[:_SCALE_QUERIES]))
    vectors, offsets = prepare_documents(
        torch.from_numpy(embeddings.documents.take(chosen)), recipe.similarity
    )
    adapted = adapter.eval()(queries[some].to(adapter.blend.device)).cpu()
    scores = torch.addmm(offsets, adapted, vectors.T)
    lead = float((scores.amax(dim=1) - scores.mean(dim=1)).mean())
    return max(lead, _LEAST_LEAD) / _USUAL_LEAD


def _copy(state: dict[str, Any]) -> State:
    """Copy a state out of the way of further training."""
    return {key: value.detach().clone() for key, value in state.items()}


def _under(state: State, prefix: str) -> State:
    """Take the entries below a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
