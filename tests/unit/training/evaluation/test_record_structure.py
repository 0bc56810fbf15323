"""Every key of what fit, evaluate and compare write as JSON, in order: others read it."""

import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.onnx_models import matrix_bytes
from tests.support.served_indexes import build, save
from tests.support.worlds import World, make_world
from trimtab.commands.group import main
from trimtab.model.manifest import EncoderCard
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn

STRUCTURE = json.loads(Path(__file__).with_name("record_structure.json").read_text())
RECIPE = """epochs = 4
min_steps = 20
learning_rate = 0.05
hidden = 4
ranks = [2]
folds = 2
temperatures = [0.03]
"""
MADE_BY = {"labels": "sha256:l", "vectors": "sha256:v", "seed": 0}


def structure_of(value: Any) -> Any:
    """Put the name of its type in place of each value; of a list's parts, each kind once."""
    if isinstance(value, dict):
        return {key: structure_of(one) for key, one in value.items()}
    if isinstance(value, list):
        return list({json.dumps(part): part for part in map(structure_of, value)}.values())
    return type(value).__name__


def run(*words: object) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with a label of a document that has no vector."""
    world = make_world(tmp_path_factory.mktemp("world") / "docs")
    with (world.folder / "qrels" / "test.tsv").open("a") as labels:
        labels.write("q3\tgone\t1\n")
    return world


@pytest.fixture
def index(world: World, tmp_path: Path) -> str:
    documents = world.embeddings.documents
    rows = documents.take(np.arange(len(documents)))
    return save(tmp_path, build("HNSW8,Flat", rows, metric=faiss.METRIC_INNER_PRODUCT))


@pytest.fixture
def model(world: World, tmp_path: Path) -> Path:
    """A model that was trained on one of the test queries."""
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((16, 16)))[0]
    folder = tmp_path / "known"
    folder.mkdir()
    card = EncoderCard("toy", "sha256:toy")
    content = matrix_bytes(np.eye(16) + 0.2 * turn, encoder=card, training=MADE_BY)
    (folder / "adapter.onnx").write_bytes(content)
    seen = Dataset("old", world.folder, {"train": {"q3": {"d0": 1.0}}})
    (folder / "trained_on.npz").write_bytes(TrainedOn.of(seen).encode(MADE_BY))
    return folder


def assert_structure(name: str, written: str) -> None:
    found = structure_of(json.loads(written))
    assert json.dumps(found, indent=1) == json.dumps(STRUCTURE[name], indent=1)


def test_record_of_a_fit_with_everything_that_can_be_measured(
    world: World, tmp_path: Path, index: str
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    run(
        "fit", world.folder, "--embeddings", world.vectors, "-o", tmp_path / "m",
        "--recipe", tmp_path / "recipe.toml", "--size-curve", "--index", index,
    )  # fmt: skip
    assert_structure("fit", (tmp_path / "m" / "evaluation.json").read_text())


def test_evaluation_of_a_model_that_has_seen_some_of_the_queries(
    world: World, model: Path, index: str
) -> None:
    words = ["evaluate", model, world.folder, "--embeddings", world.vectors, "--json"]
    assert_structure("evaluate with an index", run(*words, "--index", index))


def test_evaluation_of_a_model_of_which_little_is_known(world: World, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(matrix_bytes(np.eye(16), use="migration"))
    words = ["evaluate", tmp_path / "m.onnx", world.folder, "--embeddings", world.vectors]
    assert_structure("evaluate", run(*words, "--json", "--split", "train"))


def test_comparison_of_three_models(world: World, model: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(matrix_bytes(np.eye(16)))
    words = ["compare", model, "none", tmp_path / "m.onnx", world.folder]
    assert_structure("compare", run(*words, "--embeddings", world.vectors, "--json"))


def test_comparison_on_queries_that_may_have_been_trained_on(world: World, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(matrix_bytes(np.eye(16)))
    words = ["compare", "none", tmp_path / "m.onnx", world.folder, "--split", "train"]
    assert_structure("compare in doubt", run(*words, "--embeddings", world.vectors, "--json"))
