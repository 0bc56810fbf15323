"""Ours: `trimtab fit` with no knobs, as a user runs it, in its own process."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.closed_form import Matrix
from benchmarks.quality.scoring import HEADLINE, Task, score_queries
from benchmarks.record import run_measured
from trimtab.model.adapter import Adapter

ROUNDING = 1e-3  # one tie in a thousand queries that batches of another size break the other way


def fit_ours(task: Task, seed: int, work: Path) -> dict[str, Any]:
    """Fit, and give the exported model as a function on matrices.

    Raises:
        RuntimeError: The model scores otherwise than its own ``evaluation.json`` says.
    """
    folder = task.dataset.folder
    embeddings = folder / "embeddings"
    if list(task.dataset.splits.get("train", {})) != list(_stored_train(folder)):
        folder = write_drawn(task, work / task.name)
    command = [
        str(Path(sys.executable).with_name("trimtab")), "fit", str(folder), "--embeddings",
        str(embeddings), "-o", str(work / "model"), "--seed", str(seed),
    ]  # fmt: skip
    seconds, peak_gb = run_measured(command)
    record = json.loads((work / "model" / "evaluation.json").read_text(encoding="utf-8"))
    model = work / "model" / "adapter.onnx"
    transform = Adapter.load(model).transform if model.exists() else keep_raw
    found = score_queries(transform(task.queries(task.test)), task.test, task.embeddings.documents)
    said = record["metrics"][HEADLINE]["adapted"]
    if abs(found[HEADLINE].mean() - said) > ROUNDING:
        raise RuntimeError(f"{found[HEADLINE].mean():.5f} here, {said:.5f} in evaluation.json")
    return {
        "transform": transform,
        "seconds": seconds,
        "peak_resident_gb": peak_gb,
        "notes": {
            "verdict": record["fit"]["verdict"],
            "has_adapter": model.exists(),
            "size_bytes": model.stat().st_size if model.exists() else 0,
            "evaluation": {name: record["metrics"][name]["adapted"] for name in record["metrics"]},
        },
    }


def keep_raw(queries: Matrix) -> Matrix:
    """Where no adapter helps, the raw query is what is served."""
    return queries


def write_drawn(task: Task, folder: Path) -> Path:
    """Write a dataset with the task's labels, beside links to the texts."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name in ("corpus.jsonl", "queries.jsonl"):
        if not (folder / name).exists():
            (folder / name).symlink_to((task.dataset.folder / name).resolve())
    for split, qrels in task.dataset.splits.items():
        lines = ["query-id\tcorpus-id\tscore"]
        lines += [
            f"{query}\t{doc_id}\t{np.format_float_positional(grade, trim='-')}"
            for query, labels in qrels.items()
            for doc_id, grade in labels.items()
        ]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _stored_train(folder: Path) -> dict[str, Any]:
    """Read the training labels that the folder holds."""
    from trimtab_training.data.dataset import Dataset

    return Dataset.load(folder).splits["train"]
