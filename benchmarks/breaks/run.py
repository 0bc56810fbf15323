"""Whether the tests notice: every mend of breaks.toml is taken away, one at a time, on purpose.

Each break replaces one exact text of the product in a copy of the last commit, and runs the few
tests that should fail then. First these tests run on the copy as it is, where they must pass. A
break is caught where one of its tests fails; a test that can't even be collected proves nothing.
With --only, results of other breaks stay as they were.
"""

import argparse
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec

from benchmarks.record import ROOT, commit_of, write_results

HERE = Path(__file__).resolve().parent
SOURCES = ("sidecar", "training")
JS = "tests/support/js/node_modules"
PYTEST = (
    *("-p", "no:randomly", "-p", "no:cacheprovider", "-q", "--tb=line"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # of plugins that are imported already
)
WARM = multiprocessing.get_context("forkserver")
"""Processes that begin with what is heavy to import; of this repository, nothing is among it."""
WARM.set_forkserver_preload(
    [
        "pytest",
        "torch",
        "faiss",
        "onnxruntime",
        "qdrant_client",
        "sentence_transformers",
    ]
)
CAUGHT, TIMED_OUT = "caught", "NOT CAUGHT: out of time"
OUTCOMES = {0: "NOT CAUGHT", 1: CAUGHT, 4: "no such test", 5: "no such test"}
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+(?:\[.*?\])?)(?: - (.*))?$", re.MULTILINE)
PASSED = re.compile(r"^PASSED (.+)$", re.MULTILINE)


class Break(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One mend taken away.

    Attributes:
        point: The point of the issue that asked for the mend, in short; its name.
        what: What is broken then, in users' words.
        file: The file of the product.
        old: The text that mends; it stands once in the file.
        new: What takes its place.
        tests: The tests that should notice, as pytest names them.
    """

    point: str
    what: str
    file: str
    old: str
    new: str
    tests: list[str]


class Copy:
    """A copy of what is committed, to be broken."""

    def __init__(self, folder: Path, limit_s: float) -> None:
        """Unpack the last commit."""
        self.folder, self._limit_s = folder / "copy", limit_s
        self._said = folder / "said.txt"
        self.folder.mkdir()
        packed = folder / "copy.tar"
        subprocess.run(["git", "archive", "-o", packed, "HEAD"], cwd=ROOT, check=True)
        shutil.unpack_archive(packed, self.folder, filter="data")
        if (ROOT / JS).is_dir():
            (self.folder / JS).symlink_to((ROOT / JS).resolve())

    def test(self, tests: list[str], option: str, limit_s: float) -> tuple[int | None, str]:
        """Run some tests; give pytest's exit status, None where time ran out, and its words."""
        running = WARM.Process(target=run_tests, args=(self.folder, self._said, option, tests))
        running.start()
        running.join(limit_s)
        status = running.exitcode
        if status is None and running.pid is not None:
            os.killpg(running.pid, signal.SIGKILL)  # servers that the tests have started, too
            running.join()
        return status, self._said.read_text(encoding="utf-8", errors="replace")

    def passing(self, tests: list[str]) -> set[str]:
        """Run all tests on the copy as it is, in one go; give those that pass."""
        if not tests:
            return set()
        _, said = self.test(tests, "-rA", self._limit_s * len(tests))
        passed = PASSED.findall(said)
        names = {test: f"{test}[" for test in tests}
        return {
            test
            for test, start in names.items()
            if any(each == test or each.startswith(start) for each in passed)
            and not any(each == test or each.startswith(start) for each, _ in FAILED.findall(said))
        }

    def broken(self, each: Break) -> tuple[str, str]:
        """Break the product, run the tests, and mend it; give the outcome and what failed."""
        path = self.folder / each.file
        whole = path.read_text(encoding="utf-8")
        if whole.count(each.old) != 1:
            return "does not apply", f"the text stands {whole.count(each.old)} times in {each.file}"
        path.write_text(whole.replace(each.old, each.new), encoding="utf-8")
        try:
            status, said = self.test(each.tests, "-x", self._limit_s)
        finally:
            path.write_text(whole, encoding="utf-8")
        if status is None:
            return TIMED_OUT, ""
        if status < 0:
            return CAUGHT, f"the tests' process: ended by signal {-status}"
        failed = FAILED.search(said)
        words = f"{failed[1]}: {failed[2] or ''}" if failed else said.strip().splitlines()[-1]
        return OUTCOMES.get(status, "the tests do not run"), words


def run_tests(folder: Path, said: Path, option: str, tests: list[str]) -> None:
    """Be the process that runs some tests on a copy; its words go to a file."""
    os.setsid()
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sources = [str(folder / source) for source in SOURCES]
    sys.path[:0] = sources
    os.environ["PYTHONPATH"] = os.pathsep.join(sources)
    os.environ["COLUMNS"] = "300"  # or what has failed is cut off
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.chdir(folder)
    import pytest

    status = pytest.main([*PYTEST, option, *tests])
    sys.stdout.flush()
    os._exit(status)


def read_breaks(path: Path = HERE / "breaks.toml") -> list[Break]:
    """Read the breaks; each has a name of its own."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    breaks = msgspec.convert(table["break"], list[Break])
    names = [each.point for each in breaks]
    if len(set(names)) < len(names):
        raise SystemExit(f"a name stands twice: {sorted({n for n in names if names.count(n) > 1})}")
    return breaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="name of a break; may be repeated")
    parser.add_argument("--limit", type=float, default=180.0, help="seconds for one break's tests")
    options = parser.parse_args()
    breaks = read_breaks()
    unknown = set(options.only or ()) - {each.point for each in breaks}
    if unknown:
        parser.error(f"no such break: {', '.join(sorted(unknown))}")
    chosen = [each for each in breaks if not options.only or each.point in options.only]
    rows: dict[str, dict[str, Any]] = {}
    commit = commit_of(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder), options.limit)
        started = time.monotonic()
        passing = copy.passing(sorted({test for each in chosen for test in each.tests}))
        seconds = time.monotonic() - started
        print(f"{len(passing)} tests pass unbroken, in {seconds:.0f} s", flush=True)
        for each in chosen:
            started = time.monotonic()
            broken_before = sorted(set(each.tests) - passing)
            outcome, words = (
                ("tests broken before", ", ".join(broken_before))
                if broken_before
                else copy.broken(each)
            )
            seconds = round(time.monotonic() - started, 1)
            print(f"{outcome:20} {each.point:50} {seconds:6.1f} s  {words[:150]}", flush=True)
            rows[each.point] = {
                "what": each.what,
                "file": each.file,
                "outcome": outcome,
                "noticed_by": words.partition(": ")[0] if outcome == CAUGHT else None,
                "seconds": seconds,
                "commit": commit,
            }
    n_caught = sum(row["outcome"] == CAUGHT for row in rows.values())
    print(f"{n_caught} of {len(rows)} breaks are caught")
    _write(rows, breaks)
    raise SystemExit(n_caught < len(rows))


def _write(rows: dict[str, dict[str, Any]], breaks: list[Break]) -> None:
    """Write what became of these breaks; others stay as an earlier run left them."""
    path = HERE / "results.json"
    before = json.loads(path.read_text(encoding="utf-8"))["breaks"] if path.exists() else {}
    known = {**before, **rows}
    kept = {each.point: known[each.point] for each in breaks if each.point in known}
    n_caught = sum(row["outcome"] == CAUGHT for row in kept.values())
    write_results(HERE, {"n_breaks": len(kept), "n_caught": n_caught, "breaks": kept})


if __name__ == "__main__":
    main()
