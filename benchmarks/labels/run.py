"""What a default fit makes of few labels, beside ridge regression and one plain fit always taken.

Of each set, 50 to 500 training queries are drawn five times (there is no dev split: whoever has
fifty labels has no more to choose by). Three ways to an adapter are measured on the whole test
split: the default fit with its own verdict; ridge regression, its penalty chosen and its verdict
given by the same folds and the same judge; and one fit with fixed weights that nothing judges.
Last, the same labels with relevant documents permuted among the queries: nothing may be shipped.
Cells are kept one by one, so an interrupted run goes on.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.closed_form import PENALTIES, pairs_of, solve_ridge
from benchmarks.quality.scoring import HEADLINE, Task, score_queries
from benchmarks.record import commit_of, environment, write_results
from trimtab_training.data.folds import make_folds
from trimtab_training.data.qrels import Qrels, relevant_documents
from trimtab_training.data.splits import has_seen_document
from trimtab_training.fit.checkpoint import Workspace
from trimtab_training.fit.device import seeded
from trimtab_training.fit.fit import FitSettings, fit_adapter
from trimtab_training.fit.initial import Initialisation
from trimtab_training.fit.model_selection import HeldOut, best_blend, optimism_of, select
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.trainer import Trainer, Weights

HERE = Path(__file__).resolve().parent
SIZES = (50, 100, 250, 500)
DRAWS = 5
NOISE_WORLDS = 30
NOISE_SIZE = 100
Scores = NDArray[np.float64]
PLAIN = Recipe(
    epochs=10, min_steps=10, sampled_documents=2048, gated=False, hidden=192, blends=(1.0,)
)
"""One plain fit, as the bar was first measured: ten epochs, nothing chosen, nothing judged."""
PLAIN_WEIGHTS = Weights(unlabelled=1.0, anchor=10.0, temperature=0.05)


def measure_draw(folder: Path, size: int, draw: int) -> dict[str, Any]:
    """Measure every way on one draw of labels."""
    task = Task.load(folder).drawn(size, draw)
    base = ndcg(task, task.queries(task.test))
    fit, seconds = timed_fit(task, draw)
    adapted = base
    if fit.adapter is not None:
        adapted = ndcg(task, apply(fit.adapter, task.queries(task.test)))
    plain = ndcg(task, apply(fit_plain(task, draw), task.queries(task.test)))
    return {
        "base": float(base.mean()),
        "default": {
            "gain": float((adapted - base).mean()),
            "expected": fit.validation["expected_gain"],
            "standard_error": fit.validation["standard_error"],
            "is_shipped": fit.adapter is not None,
            "processor_seconds": round(seconds, 1),
        },
        "ridge": measure_ridge(task, base),
        "plain": {"gain": float((plain - base).mean()), "is_shipped": True},
    }


def measure_noise(folder: Path, world: int) -> dict[str, Any]:
    """Fit labels whose relevant documents were permuted among the queries."""
    task = Task.load(folder).drawn(NOISE_SIZE, world)
    order = np.random.default_rng(world).permutation(len(task.train))
    rows = list(task.train.values())
    noise: Qrels = {query: rows[order[place]] for place, query in enumerate(task.train)}
    splits = {"train": noise, "test": task.test}
    task = replace(task, dataset=replace(task.dataset, splits=splits))
    fit, _ = timed_fit(task, world)
    return {
        "expected": fit.validation["expected_gain"],
        "standard_error": fit.validation["standard_error"],
        "is_shipped": fit.adapter is not None,
    }


def timed_fit(task: Task, seed: int) -> tuple[Any, float]:
    """Fit by default; give the processor's seconds beside it."""
    started = time.process_time()
    fit = fit_adapter(task.dataset, task.embeddings, Recipe(), FitSettings(seed=seed))
    return fit, time.process_time() - started


def fit_plain(task: Task, seed: int) -> torch.nn.Module:
    """Fit once on all of the labels, with fixed weights."""
    device = torch.device("cpu")
    with seeded(seed, device):
        trial = Trainer(
            "plain",
            Initialisation(PLAIN, task.embeddings, None, seed).make(task.train),
            PLAIN_WEIGHTS,
            train=task.train,
            synthetic=(),
            embeddings=task.embeddings,
            recipe=PLAIN,
            device=device,
        )
        adapter: torch.nn.Module = trial.run(Workspace(None, {}, resume="never")).adapter
        return adapter


