"""The rival that re-embeds: the whole MiniLM fine-tuned on the same pairs, every document anew.

In-batch softmax over cosines at temperature .05 (sentence-transformers' MultipleNegativesRanking
loss with its default scale of 20), other queries' documents that are relevant to a query masked,
AdamW, a tenth of the steps for warm-up, then a linear fall to 0. The learning rate and the epoch
are chosen on validation queries: the set's dev split, or a fifth of the training queries with all
their documents where it has none; then the winner is trained again on all training queries. Dev
queries are searched among their own documents and some random ones, test queries among all.

The model runs in bfloat16 while it trains and is validated (weights and loss in float32, as
usual), which is three times as fast on a processor that has it; ``--precision float32`` is the slow
way. For the test, documents and queries are embedded in float32.

Resumes epoch by epoch from ``.work/full_finetune``. Without flags it runs what ``PLANNED`` says,
which the committed table rests on: half an hour a set on one free core. ``--rate`` tries more.
"""

import argparse
import fcntl
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.quality.encoder_fit import (
    Encoder,
    Fit,
    Setting,
    Texts,
    fresh,
    peak_gb,
    read_texts,
    write_json,
)
from benchmarks.quality.scoring import HEADLINE, Task, score_queries
from benchmarks.record import run_measured
from trimtab_training.data.qrels import Qrels, relevant_documents
from trimtab_training.data.splits import split_qrels, unit_hash
from trimtab_training.embeddings.store import VectorTable

WORK = Path(__file__).resolve().parent / ".work" / "full_finetune"
DEV_DOCUMENTS = 2000
PRECISION = "bfloat16"
PLANNED = {
    "hpo_lay": (Setting(5e-5, 6, PRECISION),),
    "llamaindex_10k": (Setting(1e-4, 4, PRECISION),),
}
OTHERS = tuple(Setting(rate, 6, PRECISION) for rate in (5e-5, 1e-4, 2e-5))


def validation_split(task: Task) -> tuple[Qrels, Qrels]:
    """Give the labels to train on and those to choose by."""
    if "dev" in task.dataset.splits:
        return task.train, task.dataset.split("dev")
    parts = split_qrels(task.train, by="document", key="full fine-tuning")
    return parts["train"], parts["test"]


class Validation:
    """Score of the validation queries among their own documents and some random ones."""

    def __init__(self, task: Task, texts: Texts, qrels: Qrels) -> None:
        self.qrels, self.texts = qrels, texts
        own = relevant_documents(qrels)
        others = [name for name in task.embeddings.documents.ids if name not in own]
        others.sort(key=lambda name: unit_hash(name, "validation"))
        self.doc_ids = sorted(own) + others[:DEV_DOCUMENTS]

    def __call__(self, encoder: Encoder) -> float:
        """Embed both sides and give the mean score."""
        documents = encoder.embed_all([self.texts.documents[name] for name in self.doc_ids])
        queries = encoder.embed_all([self.texts.queries[name] for name in self.qrels])
        table = VectorTable(self.doc_ids, documents, "documents")
        return float(score_queries(queries, self.qrels, table)[HEADLINE].mean())


def measure_test(task: Task, encoder: Encoder, texts: Texts) -> dict[str, object]:
    """Embed every document again and score the test queries."""
    encoder.precision = "float32"
    started = time.monotonic()
    ids = task.embeddings.documents.ids
    documents = encoder.embed_all([texts.documents[name] for name in ids])
    embedding_seconds = time.monotonic() - started
    queries = encoder.embed_all([texts.queries[name] for name in task.test])
    scores = score_queries(queries, task.test, VectorTable(ids, documents, "documents"))
    kept = score_queries(queries, task.test, task.embeddings.documents)
    return {
        "scores": {name: values.tolist() for name, values in scores.items()},
        "old_documents": float(kept[HEADLINE].mean()),
        "embedding_seconds": embedding_seconds,
    }


