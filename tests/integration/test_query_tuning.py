"""The encoder of queries tuned beside a model: by the command, and as one file in its folder."""

import json
from dataclasses import replace
from pathlib import Path

import click.testing
import numpy as np
import pytest

from tests.support.tiny_transformer import read_queries, write_encoder, write_world
from trimtab import TextEncoder
from trimtab.commands.group import main
from trimtab_training import BuildOptions, TuningSettings, build_model
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.encoders import LocalEncoder
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.fit.recipe import Recipe
from trimtab_training.query_tuning import tune_queries

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


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuning")
    encoder = LocalEncoder(write_encoder(folder / "encoder"))
    write_world(folder / "docs", encoder)
    (folder / "recipe.toml").write_text(KNOBS)
    return folder


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
    assert not list(output.parent.glob(".*tuning"))  # nothing unfinished is left


def test_what_is_chosen_becomes_one_file(world: Path) -> None:
    dataset = Dataset.load(world / "docs")
    vectors = Embeddings.open(world / "docs" / "embeddings")
    encoder = LocalEncoder(world / "encoder")
    built = build_model(dataset, vectors, world / "models" / "docs", RECIPE, BuildOptions())
    settings = replace(SETTINGS, workspace=world / "work")
    made = tune_queries(dataset, vectors, built, encoder, settings)
    assert made.tuned.choice in {"tuned", "mean"}
    assert made.file is not None
    assert made.test is not None
    assert made.test.delta > 0.1
    served = TextEncoder.load(made.file)
    texts = list(read_queries(world / "docs").values())
    tuned = made.tuned.model.encode(texts, show_progress_bar=False)
    found = served.encode(texts)
    if made.tuned.choice == "tuned":
        assert np.abs(found - tuned).max() < 1e-4
    else:
        assert np.einsum("nd,nd->n", found, tuned).min() > 0.3
    assert json.loads(made.record.read_text())["test"]["file"] == made.test.file
    assert not (world / "work").exists()


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
