"""The record beside a model: heard where it is that model's, and no half of a character lost."""

import json
from pathlib import Path

import pytest

from trimtab_training.evaluation.record import encode_record, record_beside

TRAINING = {"labels": "sha256:a", "vectors": "sha256:b", "seed": 0, "recipe": {"epochs": 3}}
RECORD = {"metrics": {}, "fit": {**TRAINING, "helps": True}, "size_curve": {"points": []}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "evaluation.json").write_bytes(encode_record(RECORD))
    return tmp_path


def test_fit_is_read_from_beside_folder_and_file(folder: Path) -> None:
    expected = {key: RECORD[key] for key in ("fit", "size_curve")}
    assert record_beside(folder, TRAINING) == expected
    assert record_beside(str(folder / "adapter.onnx"), TRAINING) == expected


@pytest.mark.parametrize("key", ["labels", "vectors", "seed", "recipe"])
def test_fit_of_another_model_is_not_believed(folder: Path, key: str) -> None:
    assert record_beside(folder, {**TRAINING, key: "other"}) == {}


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"fit": 3}'])
def test_missing_or_strange_record_is_no_record(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "evaluation.json").write_text(content)
    assert record_beside(tmp_path, TRAINING) == {}


def test_any_text_comes_back_from_json() -> None:
    texts = {"half": "\ud83d", "whole": "\N{GRINNING FACE}", "tags": "<script>", "nul": "\x00"}
    assert json.loads(encode_record(texts)) == texts
