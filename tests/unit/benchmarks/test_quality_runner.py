"""The quality bench runs each cell once, and reports what it kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality import cells, keys, report, run
from benchmarks.quality.cells import Cell
from benchmarks.quality.scoring import Task
from benchmarks.quality.summary import carry_over, summarise
from tests.support.worlds import make_world

METRICS = ("ndcg@10", "mrr@10", "hit@10", "recall@100")


@pytest.fixture
def tasks(tmp_path: Path) -> dict[str, Task]:
    folders = [make_world(tmp_path / name, n_queries=40).folder for name in ("one", "two")]
    return {folder.name: Task.load(folder) for folder in folders}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cells, "WORK", tmp_path / "cells")
    monkeypatch.setattr(run, "WORK", tmp_path / "cells")
    return tmp_path / "cells"


@pytest.fixture
def started(
    tasks: dict[str, Task], work: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Cell]]:
    """Note every cell that is run; run it here and not in a process of its own."""
    seen: list[Cell] = []

    def run_here(cell: Cell, _folders: dict[str, Path], key: str) -> bool:
        seen.append(cell)
        cells.run_cell(cell, tasks, key, work)
        return True

    monkeypatch.setattr(run, "run_apart", run_here)
    return seen


def test_that_what_is_kept_is_not_run_again(tasks: dict[str, Task], started: list[Cell]) -> None:
    wanted = [Cell("one", "none", 0), Cell("one", "mean_shift", 0)]
    assert run.run_cells(wanted, tasks, {}, fresh=False) == []
    run.run_cells([*wanted, Cell("two", "none", 0)], tasks, {}, fresh=False)
    assert started == [*wanted, Cell("two", "none", 0)]
    run.run_cells(wanted[:1], tasks, {}, fresh=True)
    assert started[-1] == wanted[0]


def test_that_other_data_runs_a_cell_again(tasks: dict[str, Task], started: list[Cell]) -> None:
    cell = Cell("one", "none", 0)
    run.run_cells([cell], tasks, {}, fresh=False)
    vectors = tasks["one"].embeddings.folder / "queries.npy"
    np.save(vectors, np.load(vectors)[:, ::-1].copy())
    tasks["one"] = Task.load(tasks["one"].dataset.folder)
    run.run_cells([cell], tasks, {}, fresh=False)
    assert started == [cell, cell]


def test_that_a_cell_in_its_own_process_is_the_cell_run_here(
    tasks: dict[str, Task], work: Path
) -> None:
    cell = Cell("one", "mean_shift", 0)
    folders = {name: task.dataset.folder for name, task in tasks.items()}
    assert run.run_apart(cell, folders, "key")
    apart = cell.kept()
    cells.run_cell(cell, tasks, "key", work)
    here = cell.kept()
    assert apart["peak_resident_gb"] > 0
    assert {**apart, "seconds": 0, "peak_resident_gb": 0} == {
        **here,
        "seconds": 0,
        "peak_resident_gb": 0,
    }
    assert list(here["others"]) == ["two"]
    assert sorted(path.name for path in work.iterdir()) == [f"{cell.name}.json"]


def test_that_a_cell_that_fails_leaves_its_log_and_no_outcome(
    tasks: dict[str, Task], work: Path, tmp_path: Path
) -> None:
    cell = Cell("one", "none", 0)
    assert not run.run_apart(cell, {"one": tmp_path / "nowhere"}, "key")
    assert cell.kept() is None
    assert "nowhere" in (work / f"{cell.name}.log").read_text()


def test_that_a_comment_leaves_a_key_and_code_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "ROOT", tmp_path)
    package = tmp_path / "training" / "trimtab_training"
    package.mkdir(parents=True)
    outer, inner = package / "outer.py", package / "inner.py"

    def digest(outer_text: str, inner_text: str) -> str:
        outer.write_text(outer_text)
        inner.write_text(inner_text)
        keys._parse.cache_clear()
        return keys.source_digest(["trimtab_training.outer"])

    call = "from trimtab_training.inner import f\n\ndef g():\n    return f()\n"
    first = digest(call, 'def f():\n    """Say one."""\n    return 1\n')
    assert digest(f"# note\n{call}", "def f():\n    return 1  # one\n") == first
    assert digest(call, "def f():\n    return 2\n") != first
    keys._parse.cache_clear()


@pytest.mark.parametrize(
    ("only", "skip", "wanted"),
    [
        ([], [], {"one-none", "one-ours", "two-none", "two-ours"}),
        (["one"], [], {"one-none", "one-ours"}),
        (["ours"], [], {"one-none", "one-ours", "two-none", "two-ours"}),
        (["two/ours"], [], {"two-none", "two-ours"}),
        (["t*"], ["ours"], {"two-none"}),
    ],
)
def test_that_flags_restrict_to_sets_and_methods(
    only: list[str], skip: list[str], wanted: set[str]
) -> None:
    found = {
        f"{name}-{method}"
        for name in ("one", "two")
        for method in ("none", "ours")
        if run.is_wanted(Cell(name, method, 0), only, skip)
    }
    assert found == wanted


def test_that_the_plan_holds_every_seed_of_what_has_chance_in_it(tasks: dict[str, Task]) -> None:
    found = cells.plan(tasks, seeds=2, sizes=(10, 1000), curve_seeds=1)
    names = [cell.name for cell in found]
    assert len(names) == len(set(names))
    assert {"one-ours-0-all", "one-ours-1-all", "one-ours-0-10", "one-ridge-0-all"} <= set(names)
    assert not {"one-ridge-1-all", "one-ours-0-1000", "one-fine_tuned-0-all"} & set(names)


def outcome(scores: list[float], **more: Any) -> dict[str, Any]:
    return {
        "seen": [1, 1, 0, 0],
        "n_train": 9,
        "seconds": 2.0,
        "peak_resident_gb": 0.5,
        "notes": {},
        "scores": dict.fromkeys(METRICS, scores),
        "others": {},
        **more,
    }


@pytest.fixture
def kept() -> dict[Cell, dict[str, Any]]:
    return {
        Cell("one", "none", 0): outcome([0.5, 0.5, 0.5, 0.5], others={"two": [0.2] * 4}),
        Cell("two", "none", 0): outcome([0.4, 0.4, 0.4, 0.4]),
        Cell("one", "ours", 0): outcome([0.9, 0.7, 0.5, 0.5], others={"two": [0.3] * 4}),
        Cell("one", "ours", 1): outcome([0.7, 0.9, 0.3, 0.5], others={"two": [0.5] * 4}),
        Cell("one", "ours", 0, 3): outcome([0.6, 0.6, 0.6, 0.6], n_train=3),
        Cell("one", "ridge", 0): outcome([0.6, 0.6, 0.4, 0.4], others={"two": [0.1] * 4}),
    }


def test_that_seeds_are_averaged_query_by_query_before_they_are_compared(
    kept: dict[Cell, dict[str, Any]],
) -> None:
    found = summarise(kept)["sets"]["one"]["methods"]
    ours = found["ours"]
    assert ours["seeds"] == [0.65, 0.6]
    assert ours["delta"]["mean"] == pytest.approx(0.125)
    assert ours["delta"]["ci95"] == pytest.approx([-0.05, 0.3], abs=0.06)
    assert ours["slices"]["seen_documents"]["mean"] == pytest.approx(0.3)
    assert ours["slices"]["unseen_documents"]["mean"] == pytest.approx(-0.05)
    assert found["ridge"]["ours_less_it"]["mean"] == pytest.approx(0.125)


def test_that_other_sets_are_compared_with_their_own_base(
    kept: dict[Cell, dict[str, Any]],
) -> None:
    found = summarise(kept)["other_sets"]
    assert found["ours"]["one"]["two"]["mean"] == pytest.approx(0.0)
    assert found["ridge"]["one"]["two"]["mean"] == pytest.approx(-0.3)
    table = report.elsewhere_table({**found["ours"], "three": {}})
    assert "| one | own set | another encoder | +0.0000" in table


def test_that_a_size_curve_ends_at_all_training_queries(kept: dict[Cell, dict[str, Any]]) -> None:
    points = summarise(kept)["curves"]["ours"]["one"]
    assert [point["n_train"] for point in points] == [3, 9]
    assert points[-1]["mean"] == pytest.approx(0.125)
    assert (points[-1]["min"], points[-1]["max"]) == (pytest.approx(0.1), pytest.approx(0.15))


def test_that_a_rival_whose_cells_are_gone_keeps_its_row_and_says_of_when(
    kept: dict[Cell, dict[str, Any]],
) -> None:
    earlier = {"commit": "c0ffee", "date": "2026-01-02", **summarise(kept)}
    gone = {cell: outcome for cell, outcome in kept.items() if cell.method == "none"}
    summary = carry_over(summarise(gone), earlier)
    methods = summary["sets"]["one"]["methods"]
    assert set(methods) == {"none", "ridge"}  # ours is of this code or of none
    assert methods["ridge"]["carried_from"] == {"commit": "c0ffee", "date": "2026-01-02"}
    assert methods["ridge"]["delta"] == earlier["sets"]["one"]["methods"]["ridge"]["delta"]
    assert "ours_less_it" not in methods["ridge"]
    assert summary["other_sets"]["ridge"]["one"]["two"]["mean"] == pytest.approx(-0.3)
    assert "| ridge (of 2026-01-02) | 0.5000 |" in "\n".join(report.all_tables(summary))
    again = carry_over(summarise(gone), {"commit": "later", "date": "2026-02-03", **summary})
    assert again["sets"]["one"]["methods"]["ridge"] == methods["ridge"]


def test_that_a_row_of_other_queries_is_not_carried(kept: dict[Cell, dict[str, Any]]) -> None:
    earlier = {"commit": "c0ffee", "date": "2026-01-02", **summarise(kept)}
    earlier["sets"]["one"]["n_train"] += 1
    gone = {cell: outcome for cell, outcome in kept.items() if cell.method == "none"}
    assert set(carry_over(summarise(gone), earlier)["sets"]["one"]["methods"]) == {"none"}


def test_that_a_report_fills_its_place_on_the_page_and_no_other(
    kept: dict[Cell, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "DOCS", tmp_path)
    monkeypatch.setattr(report, "HERE", tmp_path)
    page = tmp_path / "quality.md"
    page.write_text(f"# Mine\n\n{report.START}\nold\n{report.END}\n\nSaid after.\n")
    stale = [Cell("one", "ridge", 0)]
    written = report.write_report(kept, report.METHODS, stale)
    first = page.read_text()
    assert first.startswith("# Mine\n")
    assert first.endswith("\nSaid after.\n")
    assert "old" not in first
    assert "| ridge | 0.5000 |" in first
    assert json.loads((tmp_path / "results.json").read_text())["stale_cells"] == ["one-ridge-0-all"]
    drawings = [path.read_text() for path in written if path.suffix == ".svg"]
    assert len(drawings) == 2
    report.write_report(kept, report.METHODS, stale)
    assert page.read_text() == first
    assert [path.read_text() for path in written if path.suffix == ".svg"] == drawings
