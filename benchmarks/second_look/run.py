"""What a second look at the best 100 documents gives: nDCG@10 on test queries.

``python benchmarks/second_look/run.py --data FOLDER``

A linear map ``B`` of *documents* is trained together with a query adapter ``A2``, over the loss and
the steps of ``trimtab fit``. At query time the default adapter ``A`` finds the best 100 documents
as ever, and they alone are put in order by ``(1 - m) A(q).d + m A2(q).B(d)``. How strongly ``B`` is
pulled to the identity, and the mix ``m``, 0 among them, are chosen on held-out queries (the
dev split where a set has one, else two of five folds, each with a default fit of its own). Test
queries choose nothing. Rows are kept as they come; a set that has one is not measured again.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.quality.scoring import HEADLINE, Task
from benchmarks.record import write_results
from trimtab_training.adapters import Adapter
from trimtab_training.data.qrels import Qrels, relevant
from trimtab_training.fit.checkpoint import Workspace
from trimtab_training.fit.device import find_device, seeded
from trimtab_training.fit.fit import FitResult, FitSettings, fit_adapter
from trimtab_training.fit.initial import Initialisation
from trimtab_training.fit.losses import anchor_loss, softmax_loss
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.trainer import Trainer
from trimtab_training.retrieval.exact_search import normalise, search
from trimtab_training.retrieval.metrics import measure

HERE = Path(__file__).resolve().parent
SETS = ["llamaindex_10k", "scifact", "hpo_lay", "banking77", "tldr_pages"]
N_CANDIDATES = 100
PULLS = (0.1, 1.0)
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
DIGITS = 5

Scores = NDArray[np.float64]


class TwoSidedTrainer(Trainer):
    """The fit's training loop, with a linear map of the documents learned beside the adapter."""

    def __init__(self, *given: Any, pull: float, **named: Any) -> None:
        """Give the adapter the map as one more parameter: ``document + document @ map``."""
        adapter: Adapter = given[1]
        adapter.document_map = nn.Parameter(torch.zeros(adapter.dim_out, adapter.dim_out))
        super().__init__(*given, **named)
        self._pull = pull

    def _loss(self, chosen: Tensor, candidates: Tensor, addition: Tensor) -> Tensor:
        """Give the fit's own loss over mapped documents, and what the map moves them by."""
        queries = self._targets.queries[chosen].to(self._device)
        anchors = self._draw_anchors()
        adapted, moved = self.adapter(torch.cat([queries, anchors])).split(
            [len(queries), len(anchors)]
        )
        documents = map_documents(self.adapter, candidates)
        logits = torch.addmm(addition, adapted, documents.T, alpha=1 / self._scale)
        rows, columns, shares = (part.to(self._device) for part in self._targets.batch(chosen))
        weights = self._targets.weights[chosen].to(self._device)
        loss = softmax_loss(logits, rows, columns, shares, weights)
        mapped = anchor_loss(map_documents(self.adapter, anchors), anchors)
        held = self._weights.anchor * anchor_loss(moved, anchors) + self._pull * mapped
        return loss + held / self._unit**2


def map_documents(adapter: Adapter, documents: Tensor) -> Tensor:
    """Apply what was learned to unit documents; they stay unit vectors."""
    return normalise(documents + documents @ adapter.document_map)


@dataclass(frozen=True)
class Look:
    """Scores of the best 100 documents of some queries, two ways.

    Attributes:
        rows: Their rows, the best first, ``[queries, 100]``.
        wanted: Grades of each query's relevant documents, by row.
        old: Scores by the default adapter.
        new: Scores by the second pair of maps.
    """

    rows: NDArray[np.int64]
    wanted: list[dict[int, int]]
    old: Scores
    new: Scores

    def ndcg(self, mix: float) -> Scores:
        """Put the documents in order by a mix of both scores, and measure each query."""
        scores = (1 - mix) * self.old + mix * self.new
        order = np.argsort(-scores, axis=1, kind="stable")
        return measure(np.take_along_axis(self.rows, order, axis=1), self.wanted)[HEADLINE]


def fit_default(task: Task, train: Qrels, work: Path, seed: int) -> FitResult:
    """Fit as ``trimtab fit`` does, on some of the training queries."""
    splits = {**task.dataset.splits, "train": train}
    settings = FitSettings(seed=seed, workspace=work, resume="if_same")
    return fit_adapter(replace(task.dataset, splits=splits), task.embeddings, settings=settings)


