"""The commands as a user runs them, on a small world."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.support.commands import TRIMTAB, standing_in, trimtab, trimtab_apart
from tests.support.worlds import World, make_world
from trimtab.model.adapter import Adapter
from trimtab_training.fit.fit import fit_adapter
from trimtab_training.fit.recipe import load_recipe

FEW = "folds = 2\nlearning_rate = 0.02\nmin_steps = 1\nunlabelled_weights = 0.0\nanchors = 0.3\n"
SHORT = f"{FEW}epochs = 12\nhidden = 64\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "docs", n_queries=200)


@pytest.fixture(scope="module")
def fitted(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fitted")
    (place / "recipe.toml").write_text(SHORT)
    done = trimtab_apart(
        "fit", world.folder, "--embeddings", world.vectors, "-o", "models/docs",
        "--recipe", "recipe.toml", cwd=place,
    )  # fmt: skip
    assert "ndcg@10" in done.stdout
    assert "made models/docs/adapter.onnx" in done.stdout
    assert "made models/docs/report.html" in done.stdout
    assert "hip" in done.stdout.partition("(nDCG@10)\n")[2]  # Ship, or do not
    assert "next: trimtab inspect models/docs" in done.stderr
    return place


def test_evaluate_prints_one_json_object_equal_to_what_fit_left(world: World, fitted: Path) -> None:
    done = trimtab_apart(
        "evaluate", "models/docs", world.folder, "--embeddings", world.vectors, "--split", "test",
        "--json", cwd=fitted,
    )  # fmt: skip
    printed = json.loads(done.stdout)
    left = json.loads((fitted / "models/docs/evaluation.json").read_text())
    assert printed["metrics"] == left["metrics"]
    assert {"dataset", "split", "n_queries", "adapter", "slices", "wins"} <= set(printed)
    for key in ("changes", "regressions", "improvements", "score_shift", "verdict"):
        assert printed[key] == left[key]
    assert printed["latency"]["dim_in"] == left["latency"]["dim_in"]


def test_evaluate_writes_the_report_with_the_fit_behind_the_model(
    world: World, fitted: Path
) -> None:
    done = trimtab(
        "evaluate", "models/docs", world.folder, "--embeddings", world.vectors,
        "--report", "again.html", cwd=fitted,
    )  # fmt: skip
    assert "made again.html" in done.stderr
    page = (fitted / "again.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "trimtab fit" in page


def test_evaluate_refuses_a_place_where_no_report_can_be(world: World, fitted: Path) -> None:
    for place, message in (("models", "is a folder"), ("none/r.html", "no folder none")):
        done = trimtab(
            "evaluate", "models/docs", world.folder, "--embeddings", world.vectors,
            "--report", place, cwd=fitted, check=1,
        )  # fmt: skip
        assert message in done.stderr


def write_graph(world: World, place: Path) -> str:
    """Write an HNSW index of the world's documents; say how to name it."""
    documents = world.embeddings.documents
    index = faiss.index_factory(documents.dim, "HNSW8,Flat", faiss.METRIC_INNER_PRODUCT)
    index.add(documents.take(np.arange(len(documents))))
    faiss.write_index(index, str(place / "graph.faiss"))
    (place / "graph.ids").write_text("".join(f"{one}\n" for one in documents.ids))
    return "faiss:graph.faiss?ids=graph.ids"


def test_evaluate_reports_the_index_as_it_is_served(world: World, fitted: Path) -> None:
    words = (
        "evaluate", "models/docs", world.folder, "--embeddings", world.vectors,
        "--index", write_graph(world, fitted),
    )  # fmt: skip
    shown = trimtab(*words, cwd=fitted).stdout
    assert "recall@10 of faiss:graph.faiss (HNSW) against exact search" in shown
    assert "(as served)" in shown
    printed = json.loads(trimtab(*words, "--json", cwd=fitted).stdout)
    assert printed["approximate"]["parameter"] == "efSearch"
    assert "HNSW" in json.dumps(printed["verdict"])


def test_fit_refuses_an_index_that_can_not_be_measured(world: World, tmp_path: Path) -> None:
    done = trimtab(
        "fit", world.folder, "--embeddings", world.vectors, "-o", "models/docs",
        "--index", "faiss:none.faiss", cwd=tmp_path, check=1,
    )  # fmt: skip
    assert "none.faiss" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models/docs").exists()


