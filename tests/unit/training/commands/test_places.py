"""Where commands may write: a place where nothing can be is one line, before any work."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import trimtab
from trimtab_training.data.importers.place import check_place as check_import
from trimtab_training.embeddings.place import check_place as check_embeddings
from trimtab_training.errors import ConfigError
from trimtab_training.evaluation.runs import check_place as check_runs
from trimtab_training.export.model_folder import check_target
from trimtab_training.synthesis.dataset_files import check_output

MOUNTED = Path("/proc")
has_a_mount_point = pytest.mark.skipif(not MOUNTED.is_mount(), reason="/proc is no mount point")
CHECKS = {
    "fit": check_target,
    "compare": check_runs,
    "embed": lambda place: check_embeddings(place, place.with_name("dataset")),
    "import": lambda place: check_import(place.resolve(), place, force=True),
    "synthesize": lambda place: check_output(place, []),
}
_COMPARE = ("compare", "none", "none", "docs", "--embeddings", "emb")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", "models/docs", "-o", "folder.onnx"), "folder.onnx is a folder; -o wants"),
        (("export", "models/docs", "-o", "file/docs.onnx"), "can't make file: "),
        (("export-encoder", "minilm", "-o", "folder.onnx"), "folder.onnx is a folder; -o wants"),
        (("export-encoder", "minilm", "-o", "file/e.onnx"), "can't make file: "),
        (("demo", "-o", "file"), "file is a file; -o wants a folder"),
        (("demo", "-o", "notes"), "notes holds README.md, runs, which would be lost; move that"),
        ((*_COMPARE, "-o", "file/runs"), "can't make file: "),
        ((*_COMPARE, "-o", "."), ". has no name of its own; name a folder"),
        ((*_COMPARE, "-o", "notes"), "notes holds README.md, runs, which would be lost; move that"),
    ],
)
def test_place_where_nothing_can_be_is_refused_first(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "notes" / "runs").mkdir(parents=True)
    (tmp_path / "notes" / "README.md").write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    done = trimtab(*words, cwd=tmp_path, check=1)
    assert message in " ".join(done.stderr.split())
    assert sorted(tmp_path.rglob("*")) == before


@has_a_mount_point
@pytest.mark.parametrize(
    "words", [("demo",), _COMPARE, ("import", "pairs", "rows.jsonl")], ids=lambda words: words[0]
)
def test_mount_point_is_refused_first(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = trimtab(*words, "-o", MOUNTED, cwd=tmp_path, check=1)
    message = "/proc is a mount point, which can't be replaced; name a folder in it, such as /proc/"
    assert message in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())


@has_a_mount_point
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_link_to_a_mount_point_is_refused_by_all_who_replace_a_folder(
    tmp_path: Path, check: Callable[[Path], None]
) -> None:
    (tmp_path / "volume").symlink_to(MOUNTED)
    with pytest.raises(ConfigError, match="is a mount point, which can't be replaced"):
        check(tmp_path / "volume")


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_folder_with_a_mount_point_in_it_is_refused_by_all_who_replace_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[Path], None]
) -> None:
    inner = tmp_path / "here" / "volume"
    inner.mkdir(parents=True)
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == inner)  # nobody may mount
    with pytest.raises(ConfigError, match=r"volume is a mount point, which can't go when .*here"):
        check(tmp_path / "here")


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_new_folder_in_a_mount_point_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    check(tmp_path / "docs")
