"""Two models on the same queries: measured like evaluate, on queries that neither has seen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest

from tests.support.onnx_models import matrix_bytes
from tests.support.worlds import World, make_world
from trimtab.commands.group import main
from trimtab.model.manifest import EncoderCard
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.evaluation.compare import compare_models
from trimtab_training.evaluation.evaluate import evaluate_model
from trimtab_training.evaluation.gate import Gate
from trimtab_training.evaluation.record import (
    ComparedModel,
    Comparison,
    LeftOut,
    Slice,
    encode_record,
)
from trimtab_training.model_files import TRAINED_ON

DIM, N_TEST = 16, 100
CARD = EncoderCard("toy", "sha256:toy")
MADE_BY = {"labels": "sha256:l", "vectors": "sha256:v", "seed": 0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "docs", n_queries=400)


def write_model(folder: Path, weight: np.ndarray, **manifest: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    said = {"encoder": CARD, "training": MADE_BY, **manifest}
    (folder / "adapter.onnx").write_bytes(matrix_bytes(weight, **said))
    return folder


@pytest.fixture(scope="module")
def models(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that were trained on nothing here: good undoes half of the world's turn."""
    place = tmp_path_factory.mktemp("models")
    train = world.dataset.split("train")
    queries = world.embeddings.queries.take_ids(list(train))
    documents = world.embeddings.documents.take_ids([next(iter(one)) for one in train.values()])
    turn = np.linalg.lstsq(queries, documents, rcond=None)[0]
    for name, share in (("good", 0.15), ("better", 0.9), ("same", 0.0), ("bad", -0.4)):
        folder = write_model(place / name, share * turn + (1 - share) * np.eye(DIM), name=name)
        (folder / TRAINED_ON).write_bytes(trained_on_nothing().encode(MADE_BY))
    return place


def trained_on_nothing() -> TrainedOn:
    empty = np.array([], dtype=np.uint64)
    return TrainedOn(empty, empty)


def compared(world: World, a: Path | str, b: Path | str, **options: Any) -> Comparison:
    return compare_models((str(a), str(b)), world.dataset, world.embeddings, **options)[0]


def test_each_side_is_measured_as_evaluate_measures_it(world: World, models: Path) -> None:
    record = compared(world, models / "good", models / "better")
    alone = {
        key: evaluate_model(models / name, world.dataset, world.embeddings).metrics
        for key, name in (("a", "good"), ("b", "better"))
    }
    for name, metric in record.metrics.items():
        assert metric.raw == alone["a"][name].base
        assert metric.a == alone["a"][name].adapted
        assert metric.b == alone["b"][name].adapted
        assert metric.delta == pytest.approx(metric.b - metric.a)
    for key in ("a", "b"):
        against = getattr(record.against_raw, key)
        assert against.ci95 == alone[key]["ndcg@10"].ci95
    assert record.n_queries == N_TEST == record.wins + record.losses + record.ties


def test_better_worse_and_same_are_told_apart(world: World, models: Path) -> None:
    good, better = models / "good", models / "better"
    assert compared(world, good, better).verdict.decision == "better"
    assert compared(world, better, good).verdict.decision == "worse"
    same = compared(world, good, good)  # one file can't lose, however few the queries
    assert same.verdict.decision == "no worse"
    assert same.ties == N_TEST
    assert same.largest_losses == same.largest_wins == []


@pytest.mark.parametrize("word", ["none", "raw"])
def test_raw_query_may_stand_for_either(world: World, models: Path, word: str) -> None:
    forth = compared(world, word, models / "good")
    assert forth.a == ComparedModel(name=word, model=None, kind="raw query")
    assert forth.verdict.decision == "better"
    assert forth.against_raw.a is None
    assert forth.against_raw.b is not None
    assert forth.against_raw.b.delta == forth.metrics["ndcg@10"].delta
    back = compared(world, models / "good", word)
    assert back.verdict.decision == "worse"
    assert back.against_raw.b is None
    with pytest.raises(ConfigError, match="both the raw query"):
        compared(world, "none", "raw")


def test_b_below_raw_fails_though_it_beats_a(world: World, models: Path, tmp_path: Path) -> None:
    worst = write_model(tmp_path / "worst", -np.eye(DIM))
    verdict = compared(world, worst, models / "bad").verdict
    assert verdict.decision == "better"
    assert verdict.exit_code == 3
    assert "below the raw query" in verdict.reasons[0]


