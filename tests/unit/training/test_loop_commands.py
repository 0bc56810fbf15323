"""`trimtab fit`, `evaluate` and `compare` as they are typed: options, and what they come to."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.support.onnx_models import matrix_bytes
from tests.support.worlds import World, make_world
from trimtab.commands.group import main
from trimtab_training import pipeline


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "docs")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("words", "resume"),
    [
        ([], "must_match"),
        (["--resume"], "must_match"),
        (["--fresh"], "never"),
        (["--resume", "--fresh"], "if_same"),
    ],
)
def test_fit_keeps_unfinished_work_unless_it_is_told_otherwise(
    world: World, monkeypatch: pytest.MonkeyPatch, words: list[str], resume: str
) -> None:
    given: list[Any] = []

    def build(*arguments: Any, **_more: Any) -> None:
        given.extend(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "build_model", build)
    result = run(
        "fit", world.folder, "--embeddings", world.vectors, "-o", "m", "--max-dropped", "0.25",
        *words,
    )  # fmt: skip
    assert result.exit_code == 130
    assert given[4].resume == resume
    assert given[3].max_dropped == 0.25
    assert "run the same command again to continue" in one_line(result.stderr)


def test_fit_names_files_of_labels_that_it_does_not_read(tmp_path: Path) -> None:
    world = make_world(tmp_path / "docs")
    (world.folder / "qrels" / "more.tsv").write_bytes(b"")
    result = run("fit", world.folder, "--embeddings", tmp_path / "none", "-o", tmp_path / "m")
    assert result.exit_code != 0
    assert "not read in" in one_line(result.stderr)
    assert "qrels/more.tsv" in one_line(result.stderr)


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((16, 16)))[0]
    weights = (np.eye(16), np.eye(16) + 0.2 * turn, turn)
    for number, weight in enumerate(weights):
        (tmp_path / f"m{number}.onnx").write_bytes(matrix_bytes(weight))
    return [tmp_path / f"m{number}.onnx" for number in range(len(weights))]


def test_compare_shows_every_further_model_and_keeps_the_runs(
    world: World, models: list[Path], tmp_path: Path
) -> None:
    words = ["compare", *models, world.folder, "--embeddings", world.vectors]
    shown = run(*words, "-o", tmp_path / "runs")
    assert shown.exit_code == 0, shown.output
    for letter in "BC":
        assert f"{letter} against A:" in shown.stdout
    assert sorted(file.name for file in (tmp_path / "runs").iterdir()) == [
        "a.trec", "b.trec", "c.trec", "per_query.jsonl", "qrels.trec", "raw.trec",
    ]  # fmt: skip
    record = json.loads(run(*words, "--json").stdout)
    assert len(record["more"]) == 1
    two = json.loads(run(*words[:3], *words[4:], "--json").stdout)
    assert two["metrics"] == record["metrics"]
    assert "more" not in two


def test_compare_needs_two_models_and_gates_two(world: World, models: list[Path]) -> None:
    more = [world.folder, "--embeddings", world.vectors]
    assert "name two models or more" in run("compare", models[0], *more).stderr
    result = run("compare", *models, *more, "--gate")
    assert result.exit_code == 2
    assert "name A and B alone" in result.stderr


def test_labels_of_what_is_gone_are_said_and_measured_without(
    world: World, models: list[Path], tmp_path: Path
) -> None:
    with (world.folder / "qrels" / "test.tsv").open("a") as labels:
        labels.write("q3\tgone\t1\n")
    try:
        words = ["--embeddings", world.vectors]
        report = tmp_path / "july.html"
        done = run("evaluate", models[1], world.folder, *words, "--json", "--report", report)
        compared = run("compare", *models[:2], world.folder, *words, "--json")
        strict = run("evaluate", models[1], world.folder, *words, "--max-dropped", "0")
    finally:
        lines = (world.folder / "qrels" / "test.tsv").read_text().splitlines()[:-1]
        (world.folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    for result in (done, compared):
        record = json.loads(result.stdout)
        assert record["dropped_labels"]["labels"]["test"] == [1, 41]
        assert any("1 of 41 labels" in note for note in record["notes"])
    assert "have no vector" in report.read_text()
    assert (tmp_path / "july.runs" / "adapted.trec").is_file()
    assert strict.exit_code == 1
    assert "more than --max-dropped 0 allows" in one_line(strict.stderr)


def test_test_split_without_a_train_split_is_measured_whole(
    models: list[Path], tmp_path: Path
) -> None:
    alone = make_world(tmp_path / "docs")
    (alone.folder / "qrels" / "train.tsv").unlink()
    words = [alone.folder, "--embeddings", alone.vectors, "--json"]
    evaluated = json.loads(run("evaluate", models[1], *words).stdout)
    assert (evaluated["n_queries"], evaluated["split_is_made"]) == (40, False)
    assert evaluated["verdict"]["decision"] != "can't tell"
    assert any("no document counts as seen" in note for note in evaluated["notes"])
    compared = json.loads(run("compare", *models[:2], *words).stdout)
    assert compared["n_queries"] == 40
    assert not any("no test split" in note or "train split" in note for note in compared["notes"])


def test_report_does_not_stand_without_its_runs(
    world: World, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trimtab_training.evaluation.runs.write_whole", is_full)
    words = ["evaluate", models[1], world.folder, "--embeddings", world.vectors, "--report"]
    result = run(*words, tmp_path / "july.html")
    assert result.exit_code == 1
    assert "july.html: No space left on device" in one_line(result.stderr)
    assert not list(tmp_path.glob("july*"))


def test_report_replaces_no_file_that_is_no_page(
    world: World, models: list[Path], tmp_path: Path
) -> None:
    words = ["evaluate", models[1], world.folder, "--embeddings", world.vectors, "--report"]
    (tmp_path / "labels.tsv").write_text("mine")
    result = run(*words, tmp_path / "labels.tsv")
    assert result.exit_code == 1
    assert "is no report, and would be lost; name another file" in one_line(result.stderr)
    assert (tmp_path / "labels.tsv").read_text() == "mine"
    for content in ("", "<!DOCTYPE html>\nolder"):
        (tmp_path / "july.html").write_text(content)
        assert run(*words, tmp_path / "july.html").exit_code == 0
        assert "older" not in (tmp_path / "july.html").read_text()
