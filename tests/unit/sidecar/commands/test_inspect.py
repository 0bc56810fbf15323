"""`trimtab inspect`: everything a checked model says, for people and for machines."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.onnx_models import (
    linear_bytes,
    linear_model,
    manifest_record,
    queries_of,
    stamp,
)
from trimtab.commands.group import main
from trimtab.commands.inspect import describe
from trimtab.model.manifest import QueryRegion
from trimtab.model.onnx_file import check_model

METRICS = {
    "metrics": {"ndcg@10": {"base": 0.5, "adapted": 0.625, "delta": 0.125, "ci95": [0.1, 0.15]}}
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes(metrics=METRICS, stores_queries=True))
    return tmp_path


def inspect(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def write(folder: Path, **changes: Any) -> Path:
    """Write a model whose manifest is changed."""
    file = folder / "adapter.onnx"
    file.write_bytes(
        stamp(linear_model(), json.dumps(manifest_record(**changes))).SerializeToString()
    )
    return file


def test_inspect_shows_one_fact_a_line(model: Path) -> None:
    result = inspect(model)
    assert result.exit_code == 0
    shown = dict(re.split(r" {2,}", line, maxsplit=1) for line in result.stdout.splitlines())
    version = hashlib.sha256((model / "adapter.onnx").read_bytes()).hexdigest()[:12]
    assert shown["file"].startswith(f"{model / 'adapter.onnx'} (0.00 MB)")
    del shown["file"]
    assert shown == {
        "name @ version": f"toy@{version}",
        "adapter": "linear, 6 -> 4 dims, for migration",
        "output": "any length, compared by cosine",
        "weights": "float32",
        "encoder": "toy-encoder (sha256:toy)",
        "stores queries": "yes",
        "ONNX": "opset 18, IR 9, MatMul",
        "made": "2026-01-02T03:04:05Z",
        "ndcg@10": "0.5000 -> 0.6250 (+0.1250, 95 % interval +0.1000 to +0.1500)",
    }


def test_inspect_says_what_a_sparing_manifest_leaves_out(tmp_path: Path) -> None:
    result = inspect(write(tmp_path, created="", metrics={}))
    assert result.exit_code == 0
    assert re.search(r"^made +unknown$", result.stdout, re.MULTILINE)
    assert "ndcg" not in result.stdout


def test_inspect_gives_machines_one_json_object(model: Path) -> None:
    result = inspect(model, "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    content = (model / "adapter.onnx").read_bytes()
    manifest = manifest_record(metrics=METRICS, stores_queries=True)
    del manifest["encoder"]["probe"]  # vectors, of no use here
    assert record == {
        "version": hashlib.sha256(content).hexdigest()[:12],
        "size_bytes": len(content),
        "opset": 18,
        "ir_version": 9,
        "operators": ["MatMul"],
        "manifest": manifest,
    }
    assert record == describe(check_model(content))


def test_inspect_shows_the_query_region_in_one_line_without_its_centroids(tmp_path: Path) -> None:
    region = QueryRegion.pack(queries_of(3), threshold=0.25, share=0.01)
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes(query_region=region))
    shown, record = inspect(tmp_path).stdout, inspect(tmp_path, "--json").stdout
    assert re.search(r"^query region +3 centroids; .* under 0\.250, 1\.0% of", shown, re.MULTILINE)
    assert json.loads(record)["manifest"]["query_region"] == {
        "n_centroids": 3,
        "dim": 6,
        "threshold": 0.25,
        "share": 0.01,
    }
    assert region.centroids not in shown + record


def test_inspect_takes_a_file_or_its_folder(model: Path) -> None:
    assert inspect(model).stdout == inspect(model / "adapter.onnx").stdout


def test_inspect_shows_names_in_any_script(tmp_path: Path) -> None:
    file = write(tmp_path, name="сеть 検索")
    assert "сеть 検索@" in inspect(file).stdout
    assert "сеть 検索" in inspect(file, "--json").stdout


def test_inspect_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may be looked at before anybody trusts its graph."""
    import onnxruntime

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("a session was made")

    monkeypatch.setattr(onnxruntime, "InferenceSession", never)
    assert inspect(write(tmp_path)).exit_code == 0


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_inspect_refuses_a_bad_model_in_one_line(tmp_path: Path, flags: list[str]) -> None:
    file = tmp_path / "adapter.onnx"
    file.write_bytes(linear_bytes()[:-9])
    result = inspect(tmp_path, *flags)
    assert result.exit_code == 1
    assert result.stdout == ""
    cause = "the file is truncated or not an ONNX model; copy it again"
    assert result.stderr == f"Error: {file}: {cause}\n"


def test_inspect_names_the_path_that_holds_no_model(tmp_path: Path) -> None:
    result = inspect(tmp_path / "absent")
    assert result.exit_code == 1
    assert str(tmp_path / "absent") in result.stderr


def test_inspect_refuses_a_name_too_long_in_one_line() -> None:
    result = inspect("a" * 300)
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "metrics", [{"metrics": [1]}, {"metrics": {"ndcg@10": {}}}, {"metrics": {"ndcg@10": None}}]
)
def test_inspect_never_breaks_on_metrics_of_another_layout(
    tmp_path: Path, metrics: dict[str, Any]
) -> None:
    result = inspect(write(tmp_path, metrics=metrics))
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_inspect_never_breaks_on_half_a_surrogate_pair(tmp_path: Path, flags: list[str]) -> None:
    result = inspect(write(tmp_path, name="\ud800"), *flags)
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_inspect_lets_no_model_steer_the_terminal(tmp_path: Path) -> None:
    """What looks like a second fact, or moves the cursor, must not come out of a name."""
    result = CliRunner().invoke(
        main,
        ["inspect", str(write(tmp_path, name="a\x1b[2K\rgood\nstores queries  no"))],
        color=True,
    )
    assert "\x1b" not in result.stdout
    facts = [line for line in result.stdout.splitlines() if line.startswith("stores queries")]
    assert len(facts) == 1