def measure_ridge(task: Task, base: Scores) -> dict[str, Any]:
    """Choose the penalty and judge on the folds and by the rules of a fit."""
    unlabelled = 1 - len(relevant_documents(task.train)) / len(task.embeddings.documents)
    folds = make_folds(task.train, n_folds=5, unlabelled_share=unlabelled, seed=0)
    candidates = []
    for penalty in PENALTIES:
        parts = []
        for fold in folds:
            weights = solve_ridge(*pairs_of(fold.train, task.embeddings), penalty)
            queries, documents = task.queries(fold.held_out), task.embeddings.documents
            raw = score_queries(queries, fold.held_out, documents)[HEADLINE]
            scores = score_queries(queries @ weights, fold.held_out, documents)[HEADLINE]
            is_seen = has_seen_document(fold.held_out, fold.train)
            parts.append(HeldOut(raw, {0.0: raw, 1.0: scores}, is_seen, (1.0,)))
        candidates.append(HeldOut.join(parts))
    best = max(range(len(PENALTIES)), key=lambda each: candidates[each].gain(1.0))
    evidence = candidates[best]
    verdict = select(evidence, best_blend(evidence), optimism_of(candidates), Recipe().min_gain)
    weights = solve_ridge(*pairs_of(task.train, task.embeddings), PENALTIES[best])
    always = float((ndcg(task, task.queries(task.test) @ weights) - base).mean())
    return {
        "gain": always if verdict.helps else 0.0,
        "gain_always": always,
        "expected": verdict.gain,
        "is_shipped": verdict.helps,
    }


def apply(adapter: torch.nn.Module, queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Adapt query vectors."""
    with torch.no_grad():
        adapted: NDArray[np.float32] = adapter(torch.from_numpy(queries)).numpy()
    return adapted


def ndcg(task: Task, queries: NDArray[np.float32]) -> Scores:
    """Score test queries."""
    return score_queries(queries, task.test, task.embeddings.documents)[HEADLINE]


def run_cell(job: tuple[str, Path, int, int], cell: Path) -> None:
    """Measure one cell and keep it."""
    torch.set_num_threads(1)
    kind, folder, size, draw = job
    found = measure_noise(folder, draw) if kind == "noise" else measure_draw(folder, size, draw)
    partial = cell.with_suffix(".partial")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.replace(cell)


def summarise(cells: dict[tuple[str, Path, int, int], Path]) -> dict[str, Any]:
    """Average over draws; count what was shipped of noise."""
    sizes: dict[str, dict[str, Any]] = {}
    noise = []
    for (kind, folder, size, _), cell in cells.items():
        if not cell.exists():
            continue
        found = json.loads(cell.read_text(encoding="utf-8"))
        if kind == "noise":
            noise.append(found)
        else:
            sizes.setdefault(folder.name, {}).setdefault(str(size), []).append(found)
    table = {
        name: {size: means(draws) for size, draws in row.items()} for name, row in sizes.items()
    }
    shipped = sum(world["is_shipped"] for world in noise)
    return {
        "sets": table,
        "noise": {"worlds": len(noise), "n_train": NOISE_SIZE, "shipped": shipped},
    }


def means(draws: list[dict[str, Any]]) -> dict[str, Any]:
    """Average some draws of one size."""
    return {
        "draws": len(draws),
        "base": round(draws[0]["base"], 4),
        **{
            way: {
                "gain": round(float(np.mean([draw[way]["gain"] for draw in draws])), 4),
                "least": round(min(draw[way]["gain"] for draw in draws), 4),
                "shipped": sum(draw[way]["is_shipped"] for draw in draws),
            }
            for way in ("default", "ridge", "plain")
        },
    }


def main() -> None:
    """Run what is missing, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of dataset folders")
    parser.add_argument("--only", action="append", help="name of a set; may be repeated")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--noise", type=int, default=NOISE_WORLDS, help="worlds in all")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--work", type=Path, default=HERE / ".work")
    options = parser.parse_args()
    kept = options.work / commit_of(HERE.parents[1])[:12]
    kept.mkdir(parents=True, exist_ok=True)
    sets = sorted(path.parent for path in options.data.glob("*/qrels"))
    sets = [path for path in sets if not options.only or path.name in options.only]
    jobs: list[tuple[str, Path, int, int]] = [
        ("draw", path, size, draw)
        for draw in range(options.draws)
        for size in options.sizes
        for path in sets
    ]
    jobs += [
        ("noise", sets[world % len(sets)], NOISE_SIZE, 100 + world)
        for world in range(options.noise)
    ]
    cells = {job: kept / f"{job[0]}-{job[1].name}-{job[2]}-{job[3]}.json" for job in jobs}
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as workers:
        running = [
            workers.submit(run_cell, job, cell) for job, cell in cells.items() if not cell.exists()
        ]
        for done, future in enumerate(running, start=1):
            future.result()
            print(f"{done} of {len(running)} cells", end="\r", file=sys.stderr, flush=True)
    table = summarise(cells)
    for name, row in table["sets"].items():
        for size, figures in row.items():
            print(name, size, figures, flush=True)
    print("noise", table["noise"])
    is_whole = not options.only and options.draws == DRAWS and options.sizes == list(SIZES)
    if is_whole and not environment()["uncommitted_changes"]:
        print(f"wrote {write_results(HERE, table).name}")


if __name__ == "__main__":
    main()
