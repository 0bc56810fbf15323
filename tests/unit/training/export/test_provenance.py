"""What a model came from: the command that makes it again, and which file was measured."""

import hashlib
import shlex
from pathlib import Path

import pytest

from tests.support.worlds import World, make_world
from trimtab_training.build_options import BuildOptions
from trimtab_training.evaluation.origin import ModelFile
from trimtab_training.export.provenance import describe_file, write_command


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("my world"))


def test_command_of_a_plain_build_says_data_place_recipe_and_seed(world: World) -> None:
    command = BuildOptions(seed=3).command(world.dataset, world.embeddings, Path("models/docs"))
    assert shlex.split(command) == [
        "trimtab", "fit", str(world.folder), "--embeddings", str(world.vectors),
        "-o", "models/docs", "--recipe", "recipe.toml", "--seed", "3",
    ]  # fmt: skip


def test_command_says_every_option_that_was_given(world: World) -> None:
    options = BuildOptions(
        device="cuda",
        start_name="models/old",
        allow_identity=True,
        index="faiss:a b",
        size_curve=True,
    )
    words = shlex.split(options.command(world.dataset, world.embeddings, Path("m")))
    assert words[-8:] == [
        "--device", "cuda", "--from", "models/old", "--allow-identity", "--index", "faiss:a b",
        "--size-curve",
    ]  # fmt: skip


def test_option_that_is_off_is_left_out(world: World) -> None:
    options = {"--one": False, "--two": None, "--three": "", "--four": "0"}
    command = write_command(world.dataset, world.embeddings, Path("m"), options)
    assert command.endswith("recipe.toml --four 0")


def test_file_is_named_by_its_digest() -> None:
    record = describe_file(b"model")
    digest = hashlib.sha256(b"model").hexdigest()
    assert record == ModelFile(file="adapter.onnx", size_bytes=5, sha256=f"sha256:{digest}")
