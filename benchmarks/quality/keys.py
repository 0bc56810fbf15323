"""What decides a cell's outcome, digested: a change reruns only the cells that it touches."""

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from benchmarks.quality.scoring import Task

ROOT = Path(__file__).resolve().parents[2]
OWN = ("trimtab_training", "benchmarks.quality")
LIBRARIES = ("torch", "numpy")


def cell_key(
    sources: Iterable[str],
    files: Iterable[Path],
    task: Task,
    draw: tuple[int, int | None],
    others: str,
) -> str:
    """Digest code, data, seed, size and library versions.

    Args:
        sources: Modules that decide the outcome, with all that they import; the evaluator counts
            for every cell.
        files: Other files that do, such as pinned requirements.
        task: The set; its labels and vectors count.
        draw: The cell's seed, and its number of training queries or None for all.
        others: Digest of the other sets that the adapter is used on.
    """
    parts = [
        source_digest((*sources, "benchmarks.quality.scoring")),
        task.dataset.content_hash(),
        task.embeddings.content_hash(),
        [*draw, others],
        [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
        [version(name) for name in LIBRARIES],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def source_digest(modules: Iterable[str]) -> str:
    """Digest modules and what they import of ours, comments and docstrings aside."""
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or (parsed := _parse(name)) is None:
            continue
        found[name], imported = parsed
        waiting += imported
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _home(name: str) -> Path:
    """Give the folder that a module is imported from."""
    return ROOT / "training" if name.startswith("trimtab_training") else ROOT


@cache
def _parse(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Give a module's code without its docstrings, and the modules of ours that it may import."""
    path = _home(name) / Path(*name.split("."))
    files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    if not files or not all(file.is_file() for file in files):
        return None
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    imported = {wanted for tree in trees for wanted in _imports(tree)}
    code = "\n".join(ast.unparse(_without_docstrings(tree)) for tree in trees)
    return code, tuple(sorted(imported))


def _imports(tree: ast.Module) -> Iterable[str]:
    """Name what a module imports: modules, and what may be one."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith(tuple(f"{own}." for own in OWN)):
                yield name


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Drop every docstring."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
