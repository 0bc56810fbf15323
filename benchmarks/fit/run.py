"""What a default fit costs: processor seconds, wall, memory, bytes written; beside another version.

Each set is fitted with ``trimtab fit``, no knobs, in a process of its own: by this checkout, and by
``--rival`` in turn with it, so that both meet the same machine. Widths that no data here has are
made of real vectors: an orthogonal map from 384 values to more, and noise of a tenth of a vector's
length. The command's own evaluation and report are part of what is measured. With ``--busy``,
other processes keep cores busy meanwhile, as on a machine that does more than this.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.record import ROOT, commit_of, run_measured, write_results

HERE = Path(__file__).resolve().parent
NOISE = 0.1
COMMAND = """
import sys, trimtab
assert trimtab.__file__.startswith(sys.argv.pop(1)), trimtab.__file__
from trimtab.commands.group import main
main()
"""


@contextmanager
def busy(n_processes: int) -> Iterator[None]:
    """Keep cores busy."""
    spinning = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_processes)
    ]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def lifted(dataset: Path, dim: int, place: Path) -> Path:
    """Copy a set with its vectors in more dimensions; give the new folder."""
    folder = place / f"{dataset.name}-{dim}"
    shutil.copytree(dataset, folder, ignore=shutil.ignore_patterns("embeddings*"))
    shutil.copytree(dataset / "embeddings", folder / "embeddings")
    rng = np.random.default_rng(dim)
    first = np.load(dataset / "embeddings" / "documents.npy", mmap_mode="r").shape[1]
    turned, _ = np.linalg.qr(rng.standard_normal((dim, first)))
    for name in ("documents.npy", "queries.npy"):
        vectors = np.load(folder / "embeddings" / name).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        noise = rng.standard_normal((len(vectors), dim)).astype(np.float32) / dim**0.5
        wider = vectors @ turned.T.astype(np.float32) + NOISE * noise
        wider /= np.linalg.norm(wider, axis=1, keepdims=True)
        np.save(folder / "embeddings" / name, wider.astype(np.float16))
    encoder = folder / "embeddings" / "encoder.json"
    encoder.write_text(json.dumps({**json.loads(encoder.read_text()), "dim": dim}))
    return folder


def fit(dataset: Path, checkout: Path, seed: int, place: Path) -> dict[str, Any]:
    """Fit one set with one checkout's code; give what it cost and what it came to."""
    model = place / "model"
    shutil.rmtree(model, ignore_errors=True)
    arguments = ["fit", str(dataset), "--embeddings", str(dataset / "embeddings"), "-o", str(model)]
    arguments += ["--seed", str(seed), "--allow-identity"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    roots = os.pathsep.join(str(checkout / root) for root in ("sidecar", "training"))
    seconds, peak_gb = run_measured(
        [sys.executable, "-c", COMMAND, str(checkout), *arguments],
        env={**os.environ, "PYTHONPATH": roots},
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    record = json.loads((model / "evaluation.json").read_text(encoding="utf-8"))
    headline = record["metrics"]["ndcg@10"]
    return {
        "processor_seconds": round(processor_seconds, 1),
        "wall_seconds": round(seconds, 1),
        "peak_gb": round(peak_gb, 2),
        "written_mb": round((after.ru_oublock - before.ru_oublock) * 512 / 1e6, 1),
        "model_mb": round((model / "adapter.onnx").stat().st_size / 1e6, 2),
        "base": round(headline["base"], 4),
        "adapted": round(headline["adapted"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of dataset folders")
    parser.add_argument("--rival", type=Path, help="another checkout, fitted in turn with this one")
    parser.add_argument("--only", action="append", help="SET or SET:DIM; may be repeated")
    parser.add_argument("--busy", type=int, default=0, help="processes that keep a core busy")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = [path.parent.name for path in sorted(options.data.glob("*/qrels"))]
    cells = options.only or [*names, "scifact:1536", "scifact:3072"]
    checkouts = {"here": ROOT} | ({"rival": options.rival.resolve()} if options.rival else {})
    path = HERE / "results.json"
    found = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else {}
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        for cell in cells:
            name, _, dim = cell.partition(":")
            dataset = (options.data / name).resolve()
            folder = lifted(dataset, int(dim), place) if dim else dataset
            outcome = {}
            for who, where in checkouts.items():
                with busy(options.busy):
                    outcome[who] = fit(folder, where, options.seed, place)
            key = f"{cell}, beside {options.busy} busy" if options.busy else cell
            found[key] = {"seed": options.seed, **outcome}
            if options.rival:
                outcome["rival"]["commit"] = commit_of(options.rival)
            print(cell, json.dumps(outcome), flush=True)
            write_results(HERE, {"cells": found})


if __name__ == "__main__":
    main()