def test_queries_that_changed_most_are_named_with_texts_and_ranks(
    world: World, models: Path
) -> None:
    record = compared(world, models / "bad", models / "better")
    wins = record.largest_wins
    assert len(wins) == 10
    first = wins[0]
    assert first.query == f"query {first.query_id}"
    assert first.relevant[0].text.startswith("document d")
    assert first.a < first.b
    assert first.rank_b is not None
    assert (first.rank_a or 101) > first.rank_b
    gains = [one.b - one.a for one in wins]
    assert gains == sorted(gains, reverse=True)
    back = compared(world, models / "better", models / "bad").largest_losses
    assert [one.query_id for one in back] == [one.query_id for one in wins]


def knowing(folder: Path, world: World, test_queries: list[str]) -> Path:
    """Write a model that was trained on some test queries of the world."""
    model = write_model(folder, np.eye(DIM))
    test = world.dataset.split("test")
    splits = {"train": {query: test[query] for query in test_queries}}
    known = TrainedOn.of(Dataset("old", world.folder, splits))
    (model / TRAINED_ON).write_bytes(known.encode(MADE_BY))
    return model


def test_queries_that_a_model_was_trained_on_are_left_out(
    world: World, models: Path, tmp_path: Path
) -> None:
    test = list(world.dataset.split("test"))
    a, b = knowing(tmp_path / "a", world, test[:7]), knowing(tmp_path / "b", world, test[5:15])
    record = compared(world, a, b)
    assert record.left_out == LeftOut(n_queries=15, used_by_a=7, used_by_b=10, kept=False)
    assert record.n_queries == N_TEST - 15
    assert any("A was trained on 7 of these queries: left out" in one for one in record.notes)
    everything = compared(world, models / "good", knowing(tmp_path / "c", world, test))
    assert everything.left_out.kept
    assert everything.n_queries == N_TEST
    assert everything.verdict.decision == "can't tell"


def test_queries_that_nothing_answers_give_no_verdict(world: World, tmp_path: Path) -> None:
    model, splits = write_model(tmp_path / "docs", np.eye(DIM)), world.dataset.splits
    names = list(splits["test"])
    test = {name: dict.fromkeys(splits["test"][name], 0.0) for name in names}
    of_none = replace(world.dataset, splits={**splits, "test": test})
    with pytest.raises(DataError, match=r"the test split of docs: none of its \d+ queries has"):
        compare_models((str(model), "none"), of_none, world.embeddings)
    answered = {names[0]: splits["test"][names[0]]}
    of_one = replace(world.dataset, splits={**splits, "test": {**test, **answered}})
    seen = TrainedOn.of(replace(of_one, splits={"train": answered}))
    (model / TRAINED_ON).write_bytes(seen.encode(MADE_BY))
    with pytest.raises(DataError, match="the test queries of docs that no model has seen"):
        compare_models((str(model), "none"), of_one, world.embeddings)


def test_gate_counts_only_queries_that_something_answers(world: World, models: Path) -> None:
    test = world.dataset.split("test")
    few = {
        query: labels if place < 29 else dict.fromkeys(labels, 0.0)
        for place, (query, labels) in enumerate(test.items())
    }
    dataset = replace(world.dataset, splits={**world.dataset.splits, "test": few})
    names = "none", str(models / "better")
    record, _ = compare_models(names, dataset, world.embeddings)
    assert (record.n_queries, record.verdict.exit_code) == (N_TEST, 4)
    assert "29 test queries with a relevant document, too few" in record.verdict.sentence
    assert record.slices["unseen_documents"].n_queries == 29
    of_those = replace(dataset, splits={**dataset.splits, "test": dict(list(few.items())[:29])})
    alone, _ = compare_models(names, of_those, world.embeddings)
    assert record.answered_queries == Slice(n_queries=29, metrics=alone.metrics)
    assert record.against_raw == alone.against_raw
    assert any("71 queries have no relevant document" in note for note in record.notes)


def test_documents_count_as_seen_by_what_either_was_trained_on(
    world: World, models: Path, tmp_path: Path
) -> None:
    slices = compared(world, models / "good", models / "better").slices
    assert slices["seen_documents"] == Slice(n_queries=0, metrics=None)
    test = world.dataset.split("test")
    query = next(iter(test))
    (wanted,) = test[query]
    sharing = [one for one in test if wanted in test[one]]
    record = compared(world, models / "good", knowing(tmp_path / "b", world, [query]))
    assert record.slices["seen_documents"].n_queries == len(sharing) - 1


