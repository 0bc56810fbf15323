"""The encoder of queries tuned beside a model: by the command, and as one file in its folder."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click.testing
import numpy as np
import pytest

from tests.support.tiny_transformer import read_queries, write_encoder, write_world
from tests.support.traced_once import trace_once
from trimtab import TextEncoder
from trimtab.commands.group import main
from trimtab_training import BuildOptions, BuiltModel, TuningSettings, build_model
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DataError
from trimtab_training.evaluation.record import Evaluation, decode_record
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.trainer import Trainer
from trimtab_training.query_tuning import tune_queries
from trimtab_training.retrieval.exact_search import search
from trimtab_training.retrieval.metrics import measure

KNOBS = """
hidden = 8
gated = false
folds = 2
compared_queries = 1
learning_rate = 0.01
min_steps = 10
unlabelled_weights = [0.0]
anchors = [0.3]
ranks = []
"""
RECIPE = Recipe(
    hidden=8,
    gated=False,
    folds=3,
    learning_rate=0.01,
    min_steps=60,
    unlabelled_weights=(0.0,),
    anchors=(0.3,),
    ranks=(),
)
SETTINGS = TuningSettings(
    epochs=6, batch_size=16, learning_rate=0.02, rank=8, pulls=(0.1,), corpus_queries="titles"
)


@pytest.fixture(autouse=True, scope="module")
def _traced_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        trace_once(patch)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuning")
    encoder = LocalEncoder(write_encoder(folder / "encoder"))
    write_world(folder / "docs", encoder)
    (folder / "recipe.toml").write_text(KNOBS)
    return folder


@pytest.fixture(scope="module")
def parts(world: Path) -> tuple[Dataset, Embeddings, BuiltModel, LocalEncoder]:
    """What a tuning is made of."""
    dataset = Dataset.load(world / "docs")
    vectors = Embeddings.open(world / "docs" / "embeddings")
    built = build_model(dataset, vectors, world / "models" / "docs", RECIPE, BuildOptions())
    return dataset, vectors, built, LocalEncoder(world / "encoder")


def run(*words: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, [str(word) for word in words])


def fit_words(world: Path, output: Path) -> tuple[object, ...]:
    docs = world / "docs"
    return ("fit", docs, "--embeddings", docs / "embeddings", "-o", output, "--recipe",
            world / "recipe.toml")  # fmt: skip


def test_the_command_tunes_judges_and_says_what_it_made(world: Path) -> None:
    output = world / "models" / "by-command"
    done = run(*fit_words(world, output), "--encoder", world / "encoder", "--tune-encoder", "lora")
    assert done.exit_code == 0, done.output
    record = json.loads((output / "tuning.json").read_text())
    assert record["verdict"] in " ".join(done.stdout.split())
    assert set(record["validation"]["rivals"]) >= {"tuned"}
    assert (output / "query.onnx").exists() == (record["choice"] in {"tuned", "mean"})
    assert not list(output.parent.glob(".*"))  # nothing unfinished is left
    assert f"{record['verdict']}"[:40] in (output / "report.html").read_text()
    again = json.loads((output / "evaluation.json").read_text())["fit"]["command"]
    assert f"--encoder {world / 'encoder'} --tune-encoder lora" in again


def test_a_tuning_that_was_interrupted_goes_on_without_fitting_again(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = world / "models" / "interrupted"
    words = (*fit_words(world, output), "--encoder", world / "encoder", "--tune-encoder", "lora")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trimtab_training.query_tuning.tune_encoder", stop)
        assert run(*words).exit_code != 0
    assert (output / "evaluation.json").exists()  # the adapter was fitted, and judged
    trained = []
    steps = Trainer.run
    monkeypatch.setattr(
        Trainer,
        "run",
        lambda self, *given, **named: trained.append(self.name) or steps(self, *given, **named),
    )
    assert run(*words).exit_code == 0
    assert all(name.startswith("adapter-fold") for name in trained)  # of the tuning's own folds
    assert not list(output.parent.glob(".*"))


def test_what_is_chosen_becomes_one_file(
    world: Path, parts: tuple[Dataset, Embeddings, BuiltModel, LocalEncoder]
) -> None:
    dataset, vectors, built, encoder = parts
    settings = replace(SETTINGS, workspace=world / "work")
    made = tune_queries(dataset, vectors, built, encoder, settings)
    assert made.tuned.choice in {"tuned", "mean"}
    assert made.file is not None
    tuning = made.evaluation.tuning
    assert tuning is not None
    assert tuning.test is not None
    assert tuning.test.against_raw.delta > 0.1
    served = TextEncoder.load(made.file)
    texts = list(read_queries(world / "docs").values())
    tuned = made.tuned.model.encode(texts, show_progress_bar=False)
    found = served.encode(texts)
    if made.tuned.choice == "tuned":
        assert np.abs(found - tuned).max() < 1e-4
    else:
        assert np.einsum("nd,nd->n", found, tuned).min() > 0.3
    assert not (world / "work").exists()

    # What the record says of the file is what the file does, and every reader gets to see it.
    folder = built.folder
    assert (
        decode_record((folder / "evaluation.json").read_bytes(), Evaluation, "it")
        == made.evaluation
    )
    test, metric = tuning.test, tuning.test.metrics["ndcg@10"]
    assert (metric.a, metric.raw) == (
        built.evaluation.metrics["ndcg@10"].adapted,
        built.evaluation.metrics["ndcg@10"].base,
    )
    queries = dataset.split("test")
    mine = served.encode([dataset.query_texts(queries)[query] for query in queries])
    found, _ = search(mine, vectors.documents, depth=10, similarity="cosine")
    rows = vectors.documents.rows
    wanted = [{rows[doc]: grade for doc, grade in labels.items()} for labels in queries.values()]
    assert metric.b == pytest.approx(measure(found, wanted)["ndcg@10"].mean(), abs=1e-9)
    per_query = [
        json.loads(line) for line in (folder / "runs/per_query.jsonl").read_text().splitlines()
    ]
    assert np.mean([one["tuned"]["ndcg@10"] for one in per_query]) == pytest.approx(metric.b)
    said = f"{metric.b:.4f}"
    assert said in (folder / "report.html").read_text()
    assert said in (folder / "README.md").read_text()
    assert "query.onnx" in " ".join(reason.text for reason in made.evaluation.verdict.reasons)
    assert test.n_queries == len(queries)


def test_a_test_query_without_a_text_is_named_before_anything_is_tuned(
    world: Path,
    parts: tuple[Dataset, Embeddings, BuiltModel, LocalEncoder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, *others = parts
    docs = tmp_path / "docs"
    shutil.copytree(world / "docs", docs)
    gone = next(iter(Dataset.load(docs).split("test")))
    lines = (docs / "queries.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["_id"] != gone]
    (docs / "queries.jsonl").write_text("".join(kept))
    monkeypatch.setattr("trimtab_training.query_tuning.tune_encoder", None)
    with pytest.raises(DataError, match=rf"{gone}.* test queries have no text in .*queries\.jsonl"):
        tune_queries(Dataset.load(docs), *others, settings=SETTINGS)


def test_labels_that_the_build_left_out_are_left_out_of_the_tuning(
    parts: tuple[Dataset, Embeddings, BuiltModel, LocalEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, *others = parts
    train = {query: {**labels} for query, labels in dataset.split("train").items()}
    next(iter(train.values()))["gone"] = 1.0
    given: list[Dataset] = []

    def stop(data: Dataset, *_: object, **__: object) -> None:
        given.append(data)
        raise KeyboardInterrupt

    monkeypatch.setattr("trimtab_training.query_tuning.tune_encoder", stop)
    with pytest.raises(KeyboardInterrupt):
        tune_queries(
            replace(dataset, splits={**dataset.splits, "train": train}), *others, settings=SETTINGS
        )
    assert given[0].splits == dataset.splits


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--tune-encoder", "lora"), "--encoder and --tune-encoder go together"),
        (("--encoder", "minilm"), "--encoder and --tune-encoder go together"),
        (("--corpus-queries", "titles"), "--corpus-queries goes with --tune-encoder"),
        (
            ("--encoder", "minilm", "--tune-encoder", "all", "--from", "models/docs"),
            "starts at the untouched encoder",
        ),
        (("--encoder", "nowhere", "--tune-encoder", "all"), "no sentence-transformers model in"),
    ],
)
def test_mistakes_are_one_line(world: Path, words: tuple[str, ...], told: str) -> None:
    done = run(*fit_words(world, world / "models" / "none"), *words)
    assert done.exit_code != 0
    assert told in done.stderr
    assert "Traceback" not in done.output
