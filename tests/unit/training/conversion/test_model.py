"""From a read adapter to a model: the file, the folder, and what they say about themselves."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.fits import keep_state
from tests.support.sets import write_embeddings
from trimtab.model.adapter import Adapter
from trimtab_training.conversion import (
    ConvertedModel,
    Source,
    Target,
    convert_adapter,
    read_matrix,
    write_converted,
)
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.export.model_folder import load_checkpoint

W = np.array([[2.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 1.0, 1.0], [0, 0, 0, 1.0]])
UNIT = 1e-6


def source(tmp_path: Path, matrix: np.ndarray = W) -> Source:
    np.save(tmp_path / "w.npy", matrix)
    return read_matrix(tmp_path / "w.npy")


def made(tmp_path: Path, target: Target, matrix: np.ndarray = W) -> Path:
    return write_converted(convert_adapter(source(tmp_path, matrix), target), target)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> ConvertedModel:
    """An export takes a second; places alone need no other one."""
    return convert_adapter(source(tmp_path_factory.mktemp("source")), Target(Path("docs")))


def test_file_says_where_it_comes_from_and_that_little_is_known(tmp_path: Path) -> None:
    file = made(tmp_path, Target(tmp_path / "deep" / "mine.onnx", similarity="dot"))
    assert sorted(path.name for path in file.parent.iterdir()) == ["mine.onnx"]
    manifest = Adapter.load(file).manifest
    assert (manifest.name, manifest.kind, manifest.use) == ("mine", "linear", "relevance")
    assert (manifest.similarity, manifest.normalised) == ("dot", False)
    assert (manifest.encoder.name, manifest.encoder.fingerprint) == ("unknown", "")
    origin = manifest.training["converted_from"]
    assert (origin["form"], origin["file"]) == ("matrix", "w.npy")
    assert manifest.training["trained_on"] == "unknown"
    assert manifest.metrics == {}


def test_folder_holds_model_checkpoint_and_card_and_keeps_a_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "docs"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "recipe.toml").write_text("seed = 3\n")
    (folder / "evaluation.json").write_text("of an older model")
    made(tmp_path, Target(folder, encoder="ada"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "adapter.onnx", "checkpoint", "recipe.toml",
    ]  # fmt: skip
    adapter, manifest = load_checkpoint(folder)
    assert manifest == Adapter.load(folder).manifest
    assert manifest.encoder.name == "ada"
    assert not adapter.normalised
    card = (folder / "README.md").read_text()
    assert "not measured here" in card
    assert "any length" in card
    assert not list(folder.parent.glob(".*"))


def test_output_is_scaled_only_when_asked(tmp_path: Path, converted: ConvertedModel) -> None:
    raw = Adapter.from_bytes(converted.content)
    unit = Adapter.load(made(tmp_path, Target(tmp_path / "unit.onnx", normalised=True)))
    query = np.array([1.0, 1.0, 1.0, 1.0], dtype=np.float32)
    np.testing.assert_allclose(raw.transform(query), W @ query, atol=UNIT)
    adapted = unit.transform(query)
    np.testing.assert_allclose(adapted, W @ query / np.linalg.norm(W @ query), atol=UNIT)
    assert unit.manifest.normalised


def test_embeddings_name_the_encoder_and_check_the_widths(tmp_path: Path) -> None:
    vectors = Embeddings.open(write_embeddings(tmp_path / "emb", query_prefix="query: "))
    target = Target(tmp_path / "mine.onnx", embeddings=vectors)
    card = Adapter.load(made(tmp_path, target)).manifest.encoder
    assert (card.name, card.fingerprint, card.query_prefix) == ("toy", "sha256:toy", "query: ")
    with pytest.raises(DataError, match=r"maps 4 values to 3, .* queries of 4 and documents of 4"):
        made(tmp_path, target, W[:3])


def test_matrix_that_lies_the_other_way_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    wide = write_embeddings(
        tmp_path / "emb", documents=np.eye(6, dtype=np.float32), dim=4,
        queries=np.eye(3, 4, dtype=np.float32),
    )  # fmt: skip
    target = Target(tmp_path / "mine.onnx", embeddings=Embeddings.open(wide))
    with pytest.raises(DataError, match="--transpose"):
        made(tmp_path, target, np.ones((4, 6)))


def test_places_where_nothing_can_be_are_refused(tmp_path: Path, converted: ConvertedModel) -> None:
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").write_text("a file")
    (tmp_path / "docs" / "checkpoint").mkdir(parents=True)
    for path, said in (
        ("folder.onnx", "is a folder"),
        ("file", "is a file"),
        ("file/deep/mine.onnx", "can't make"),
        ("docs/adapter.onnx", "another model's checkpoint"),
    ):
        with pytest.raises(ConfigError, match=said):
            write_converted(converted, Target(tmp_path / path))


def test_folder_that_is_no_model_is_not_replaced(tmp_path: Path, converted: ConvertedModel) -> None:
    folder = tmp_path / "experiments"
    for name in ("runs", "checkpoint"):
        (folder / name).mkdir(parents=True)
        (folder / name / "july").write_text("years of work")
    (folder / "README.md").write_text("mine")
    with pytest.raises(DataError, match=r"holds README\.md, checkpoint, runs, which would be lost"):
        write_converted(converted, Target(folder))
    assert len(list(folder.rglob("*"))) == 5
    assert list(tmp_path.iterdir()) == [folder]


def test_interrupted_fit_of_the_same_name_stays(tmp_path: Path, converted: ConvertedModel) -> None:
    state = keep_state(tmp_path / "docs")
    write_converted(converted, Target(tmp_path / "docs"))
    assert state.exists()
    assert [path.name for path in state.parent.parent.iterdir()] == ["fit"]


def test_contradictions_are_refused(tmp_path: Path) -> None:
    vectors = Embeddings.open(write_embeddings(tmp_path / "emb"))
    with pytest.raises(ConfigError, match="--encoder and --embeddings"):
        made(tmp_path, Target(tmp_path / "m.onnx", encoder="ada", embeddings=vectors))
    with pytest.raises(ConfigError, match="similarity"):
        made(tmp_path, Target(tmp_path / "m.onnx", similarity="manhattan"))


@pytest.mark.parametrize("scale", [1e30, 1e-42])
@pytest.mark.parametrize("normalised", [False, True])
def test_lengths_that_float32_can_not_square_are_refused(
    tmp_path: Path, scale: float, *, normalised: bool
) -> None:
    target = Target(tmp_path / "m", normalised=normalised)
    with pytest.raises(DataError, match=r"w\.npy gives queries of length .*, which float32 can't"):
        convert_adapter(source(tmp_path, W * scale), target)
