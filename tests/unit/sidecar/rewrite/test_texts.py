"""Texts to embed are found in every form of a request, and nothing else is taken for one."""

import json
from typing import Any

import numpy as np
import pytest
from qdrant_client import grpc

from trimtab.errors import MalformedError
from trimtab.rewrite import texts_grpc, texts_rest
from trimtab.rewrite.qdrant_grpc import match_method, read_message
from trimtab.rewrite.qdrant_rest import match_endpoint

VECTOR = np.array([0.5, -1.25], dtype=np.float32)


def rest(call: str, body: Any, method: str = "POST") -> list[tuple[str, str, str, bool]]:
    """Find the texts of a request, and see that each can be replaced by a vector."""
    endpoint = match_endpoint(method, f"/collections/docs/{call}")
    assert endpoint is not None
    content = json.dumps(body).encode()
    found = texts_rest.find_texts(endpoint, content)
    replaced = texts_rest.put_embeddings(content, [(text, VECTOR) for text in found])
    assert texts_rest.find_texts(endpoint, replaced) == []
    assert replaced.count(b"[0.5,-1.25]") == len(found)
    return [(text.model, text.text, text.vector_name, text.has_options) for text in found]


def doc(text: str, **more: Any) -> dict[str, Any]:
    return {"text": text, "model": "m", **more}


QUERIES = {
    "bare": ({"query": doc("a")}, [("a", "")]),
    "named": ({"query": doc("a"), "using": "title"}, [("a", "title")]),
    "nearest": ({"query": {"nearest": doc("a"), "mmr": {}}}, [("a", "")]),
    "prefetch": (
        {"query": {"fusion": "rrf"}, "prefetch": [{"query": doc("a")}, {"query": doc("b")}]},
        [("b", ""), ("a", "")],
    ),
    "recommend": (
        {"query": {"recommend": {"positive": [1, doc("a")], "negative": [doc("b")]}}},
        [("a", ""), ("b", "")],
    ),
    "discover": (
        {"query": {"discover": {"target": doc("a"), "context": {"positive": 1, "negative": 2}}}},
        [("a", "")],
    ),
    "context": ({"query": {"context": [{"positive": doc("a"), "negative": 2}]}}, [("a", "")]),
    "feedback": (
        {
            "query": {
                "relevance_feedback": {
                    "target": doc("a"),
                    "feedback": [{"example": doc("b"), "score": 1}],
                }
            }
        },
        [("a", ""), ("b", "")],
    ),
    "an image": ({"query": {"image": "http://x", "model": "m"}}, []),
    "an object": ({"query": {"object": {"text": "a"}, "model": "m"}}, []),
    "bm25 of Qdrant's own": ({"query": {"text": "a", "model": "Qdrant/BM25"}}, []),
    "a text query without a model": ({"query": {"text": "a"}}, []),
    "a filter that looks like one": ({"query": [1.0], "filter": {"must": [doc("a")]}}, []),
    "a vector": ({"query": [1.0, 2.0]}, []),
}


@pytest.mark.parametrize("name", QUERIES)
def test_texts_in_queries(name: str) -> None:
    body, wanted = QUERIES[name]
    assert rest("points/query", body) == [("m", text, vector, False) for text, vector in wanted]


WRITES: dict[str, tuple[str, str, Any, list[tuple[str, str]]]] = {
    "points": (
        *("PUT", "points"),
        {"points": [{"id": 1, "vector": doc("a")}, {"id": 2, "vector": [1.0]}]},
        [("a", "")],
    ),
    "named": (
        *("PUT", "points"),
        {"points": [{"id": 1, "vector": {"title": doc("a"), "text": [1.0], "model": doc("b")}}]},
        [("a", "title"), ("b", "model")],
    ),
    "columns": (
        *("PUT", "points"),
        {"batch": {"ids": [1, 2], "vectors": [doc("a"), doc("b")]}},
        [("a", ""), ("b", "")],
    ),
    "named columns": (
        *("PUT", "points"),
        {"batch": {"ids": [1], "vectors": {"title": [doc("a")]}}},
        [("a", "title")],
    ),
    "vectors": ("PUT", "points/vectors", {"points": [{"id": 1, "vector": doc("a")}]}, [("a", "")]),
    "operations": (
        *("POST", "points/batch"),
        {
            "operations": [
                {"upsert": {"points": [{"id": 1, "vector": doc("a")}]}},
                {"update_vectors": {"points": [{"id": 1, "vector": {"t": doc("b")}}]}},
                {"delete": {"points": [1]}},
            ]
        },
        [("a", ""), ("b", "t")],
    ),
    "a payload that looks like one": (
        *("PUT", "points"),
        {"points": [{"id": 1, "vector": [1.0], "payload": {"vector": doc("a"), "x": doc("b")}}]},
        [],
    ),
    "nothing that is known": ("PUT", "points", {"points": 7, "batch": []}, []),
}


@pytest.mark.parametrize("name", WRITES)
def test_texts_in_writes(name: str) -> None:
    method, call, body, wanted = WRITES[name]
    found = rest(call, body, method)
    assert found == [("m", text, vector, False) for text, vector in wanted]


