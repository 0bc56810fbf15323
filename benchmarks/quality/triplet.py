"""Rivals that learn a linear map from triplets: Chroma's report and Santander's trainer.

**Chroma**: Sanjeev & Troynikov (2024), research.trychroma.com/embedding-adapters.
Taken from it: a linear map of the query alone, a random start, the triplet loss, negatives drawn at
random from the documents without a label for the query. Its step sizes were not at hand; those here
(Euclidean margin 1, AdamW at 3e-3 with 100 steps of warm-up and a linear fall, batch 32) are common
in public code that follows the report, and were the best of five tried on scifact's test split, to
its advantage; the epoch is picked on validation queries, then all training queries are used.

**Santander**: github.com/SantanderAI/linear-adapter-trainer (Apache-2.0), read at commit a4b2af7.
Taken from it: ``q + W q + b`` from zero, cosine distance with margin .2, Adam at 1e-3, batch 64, 20
epochs, patience 5, gradients clipped at 1, one negative a pair that is drawn once, a fifth of the
documents held out to stop by MRR@10, no adapter among the candidates. Its negatives are random, one
of the ten documents least like the positive (its default), or one of the ten most like it (hard);
here all three are run and its own validation picks. Unlike there, no negative is a relevant
document of the query.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.quality.closed_form import Matrix, Transform
from benchmarks.quality.scoring import Task, score_queries
from trimtab_training.data.qrels import Qrels, relevant
from trimtab_training.embeddings.store import VectorTable

POOL = 10
Draw = Callable[[int], Tensor]
HeldOut = tuple[Task, Qrels]


@dataclass(frozen=True)
class Recipe:
    """How one of the two trains.

    Attributes:
        cosine: Distance of the loss: 1 - cosine, else Euclidean.
        margin: Margin of the loss.
        rate: Learning rate.
        batch_size: Pairs a step.
        epochs: Most passes.
        patience: Passes without a better validation score before it stops.
        warm_up: Steps until the full rate, then a linear fall; 0 for a constant rate.
        metric: What validation picks the epoch by.
        split_by: How validation queries are held out.
    """

    cosine: bool
    margin: float
    rate: float
    batch_size: int
    epochs: int
    patience: int
    warm_up: int
    metric: str
    split_by: str


CHROMA = Recipe(
    cosine=False, margin=1.0, rate=3e-3, batch_size=32, epochs=40, patience=8, warm_up=100,
    metric="ndcg@10", split_by="query",
)  # fmt: skip
SANTANDER = Recipe(
    cosine=True, margin=0.2, rate=1e-3, batch_size=64, epochs=20, patience=5, warm_up=0,
    metric="mrr@10", split_by="document",
)  # fmt: skip


class Residual(torch.nn.Module):
    """``q + W q + b``, normalised, from no change at all."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(dim, dim)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, queries: Tensor) -> Tensor:
        """Adapt a batch."""
        return torch.nn.functional.normalize(queries + self.linear(queries), dim=-1)


def fit_chroma(task: Task, seed: int) -> tuple[Transform, dict[str, Any]]:
    """Train from a random start on random negatives, drawn again in every epoch."""
    train, held_out = task.validation(seed, by=CHROMA.split_by)
    _, score, epoch = _run_chroma(task, train, seed, (task, held_out), CHROMA.epochs)
    model, _, _ = _run_chroma(task, task.train, seed, None, epoch)
    return as_transform(model), {"validation": score, "epoch": epoch}


def _run_chroma(
    task: Task, qrels: Qrels, seed: int, held_out: HeldOut | None, stop: int
) -> tuple[torch.nn.Module, float, int]:
    """Train once: the model, its validation score and its epoch."""
    torch.manual_seed(seed)
    dim = task.embeddings.queries.dim
    model = torch.nn.Linear(dim, dim, bias=False)
    pairs = Pairs(task, qrels, seed)
    score, epoch = train_triplets(
        model, pairs, lambda _epoch: pairs.draw_random(), held_out, CHROMA, stop
    )
    return model, score, epoch


def fit_santander(task: Task, seed: int) -> tuple[Transform, dict[str, Any]]:
    """Train from the identity with each of its three kinds of negatives; keep the best."""
    train, held_out = task.validation(seed, by=SANTANDER.split_by)
    best: tuple[float, Residual, dict[str, Any]] | None = None
    for kind in ("random", "opposite", "hard"):
        torch.manual_seed(seed)
        model = Residual(task.embeddings.queries.dim)
        pairs = Pairs(task, train, seed)
        negatives = pairs.draw_random() if kind == "random" else pairs.draw_like(kind == "hard")
        score, epoch = train_triplets(
            model,
            pairs,
            lambda _epoch, kept=negatives: kept,
            (task, held_out),
            SANTANDER,
            SANTANDER.epochs,
        )
        if best is None or score > best[0]:
            best = score, model, {"validation": score, "epoch": epoch, "negatives": kind}
    return as_transform(best[1]), best[2]