def finish(task: Task, encoder: Encoder, texts: Texts) -> None:
    """Measure the best setting so far on the test split; write down everything run."""
    folder = WORK / task.name
    fits = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/log.json")}
    runs = {name: log for name, log in fits.items() if not name.startswith("all-")}
    name, log = max(runs.items(), key=lambda item: max(entry["dev"] for entry in item[1]))
    best = max(log, key=lambda entry: entry["dev"])
    setting = Setting.named(name)
    seconds = sum(entry["train_seconds"] for entry in log[: best["epoch"]])
    if "dev" in task.dataset.splits:
        Fit(folder / name, encoder, texts, setting).load_best()
    else:
        seconds = refit(folder, task, encoder, texts, setting, best["epoch"])
    key = hashlib.sha256(json.dumps([name, best]).encode()).hexdigest()
    target = folder / "test.json"
    if target.exists() and json.loads(target.read_text())["key"] == key:
        record = {**json.loads(target.read_text()), "runs": runs}
        write_json(target, record)
        return
    record = {
        "key": key,
        "dataset": task.name,
        **asdict(setting),
        "epoch": best["epoch"],
        "dev": best["dev"],
        "train_seconds": seconds,
        "runs": runs,
        **measure_test(task, encoder, texts),
        "peak_resident_gb": peak_gb(),
    }
    write_json(target, record)
    print(task.name, name, best["epoch"], np.mean(record["scores"][HEADLINE]), flush=True)


def refit(
    folder: Path, task: Task, encoder: Encoder, texts: Texts, setting: Setting, epoch: int
) -> float:
    """Train on all training queries for as long as was best; give the seconds."""
    fresh(encoder)
    again = Fit(folder / f"all-{setting.name}", encoder, texts, setting)
    again.run(task.train, None, stop=epoch)
    return sum(entry["train_seconds"] for entry in again.log[:epoch])


def fit_encoder(task: Task, _seed: int, _work: Path) -> dict[str, Any]:
    """Run every setting that is not kept yet, in a process of its own; give the winner's scores."""
    run_measured([sys.executable, __file__, str(task.dataset.folder)])
    record = json.loads((WORK / task.name / "test.json").read_text(encoding="utf-8"))
    shown = ("rate", "epoch", "precision", "dev", "old_documents", "embedding_seconds", "runs")
    return {
        "scores": record["scores"],
        "seconds": record["train_seconds"] + record["embedding_seconds"],
        "peak_resident_gb": record["peak_resident_gb"],
        "notes": {name: record[name] for name in shown},
    }


def run_set(folder: Path, settings: Sequence[Setting] | None) -> None:
    task = Task.load(folder)
    settings = settings or PLANNED.get(task.name, OTHERS)
    (WORK / task.name).mkdir(parents=True, exist_ok=True)
    with (WORK / task.name / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process at the same set: wait for it
        run_settings(task, settings)


def run_settings(task: Task, settings: Sequence[Setting]) -> None:
    encoder = Encoder()
    texts = read_texts(task, encoder)
    train, held_out = validation_split(task)
    validate = Validation(task, texts, held_out)
    start = WORK / task.name / "start.json"
    if not start.exists():
        write_json(start, {"dev": validate(encoder)})
    for setting in settings:
        fresh(encoder)
        fit = Fit(WORK / task.name / setting.name, encoder, texts, setting)
        fit.run(train, validate, stop=setting.epochs)
        finish(task, encoder, texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+", help="dataset folders")
    parser.add_argument("--rate", type=float, action="append", help="instead of what is planned")
    parser.add_argument("--epochs", type=int, default=6, help="length of the schedule of --rate")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default=PRECISION)
    options = parser.parse_args()
    settings = [Setting(rate, options.epochs, options.precision) for rate in options.rate or ()]
    for folder in options.data:
        run_set(folder, settings)


if __name__ == "__main__":
    main()
