"""The record beside a model: heard where it is that model's, and no half of a character lost."""

import json
from pathlib import Path

import pytest

from tests.support.records import make_fit, make_old_fit, make_record
from trimtab_training.errors import DataError
from trimtab_training.evaluation.origin import Origin
from trimtab_training.evaluation.record import (
    Evaluation,
    decode_record,
    encode_record,
    record_beside,
)

TRAINING = {"labels": "sha256:a", "vectors": "sha256:b", "seed": 0, "recipe": {"epochs": 3}}
RECORD = make_record(fit=make_fit(**TRAINING), model=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "evaluation.json").write_bytes(encode_record(RECORD))
    return tmp_path


def test_fit_is_read_from_beside_folder_and_file(folder: Path) -> None:
    expected = Origin(fit=RECORD.fit, size_curve=RECORD.size_curve)
    assert record_beside(folder, TRAINING) == expected
    assert record_beside(str(folder / "adapter.onnx"), TRAINING) == expected


@pytest.mark.parametrize("key", ["labels", "vectors", "seed", "recipe"])
def test_fit_of_another_model_is_not_believed(folder: Path, key: str) -> None:
    assert record_beside(folder, {**TRAINING, key: "other"}) == Origin()


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"fit": 3}', "[" * 100_000])
def test_missing_or_strange_record_is_no_record(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "evaluation.json").write_text(content)
    assert record_beside(tmp_path, TRAINING) == Origin()


def test_record_of_version_0_1_is_heard(tmp_path: Path) -> None:
    fit = {**make_old_fit(), **TRAINING}
    (tmp_path / "evaluation.json").write_text(json.dumps({"split": "test", "fit": fit}))
    found = record_beside(tmp_path, TRAINING).fit
    assert found is not None
    assert found.validation.families == {"linear": 0.1, "linear+memory": 0.2}
    assert found.curves[0][0].step is None
    assert found.training_splits == ()


def test_what_is_wrong_with_a_record_is_told_by_file_and_place() -> None:
    written = json.loads(encode_record(RECORD))
    written["slices"]["seen_documents"]["metrics"]["mrr@10"]["ci95"] = [0.1, "0.2"]
    content = json.dumps(written).encode()
    with pytest.raises(DataError, match=r"^m/evaluation\.json is no record .*slices.*ci95\[1\]"):
        decode_record(content, Evaluation, "m/evaluation.json")


def test_record_is_written_as_it_is_read() -> None:
    for record in (RECORD, make_record(fit=None, verdict=None, latency=None)):
        assert decode_record(encode_record(record), Evaluation, "here") == record


@pytest.mark.parametrize(
    "text", ["half \ud83d", "whole \N{GRINNING FACE}", "tags <script>", "nul \x00"]
)
def test_any_text_comes_back_from_json(text: str) -> None:
    record = make_record(notes=[text])
    assert json.loads(encode_record(record))["notes"] == [text]
    assert decode_record(encode_record(record), Evaluation, "here") == record
