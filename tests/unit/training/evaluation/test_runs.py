"""Runs as files: another tool takes the report's means anew and gets the same."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, Success, nDCG

from tests.support.fits import keep_state
from tests.support.onnx_models import matrix_bytes
from tests.support.worlds import World, make_world
from trimtab_training.errors import DataError
from trimtab_training.evaluation.compare import compare_models
from trimtab_training.evaluation.evaluate import evaluate_runs
from trimtab_training.evaluation.record import Evaluation
from trimtab_training.evaluation.runs import Runs, check_place, falling

SAME = 1e-6
MEASURES = {"ndcg@10": nDCG @ 10, "mrr@10": RR @ 10, "hit@10": Success @ 10, "recall@100": R @ 100}
WEIGHT = np.linalg.qr(np.random.default_rng(3).standard_normal((16, 16)))[0] * 0.3 + np.eye(16)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "docs")


def evaluate(world: World, **labels: dict[str, float]) -> tuple[Evaluation, Runs]:
    """Measure a model on the test split, some of its queries judged otherwise."""
    dataset = world.dataset
    splits = {**dataset.splits, "test": {**dataset.split("test"), **labels}}
    return evaluate_runs(matrix_bytes(WEIGHT), replace(dataset, splits=splits), world.embeddings)


def means_of(folder: Path, name: str) -> dict[str, float]:
    """Take every mean with ir_measures, from the files alone."""
    qrels = list(ir_measures.read_trec_qrels(str(folder / "qrels.trec")))
    run = list(ir_measures.read_trec_run(str(folder / f"{name}.trec")))
    found = ir_measures.calc_aggregate(MEASURES.values(), qrels, run)
    return {key: found[measure] for key, measure in MEASURES.items()}


def assert_same(evaluation: Evaluation, folder: Path) -> None:
    for name, key in (("raw", "base"), ("adapted", "adapted")):
        for metric, mean in means_of(folder, name).items():
            assert abs(mean - getattr(evaluation.metrics[metric], key)) < SAME, (name, metric)


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"q3": {"d1": 3.0, "d2": 1.0, "d5": 0.0, "d9": -1.0}},
        {"q3": {"d1": 0.25, "d2": 0.5, "d3": 0.125}},
        {"q3": {"d1": 0.0}},
    ],
    ids=["plain", "graded", "fractions", "nothing relevant"],
)
def test_ir_measures_takes_the_same_means_from_the_files(
    world: World, tmp_path: Path, labels: dict[str, dict[str, float]]
) -> None:
    evaluation, runs = evaluate(world, **labels)
    runs.write(tmp_path / "runs")
    assert_same(evaluation, tmp_path / "runs")


def test_equal_scores_are_told_apart_as_they_were_ranked(world: World, tmp_path: Path) -> None:
    matrix = np.load(world.vectors / "documents.npy")
    matrix[1:60] = matrix[0]  # nothing but the order of rows tells these apart
    np.save(world.vectors / "documents.npy", matrix)
    evaluation, runs = evaluate(world, q3={"d41": 1.0}, q7={"d7": 1.0})
    runs.write(tmp_path / "runs")
    assert_same(evaluation, tmp_path / "runs")


def test_ids_with_white_space_stay_one_column(world: World, tmp_path: Path) -> None:
    evaluation, runs = evaluate(world)
    names = {name: f"{name} of\t100%" for name in runs.document_ids}
    odd = replace(
        runs,
        document_ids=list(names.values()),
        qrels={
            query: {names[doc]: grade for doc, grade in labels.items()}
            for query, labels in runs.qrels.items()
        },
    )
    odd.write(tmp_path / "runs")
    assert_same(evaluation, tmp_path / "runs")
    assert "d1%20of%09100%25" in (tmp_path / "runs" / "raw.trec").read_text()


def test_work_of_a_fit_of_the_same_name_stays(world: World, tmp_path: Path) -> None:
    state = keep_state(tmp_path / "runs")
    evaluate(world)[1].write(tmp_path / "runs")
    assert state.exists()


def test_scores_of_every_query_have_the_report_s_means(world: World, tmp_path: Path) -> None:
    evaluation, runs = evaluate(world)
    runs.write(tmp_path / "runs")
    lines = (tmp_path / "runs" / "per_query.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["query_id"] for record in records] == list(world.dataset.split("test"))
    for metric, values in evaluation.metrics.items():
        for name, key in (("raw", "base"), ("adapted", "adapted")):
            mean = np.mean([record[name][metric] for record in records])
            assert mean == pytest.approx(getattr(values, key), abs=1e-12)


def test_three_models_are_held_against_the_first_and_all_runs_are_kept(
    world: World, tmp_path: Path
) -> None:
    models = []
    for number, weight in enumerate((np.eye(16), WEIGHT, WEIGHT.T)):
        models.append(str(tmp_path / f"m{number}.onnx"))
        Path(models[-1]).write_bytes(matrix_bytes(weight))
    record, runs = compare_models(models, world.dataset, world.embeddings)
    pairs = [
        compare_models([models[0], each], world.dataset, world.embeddings) for each in models[1:]
    ]
    assert record.more is not None
    (more,) = record.more
    for found, (alone, _), letter in zip((record, more), pairs, "BC", strict=True):
        assert found.metrics == alone.metrics
        assert found.slices == alone.slices
        assert (found.a.name, found.b.name) == (models[0], alone.b.name)
        assert f"{letter} " in found.verdict.sentence
    assert pairs[0][0].more is None
    assert any("best of several" in note for note in record.notes)
    runs.write(tmp_path / "runs")
    assert {file.name for file in (tmp_path / "runs").iterdir()} == {
        "raw.trec", "a.trec", "b.trec", "c.trec", "qrels.trec", "per_query.jsonl",
    }  # fmt: skip
    for name, key, found in (("a", "a", record), ("b", "b", record), ("c", "b", more)):
        for metric, mean in means_of(tmp_path / "runs", name).items():
            assert abs(mean - getattr(found.metrics[metric], key)) < SAME


def test_foreign_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"holds thesis\.txt"):
        check_place(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        check_place(tmp_path / "thesis.txt")
    check_place(tmp_path / "new")


def test_what_found_nothing_is_an_empty_run(tmp_path: Path) -> None:
    nothing = np.full((1, 1), -1), np.zeros((1, 1), dtype=np.float32)
    Runs({"q": {"d": 1.0}}, ["d"], {"raw": nothing}, {"raw": {}}).write(tmp_path / "runs")
    assert (tmp_path / "runs" / "raw.trec").read_text() == ""


def test_falling_scores_keep_their_order_as_float32() -> None:
    scores = np.array([1e-30, 1e-30, 0, 0, -1, -1], dtype=np.float32)
    written = np.array([float(text) for text in falling(scores)]).astype(np.float32)
    assert (np.diff(written) < 0).all()
    np.testing.assert_allclose(written, scores, atol=1e-6)


def test_runs_that_can_not_be_written_leave_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, runs = evaluate(world)

    def is_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "here").mkdir()
    monkeypatch.setattr("trimtab_training.evaluation.runs.write_whole", is_full)
    with pytest.raises(OSError, match="No space left"):
        runs.write(tmp_path / "here" / "runs")
    assert not list((tmp_path / "here").iterdir())
