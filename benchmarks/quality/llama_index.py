"""The rival that LlamaIndex ships: its adapter engine, as it stands, in its own environment.

``EmbeddingAdapterFinetuneEngine`` of llama-index-finetuning 0.4.2: in-batch softmax over cosines at
scale 20, AdamW at 2e-5 with a tenth of warm-up and a linear fall, batch 10, only the first relevant
document of each query, no shuffling, no validation.

- its defaults: a linear map without bias, one epoch, the training file's order;
- its guide's: the same for four epochs;
- its best: what ranks best on validation queries among seven settings (``BEST_OF``), two of them
  its guide's, the others with a larger step, larger batches and a second layer; the queries are
  shuffled before it gets them, which it does not do itself.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.closed_form import Matrix, Transform
from benchmarks.quality.keys import source_digest
from benchmarks.quality.scoring import Task, mean_ndcg
from benchmarks.record import run_measured
from trimtab_training.data.qrels import Qrels, relevant
from trimtab_training.data.splits import unit_hash
from trimtab_training.files import write_whole

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements-llama-index.txt"
WORK = HERE / ".work" / "llama-index"
MOST_COMPARED = 5000
DEFAULTS: dict[str, Any] = {"adapter": "linear", "epochs": 1}
GUIDE: dict[str, Any] = {"adapter": "linear", "epochs": 4}
_TWO_LAYER = {"adapter": "two-layer", "hidden": 1024, "epochs": 25}
BEST_OF: tuple[dict[str, Any], ...] = (
    GUIDE,
    {"adapter": "linear", "epochs": 25},
    {"adapter": "linear, bias", "epochs": 25, "rate": 1e-3},
    {"adapter": "linear, bias", "epochs": 25, "rate": 1e-3, "batch_size": 128},
    _TWO_LAYER,
    {**_TWO_LAYER, "rate": 1e-3},
    {**_TWO_LAYER, "rate": 1e-3, "batch_size": 128},
)


def fit_defaults(task: Task, seed: int, work: Path) -> dict[str, Any]:
    """Train with the engine's defaults, in the training file's order."""
    return _fit(task, DEFAULTS, seed, work, shuffle=False)


def fit_guide(task: Task, seed: int, work: Path) -> dict[str, Any]:
    """Train as its guide does."""
    return _fit(task, GUIDE, seed, work, shuffle=False)


def fit_best(task: Task, seed: int, work: Path) -> dict[str, Any]:
    """Train with the setting that validation picks, once for all seeds."""
    return _fit(task, choose_setting(task, work), seed, work, shuffle=True)


def choose_setting(task: Task, work: Path) -> dict[str, Any]:
    """Compare the settings on validation queries, trained on at most 5,000 others."""
    fold = task.folds()[0]
    train, held_out = fold.train, fold.held_out
    kept = sorted(train, key=lambda query: unit_hash(query, "compared"))[:MOST_COMPARED]
    train = {query: train[query] for query in kept}
    data = [task.dataset.content_hash(), task.embeddings.content_hash()]
    code = source_digest(("benchmarks.quality.llama_index", "benchmarks.quality.llama_index_fit"))
    key = hashlib.sha256(json.dumps([*data, code]).encode()).hexdigest()
    path = WORK / f"choice-{task.name}.json"
    if path.exists() and (found := json.loads(path.read_text()))["key"] == key:
        return found["chosen"]
    jobs = [_job(setting, train, 0, shuffle=True) for setting in BEST_OF]
    run_engine(task, train, jobs, work)
    scores = [
        mean_ndcg(
            read_adapter(work / f"{number}.npz")(task.queries(held_out)),
            held_out,
            task.embeddings.documents,
        )
        for number in range(len(BEST_OF))
    ]
    chosen = BEST_OF[int(np.argmax(scores))]
    record = {"key": key, "chosen": chosen, "scores": scores, "settings": BEST_OF}
    write_whole(path, json.dumps(record).encode())
    return chosen


def run_engine(
    task: Task, train: Qrels, jobs: list[dict[str, Any]], work: Path
) -> tuple[float, float]:
    """Hand cached vectors and jobs to the engine's own environment; give seconds and peak GB."""
    documents = task.embeddings.documents
    first = [documents.rows[next(iter(relevant(labels)))] for labels in train.values()]
    work.mkdir(parents=True, exist_ok=True)
    np.savez(work / "pairs.npz", queries=task.queries(train), documents=documents.take(first))
    (work / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    # -P: or this folder's llama_index.py would be taken for the package
    return run_measured([str(environment()), "-P", str(HERE / "llama_index_fit.py"), str(work)])


def read_adapter(path: Path) -> Transform:
    """Read the engine's weights as a function on matrices, as its layers compute."""
    with np.load(path) as file:
        stored = dict(file)
    if "linear.weight" in stored:
        weight, bias = stored["linear.weight"].T, 0.0
        if "linear.bias" in stored:
            bias = stored["linear.bias"]
        return lambda queries: queries @ weight + bias

    def two_layer(queries: Matrix) -> NDArray[np.float32]:
        hidden = np.maximum(queries @ stored["linear1.weight"].T + stored["linear1.bias"], 0)
        output = hidden @ stored["linear2.weight"].T + stored["linear2.bias"]
        return queries + stored["residual_weight"] * output

    return two_layer


def environment() -> Path:
    """Give the Python of the engine's environment, made from its requirements where missing."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    python, mark = WORK / "venv" / "bin" / "python", WORK / "installed"
    if not (mark.exists() and mark.read_text() == digest):
        WORK.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(WORK / "venv")], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True, env={**os.environ})
        write_whole(mark, digest.encode())
    return python


def _job(setting: dict[str, Any], train: Qrels, seed: int, *, shuffle: bool) -> dict[str, Any]:
    """Describe one training to the engine's process."""
    rows = list(range(len(train)))
    return {"settings": setting, "rows": rows, "seed": seed, "shuffle": shuffle}


def _fit(
    task: Task, setting: dict[str, Any], seed: int, work: Path, *, shuffle: bool
) -> dict[str, Any]:
    """Train one setting on all training queries."""
    environment()
    jobs = [_job(setting, task.train, seed, shuffle=shuffle)]
    seconds, peak_gb = run_engine(task, task.train, jobs, work)
    return {
        "transform": read_adapter(work / "0.npz"),
        "seconds": seconds,
        "peak_resident_gb": peak_gb,
        "notes": {"setting": setting},
    }