def test_options_are_noticed() -> None:
    assert rest("points/query", {"query": doc("a", options={"b": 1})})[0][3]
    assert not rest("points/query", {"query": doc("a", options={})})[0][3]
    assert not rest("points/query", {"query": doc("a", options=None)})[0][3]


def test_a_key_that_stands_twice_is_left_to_qdrant() -> None:
    endpoint = match_endpoint("POST", "/collections/docs/points/query")
    assert endpoint is not None
    with pytest.raises(MalformedError):
        texts_rest.find_texts(endpoint, b'{"query": {"text": "a", "text": "b", "model": "m"}}')


def test_what_can_hold_no_text_is_told_without_reading() -> None:
    assert not texts_rest.may_hold_texts(b'{"query": [1.0, 2.0], "limit": 5}')
    assert not texts_rest.may_hold_texts(b'{"points": [{"payload": {"text": "\\u00fc"}}]}')
    assert texts_rest.may_hold_texts(b'{"query": {"te\\u0078t": "a"}}')


def test_examples_are_told_from_queries() -> None:
    endpoint = match_endpoint("POST", "/collections/docs/points/query")
    assert endpoint is not None
    query = {"discover": {"target": doc("a"), "context": [{"positive": doc("b"), "negative": 1}]}}
    found = texts_rest.find_texts(endpoint, json.dumps({"query": query}).encode())
    assert {text.text: text.is_example for text in found} == {"a": False, "b": True}
    inputs = grpc.DiscoverInput(
        target=INPUT, context=grpc.ContextInput(pairs=[{"positive": INPUT}])
    )
    method, read = message("Query", grpc.QueryPoints(query=grpc.Query(discover=inputs)))
    assert [text.is_example for text in texts_grpc.find_texts(method, read)] == [False, True]


def message(name: str, request: Any) -> tuple[Any, Any]:
    method = match_method(f"/qdrant.Points/{name}")
    assert method is not None
    return method, read_message(method, request.SerializeToString())


DOCUMENT = grpc.Document(text="a", model="m")
INPUT = grpc.VectorInput(document=DOCUMENT)
STORED = grpc.Vector(document=DOCUMENT)
NAMED = grpc.Vectors(vectors=grpc.NamedVectors(vectors={"title": STORED}))
PLAIN = grpc.Vectors(vector=STORED)

MESSAGES: dict[str, tuple[str, Any, list[str]]] = {
    "query": (
        "Query",
        grpc.QueryPoints(
            query=grpc.Query(nearest=INPUT),
            using="title",
            prefetch=[grpc.PrefetchQuery(query=grpc.Query(nearest=INPUT))],
        ),
        ["title", ""],
    ),
    "recommend": (
        "Query",
        grpc.QueryPoints(query=grpc.Query(recommend=grpc.RecommendInput(positive=[INPUT, INPUT]))),
        ["", ""],
    ),
    "batch": (
        "QueryBatch",
        grpc.QueryBatchPoints(query_points=[grpc.QueryPoints(query=grpc.Query(nearest=INPUT))] * 2),
        ["", ""],
    ),
    "legacy": (
        "Recommend",
        grpc.RecommendPoints(positive_vectors=[STORED], using="title"),
        ["title"],
    ),
    "upsert": (
        "Upsert",
        grpc.UpsertPoints(
            points=[grpc.PointStruct(vectors=NAMED), grpc.PointStruct(vectors=PLAIN)]
        ),
        ["title", ""],
    ),
    "vectors": (
        "UpdateVectors",
        grpc.UpdatePointVectors(points=[grpc.PointVectors(vectors=PLAIN)]),
        [""],
    ),
    "operations": (
        "UpdateBatch",
        grpc.UpdateBatchPoints(
            operations=[
                grpc.PointsUpdateOperation(
                    upsert=grpc.PointsUpdateOperation.PointStructList(
                        points=[grpc.PointStruct(vectors=PLAIN)]
                    )
                ),
                grpc.PointsUpdateOperation(
                    update_vectors=grpc.PointsUpdateOperation.UpdateVectors(
                        points=[grpc.PointVectors(vectors=NAMED)]
                    )
                ),
            ]
        ),
        ["", "title"],
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_texts_in_messages(name: str) -> None:
    called, request, names = MESSAGES[name]
    method, read = message(called, request)
    found = texts_grpc.find_texts(method, read)
    assert [(text.model, text.text, text.vector_name) for text in found] == [
        ("m", "a", vector) for vector in names
    ]
    texts_grpc.put_embeddings([(text, VECTOR) for text in found])
    again = type(read).FromString(read.SerializeToString())
    assert texts_grpc.find_texts(method, again) == []
    assert again.SerializeToString().count(VECTOR.tobytes()) == len(names)


def test_options_of_messages_are_noticed() -> None:
    document = grpc.Document(text="a", model="m", options={"b": grpc.Value(integer_value=1)})
    query = grpc.Query(nearest=grpc.VectorInput(document=document))
    method, read = message("Query", grpc.QueryPoints(query=query))
    assert texts_grpc.find_texts(method, read)[0].has_options
