"""The only training loop: one adapter, one share of the queries, one choice of loss weights."""

import copy
import logging
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trimtab_training.adapters import Adapter
from trimtab_training.data.qrels import Qrels
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DivergedError
from trimtab_training.fit.adamw import AdamW
from trimtab_training.fit.candidates import CandidatePool, labelled_rows, make_targets
from trimtab_training.fit.checkpoint import State, Workspace
from trimtab_training.fit.device import threads_for
from trimtab_training.fit.losses import anchor_loss, softmax_loss
from trimtab_training.fit.recipe import Recipe
from trimtab_training.retrieval.exact_search import normalise, prepare_documents

logger = logging.getLogger(__name__)

Curve = list[dict[str, float]]
"""Mean training loss of every round of steps, and the step at its end."""

KEEP_EVERY_S = 30.0
"""Seconds between two states of an unfinished trial on disk: what an interruption may cost."""

ROUND = 15
"""Steps between two draws of candidates: long enough to be a figure of the curve."""

_TIMED_S, _TIMED_SHARE = 0.5, 0.1
"""Seconds of steps that it takes to tell how long one is, and the most that it may take of all."""

_WARM_UP_STEPS = 10
_LEAST_BATCH = 64
_FULL_RATE_BATCH = 128
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
        steps: Share of the steps that are taken: fewer are the cheaper trial, and, where labels are
            few or say little, the better fit.
    """

    unlabelled: float
    anchor: float
    temperature: float
    synthetic: float = 1.0
    steps: float = 1.0

    @property
    def name(self) -> str:
        """Write them as a part of a file's name."""
        name = f"u{self.unlabelled:g}-a{self.anchor:g}-t{self.temperature:g}"
        name += f"-s{self.synthetic:g}" if self.synthetic != 1 else ""
        return f"{name}-n{self.steps:g}"


@dataclass(frozen=True)
class StepPlan:
    """How the steps of a trial follow from the number of its training queries.

    Attributes:
        batch_size: Queries a step.
        n_steps: Steps.
        learning_rate: Step size at the first step.
    """

    batch_size: int
    n_steps: int
    learning_rate: float


def plan_steps(n_queries: int, recipe: Recipe, share: float = 1.0) -> StepPlan:
    """Plan a trial: more queries make larger batches before they make fewer passes.

    Args:
        n_queries: Training queries.
        recipe: The knobs.
        share: Share of the steps that are taken.

    Source:
        The learning rate of smaller batches: Malladi et al. (2022), arXiv:2205.10287, definition 3.
    """
    batch_size = math.ceil(recipe.epochs * n_queries / recipe.max_steps)
    batch_size = min(recipe.batch_size, max(_LEAST_BATCH, batch_size))
    n_steps = max(recipe.min_steps, math.ceil(recipe.epochs * n_queries / batch_size))
    n_steps = max(min(n_steps, recipe.max_steps), math.ceil(n_queries / batch_size))
    rate = recipe.learning_rate * min(1.0, math.sqrt(batch_size / _FULL_RATE_BATCH))
    return StepPlan(batch_size, math.ceil(share * n_steps), rate)


@dataclass(frozen=True)
class TrainedAdapter:
    """A finished trial.

    Attributes:
        adapter: The adapter, with the running mean of its weights.
        curve: Its training loss.
    """

    adapter: Adapter
    curve: Curve


