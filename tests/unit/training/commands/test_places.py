"""Where commands may write: a place where nothing can be is one line, before any work."""

from pathlib import Path

import pytest

from tests.support.commands import trimtab

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
