"""Filters: what is refused, and what the comparison with Qdrant does not reach."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from trimtab.faiss_collections.columns import Column, Table
from trimtab.faiss_collections.filters import Filter
from trimtab.faiss_collections.replies import RequestError

PAYLOADS: list[dict[str, Any]] = [
    {"n": 1, "mixed": [1, True, 1.0, "1", None, {"x": 1}, [1]]},
    {"n": 2.5, "text": "Deep_learning for RUDDERS, 2024"},
    {"n": 2**63, "parts": [{"k": "a", "v": 1}, {"k": "b"}, 5]},
    {},
]


def table() -> Table:
    return Table(len(PAYLOADS), lambda: enumerate(PAYLOADS))


def rows(data: Any) -> list[int]:
    found = Filter(table(), lambda ids: [each for each in ids if each < 4]).rows(data)
    return np.flatnonzero(found).tolist()


def match(key: str, **how: Any) -> dict[str, Any]:
    return {"must": {"key": key, "match": how}}


def test_values_of_different_types_are_different() -> None:
    assert rows(match("mixed", value=1)) == rows(match("mixed", value=True)) == [0]
    assert rows(match("mixed", value="1")) == [0]
    assert rows(match("n", value=True)) == rows(match("n", any=[2])) == []
    assert rows(match("n", value=2**63)) == [2]
    column = table().column("mixed")
    assert len(column.distinct) == 5  # the object and the array stand as one


def test_floats_are_not_matched_by_value() -> None:
    assert rows(match("n", any=[2.5, 1])) == [0]


def test_except_wants_a_value() -> None:
    assert rows(match("n", **{"except": [1]})) == [1, 2]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"text": "rudders DEEP"}, [1]),
        ({"text": "rudder"}, []),
        ({"text": " - "}, []),
        ({"text_any": "x 2024"}, [1]),
        ({"phrase": "learning for"}, [1]),
        ({"phrase": "for learning"}, []),
        ({"prefix": "Deep"}, [1]),
        ({"prefix": "deep"}, []),
        ({"substring": "_lear"}, [1]),
    ],
)
def test_texts_are_matched_by_word(how: dict[str, str], expected: list[int]) -> None:
    assert rows(match("text", **how)) == expected


def test_nested_objects_have_no_ids_or_vectors() -> None:
    def nested(condition: dict[str, Any]) -> dict[str, Any]:
        return {"must": [{"nested": {"key": "parts", "filter": {"must": [condition]}}}]}

    assert rows(nested({"key": "k", "match": {"value": "b"}})) == [2]
    assert rows(nested({"has_id": [2]})) == rows(nested({"has_vector": ""})) == []
    assert rows(nested({"is_empty": {"key": "v"}})) == [2]


def test_an_empty_filter_within_another_lets_all_pass() -> None:
    assert rows({"must": [{}]}) == rows({"should": {}}) == [0, 1, 2, 3]
    assert rows({"must_not": [{}]}) == []


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        ([], 400, "expected struct Filter"),
        ({"mist": []}, 400, "unknown field `mist`"),
        ({"must": [5]}, 400, "some form of condition"),
        ({"must": [{"mist": []}]}, 400, "some form of condition"),
        ({"must": [{"must": [], "mist": []}]}, 400, "some form of condition"),
        ({"must": [{"key": "n"}]}, 400, "some form of condition"),
        ({"must": [{"key": 5, "match": {"value": 1}}]}, 400, "expected a string"),
        ({"must": [{"key": "n", "match": {"like": 1}}]}, 400, "some form of condition"),
        ({"must": [{"key": "n", "match": {"text": 1}}]}, 400, "expected a string"),
        ({"must": [{"key": "n", "is_empty": "no"}]}, 400, "expected a boolean for `is_empty`"),
        ({"must": [{"key": "n", "is_null": 0}]}, 400, "expected a boolean for `is_null`"),
        ({"must": [{"key": "n[", "match": {"value": 1}}]}, 400, "not a valid path"),
        ({"must": [{"key": "n", "range": {"gt": "soon"}}]}, 400, "failed to parse date-time: soon"),
        ({"must": [{"key": "n", "range": {"gt": True}}]}, 400, "expected a number"),
        ({"must": [{"key": "n", "range": {"gt": 1, "lt": "2024-01-01"}}]}, 400, "date-time: 1"),
        ({"must": [{"key": "n", "geo_radius": {"radius": 1}}]}, 400, "`geo_radius` can't be done"),
        ({"must": [{"slice": {"total": 2, "index": 0}}]}, 400, "page with scroll instead"),
        ({"must": [{"nested": {"filter": {}}}]}, 400, "missing field `key`"),
        ({"must": [{"is_null": "n"}]}, 400, "missing field `key`"),
        ({"min_should": {"conditions": []}}, 400, "missing field `min_count`"),
        ({"min_should": {"conditions": [], "min_count": 0}}, 422, "must be 1 or larger"),
    ],
)
def test_filters_that_make_no_sense_are_refused(data: Any, status: int, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        rows(data)
    assert refused.value.status == status


def test_a_path_is_scanned_once_though_many_ask() -> None:
    scans = []

    def scan() -> Iterator[tuple[int, dict[str, Any]]]:
        scans.append(threading.get_ident())
        return iter(enumerate(PAYLOADS))

    shared = Table(len(PAYLOADS), scan)
    columns: list[Column] = []
    threads = [
        threading.Thread(target=lambda: columns.append(shared.column("n"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(scans) == 1
    assert all(column is columns[0] for column in columns)


def test_columns_that_nobody_asks_for_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.faiss_collections.columns._KEPT", 2)
    shared = table()
    first = shared.column("n")
    shared.column("text")
    assert shared.column("n") is first
    shared.column("mixed")
    assert shared.column("n") is first
    text = shared.column("text")
    assert shared.column("text") is text


def test_columns_are_sorted_by_row_whatever_the_file() -> None:
    shuffled = [(2, {"t": ["b", "a", "b"]}), (0, {"t": "a"})]
    column = Column(3, shuffled, "t")
    assert column.rows.tolist() == [0, 2, 2]
    assert [column.distinct[code] for code in column.codes] == ["a", "b", "a"]
