"""What queries written by a small LLM are worth, beside real labels.

Gemma 3 270M, a base model, writes laypeople's queries for a sample of the demo's documents through
`trimtab synthesize`: a real HTTP server (llama.cpp's), no real label, no document that a real test
query is about. A default fit on these queries alone is measured on the demo's real test queries;
beside it stand the base and a default fit on the demo's real labels.

Interrupted, it goes on: answers, vectors and fits are kept in .work/.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # and the LLM has the other core

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec

from benchmarks.record import write_results
from benchmarks.synthesize.llama_server import (
    INSTALL,
    MODEL,
    assemble_model,
    missing_packages,
    running_server,
)
from trimtab_training.build_options import BuildOptions
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.hpo_lay import NAME, ontology_version
from trimtab_training.demo import open_demo_set, write_faiss_index
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.pipeline import build_model

HERE = Path(__file__).resolve().parent
WORK = HERE / ".work"
TRIMTAB = Path(sys.executable).with_name("trimtab")
STYLE = "layperson"
WRITING = {"per-document": 3, "temperature": 0.7, "seed": 0, "top-k": 20}


def trimtab(*words: object) -> None:
    """Run a command as a user does; its output is the benchmark's."""
    subprocess.run([TRIMTAB, *map(str, words)], check=True)


def real_test_folder(dataset: Dataset) -> Path:
    """Write the demo's real test queries alone, so that nothing of the other labels is used."""
    folder = WORK / "real-test"
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        shutil.copyfile(dataset.folder / name, folder / name)
    return folder


def write_queries(
    dataset: Dataset, real: Path, budget: int, threads: int
) -> tuple[Path, dict[str, Any]]:
    """Let the model write; give the dataset, and what it took."""
    model = assemble_model(WORK / "model")
    output = WORK / "written"
    options = [word for name, value in WRITING.items() for word in (f"--{name}", value)]
    started = time.monotonic()
    with running_server(model, threads=threads) as url:
        trimtab(
            *("synthesize", dataset.folder, "-o", output, "--real", real),
            *("--api", "completions", "--base-url", url, "--model", MODEL, "--style", STYLE),
            *("--embeddings", dataset.folder / "embeddings", "--encoder", "minilm"),
            *("--concurrency", 4, "--timeout", 600, "--budget", budget, *options),
        )
    summary = json.loads((output / "synthesis" / "summary.json").read_text(encoding="utf-8"))
    return output, {**summary, "seconds_of_this_run": round(time.monotonic() - started, 1)}


def fit_and_measure(dataset: Dataset, embeddings: Embeddings, name: str) -> dict[str, Any]:
    """Fit with defaults; measure on the test split."""
    started = time.monotonic()
    built = build_model(
        dataset,
        embeddings,
        WORK / "models" / name,
        options=BuildOptions(resume="if_same", allow_identity=True),
        on_stage=lambda stage: print(f"{name}: {stage}", flush=True),
    )
    counts = {split: len(qrels) for split, qrels in dataset.splits.items()}
    return {
        "queries": counts,
        "seconds": round(time.monotonic() - started, 1),
        "verdict": built.fit.verdict,
        "metrics": msgspec.to_builtins(built.evaluation.metrics),
        "slices": msgspec.to_builtins(built.evaluation.slices),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--budget", type=int, default=300, help="documents to write for")
    parser.add_argument("--threads", type=int, default=1, help="threads of the LLM")
    options = parser.parse_args()
    if missing := missing_packages():
        parser.error(f"{', '.join(missing)} not installed: {INSTALL}")
    dataset, embeddings = open_demo_set(f"demo:{NAME}", WORK / "data")
    index = WORK / "documents.faiss"
    if not index.exists():
        write_faiss_index(embeddings, index)
    written, summary = write_queries(
        dataset, real_test_folder(dataset), options.budget, options.threads
    )
    vectors = WORK / "written.embeddings"
    stored = f"faiss:{index}?ids={index.with_suffix('.ids')}"
    trimtab("embed", written, "-o", vectors, "--documents", stored)
    facts = {
        "data": f"demo:{NAME}, {ontology_version()}",
        "llm": {"model": MODEL, "api": "completions", "style": STYLE, **WRITING},
        "writing": summary,
    }
    cells: dict[str, Any] = {}
    for name, data, table in (
        ("written_queries_alone", Dataset.load(written), Embeddings.open(vectors)),
        ("real_labels", dataset, embeddings),
    ):
        cells[name] = fit_and_measure(data, table, name)
        found = cells[name]["metrics"]["ndcg@10"]
        print(f"{name}: nDCG@10 {found['base']:.4f} -> {found['adapted']:.4f} on real test queries")
        path = write_results(HERE, {**facts, "cells": cells})
        print(f"wrote {path.name}", flush=True)


if __name__ == "__main__":
    main()
