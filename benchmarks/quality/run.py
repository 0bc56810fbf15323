"""Default fits on real sets: `trimtab fit` with no knobs, one process a set and seed.

Resumes cell by cell: what `.work/` holds for this commit's recipe is not run again.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.record import run_measured, write_results
from training.config import Recipe

HERE = Path(__file__).resolve().parent


def run_cell(dataset: Path, seed: int, work: Path) -> dict[str, object]:
    target = work / f"{dataset.name}-{seed}"
    cell = work / f"{dataset.name}-{seed}.json"
    recipe = Recipe().as_dict()
    if cell.exists():
        found = json.loads(cell.read_text(encoding="utf-8"))
        if found["recipe"] == recipe:
            return found
    seconds, peak_gb = run_measured(
        [
            str(Path(sys.executable).with_name("trimtab")), "fit", str(dataset), "--embeddings",
            str(dataset / "embeddings"), "-o", str(target), "--seed", str(seed),
        ],
    )  # fmt: skip
    record = json.loads((target / "evaluation.json").read_text(encoding="utf-8"))
    found = {
        "dataset": dataset.name,
        "seed": seed,
        "n_queries": record["n_queries"],
        "metrics": record["metrics"],
        "slices": {
            name: {"n_queries": part["n_queries"]}
            | ({"ndcg@10": part["metrics"]["ndcg@10"]} if part["metrics"] else {})
            for name, part in record["slices"].items()
        },
        "wins_losses_ties": [record["wins"], record["losses"], record["ties"]],
        "verdict": record["fit"]["verdict"],
        "chosen": {key: record["fit"][key] for key in ("unlabelled_weight", "anchor", "blend")},
        "seconds": round(seconds, 1),
        "peak_resident_gb": round(peak_gb, 2),
        "recipe": recipe,
    }
    cell.write_text(json.dumps(found), encoding="utf-8")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of dataset folders")
    parser.add_argument("--only", action="append", help="name of a set; may be repeated")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    work = HERE / ".work"
    work.mkdir(exist_ok=True)
    sets = sorted(path.parent for path in options.data.glob("*/qrels"))
    if not sets:
        parser.error(f"no dataset folders in {options.data}; set SHARED=FOLDER")
    cells = []
    for dataset in sets:
        if options.only and dataset.name not in options.only:
            continue
        for seed in range(options.seeds):
            cell = run_cell(dataset, seed, work)
            cells.append({key: value for key, value in cell.items() if key != "recipe"})
            headline = cell["metrics"]["ndcg@10"]
            print(
                f"{dataset.name} seed {seed}: {headline['base']:.4f} -> {headline['adapted']:.4f} "
                f"({headline['delta']:+.4f}), {cell['seconds']} s",
                flush=True,
            )
    path = write_results(HERE, {"recipe": Recipe().as_dict(), "cells": cells})
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
