"""What a second look at the best 100 documents gives: nDCG@10 on test queries, and what it costs.

``python benchmarks/second_look/run.py --data FOLDER``

A fit as ``trimtab fit`` runs it, with ``rescore = 100`` in the recipe and otherwise of the
defaults. The exported file is measured: raw queries, the adapter alone, and its second look. What
held-out queries have not chosen is measured by its held-out gain alone. Test queries choose
nothing. A second look is timed on 100 documents of the set, one query at a time, beside the
adapter's own transform. Rows are kept as they come; a set and seed that has one is not run again.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.quality.scoring import HEADLINE, Task
from benchmarks.record import write_results
from trimtab.model.adapter import Adapter
from trimtab_training.build_options import BuildOptions
from trimtab_training.fit.recipe import Recipe
from trimtab_training.pipeline import build_model

HERE = Path(__file__).resolve().parent
SETS = ["llamaindex_10k", "scifact", "hpo_lay", "banking77", "tldr_pages"]
DEPTH = 100
N_TIMED = 200
_MICROSECONDS = 1e6


def measure_set(task: Task, seed: int) -> dict[str, Any]:
    """Fit with a second look; give what it does to the test split."""
    folder = HERE / ".work" / f"{task.name}-{seed}"
    options = BuildOptions(seed=seed, resume="if_same")
    built = build_model(task.dataset, task.embeddings, folder, Recipe(rescore=DEPTH), options)
    look = built.fit.second_look
    record = built.evaluation
    row: dict[str, Any] = {
        "dataset": task.name,
        "seed": seed,
        "fit_s": round(built.fit.seconds, 1),
        "adapter": msgspec.to_builtins(record.metrics[HEADLINE]),
        "chosen": bool(look and look.helps),
    }
    if look is not None:
        row["second_look_s"] = round(look.seconds, 1)
        row["held_out"] = look.validation
    if record.second_look is None or built.file is None:
        return row
    found = record.second_look
    return row | {
        "mix": found.mix,
        "document_anchor": look.document_anchor if look else None,
        "n_queries": found.test.n_queries,
        "test": msgspec.to_builtins(found.test.metrics[HEADLINE]),
        "slices": msgspec.to_builtins(found.test.slices),
        "size_bytes": built.file.stat().st_size,
        **time_look(Adapter.load(built.file), task),
    }


def time_look(model: Adapter, task: Task) -> dict[str, float]:
    """Time one query through the adapter, and a second look at its documents: medians."""
    assert model.second_look is not None  # noqa: S101 - it was just measured
    queries = task.queries(task.test)[:N_TIMED]
    documents = task.embeddings.documents.take(np.arange(DEPTH))
    transform, look = [], []
    for query in queries:
        started = time.perf_counter()
        adapted = model.transform(query)
        between = time.perf_counter()
        model.second_look.rescore(query, adapted, documents)
        transform.append(between - started)
        look.append(time.perf_counter() - between)
    return {
        "transform_us": round(float(np.median(transform)) * _MICROSECONDS, 1),
        "second_look_us": round(float(np.median(look)) * _MICROSECONDS, 1),
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
            print(json.dumps({key: row.get(key) for key in ("dataset", "test", "chosen")}))


if __name__ == "__main__":
    main()
