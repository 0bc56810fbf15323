"""Results that are made of cells: each is run once for a commit and a setting, and kept.

A run that is interrupted, or that asks for some cells alone, goes on where the last one ended.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.record import environment, write_results

Cells = Mapping[str, Callable[[], dict[str, Any]]]
"""What makes each cell, by its name."""


def add_options(parser: argparse.ArgumentParser, names: list[str]) -> None:
    """Add the options that choose cells."""
    parser.add_argument("--cells", nargs="*", choices=names, default=names, help="only these")
    parser.add_argument("--fresh", action="store_true", help="run cells again that are there")


def fill(
    path: Path,
    cells: Cells,
    settings: Mapping[str, Any],
    *,
    chosen: list[str],
    is_fresh: bool,
) -> dict[str, Any]:
    """Run the cells that are not there yet, and write each as it ends.

    Args:
        path: The file of results.
        cells: All of them.
        settings: What a cell depends on beside the code.
        chosen: The names of those that are wanted.
        is_fresh: True to run those again that are there.

    Returns:
        The chosen cells by name.
    """
    done = {} if is_fresh else _usable(path, settings)
    for name in chosen:
        if name in done:
            print(f"{name}: kept from an earlier run", flush=True)
            continue
        print(f"{name}: begins", flush=True)
        started = time.monotonic()
        found = cells[name]()
        took_s = round(time.monotonic() - started, 1)
        done[name] = {"settings": dict(settings), **environment(), "took_s": took_s, **found}
        others = {key: cell for key, cell in _kept(path).items() if key not in done}
        write_results(path.parent, {"cells": {**others, **done}}, path.name)
    return {name: done[name] for name in chosen}


def _usable(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give the cells that this commit, without changes of its own, gave with these settings."""
    now = environment()
    same = {key: now[key] for key in ("commit", "uncommitted_changes")}
    return {
        name: cell
        for name, cell in _kept(path).items()
        if cell["settings"] == dict(settings)
        and not cell["uncommitted_changes"]
        and all(cell[key] == value for key, value in same.items())
    }


def _kept(path: Path) -> dict[str, Any]:
    """Read the cells that are written; none where there is no such file."""
    if not path.exists():
        return {}
    cells: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")).get("cells", {})
    return cells
