"""Dense vectors are seen in bodies that nobody understands, within bounds."""

import gzip
import json
import struct
from typing import Any

import numpy as np
import pytest
from qdrant_client import grpc as messages

from trimtab.server.bypass import (
    LOOK_BYTES,
    Peek,
    holds_vector,
    is_search_method,
    message_holds_vector,
)

VECTOR: list[float] = np.random.default_rng(3).standard_normal(384).astype(np.float32).tolist()


@pytest.mark.parametrize(
    "body",
    [
        {"query": VECTOR},
        {"a": {"b": [{"c": VECTOR}]}},
        VECTOR,
        [VECTOR, VECTOR],
        {"vector": [1.0, 2.0, 3.0, 4.0]},
        {"vector": [1e-3, 2, 3, 4]},
        {"text": "many words " * 100, "vector": VECTOR},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_dense_vector_is_seen(body: Any, indent: int | None) -> None:
    assert holds_vector(json.dumps(body, indent=indent).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON [1.0, 2.0, 3.0, 4.0]",
        b"{}",
        b'{"ids": [1, 2, 3, 4, 5, 6, 7, 8]}',
        b'{"weights": [0.5, 0.5]}',
        b'{"limit": 10, "filter": {"must": [{"key": "a", "match": {"any": ["1.0", "2.0"]}}]}}',
        b"[" * 100_000,
        b'{"a": [1.5' + b" " * 100_000 + b"x",
    ],
)
def test_what_holds_none_is_not_suspected(body: bytes) -> None:
    assert not holds_vector(body)


def test_a_vector_that_is_cut_short_is_seen_and_one_behind_the_bound_is_not() -> None:
    assert holds_vector(json.dumps({"query": VECTOR * 200}).encode())
    assert not holds_vector(b'{"a": "' + b"x" * LOOK_BYTES + b'", "q": [0.1, 0.2, 0.3, 0.4]}')


@pytest.mark.parametrize("coding", [b"", b"gzip"])
def test_a_body_in_pieces_is_judged_once_it_is_whole(coding: bytes) -> None:
    found: list[bool] = []
    body = json.dumps({"q": VECTOR}).encode()
    body = gzip.compress(body) if coding else body
    peek = Peek(coding, lambda: found.append(True))
    for start in range(0, len(body), 100):
        peek.add(body[start : start + 100])
    assert not found
    peek.end()
    assert found == [True]


@pytest.mark.parametrize(("coding", "body"), [(b"gzip", b"no gzip"), (b"unknown", b"{}")])
def test_a_body_that_cannot_be_unpacked_is_left_alone(coding: bytes, body: bytes) -> None:
    peek = Peek(coding, lambda: pytest.fail("found"))
    peek.add(body)
    peek.end()


def test_packed_floats_are_seen_in_any_message() -> None:
    dense = messages.VectorInput(dense=messages.DenseVector(data=VECTOR))
    query = messages.QueryPoints(collection_name="docs", query=messages.Query(nearest=dense))
    assert message_holds_vector(query.SerializeToString())
    batch = messages.QueryBatchPoints(collection_name="docs", query_points=[query])
    assert message_holds_vector(batch.SerializeToString())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no message",
        messages.ScrollPoints(
            collection_name="a collection with a very long name " * 8
        ).SerializeToString(),
        messages.GetPoints(
            collection_name="docs", ids=[messages.PointId(num=n) for n in range(200)]
        ).SerializeToString(),
        messages.GetPoints(
            collection_name="docs",
            ids=[messages.PointId(uuid=f"{n:08d}-0000-4000-8000-000000000000") for n in range(50)],
        ).SerializeToString(),
        b"\x0a\x40" + b"\x00" * 64,
        b"\x0a\x40" + struct.pack("<16f", *[float("nan")] * 16),
        b"\x0a" * 5000,
    ],
)
def test_other_messages_are_not_suspected(content: bytes) -> None:
    assert not message_holds_vector(content)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/qdrant.Points/QueryNew", True),
        ("/a/qdrant.Points/Search", True),
        ("/qdrant.v2.Points/Discover", True),
        ("/qdrant.Points/SearchMatrixOffsets", False),
        ("/qdrant.Points/Upsert", False),
        ("/other.Service/Search", False),
    ],
)
def test_methods_that_search_are_known_by_their_names(path: str, expected: bool) -> None:
    assert is_search_method(path) is expected
