"""Paths into payloads, and what of a payload an answer carries."""

from typing import Any

import pytest
from qdrant_client.local.json_path_parser import JsonPathItemType, parse_json_path
from qdrant_client.local.payload_value_extractor import value_by_key

from trimtab.faiss_collections.paths import PayloadSelector, find_values, read_path
from trimtab.faiss_collections.replies import RequestError

PAYLOAD = {
    "a": {"b": [{"c": 1}, {"c": [2, 3]}, 4], "d.e": 5, "f": None},
    "list": [[1, 2], [3]],
    "empty": [],
    "übung": 6,
}
PATHS = [
    "a", "a.b", "a.b[]", "a.b[].c", "a.b[1].c", "a.b[9]", 'a."d.e"', '"a".f', "list[0][1]",
    "list[][]", "empty", "empty[]", "übung", "absent", "a.absent", "list.a",
]  # fmt: skip


@pytest.mark.parametrize("text", PATHS)
def test_paths_select_what_the_official_client_says(text: str) -> None:
    assert find_values(PAYLOAD, read_path(text)) == (value_by_key(PAYLOAD, text, flat=False) or [])
    assert read_path(text) == tuple(
        item.key if item.item_type is JsonPathItemType.KEY else item.index
        for item in parse_json_path(text)
    )


@pytest.mark.parametrize(
    "text", ["", ".", "a.", "a..b", "[0]", "a[", "a[x]", "a[-1]", 'a."b', "a b"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid path"):
        parse_json_path(text)
    with pytest.raises(RequestError, match="not a valid path"):
        read_path(text)


@pytest.mark.parametrize(
    ("value", "default", "chosen"),
    [
        (None, False, (False, True)),
        (None, True, (True, False)),
        (True, False, (True, False)),
        (False, True, (False, True)),
        (["a"], False, (False, False)),
    ],
)
def test_selectors_know_all_and_none(value: Any, default: bool, chosen: tuple[bool, bool]) -> None:
    selector = PayloadSelector(value, default=default)
    assert (selector.is_all, selector.is_none) == chosen


@pytest.mark.parametrize("value", ["a", 5, {"only": ["a"]}, [1], {"include": "a"}])
def test_malformed_selectors_are_refused(value: Any) -> None:
    with pytest.raises(RequestError, match="WithPayloadInterface"):
        PayloadSelector(value, default=False)