class Trainer:
    """One run of the training loop, continued where it was interrupted."""

    def __init__(  # noqa: PLR0913 - the parts of a trial are what they are
        self,
        name: str,
        adapter: Adapter,
        weights: Weights,
        *,
        train: Qrels,
        synthetic: Collection[str],
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
            embeddings: The vectors.
            recipe: The knobs.
            device: Where to compute.
        """
        self.name = name
        self.adapter = adapter.to(device)
        self._mean = copy.deepcopy(self.adapter)  # of the weights at the last steps: what is kept
        self._weights, self._recipe = weights, recipe
        self._plan = plan_steps(len(train), recipe, weights.steps)
        self._device = device
        self._documents = embeddings.documents
        labelled = labelled_rows(train, embeddings)
        self._targets = make_targets(
            train, embeddings, labelled, {query: weights.synthetic for query in synthetic}
        )
        self._pool = CandidatePool(embeddings, labelled, recipe, weights.unlabelled)
        self._unit = score_unit(self.adapter, self._targets.queries, embeddings, recipe)
        self._scale = weights.temperature * self._unit
        self._optimiser = AdamW(self.adapter.parameters(), weight_decay=recipe.weight_decay)
        self._n_steps = 0
        self._order = torch.empty(0, dtype=torch.long)  # queries of the next steps
        self._curve: Curve = []

    def run(
        self, workspace: Workspace, *, on_round: Callable[[int], None] = lambda _n_steps: None
    ) -> TrainedAdapter:
        """Take all steps.

        Args:
            workspace: Where unfinished work is kept, at most twice a minute.
            on_round: Told the number of steps taken so far, for a progress bar.

        Raises:
            DivergedError: The loss is no longer finite.
        """
        self._restore(workspace)
        # The first state is kept at once: a fit that was begun is found, and not taken for none.
        kept_at = -math.inf if workspace.is_empty else time.monotonic()
        self.adapter.train()
        with threads_for(self._count_operations()):
            while self._n_steps < self._plan.n_steps:
                loss = self._train_round()
                self._curve.append({"step": float(self._n_steps), "loss": loss})
                if time.monotonic() - kept_at >= KEEP_EVERY_S:
                    self._keep(workspace)
                    kept_at = time.monotonic()
                on_round(self._n_steps)
        return TrainedAdapter(self._mean.eval(), self._curve)

    @property
    def n_planned(self) -> int:
        """Number of all steps."""
        return self._plan.n_steps

    def time_steps(self) -> float:
        """Take some steps, and tell how many seconds each takes; of no use for anything else.

        A first step is not counted; a draw of candidates is, in as many parts as it has steps.
        """
        self.adapter.train()
        with threads_for(self._count_operations()):
            started = time.perf_counter()
            candidates = self._pool.draw(self._device)
            addition = candidates.offsets / self._scale + candidates.log_weights
            draw_s = time.perf_counter() - started
            self._step(candidates.vectors, addition)
            n_taken, started = 0, time.perf_counter()
            most = max(1, round(_TIMED_SHARE * self.n_planned))
            while n_taken == 0 or (n_taken < most and time.perf_counter() - started < _TIMED_S):
                self._step(candidates.vectors, addition)
                n_taken += 1
            return (time.perf_counter() - started) / n_taken + draw_s / ROUND

    def _count_operations(self) -> float:
        """Count a step's multiplications and additions, forward: the linear part and the scores."""
        width = self.adapter.dim_in + self._pool.size
        return 2.0 * self._plan.batch_size * self.adapter.dim_out * width

    def _train_round(self) -> float:
        """Take some steps with the same candidates; give the mean loss."""
        candidates = self._pool.draw(self._device)
        addition = candidates.offsets / self._scale + candidates.log_weights
        n_steps = min(ROUND, self._plan.n_steps - self._n_steps)
        total = sum(self._step(candidates.vectors, addition) for _ in range(n_steps))
        if not math.isfinite(total):
            raise DivergedError(
                f"the loss of {self.name} is {total} by step {self._n_steps}; "
                "lower learning_rate or raise temperatures in the recipe"
            )
        return total / n_steps

    def _step(self, candidates: Tensor, addition: Tensor) -> float:
        """Take one step; give the loss before it."""
        loss = self._loss(self._next_queries(), candidates, addition)
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        left = 1 - self._n_steps / self._plan.n_steps
        self._optimiser.step(self._plan.learning_rate * left)
        self._n_steps += 1
        self._average()
        return loss.item()

    def _next_queries(self) -> Tensor:
        """Give the next batch's rows: all queries are passed in random order, then again."""
        while len(self._order) < self._plan.batch_size:
            again = torch.randperm(len(self._targets.queries))
            self._order = torch.cat([self._order, again])
        chosen = self._order[: self._plan.batch_size]
        self._order = self._order[self._plan.batch_size :]
        return chosen

    @torch.no_grad()
    def _average(self) -> None:
        """Take a step's weights into the running mean, which forgets its first steps sooner.

        Source:
            Polyak & Juditsky (1992), doi:10.1137/0330046, with exponential weights.
        """
        decay = min(self._recipe.averaging, self._n_steps / (self._n_steps + _WARM_UP_STEPS))
        means, values, kept, buffers = self._averaged
        torch._foreach_lerp_(means, values, 1 - decay)
        torch._foreach_copy_(kept, buffers)

    @cached_property
    def _averaged(self) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """List the means, what they are of, and buffers likewise; first asked for in a step."""
        means: list[Tensor] = list(self._mean.parameters())
        values: list[Tensor] = list(self.adapter.parameters())
        return means, values, list(self._mean.buffers()), list(self.adapter.buffers())

    def _loss(self, chosen: Tensor, candidates: Tensor, addition: Tensor) -> Tensor:
        """Give the loss of one batch: softmax over candidates, and the document anchor."""
        queries = self._targets.queries[chosen].to(self._device)
        anchors = self._draw_anchors() if self._weights.anchor else queries[:0]
        adapted, moved = self.adapter(torch.cat([queries, anchors])).split(
            [len(queries), len(anchors)]
        )
        logits = torch.addmm(addition, adapted, candidates.T, alpha=1 / self._scale)
        rows, columns, shares = (part.to(self._device) for part in self._targets.batch(chosen))
        query_weights = self._targets.weights[chosen].to(self._device)
        loss = softmax_loss(logits, rows, columns, shares, query_weights)
        if not len(anchors):
            return loss
        return loss + self._weights.anchor / self._unit**2 * anchor_loss(moved, anchors)

    def _draw_anchors(self) -> Float[Tensor, "anchors dim_in"]:
        """Draw the documents that the adapter is to leave where they are."""
        n_anchors = min(self._recipe.anchor_batch, self._plan.batch_size)
        drawn = torch.randint(len(self._documents), (n_anchors,))
        anchors = torch.from_numpy(self._documents.take(drawn.numpy())).to(self._device)
        return normalise(anchors) if self.adapter.normalised else anchors

    def _keep(self, workspace: Workspace) -> None:
        """Save everything that the next step depends on."""
        state = {f"adapter.{key}": value for key, value in self.adapter.state_dict().items()}
        state |= {f"mean.{key}": value for key, value in self._mean.state_dict().items()}
        state |= {f"optimiser.{key}": value for key, value in self._optimiser.state_dict().items()}
        state["order"] = self._order
        state["random"] = torch.get_rng_state()
        if self._device.type == "cuda":
            state["random.cuda"] = torch.cuda.get_rng_state(self._device)
        workspace.save(self.name, state, {"curve": self._curve, "steps": self._n_steps})

    def _restore(self, workspace: Workspace) -> None:
        """Continue from what :meth:`_keep` saved, if there is anything."""
        found = workspace.load(self.name)
        if found is None:
            return
        state, record = found
        self.adapter.load_state_dict(_under(state, "adapter."))
        self._mean.load_state_dict(_under(state, "mean."))
        self._optimiser.load_state_dict(_under(state, "optimiser."))
        self._order = state["order"]
        torch.set_rng_state(state["random"])
        if "random.cuda" in state and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["random.cuda"], self._device)
        self._curve, self._n_steps = record["curve"], record["steps"]


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
        torch.from_numpy(embeddings.documents.take(chosen)), recipe.compares_by
    )
    adapted = adapter.eval()(queries[some].to(adapter.blend.device)).cpu()
    scores = torch.addmm(offsets, adapted, vectors.T)
    lead = float((scores.amax(dim=1) - scores.mean(dim=1)).mean())
    return max(lead, _LEAST_LEAD) / _USUAL_LEAD


def _under(state: State, prefix: str) -> State:
    """Take the entries below a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