def test_what_is_not_known_is_said(world: World, models: Path, tmp_path: Path) -> None:
    silent = write_model(tmp_path / "silent", np.eye(DIM), encoder=EncoderCard("unknown", ""))
    notes = "\n".join(compared(world, models / "good", silent).notes)
    assert "B does not say which encoder" in notes
    assert "B does not say which queries it was trained on" in notes
    assert "the dataset's train split" in notes
    assert "A does not" not in notes
    assert compared(world, models / "good", models / "better").notes == []


def test_model_of_this_very_dataset_needs_no_record_beside_it(
    world: World, models: Path, tmp_path: Path
) -> None:
    trained = {**MADE_BY, "labels": world.dataset.content_hash()}
    fitted = write_model(tmp_path / "fitted", np.eye(DIM), training=trained)
    assert compared(world, models / "good", fitted).notes == []


def test_other_similarity_is_measured_as_its_own_and_said(
    world: World, models: Path, tmp_path: Path
) -> None:
    dot = write_model(tmp_path / "dot", np.eye(DIM), similarity="dot")
    notes = compared(world, models / "good", dot).notes
    assert any("by cosine, B by dot" in note for note in notes)


def test_nothing_is_better_than_a_raw_query_that_can_not_be_searched_with(
    world: World, models: Path, tmp_path: Path
) -> None:
    migration = write_model(tmp_path / "migration", 2 * np.eye(DIM), use="migration")
    for names in (("none", migration), (migration, "none")):
        record = compared(world, *names)
        assert (record.verdict.decision, record.verdict.exit_code) == ("can't tell", 4)
        assert "the raw query can't be searched with" in record.verdict.sentence
        assert any("another encoder than the documents" in note for note in record.notes)
    wide = make_world(tmp_path / "wide", n_queries=400, dim_query=24)
    turn = np.random.default_rng(0).standard_normal((24, DIM))
    other = write_model(tmp_path / "other", turn, use="migration")
    record = compared(wide, "none", other)
    assert record.verdict.exit_code == 4
    assert any("another width" in note for note in record.notes)


def test_raw_query_guards_a_model_for_relevance_beside_one_for_a_migration(
    world: World, models: Path, tmp_path: Path
) -> None:
    migration = write_model(tmp_path / "migration", -np.eye(DIM), use="migration")
    record = compared(world, migration, models / "bad")
    alone = compared(world, models / "same", models / "bad")
    assert record.metrics["ndcg@10"].raw == alone.metrics["ndcg@10"].raw
    assert record.against_raw.b == alone.against_raw.b
    assert record.verdict.exit_code == 3
    assert "below the raw query" in record.verdict.reasons[0]
    assert any("A is for a migration" in note for note in record.notes)


def test_model_of_other_vectors_is_refused_by_name(
    world: World, models: Path, tmp_path: Path
) -> None:
    for weight, encoder, said in (
        (np.eye(8), CARD, "wants queries of 8 values"),
        (np.eye(DIM), EncoderCard("other", "sha256:other"), "fitted on queries of other"),
    ):
        other = write_model(tmp_path / "other", weight, encoder=encoder)
        with pytest.raises(DataError, match=said) as caught:
            compared(world, models / "good", other)
        assert str(other) in str(caught.value)


def run(*words: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["compare", *map(str, words)])


def test_command_answers_by_exit_code_only_when_asked(world: World, models: Path) -> None:
    rest = (world.folder, "--embeddings", world.vectors)
    good, better = models / "good", models / "better"
    assert run(good, better, *rest, "--gate").exit_code == 0
    shown = run(better, good, *rest, "--gate")
    assert shown.exit_code == 3
    assert "gate does not pass: it is worse than A (exit status 3)" in shown.stdout
    assert run(better, good, *rest).exit_code == 0
    assert run(good, good, *rest, "--gate", "--require", "better").exit_code == 4
    assert run(good, models / "gone", *rest, "--gate").exit_code == 1
    assert run(good, better, *rest, "--gate", "--margin", "2").exit_code == 2


def test_command_prints_one_json_object_or_a_table(world: World, models: Path) -> None:
    words = (models / "bad", models / "better", world.folder, "--embeddings", world.vectors)
    printed = run(*words, "--json").stdout_bytes
    assert printed == encode_record(compared(world, words[0], words[1], gate=Gate()))
    table = run(*words).stdout
    for part in ("raw", "B - A", "ndcg@10", "recall@100", "largest wins", "B is better than A"):
        assert part in table
    assert "gate" not in table
