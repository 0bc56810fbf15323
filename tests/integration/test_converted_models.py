"""A converted adapter through the commands: converted, measured, served, and trained on."""

import json
import shutil
from pathlib import Path

import click.testing
import numpy as np
import pytest

from tests.support.worlds import World, make_world
from trimtab.commands.group import main
from trimtab.model.adapter import Adapter

GOLDEN = Path(__file__).parents[1] / "contract" / "llama_index"
RECIPE = "epochs = 4\nmin_steps = 20\nanchors = [0.3]\nfolds = 2\nlearning_rate = 0.02\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "docs", n_queries=120, dim=12)


@pytest.fixture(scope="module")
def model(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LlamaIndex's two-layer adapter, converted without saying for which encoder."""
    folder = tmp_path_factory.mktemp("models") / "docs"
    done = run("convert", "llama-index", GOLDEN / "two-layer-tanh-residual", "-o", folder)
    assert done.exit_code == 0, done.output
    assert f"made {folder}/adapter.onnx" in done.stdout
    assert "output of any length" in done.stdout
    assert f"trimtab evaluate {folder} DATASET" in done.stderr
    return folder


def run(*words: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, [str(word) for word in words])


def test_inspect_says_what_it_was_converted_from(model: Path) -> None:
    said = run("inspect", model).stdout
    assert "llama-index (TwoLayerNN), pytorch_model.bin, sha256:" in said
    assert "unknown (no fingerprint)" in said
    assert "any length" in said


def test_evaluate_measures_it_and_says_that_the_encoder_is_unknown(
    world: World, model: Path
) -> None:
    words = ("evaluate", model, world.folder, "--embeddings", world.vectors)
    record = json.loads(run(*words, "--json").stdout)
    assert record["adapter"] == "docs"
    assert any("does not say which encoder" in note for note in record["notes"])
    shown = run(*words)
    assert shown.exit_code == 0
    assert "does not say which encoder" in shown.stdout


def test_transform_and_serve_take_it(model: Path, tmp_path: Path) -> None:
    queries = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)
    np.save(tmp_path / "q.npy", queries)
    done = run("transform", model, "--input", tmp_path / "q.npy", "-o", tmp_path / "adapted.npy")
    assert done.exit_code == 0
    adapted = Adapter.load(model).transform(queries)
    np.testing.assert_array_equal(np.load(tmp_path / "adapted.npy"), adapted)
    checked = run(
        "serve", "--check", "--route", f"docs={model}", "--upstream-rest", "http://q:6333"
    )
    assert (checked.exit_code, checked.stdout) == (0, "fine: 1 routes, 0 indexes\n")


def test_fit_goes_on_from_it(world: World, model: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    done = run(
        "fit", world.folder, "--embeddings", world.vectors, "-o", tmp_path / "docs",
        "--from", model, "--from-unseen", "--recipe", tmp_path / "recipe.toml", "--allow-identity",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert Adapter.load(tmp_path / "docs").manifest.kind in {"two_layer", "identity"}
    assert "warning" not in done.stderr


def test_fit_is_not_judged_by_queries_that_its_start_was_trained_on(
    world: World, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text('adapter = "linear"\n' + RECIPE)
    words = ("fit", world.folder, "--embeddings", world.vectors, "--allow-identity")
    recipe = ("--recipe", tmp_path / "recipe.toml")
    assert run(*words, "-o", tmp_path / "first", *recipe).exit_code == 0
    (tmp_path / "recipe.toml").write_text(RECIPE)
    for start in (tmp_path / "first", model):
        done = run(*words, "-o", tmp_path / "second", *recipe, "--from", start)
        assert done.exit_code == 1
        assert "0 training queries of docs are known to be new" in " ".join(done.stderr.split())
        assert not (tmp_path / "second").exists()


def test_split_made_of_what_a_model_may_have_seen_gives_no_verdict(
    world: World, model: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(world.folder, alone)
    (alone / "qrels/test.tsv").rename(alone / "qrels/dev.tsv")
    words = ("evaluate", model, alone, "--embeddings", world.vectors)
    made = json.loads(run(*words, "--split", "test", "--json").stdout)
    assert made["verdict"]["decision"] == "can't tell"
    assert "it may have seen them all" in made["verdict"]["sentence"]
    kept = run(*words, "--json")
    assert json.loads(kept.stdout)["split"] == "dev"
    assert "measured on the dev split instead" in " ".join(kept.stderr.split())


def test_fit_remembers_that_embed_was_told_of_another_encoder(tmp_path: Path) -> None:
    moved = make_world(tmp_path / "moved", dim=12, dim_query=12, n_queries=120)
    encoder = json.loads((moved.vectors / "encoder.json").read_text())
    (moved.vectors / "encoder.json").write_text(json.dumps({**encoder, "use": "migration"}))
    (tmp_path / "recipe.toml").write_text('adapter = "linear"\n' + RECIPE)
    done = run(
        "fit", moved.folder, "--embeddings", moved.vectors, "-o", tmp_path / "docs",
        "--recipe", tmp_path / "recipe.toml",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert Adapter.load(tmp_path / "docs").manifest.use == "migration"


def test_convert_is_told_that_queries_are_of_another_encoder(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.eye(4, dtype=np.float32))
    out = tmp_path / "moved.onnx"
    done = run("convert", "matrix", tmp_path / "w.npy", "-o", out, "--use", "migration")
    assert done.exit_code == 0, done.output
    assert Adapter.load(out).manifest.use == "migration"
    np.save(tmp_path / "wide.npy", np.ones((4, 3), dtype=np.float32))
    done = run("convert", "matrix", tmp_path / "wide.npy", "-o", out, "--use", "relevance")
    assert (done.exit_code, "another encoder" in done.stderr) == (1, True)


def test_mistakes_are_one_line_and_leave_nothing(tmp_path: Path, world: World) -> None:
    np.save(tmp_path / "w.npy", np.ones((3, 4)))
    out = tmp_path / "models" / "docs"
    for words, said in (
        (("llama-index", tmp_path), "config.json"),
        (("matrix", tmp_path / "none.npy"), "no file"),
        (("matrix", tmp_path / "w.npy", "--embeddings", world.vectors), "maps 4 values to 3"),
        (("matrix", tmp_path / "w.npy", "--encoder", "a", "--embeddings", world.vectors), "both"),
    ):
        done = run("convert", *words, "-o", out)
        assert done.exit_code == 1
        assert said in done.stderr
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
    assert not out.parent.exists()
