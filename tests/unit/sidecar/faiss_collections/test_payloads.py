"""Payloads by row, out of JSON Lines and Parquet."""

import builtins
import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tests.support.faiss_collections import plain_rows
from trimtab.errors import ConfigError, MissingExtraError
from trimtab.faiss_collections.ids import PointIds
from trimtab.faiss_collections.paths import PayloadSelector
from trimtab.faiss_collections.payloads import Payloads

ALL = PayloadSelector(True, default=False)


def numbers(*values: int) -> PointIds:
    return PointIds.of_numbers(np.array(values, np.int64), "x.faiss")


def texts(tmp_path: Path, *values: str) -> PointIds:
    (tmp_path / "ids").write_text("\n".join(values))
    return PointIds.read(tmp_path / "ids", plain_rows(len(values)))


def write_lines(tmp_path: Path, *lines: Any) -> Path:
    path = tmp_path / "payload.jsonl"
    path.write_text(
        "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    )
    return path


def test_objects_without_ids_belong_to_the_rows_in_order(tmp_path: Path) -> None:
    payloads = Payloads(numbers(10, 20), write_lines(tmp_path, {"a": 1}, {"a": 2}))
    assert [payloads[0], payloads[1]] == [{"a": 1}, {"a": 2}]
    assert list(payloads.scan()) == [(0, {"a": 1}), (1, {"a": 2})]


@pytest.mark.parametrize("key", ["id", "_id"])
def test_objects_with_ids_belong_to_their_rows(tmp_path: Path, key: str) -> None:
    file = write_lines(tmp_path, {key: 20, "a": 2}, {key: "10", "a": 1})
    payloads = Payloads(numbers(10, 20, 30), file)
    assert [payloads[row].get("a") for row in range(3)] == [1, 2, None]
    assert payloads[2] == {}


def test_the_underscored_key_wins(tmp_path: Path) -> None:
    payloads = Payloads(numbers(10, 20), write_lines(tmp_path, {"id": 10, "_id": 20}))
    assert (payloads[0], payloads[1]) == ({}, {"id": 10, "_id": 20})


def test_payloads_carry_ids_that_qdrant_could_not_take(tmp_path: Path) -> None:
    ids = texts(tmp_path, "doc-1", "5", "doc-2", "doc-3")
    file = write_lines(tmp_path, {"id": "doc-1", "a": 1}, {"_id": "doc-2"}, {"id": 5})
    payloads = Payloads(ids, file)
    assert payloads[0] == {"_id": "doc-1", "id": "doc-1", "a": 1}
    assert (payloads[1], payloads[2]) == ({"id": 5}, {"_id": "doc-2"})
    assert payloads[3] == {"_id": "doc-3"}
    assert sorted(row for row, _ in payloads.scan()) == [0, 1, 2, 3]
    assert payloads.select(0, ALL)["_id"] == "doc-1"


def test_a_whole_line_is_passed_on_as_it_stands(tmp_path: Path) -> None:
    payloads = Payloads(numbers(1), write_lines(tmp_path, '{ "a" : 1.0, "b":[ ] }'))
    assert orjson.dumps(payloads.select(0, ALL)) == b'{ "a" : 1.0, "b":[ ] }'
    assert payloads.select(0, PayloadSelector(["b"], default=False)) == {"b": []}


def test_without_a_file_payloads_are_empty() -> None:
    payloads = Payloads(numbers(1))
    assert (payloads[0], payloads.select(0, ALL), list(payloads.scan())) == ({}, {}, [])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"a": 1}], "has 1 objects without ids, the index 2 vectors"),
        ([{"a": 1}, "{nope"], "line 2 is no JSON"),
        ([{"a": 1}, "", {"a": 2}], "line 2 is no JSON"),
        ([{"a": 1}, "[1]"], "line 2 is no JSON object"),
        ([{"id": 10}, {"id": 30}], "line 2: the index has no id '30'"),
        ([{"id": 10}, {"id": "10"}], "line 2: id '10' has a payload already"),
        ([{"id": 10}, {"a": 1}], "line 2 has neither `_id` nor `id`"),
        ([{"id": 1.5}, {"a": 1}], "line 1: `id` is neither a number nor a text"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, lines: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Payloads(numbers(10, 20), write_lines(tmp_path, *lines))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no payload file"):
        Payloads(numbers(1), tmp_path / "absent.jsonl")


def write_table(path: Path, columns: dict[str, Any]) -> Path:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.table(columns), path)
    return path


def test_parquet_rows_are_payloads(tmp_path: Path) -> None:
    moment = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)
    columns = {
        "_id": ["20", "10"],
        "year": [1999, None],
        "tags": [["a", "b"], []],
        "when": [moment, None],
        "day": [datetime.date(2024, 5, 6), None],
        "price": [decimal.Decimal("1.50"), None],
        "maker": [{"name": "x"}, None],
    }
    payloads = Payloads(numbers(10, 20), write_table(tmp_path / "p.parquet", columns))
    assert payloads[1] == {
        "_id": "20",
        "year": 1999,
        "tags": ["a", "b"],
        "when": "2024-05-06T07:08:09+00:00",
        "day": "2024-05-06",
        "price": 1.5,
        "maker": {"name": "x"},
    }
    assert payloads[0]["year"] is None
    assert [row for row, _ in payloads.scan()] == [1, 0]
    assert orjson.dumps(payloads.select(1, ALL))


def test_bytes_in_parquet_are_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "p.parquet", {"blob": [b"x", b"y"]})
    with pytest.raises(ConfigError, match="column 'blob' holds bytes"):
        Payloads(numbers(10, 20), path)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "p.parquet"
    path.write_bytes(b"no")
    with pytest.raises(ConfigError, match="is not a Parquet file"):
        Payloads(numbers(1), path)


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_import = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return plain_import(name, *more)

    (tmp_path / "p.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'trimtab\[parquet\]'"):
        Payloads(numbers(1), tmp_path / "p.parquet")
