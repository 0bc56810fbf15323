"""Every method on every set, five seeds each: fits, scores, tables and plots by one command.

    python benchmarks/quality/run.py --data FOLDER

FOLDER is a dataset folder with ``embeddings`` inside, or a folder of such; repeat it for more. The
whole takes hours. It resumes cell by cell: what ``.work/cells`` holds from the same code, data and
libraries is not run again, and stopping it costs one cell. ``--only`` takes a set, a method, or
``SET/METHOD``, with wildcards; no adapter is always run, since everything is compared with it.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.quality import report
from benchmarks.quality.cells import WORK, Cell, key_of, plan
from benchmarks.quality.methods import METHODS
from benchmarks.quality.scoring import HEADLINE, Task

HERE = Path(__file__).resolve().parent
SIZES = (50, 100, 250, 500, 1000)
talk = Console(stderr=True, highlight=False)


def find_sets(places: list[Path]) -> dict[str, Path]:
    """Find dataset folders, by name."""
    found: dict[str, Path] = {}
    for place in places:
        folders = [place] if (place / "qrels").is_dir() else sorted(place.glob("*/"))
        found |= {
            folder.resolve().name: folder for folder in folders if (folder / "qrels").is_dir()
        }
    return found


def is_wanted(cell: Cell, only: list[str], skip: list[str]) -> bool:
    """Tell whether a cell is within the flags."""

    def fits(pattern: str) -> bool:
        if "/" in pattern:
            return fnmatch(f"{cell.dataset}/{cell.method}", pattern)
        return fnmatch(cell.dataset, pattern) or fnmatch(cell.method, pattern)

    if any(fits(pattern) for pattern in skip):
        return False
    return not only or any(fits(pattern) for pattern in only) or is_base_of(cell, only)


def is_base_of(cell: Cell, only: list[str]) -> bool:
    """Tell whether a cell is what some wanted cell is compared with."""
    sets = [pattern.split("/")[0] for pattern in only]
    by_method = any(fnmatch(method, name) for method in METHODS for name in only)
    return cell.method == "none" and (by_method or any(fnmatch(cell.dataset, one) for one in sets))


def run_apart(cell: Cell, folders: dict[str, Path], key: str) -> bool:
    """Run a cell in a process of its own; tell whether it kept an outcome."""
    WORK.mkdir(parents=True, exist_ok=True)
    spec = {
        "cell": asdict(cell),
        "key": key,
        "work": str(WORK),
        "folders": {
            name: str(folder.resolve())
            for name, folder in folders.items()
            if cell.size is None or name == cell.dataset
        },
    }
    path, log = WORK / f"{cell.name}.spec", WORK / f"{cell.name}.log"
    path.write_text(json.dumps(spec), encoding="utf-8")
    with log.open("w", encoding="utf-8") as output:
        command = [sys.executable, str(HERE / "cells.py"), str(path)]
        done = subprocess.run(command, stdout=output, stderr=output, check=False)
    path.unlink()
    if done.returncode == 0:
        log.unlink()
    return done.returncode == 0


def run_cells(
    cells: list[Cell], tasks: dict[str, Task], folders: dict[str, Path], *, fresh: bool
) -> list[Cell]:
    """Run what is not kept yet; give the cells that failed."""
    keys = {cell: key_of(cell, tasks) for cell in cells}
    waiting = [cell for cell in cells if fresh or (cell.kept() or {}).get("key") != keys[cell]]
    talk.print(f"{len(cells)} cells, {len(cells) - len(waiting)} kept")
    failed = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=talk) as bar:
        line = bar.add_task("", total=len(waiting))
        for cell in waiting:
            bar.update(line, description=cell.name)
            if run_apart(cell, folders, keys[cell]):
                outcome = cell.kept() or {}
                scores = outcome["scores"][HEADLINE]
                mean = sum(scores) / len(scores)
                talk.print(f"{cell.name}: {HEADLINE} {mean:.4f}, {outcome['seconds']:.1f} s")
            else:
                failed.append(cell)
                talk.print(f"{cell.name}: failed, see {WORK / cell.name}.log")
            bar.advance(line)
    return failed


def read_flags() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, action="append", required=True, metavar="FOLDER")
    parser.add_argument("--only", action="append", default=[], metavar="SET|METHOD|SET/METHOD")
    parser.add_argument("--skip", action="append", default=[], metavar="SET|METHOD|SET/METHOD")
    parser.add_argument("--seeds", type=int, default=5, help="of each method that has chance in it")
    parser.add_argument("--curve-seeds", type=int, default=3, help="of each point of a size curve")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="of the size curve")
    parser.add_argument("--fresh", action="store_true", help="run again what is kept")
    parser.add_argument("--list", action="store_true", help="name the cells, and stop")
    parser.add_argument("--report", action="store_true", help="tables from what is kept, and stop")
    options = parser.parse_args()
    options.sets = find_sets(options.data)
    if not options.sets:
        parser.error("no dataset folders in --data; expected qrels/ and embeddings/ in each")
    return options


def main() -> None:
    options = read_flags()
    tasks = {name: Task.load(folder) for name, folder in options.sets.items()}
    everything = plan(tasks, options.seeds, options.sizes, options.curve_seeds)
    cells = [cell for cell in everything if is_wanted(cell, options.only, options.skip)]
    if options.list:
        print("\n".join(cell.name for cell in cells))
        return
    failed: list[Cell] = []
    if not options.report:
        try:
            failed = run_cells(cells, tasks, options.sets, fresh=options.fresh)
        except KeyboardInterrupt:
            talk.print("stopped; the same command goes on from here")
            sys.exit(130)
    kept = {cell: outcome for cell in everything if (outcome := cell.kept())}
    stale = [cell for cell in kept if kept[cell]["key"] != key_of(cell, tasks)]
    for path in report.write_report(kept, METHODS, stale):
        talk.print(f"wrote {path.name}")
    if stale:
        talk.print(f"{len(stale)} kept cells are of other code or data: run them again")
    if failed:
        sys.exit(f"{len(failed)} cells failed")


if __name__ == "__main__":
    main()
