"""What each default earns: one knob changed at a time, on every set and several seeds.

Defaults are chosen by the held-out columns (queries of train and dev that chose nothing); the test
columns are printed beside them so that everybody can see whether the choice carried over. Cells run
in parallel and are kept one by one, so an interrupted run goes on.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from benchmarks.record import write_results
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import relevant
from trimtab_training.data.splits import has_seen_document
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.fit.fit import FitSettings, fit_adapter
from trimtab_training.fit.recipe import Recipe, parse_recipe
from trimtab_training.retrieval.exact_search import search
from trimtab_training.retrieval.metrics import measure

HERE = Path(__file__).resolve().parent
_COSTS = ("seconds", "processor_seconds")
VARIANTS: dict[str, dict[str, object]] = {
    "default": {},
    "linear part alone": {"hidden": 0},
    "96 hidden units": {"hidden": 96},
    "448 hidden units": {"hidden": 448},
    "no dropout": {"dropout": 0.0},
    "dropout .5": {"dropout": 0.5},
    "no gate": {"gated": False},
    "no running mean": {"averaging": 0.0},
    "half of the steps": {"min_steps": 120, "epochs": 8, "max_steps": 300},
    "twice the steps": {"min_steps": 480, "epochs": 32, "max_steps": 1200},
    "temperature .02": {"temperatures": [0.02]},
    "temperature .05": {"temperatures": [0.05]},
    "learning rate 1.5e-3": {"learning_rate": 1.5e-3},
    "learning rate 6e-3": {"learning_rate": 6e-3},
    "no weight decay": {"weight_decay": 0.0},
    "weight decay .1": {"weight_decay": 0.1},
    "whole corpus only": {"unlabelled_weights": [1.0]},
    "labelled only": {"unlabelled_weights": [0.0]},
    "no anchor": {"anchors": [0.0]},
    "anchor .3 only": {"anchors": [0.3]},
    "anchor 3 only": {"anchors": [3.0]},
    "sample 512": {"sampled_documents": 512},
    "sample 8192": {"sampled_documents": 8192},
    "full change only": {"blends": [1.0]},
    "two-layer alone": {"adapter": "two_layer"},
    "low rank 64": {"adapter": "low_rank"},
}


def run_cell(dataset: Path, variant: str, seed: int, device: str, cell: Path) -> None:
    torch.set_num_threads(1)
    data = Dataset.load(dataset)
    embeddings = Embeddings.open(dataset / "embeddings")
    started, processor_started = time.monotonic(), time.process_time()
    recipe = parse_recipe(dict(VARIANTS[variant]), variant)
    fit = fit_adapter(data, embeddings, recipe, FitSettings(seed=seed, device=device))
    seconds = time.monotonic() - started
    processor_seconds = time.process_time() - processor_started
    qrels = data.split("test")
    queries = embeddings.queries.take_ids(list(qrels))
    wanted = [
        {embeddings.documents.rows[doc_id]: grade for doc_id, grade in relevant(labels).items()}
        for labels in qrels.values()
    ]

    def ndcg(vectors: np.ndarray) -> np.ndarray:
        rows, _ = search(vectors, embeddings.documents, depth=100, similarity="cosine")
        return measure(rows, wanted)["ndcg@10"]

    base = adapted = ndcg(queries)
    if fit.adapter is not None:
        with torch.no_grad():
            adapted = ndcg(fit.adapter(torch.from_numpy(queries)).numpy())
    is_seen = has_seen_document(qrels, data.split("train"))
    gain = adapted - base
    found = {
        "held_out_gain": fit.validation["expected_gain"],
        "helps": fit.adapter is not None,
        "chosen": [fit.weights.unlabelled, fit.weights.temperature, fit.blend],
        "test_base": float(base.mean()),
        "test_gain": float(gain.mean()),
        "test_gain_unseen": float(gain[~is_seen].mean()) if (~is_seen).any() else None,
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor_seconds, 1),
    }
    cell.write_text(json.dumps(found), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of dataset folders")
    parser.add_argument("--only", action="append", help="name of a set; may be repeated")
    parser.add_argument("--variant", action="append", help="a row; may be repeated")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--work", type=Path, default=HERE / ".work")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop starting cells")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    sets = sorted(path.parent for path in options.data.glob("*/qrels"))
    sets = [path for path in sets if not options.only or path.name in options.only]
    cells = {
        (variant, path.name, seed): options.work / f"{variant}-{path.name}-{seed}.json"
        for seed in range(options.seeds)
        for variant in options.variant or VARIANTS
        for path in sets
    }
    started = time.monotonic()
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as workers:
        waiting = [
            (options.data / name, variant, seed, options.device, cell)
            for (variant, name, seed), cell in cells.items()
            if not cell.exists()
        ]
        running = []
        for job in waiting:
            while sum(not future.done() for future in running) >= options.workers:
                time.sleep(0.05)
            if time.monotonic() - started > options.seconds:
                break
            running.append(workers.submit(run_cell, *job))
        for future in running:
            future.result()
    table = summarise(cells)
    for variant, row in table.items():
        print(variant, {name: cell for name, cell in row.items()}, flush=True)
    if options.work == HERE / ".work":
        results = {"default": Recipe().as_dict(), "device": options.device, "variants": table}
        print(f"wrote {write_results(HERE, results).name}")


def summarise(cells: dict[tuple[str, str, int], Path]) -> dict[str, dict[str, object]]:
    table: dict[str, dict[str, object]] = {}
    for variant in VARIANTS:
        for name in sorted({key[1] for key in cells}):
            found = [
                json.loads(cell.read_text(encoding="utf-8"))
                for key, cell in cells.items()
                if key[:2] == (variant, name) and cell.exists()
            ]
            if not found:
                continue
            means = {
                key: round(float(np.mean([one[key] for one in found])), 4)
                for key in ("held_out_gain", "test_gain", "test_gain_unseen", *_COSTS)
                if all(one.get(key) is not None for one in found)
            }
            gains = [round(one["test_gain"], 4) for one in found]
            table.setdefault(variant, {})[name] = {
                "seeds": len(found),
                "test_base": round(found[0]["test_base"], 4),
                **means,
                "least": min(gains),
                "most": max(gains),
                "shipped": sum(one["helps"] for one in found),
            }
    return table


if __name__ == "__main__":
    main()
