"""What tuning the encoder of queries gives beside the vector adapter: nDCG@10 on test queries.

``python benchmarks/tuning/run.py --data FOLDER --sets hpo_lay --seeds 1 --corpus-queries titles``

Everything is chosen on held-out training queries, or the dev split; every rival is then scored on
the test split, chosen or not. Documents are never embedded again. Rows are kept as they come, and
an interrupted one is continued.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.quality.scoring import HEADLINE, Task, score_queries
from benchmarks.record import write_results
from trimtab_training.data.splits import has_seen_document
from trimtab_training.embeddings.local_encoder import LocalEncoder, packaged_minilm
from trimtab_training.fit.fit import FitResult, FitSettings, fit_adapter
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.tuning import TuningSettings
from trimtab_training.fit.tuning.tune import Tuning
from trimtab_training.fit.tuning.tuning_trials import mean_of

HERE = Path(__file__).resolve().parent
DIGITS = 5


def measure_set(
    task: Task, encoder: LocalEncoder, recipe: Recipe, settings: TuningSettings
) -> dict[str, Any]:
    """Fit, tune, and score every rival on the test split."""
    work = HERE / ".work" / f"{task.name}-{settings.method}-{settings.corpus_queries}"
    work = work / str(settings.seed)
    started = time.monotonic()
    fit = fit_adapter(
        task.dataset,
        task.embeddings,
        recipe,
        settings=FitSettings(seed=settings.seed, workspace=work / "fit", resume="if_same"),
    )
    print(task.name, fit.verdict, f"{time.monotonic() - started:.0f} s", flush=True)
    settings = replace(settings, workspace=work / "tuning", resume="if_same", tell=print)
    tuning = Tuning(task.dataset, task.embeddings, encoder, fit, settings, _Shower().show)
    selection = tuning.select()
    print(task.name, selection.text, flush=True)
    vectors = test_vectors(task, fit, tuning, selection.best)
    return {
        "dataset": task.name,
        "seed": settings.seed,
        "method": settings.method,
        "corpus_queries": settings.corpus_queries,
        "choice": selection.choice,
        "verdict": selection.text,
        "seconds": round(time.monotonic() - started, 1),
        "settings": settings.as_dict(),
        "compared_queries": recipe.compared_queries,
        "held_out": selection.validation,
        "test": score_rivals(task, vectors),
    }


def test_vectors(
    task: Task, fit: FitResult, tuning: Tuning, best: Any
) -> dict[str, NDArray[np.float32]]:
    """Give the test queries' vectors by every rival."""
    raw = task.queries(task.test)
    found = {"base": raw}
    if fit.adapter is not None:
        with torch.no_grad():
            found["adapter"] = fit.adapter(torch.from_numpy(raw)).numpy()
    texts = task.dataset.query_texts(list(task.test))
    for way, candidate in best.items():
        tuning.trials.fit_all(candidate)
        tuned = tuning.context.encoder.embed([texts[query] for query in task.test]).cpu()
        if way == "mean":
            tuned = mean_of(tuned, torch.from_numpy(found["adapter"]))
        found[way] = tuned.numpy()
    return found


def score_rivals(task: Task, vectors: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Score every rival, and its difference from the adapter with a 95 % interval."""
    documents = task.embeddings.documents
    scores = {name: score_queries(each, task.test, documents) for name, each in vectors.items()}
    is_seen = has_seen_document(task.test, task.train)
    against = scores.get("adapter", scores["base"])[HEADLINE]
    return {
        name: {
            HEADLINE: round(float(each[HEADLINE].mean()), DIGITS),
            "unseen": _mean(each[HEADLINE][~is_seen]),
            "over_adapter": describe_difference(each[HEADLINE] - against),
        }
        for name, each in scores.items()
    }


def describe_difference(difference: NDArray[np.float64]) -> dict[str, float]:
    """Give a mean difference with its standard error."""
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return {
        "mean": round(float(difference.mean()), DIGITS),
        "standard_error": round(float(error), DIGITS),
    }


def _mean(scores: NDArray[np.float64]) -> float | None:
    return round(float(scores.mean()), DIGITS) if len(scores) else None


class _Shower:
    """Says every minute how far a tuning is."""

    def __init__(self) -> None:
        self._started = self._said = time.monotonic()

    def show(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said >= 60:
            self._said = now
            left_s = (now - self._started) * (total - done) / done
            print(f"  {done:,} of at most {total:,} queries, {left_s:.0f} s left", flush=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--method", default="lora", choices=["lora", "all"])
    parser.add_argument("--corpus-queries", default="none", choices=["none", "titles", "sentences"])
    parser.add_argument("--epochs", type=int, default=TuningSettings.epochs)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--pulls", type=float, nargs="+", default=TuningSettings.pulls)
    parser.add_argument(
        "--corpus-weights", type=float, nargs="+", default=TuningSettings.corpus_weights
    )
    parser.add_argument(
        "--compared-queries",
        type=int,
        default=Recipe.compared_queries,
        help="as many folds as hold out so many",
    )
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def main() -> None:
    given = read_arguments()
    path = HERE / "results.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    encoder = packaged_minilm(device=given.device)
    recipe = Recipe(compared_queries=given.compared_queries)
    for name in given.sets:
        task = Task.load(given.data / name)
        for seed in range(given.seeds):
            settings = TuningSettings(
                method=given.method,
                corpus_queries=given.corpus_queries,
                epochs=given.epochs,
                learning_rate=given.learning_rate,
                pulls=tuple(given.pulls),
                corpus_weights=tuple(given.corpus_weights),
                device=given.device,
                seed=seed,
            )
            row = measure_set(task, encoder, recipe, settings)
            key = [row[part] for part in ("dataset", "seed", "method", "corpus_queries")]
            rows = [
                one
                for one in rows
                if [one[part] for part in ("dataset", "seed", "method", "corpus_queries")] != key
            ]
            rows.append(row)
            write_results(HERE, {"rows": rows})
            print(json.dumps(row["test"], indent=1), flush=True)


if __name__ == "__main__":
    main()