def test_evaluate_shows_a_table_and_the_worst(world: World, fitted: Path) -> None:
    done = trimtab(
        "evaluate", "models/docs", world.folder, "--embeddings", world.vectors, cwd=fitted
    )
    for words in ("difference", "recall@100", "mean score at rank 1", "one transform", "hip"):
        assert words in done.stdout


def test_export_of_a_checkpoint_gives_a_usable_file(world: World, fitted: Path) -> None:
    trimtab("export", "models/docs/checkpoint", "-o", "other/adapter.onnx", cwd=fitted)
    record = json.loads(trimtab("inspect", "other", "--json", cwd=fitted).stdout)
    assert record["manifest"]["name"] == "docs"
    assert record["manifest"]["dim_in"] == 16


def test_export_refuses_another_ending(fitted: Path) -> None:
    done = trimtab("export", "models/docs", "-o", "adapter.bin", cwd=fitted, check=1)
    assert "does not end in .onnx" in done.stderr


def test_transform_agrees_between_json_lines_and_npy(world: World, fitted: Path) -> None:
    queries = world.embeddings.queries.take(np.arange(3))
    np.save(fitted / "queries.npy", queries)
    (fitted / "queries.jsonl").write_text("".join(f"{row.tolist()}\n" for row in queries))
    trimtab("transform", "models/docs", "--input", "queries.npy", "-o", "out.npy", cwd=fitted)
    done = trimtab("transform", "models/docs", "--input", "queries.jsonl", cwd=fitted)
    lines = np.array([json.loads(line) for line in done.stdout.splitlines()])
    np.testing.assert_allclose(lines, np.load(fitted / "out.npy"), atol=1e-6)


def test_no_adapter_exits_0_and_says_why(tmp_path: Path) -> None:
    noise = make_world(tmp_path / "noise", useful=False)
    (tmp_path / "recipe.toml").write_text(SHORT)
    done = trimtab(
        "fit", noise.folder, "--embeddings", noise.vectors, "-o", "models/noise",
        "--recipe", "recipe.toml", cwd=tmp_path,
    )  # fmt: skip
    assert "no model written" in done.stdout
    assert "No adapter helps" in done.stderr
    assert not (tmp_path / "models/noise/adapter.onnx").exists()
    assert (tmp_path / "models/noise/evaluation.json").exists()
    assert "Do not ship" in (tmp_path / "models/noise/report.html").read_text()