class Pairs:
    """Every pair of a training query and a relevant document, and how to draw negatives."""

    def __init__(self, task: Task, qrels: Qrels, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        table = task.embeddings.documents
        self.documents = unit(torch.from_numpy(table.take(range(len(table)))))
        found = [
            (place, table.rows[doc_id])
            for place, labels in enumerate(qrels.values())
            for doc_id in relevant(labels)
        ]
        self.relevant = [
            {table.rows[doc_id] for doc_id in relevant(labels)} for labels in qrels.values()
        ]
        self.owners = np.array([place for place, _ in found])
        self.positives = torch.tensor([row for _, row in found])
        self.queries = torch.from_numpy(task.queries(qrels))[torch.from_numpy(self.owners)]

    def draw_random(self) -> Tensor:
        """Draw one document a pair that is not relevant to its query."""
        rows = self.rng.integers(len(self.documents), size=len(self.owners))
        for place, owner in enumerate(self.owners):
            while rows[place] in self.relevant[owner] and len(self.relevant[owner]) < len(
                self.documents
            ):
                rows[place] = self.rng.integers(len(self.documents))
        return torch.from_numpy(rows)

    def draw_like(self, is_hard: bool) -> Tensor:
        """Draw one of the ten documents most, or least, like the positive."""
        rows = np.empty(len(self.owners), np.int64)
        for place, (owner, positive) in enumerate(
            zip(self.owners, self.positives.tolist(), strict=True)
        ):
            pool = self._pool(positive, is_hard)
            wanted = [row for row in pool if row not in self.relevant[owner]][:POOL]
            rows[place] = self.rng.choice(wanted)
        return torch.from_numpy(rows)

    def _pool(self, positive: int, is_hard: bool) -> list[int]:
        """Rank documents by likeness to one of them."""
        scores = self.documents @ self.documents[positive]
        most = min(len(scores), POOL + 50)
        return torch.topk(scores if is_hard else -scores, most).indices.tolist()


def train_triplets(
    model: torch.nn.Module,
    pairs: Pairs,
    draw: Draw,
    held_out: HeldOut | None,
    recipe: Recipe,
    stop: int,
) -> tuple[float, int]:
    """Train in place for at most ``stop`` epochs; give the validation score and the epoch.

    The best epoch's weights stay, or without ``held_out`` the last one's.
    """
    n_pairs = len(pairs.owners)
    n_steps = recipe.epochs * math.ceil(n_pairs / recipe.batch_size)
    kind = torch.optim.AdamW if recipe.warm_up else torch.optim.Adam
    optimizer = kind(model.parameters(), lr=recipe.rate)
    # The identity is a candidate, a random start is not.
    start = -1.0 if recipe.warm_up else validate(model, held_out, recipe.metric)
    step, best = 0, (start, 0, copy.deepcopy(model.state_dict()))
    for epoch in range(1, stop + 1):
        negatives = draw(epoch)
        for rows in torch.split(torch.randperm(n_pairs), recipe.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * rate_at(step, n_steps, recipe.warm_up)
            step += 1
            adapted = model(pairs.queries[rows])
            near = pairs.documents[pairs.positives[rows]]
            far = pairs.documents[negatives[rows]]
            loss = triplet_loss(adapted, near, far, recipe)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        score = validate(model, held_out, recipe.metric) if held_out else float(epoch)
        if score > best[0] + 1e-6:
            best = score, epoch, copy.deepcopy(model.state_dict())
        elif epoch - best[1] >= recipe.patience:
            break
    model.load_state_dict(best[2])
    return best[0], best[1]


def triplet_loss(adapted: Tensor, near: Tensor, far: Tensor, recipe: Recipe) -> Tensor:
    """Hinge on how much nearer the relevant document is than the other."""
    if not recipe.cosine:
        return torch.nn.functional.triplet_margin_loss(adapted, near, far, margin=recipe.margin)
    similarity = torch.nn.functional.cosine_similarity
    gap = similarity(adapted, far) - similarity(adapted, near)
    return torch.relu(gap + recipe.margin).mean()


def rate_at(step: int, n_steps: int, warm_up: int) -> float:
    """Share of the learning rate at a step."""
    if not warm_up:
        return 1.0
    return min(1.0, (step + 1) / warm_up, (n_steps - step) / max(1, n_steps - warm_up))


def validate(model: torch.nn.Module, held_out: HeldOut, metric: str) -> float:
    """Give the mean of a metric over the held-out queries, among all documents."""
    task, qrels = held_out
    documents: VectorTable = task.embeddings.documents
    return float(
        score_queries(as_transform(model)(task.queries(qrels)), qrels, documents)[metric].mean()
    )


def as_transform(model: torch.nn.Module) -> Transform:
    """Wrap a module for arrays."""

    def transform(queries: Matrix) -> NDArray[np.float32]:
        with torch.inference_mode():
            return model(torch.from_numpy(queries)).numpy()

    return transform


def unit(vectors: Tensor) -> Tensor:
    """Scale rows to unit length."""
    return torch.nn.functional.normalize(vectors, dim=-1)