def train_two_sided(task: Task, fit: FitResult, train: Qrels, pull: float, seed: int) -> Adapter:
    """Train an adapter and a map of documents, with the weights that the default fit chose."""
    recipe = Recipe().settle(task.embeddings)
    device = find_device("cpu")
    with seeded(seed, device):
        adapter = Initialisation(recipe, task.embeddings, None, seed).make(train)
        trainer = TwoSidedTrainer(
            f"two sided {pull}",
            adapter,
            fit.weights,
            train=train,
            synthetic=(),
            embeddings=task.embeddings,
            recipe=recipe,
            device=device,
            pull=pull,
        )
        return trainer.run(Workspace(None, {}, resume="never")).adapter


@torch.no_grad()
def look_at(task: Task, qrels: Qrels, fit: FitResult, second: Adapter) -> Look:
    """Score the best 100 documents of each query both ways."""
    raw = torch.from_numpy(task.queries(qrels))
    documents = task.embeddings.documents
    first = normalise(fit.adapter(raw) if fit.adapter is not None else raw).numpy()
    rows, _ = search(first, documents, depth=N_CANDIDATES, similarity="cosine")
    adapted = normalise(second.eval()(raw))
    found = [normalise(torch.from_numpy(documents.take(each))) for each in rows]
    old = [each @ query for each, query in zip(found, torch.from_numpy(first), strict=True)]
    new = [map_documents(second, each) @ query for each, query in zip(found, adapted, strict=True)]
    wanted = [
        {documents.rows[doc_id]: grade for doc_id, grade in relevant(labels).items()}
        for labels in qrels.values()
    ]
    return Look(rows, wanted, torch.stack(old).double().numpy(), torch.stack(new).double().numpy())


def measure_set(task: Task, seed: int) -> dict[str, Any]:
    """Choose on held-out queries, fit on all, and score the test split."""
    started = time.monotonic()
    work = HERE / ".work" / task.name / str(seed)
    fit = fit_default(task, task.train, work / "all", seed)
    has_dev = "dev" in task.dataset.splits  # it chooses: the fit on all queries has not seen it
    held_out: dict[tuple[float, float], list[Scores]] = {}
    for number, fold in enumerate(task.folds()):
        fold_fit = fit if has_dev else fit_default(task, fold.train, work / f"fold{number}", seed)
        for pull in PULLS:
            second = train_two_sided(task, fold_fit, fold.train, pull, seed)
            look = look_at(task, fold.held_out, fold_fit, second)
            for mix in MIXES:
                held_out.setdefault((pull, mix), []).append(look.ndcg(mix))
    joined = {key: np.concatenate(parts) for key, parts in held_out.items()}
    pull, mix = max(joined, key=lambda key: (joined[key].mean(), -key[1]))
    second = train_two_sided(task, fit, task.train, pull, seed)
    look = look_at(task, task.test, fit, second)
    adapter = look.ndcg(0.0)
    return {
        "dataset": task.name,
        "seed": seed,
        "weights": fit.weights.name,
        "held_out": [
            {"pull": key[0], "mix": key[1], HEADLINE: round(float(each.mean()), DIGITS)}
            for key, each in joined.items()
        ],
        "chosen": {"pull": pull, "mix": mix},
        "test": {
            "adapter": round(float(adapter.mean()), DIGITS),
            "chosen": describe(look.ndcg(mix), adapter),
            "by_mix": {str(each): describe(look.ndcg(each), adapter) for each in MIXES},
        },
        "seconds": round(time.monotonic() - started, 1),
    }


def describe(scores: Scores, adapter: Scores) -> dict[str, float]:
    """Give a mean, and its difference from the default adapter with a standard error."""
    difference = scores - adapter
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return {
        HEADLINE: round(float(scores.mean()), DIGITS),
        "over_adapter": round(float(difference.mean()), DIGITS),
        "standard_error": round(float(error), DIGITS),
    }


def main() -> None:
    """Measure what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    path = HERE / "results.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    for name in given.sets:
        for seed in range(given.seeds):
            if any((row["dataset"], row["seed"]) == (name, seed) for row in rows):
                continue
            row = measure_set(Task.load(given.data / name), seed)
            rows.append(row)
            write_results(HERE, {"rows": rows})
            print(json.dumps(row["test"], indent=1), flush=True)


if __name__ == "__main__":
    main()
