"""One cell: a set, a method, a seed, a number of training queries; run, kept and found again.

``python cells.py SPEC.json`` runs one in a process of its own, which is how its memory is measured.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.quality.keys import cell_key
from benchmarks.quality.methods import METHODS
from benchmarks.quality.scoring import HEADLINE, Task, score_queries
from trimtab_training.files import write_whole

WORK = Path(__file__).resolve().parent / ".work" / "cells"
DIGITS = 6


@dataclass(frozen=True)
class Cell:
    """What is run once and kept.

    Attributes:
        dataset: Name of the set.
        method: Name of the method.
        seed: Seed of every choice, and of the draw where there is one.
        size: Number of training queries, or None for all.
    """

    dataset: str
    method: str
    seed: int
    size: int | None = None

    @property
    def name(self) -> str:
        """Name of the cell's file."""
        return f"{self.dataset}-{self.method}-{self.seed}-{self.size or 'all'}"

    def kept(self) -> dict[str, Any] | None:
        """Give the outcome that is kept, if there is one."""
        path = WORK / f"{self.name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def plan(
    tasks: Mapping[str, Task], seeds: int, sizes: Iterable[int], curve_seeds: int
) -> list[Cell]:
    """List every cell: all methods on all sets, then the size curves, then what costs hours."""
    cells = [
        Cell(name, method.name, seed)
        for method in METHODS.values()
        for name in tasks
        if method.sets is None or name in method.sets
        for seed in range(seeds if method.is_seeded else 1)
    ]
    cells += [
        Cell(name, method.name, seed, size)
        for method in METHODS.values()
        if method.has_curve
        for name, task in tasks.items()
        for size in sizes
        if size < len(task.train)
        for seed in range(curve_seeds)
    ]
    return sorted(cells, key=lambda cell: METHODS[cell.method].sets is not None)


def key_of(cell: Cell, tasks: Mapping[str, Task]) -> str:
    """Digest what decides a cell's outcome."""
    others = [
        tasks[name].dataset.content_hash() + tasks[name].embeddings.content_hash()
        for name in sorted(_others(cell, tasks))
    ]
    digest = hashlib.sha256(json.dumps(others).encode()).hexdigest()
    method, draw = METHODS[cell.method], (cell.seed, cell.size)
    return cell_key(method.sources, method.files, tasks[cell.dataset], draw, digest)


def run_cell(cell: Cell, tasks: Mapping[str, Task], key: str, place: Path) -> None:
    """Fit, score, and keep the outcome in a folder."""
    method, task = METHODS[cell.method], tasks[cell.dataset].drawn(cell.size, cell.seed)
    work = place / cell.name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    outcome = method.fit(task, cell.seed, work)
    transform, scores = outcome.pop("transform", None), outcome.pop("scores", None)
    others = {}
    if transform is not None:
        documents = task.embeddings.documents
        scores = score_queries(transform(task.queries(task.test)), task.test, documents)
        others = {name: use_elsewhere(transform, tasks[name]) for name in _others(cell, tasks)}
    record = {
        "key": key,
        "dataset": cell.dataset,
        "method": cell.method,
        "seed": cell.seed,
        "size": cell.size,
        "n_train": len(task.train),
        **outcome,
        "seen": [int(seen) for seen in task.is_seen()],
        "scores": {name: _rounded(values) for name, values in scores.items()},
        "others": others,
    }
    write_whole(place / f"{cell.name}.json", json.dumps(record).encode())
    shutil.rmtree(work, ignore_errors=True)


def use_elsewhere(transform: Any, task: Task) -> list[float]:
    """Score an adapter on another set's test queries."""
    queries = transform(task.queries(task.test))
    return _rounded(score_queries(queries, task.test, task.embeddings.documents)[HEADLINE])


def _others(cell: Cell, tasks: Mapping[str, Task]) -> list[str]:
    """Name the other sets with vectors of the same encoder; none for the size curve."""
    if cell.size is not None:
        return []
    own = tasks[cell.dataset].embeddings
    return [
        name
        for name, task in tasks.items()
        if name != cell.dataset
        and task.embeddings.encoder.fingerprint == own.encoder.fingerprint
        and task.embeddings.documents.dim == own.documents.dim
    ]


def _rounded(values: Iterable[float]) -> list[float]:
    """Round, for smaller files."""
    return [round(float(value), DIGITS) for value in values]


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tasks = {name: Task.load(Path(folder)) for name, folder in spec["folders"].items()}
    run_cell(Cell(**spec["cell"]), tasks, spec["key"], Path(spec.get("work", WORK)))


if __name__ == "__main__":
    main()