def test_test_split_is_made_and_said_where_there_is_none(world: World, tmp_path: Path) -> None:
    alone = make_world(tmp_path / "alone", n_queries=200)
    (alone.folder / "qrels" / "test.tsv").unlink()
    (tmp_path / "recipe.toml").write_text(SHORT)
    done = trimtab(
        "fit", alone.folder, "--embeddings", alone.vectors, "-o", "models/alone",
        "--recipe", "recipe.toml", cwd=tmp_path,
    )  # fmt: skip
    assert "no test split" in done.stderr
    record = json.loads((tmp_path / "models/alone/evaluation.json").read_text())
    assert record["slices"]["seen_documents"]["n_queries"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "nowhere", "--embeddings", "e", "-o", "m"), "no dataset folder at nowhere"),
        (("evaluate", "nowhere", "d", "--embeddings", "e"), "no model at nowhere"),
        (("export", "nowhere", "-o", "m/adapter.onnx"), "can't open a checkpoint"),
        (("inspect", "nowhere"), "no model at nowhere"),
        (("build", "nowhere"), "no nowhere/NAME/recipe.toml"),
    ],
)
def test_mistakes_get_one_line_and_exit_1(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = trimtab(*words, cwd=tmp_path, check=1)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_command_run_here_leaves_this_process_as_it_was(tmp_path: Path) -> None:
    def state() -> tuple[object, ...]:
        logger = logging.getLogger("trimtab")
        logged = (logger.level, logger.handlers[:], logger.propagate)
        return Path.cwd(), dict(os.environ), sys.path[:], warnings.filters[:], sys.stderr, logged

    before = state()
    trimtab("-v", "inspect", "nowhere", cwd=tmp_path, check=1, env={"NOT_SET": "1"})
    assert state() == before


def test_wrong_option_exits_2(tmp_path: Path) -> None:
    trimtab("fit", "--no-such-option", cwd=tmp_path, check=2)


def test_unknown_recipe_key_is_named(world: World, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("epoch = 3\n")
    done = trimtab(
        "fit", world.folder, "--embeddings", world.vectors, "-o", "m", "--recipe", "recipe.toml",
        cwd=tmp_path, check=1,
    )  # fmt: skip
    assert "unknown recipe key 'epoch'" in done.stderr


def recipe_of(world: World, place: Path) -> Path:
    """Write the recipe of a model into a place's `models/docs`; give that folder."""
    folder = place / "models" / "docs"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(
        f'dataset = "{world.folder}"\nembeddings = "{world.vectors}"\nseed = 2\n'
        f"[fit]\n{SHORT}adapter = 'linear'\n"
    )
    return folder


@pytest.fixture(scope="module")
def built(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where a recipe was built; tests change copies of it."""
    place = tmp_path_factory.mktemp("built")
    folder = recipe_of(world, place)
    assert "models/docs: nDCG@10" in trimtab("build", cwd=place).stdout
    assert (folder / "adapter.onnx").exists()
    return place


@pytest.fixture
def model(built: Path, tmp_path: Path) -> Path:
    """A copy of the model that was built."""
    return shutil.copytree(built, tmp_path, dirs_exist_ok=True) / "models" / "docs"


def test_build_makes_every_recipe_and_leaves_fresh_models(model: Path, tmp_path: Path) -> None:
    assert "is up to date" in trimtab("build", cwd=tmp_path).stderr
    recipe = model / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("seed = 2", "seed = 3"))
    assert "models/docs: nDCG@10" in trimtab("build", cwd=tmp_path).stdout


def test_build_makes_a_model_again_whose_file_is_gone_or_another(
    model: Path, tmp_path: Path
) -> None:
    file = model / "adapter.onnx"
    made = Adapter.load(file)
    file.unlink()
    assert "models/docs: nDCG@10" in trimtab("build", cwd=tmp_path).stdout
    assert Adapter.load(file).manifest.training == made.manifest.training
    file.write_bytes(b"another")
    assert "models/docs: nDCG@10" in trimtab("build", cwd=tmp_path).stdout
    assert Adapter.load(file).manifest.training == made.manifest.training


def test_build_names_a_model_as_its_recipe_does(model: Path, tmp_path: Path) -> None:
    assert Adapter.load(model).manifest.name == "docs"
    recipe = model / "recipe.toml"
    recipe.write_text(f'name = "help-pages"\n{recipe.read_text()}')
    assert "models/docs: nDCG@10" in trimtab("build", cwd=tmp_path).stdout
    assert Adapter.load(model).mark.startswith("help-pages@")
    assert json.loads((model / "evaluation.json").read_text())["adapter"] == "help-pages"
    card = (model / "README.md").read_text()
    assert card.startswith("# help-pages\n")
    assert 'Adapter.load("models/docs")' in card
    assert "is up to date" in trimtab("build", cwd=tmp_path).stderr


def test_build_goes_on_behind_a_recipe_that_fails(world: World, tmp_path: Path) -> None:
    folder = recipe_of(world, tmp_path)
    for name in ("bad", "before"):  # both come first
        (tmp_path / "models" / name).mkdir()
    (tmp_path / "models" / "bad" / "recipe.toml").write_text("epochs = none\n")
    text = (folder / "recipe.toml").read_text()
    assert "docs" in text
    gone = text.replace(text.split('dataset = "')[1].split('"')[0], "../../nowhere")
    (tmp_path / "models" / "before" / "recipe.toml").write_text(gone)
    done = trimtab("build", cwd=tmp_path, check=1)
    assert "models/docs: nDCG@10" in done.stdout
    told = one_line(done.stderr)
    assert "models/before/recipe.toml: no dataset folder at" in told
    assert "models/bad/recipe.toml: " in told
    assert "Error: 2 of 3 models could not be built: models/bad/recipe.toml" in told
    assert "Traceback" not in told


def test_build_is_done_where_no_adapter_helps(tmp_path: Path) -> None:
    folder = recipe_of(make_world(tmp_path / "docs", useful=False, seed=1), tmp_path)
    assert "no adapter helps" in trimtab("build", cwd=tmp_path).stdout
    assert not (folder / "adapter.onnx").exists()
    assert "is up to date" in trimtab("build", cwd=tmp_path).stderr


def test_build_says_which_labels_it_leaves_out(tmp_path: Path) -> None:
    world = make_world(tmp_path / "docs", n_queries=200)
    with (world.folder / "qrels" / "train.tsv").open("a") as labels:
        labels.write("q0\tgone\t1\n")
    folder = recipe_of(world, tmp_path)
    assert "1 of 201 labels" in one_line(trimtab("build", cwd=tmp_path).stderr)
    record = json.loads((folder / "evaluation.json").read_text())
    assert record["dropped_labels"]["examples"] == ["gone"]
    assert any("1 of 201 labels" in note for note in record["notes"])
    assert "is up to date" in trimtab("build", cwd=tmp_path).stderr


PAUSING = """
import os
import sys

from trimtab_training.adapters import LinearAdapter

steps = 0


def pause(adapter, _):
    global steps
    steps += adapter.training
    if str(steps) == os.environ.get("PAUSE_AT"):
        steps += 1
        print("paused", flush=True)
        sys.stdin.readline()


class Pausing(LinearAdapter):
    def __new__(cls, *args, **options):  # a plain linear adapter, which needs no torch exporter
        adapter = LinearAdapter(*args, **options)
        adapter.register_forward_pre_hook(pause)
        return adapter
"""


def pausing_fit(words: list[object], cwd: Path) -> subprocess.Popen[str]:
    """Start a fit that stands still in the middle; returns once it does."""
    running = subprocess.Popen(
        [TRIMTAB, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PAUSE_AT": "60"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "paused\n", running.communicate()[1]
    return running


def weights_in(model: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = load_file(model / "checkpoint" / "adapter.safetensors")
    return weights


def test_interrupted_fit_is_continued_by_the_same_command_and_kept_from_any_other(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(f'{FEW}adapter = "pausing:Pausing"\nepochs = 20\n')
    (tmp_path / "pausing.py").write_text(PAUSING)
    words = ["fit", world.folder, "--embeddings", world.vectors, "--recipe", "recipe.toml"]
    words += ["-o", "cut"]
    running = pausing_fit(words, tmp_path)
    done = trimtab(*words, "--fresh", cwd=tmp_path, check=1)
    assert "another run writes to cut; wait for it" in one_line(done.stderr)
    running.send_signal(signal.SIGINT)
    _, talk = running.communicate()
    assert running.returncode == 130
    assert "Traceback" not in talk
    assert not (tmp_path / "cut").exists()
    states = sorted((tmp_path / ".cut.partial" / "fit").iterdir())
    assert states
    done = trimtab(*words, "--seed", "7", cwd=tmp_path, check=1)
    assert "(seed was 0, is 7)" in one_line(done.stderr)
    assert sorted((tmp_path / ".cut.partial" / "fit").iterdir()) == states
    done = trimtab(*words, cwd=tmp_path)
    assert "continuing an interrupted fit of the same settings" in one_line(done.stderr)
    with standing_in(tmp_path):
        recipe = load_recipe(Path("recipe.toml"))
        whole = fit_adapter(world.dataset, world.embeddings, recipe).adapter
    assert whole is not None
    cut = weights_in(tmp_path / "cut")
    assert cut.keys() == whole.state_dict().keys()
    assert all(torch.equal(cut[name], value) for name, value in whole.state_dict().items())
    assert list(tmp_path.glob(".cut.*")) == []


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_embed_copies_stored_vectors_and_search_shows_both(tmp_path: Path) -> None:
    world = make_world(tmp_path / "docs")
    index = faiss.IndexFlatIP(384)
    rows = np.random.default_rng(0).standard_normal((120, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index.add(rows)
    faiss.write_index(index, str(tmp_path / "docs.faiss"))
    (tmp_path / "docs.ids").write_text("".join(f"d{row}\n" for row in range(120)))
    done = trimtab(
        "embed", world.folder, "--documents", "faiss:docs.faiss?ids=docs.ids", "-o", "vectors",
        cwd=tmp_path,
    )  # fmt: skip
    assert "next: trimtab fit" in done.stderr
    (tmp_path / "recipe.toml").write_text(f'{FEW}adapter = "linear"\nepochs = 8\n')
    np.testing.assert_array_equal(np.load(tmp_path / "vectors" / "documents.npy"), rows)
    trimtab(
        "fit", world.folder, "--embeddings", "vectors", "-o", "models/docs", "--allow-identity",
        "--recipe", "recipe.toml", cwd=tmp_path,
    )  # fmt: skip
    done = trimtab(
        "search", "models/docs", "--index", "docs.faiss", "--dataset", world.folder, "-k", "2",
        "--text", "query q1", cwd=tmp_path,
    )  # fmt: skip
    assert "raw query" in done.stdout
    assert "adapted query" in done.stdout
    assert "document d" in done.stdout
