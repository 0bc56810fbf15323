"""Endpoints older than `points/query` give what the query that means the same gives."""

from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages

from tests.support.qdrant import world
from tests.support.qdrant.agreement import same
from tests.support.qdrant.fixtures import connect, qdrant, unique_name  # noqa: F401
from tests.support.qdrant.process import Server

RNG = np.random.default_rng(2)
TEXT, TERMS = world.dense(RNG, world.DENSE["text"]), world.sparse(RNG).model_dump()
CHEAP = {"must": [{"key": "price", "range": {"lt": 60}}]}
COMMON: dict[str, Any] = {"limit": 6, "with_payload": ["rank"], "filter": CHEAP}
EXAMPLES = {"positive": [5, TEXT], "negative": [12]}
CONTEXT = [{"positive": 5, "negative": 8}, {"positive": TEXT, "negative": 12}]


def key_of(server: Server) -> dict[str, str]:
    return {"api-key": server.api_key} if server.api_key else {}


@pytest.fixture(scope="module")
def client(qdrant) -> Iterator[QdrantClient]:  # noqa: F811
    connected = connect(qdrant)
    yield connected
    connected.close()


@pytest.fixture(scope="module")
def collection(client) -> Iterator[str]:
    name = unique_name("legacy")
    client.create_collection(
        name,
        vectors_config=world.vectors_config(),
        sparse_vectors_config=world.sparse_config(),
    )
    client.upsert(name, world.points())
    yield name
    client.delete_collection(name)


@pytest.fixture(scope="module")
def post(qdrant, collection):  # noqa: F811
    """Call one endpoint of the collection; give its result."""
    with httpx.Client(base_url=qdrant.rest_url, headers=key_of(qdrant)) as http:

        def call(path: str, body: dict[str, Any]) -> Any:
            answer = http.post(f"/collections/{collection}/points/{path}", json=body)
            if answer.status_code == 404 and not answer.content:
                pytest.skip(f"this server no longer has points/{path}")
            assert answer.status_code == 200, answer.text
            return answer.json()["result"]

        yield call


@pytest.fixture(scope="module")
def stub(qdrant) -> Iterator[messages.PointsStub]:  # noqa: F811
    with grpc.insecure_channel(f"{qdrant.host}:{qdrant.grpc_port}") as channel:
        yield messages.PointsStub(channel)


CALLS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "search": (
        "search",
        {"vector": {"name": "text", "vector": TEXT}},
        {"query": TEXT, "using": "text"},
    ),
    "search sparse": (
        "search",
        {"vector": {"name": "terms", "vector": TERMS}},
        {"query": TERMS, "using": "terms"},
    ),
    "recommend": (
        "recommend",
        {**EXAMPLES, "using": "text"},
        {"query": {"recommend": EXAMPLES}, "using": "text"},
    ),
    "recommend best": (
        "recommend",
        {**EXAMPLES, "using": "text", "strategy": "best_score"},
        {"query": {"recommend": {**EXAMPLES, "strategy": "best_score"}}, "using": "text"},
    ),
    "discover": (
        "discover",
        {"target": TEXT, "context": CONTEXT, "using": "text"},
        {"query": {"discover": {"target": TEXT, "context": CONTEXT}}, "using": "text"},
    ),
    "context": (
        "discover",
        {"context": CONTEXT, "using": "text"},
        {"query": {"context": CONTEXT}, "using": "text"},
    ),
}


@pytest.mark.parametrize(("verb", "old", "new"), CALLS.values(), ids=CALLS)
def test_rest(post, verb, old, new):
    expected = post("query", {**new, **COMMON})["points"]
    assert len(expected) == COMMON["limit"]
    assert post(verb, {**old, **COMMON}) == expected
    assert post(f"{verb}/batch", {"searches": [{**old, **COMMON}] * 2}) == [expected] * 2


@pytest.mark.parametrize("verb", ["search", "recommend"])
def test_rest_groups(post, verb):
    _, old, new = CALLS[verb]
    grouping = {**COMMON, "group_by": "colour", "group_size": 2}
    expected = post("query/groups", {**new, **grouping})
    assert expected["groups"]
    assert post(f"{verb}/groups", {**old, **grouping}) == expected


def test_rest_takes_an_unnamed_vector_and_top(qdrant, client):  # noqa: F811
    name = unique_name("unnamed")
    client.create_collection(name, models.VectorParams(size=2, distance=models.Distance.DOT))
    client.upsert(name, [models.PointStruct(id=i, vector=[i, 1]) for i in range(5)])
    url = f"{qdrant.rest_url}/collections/{name}/points/search"
    answer = httpx.post(url, json={"vector": [1, 0], "top": 2}, headers=key_of(qdrant))
    client.delete_collection(name)
    assert [point["id"] for point in answer.json()["result"]] == [4, 3]


def vector_of(values: Any) -> messages.Vector:
    if isinstance(values, list):
        return messages.Vector(dense=messages.DenseVector(data=values))
    return messages.Vector(
        data=values["values"], indices=messages.SparseIndices(data=values["indices"])
    )


def example(value: Any) -> messages.VectorExample:
    if isinstance(value, int):
        return messages.VectorExample(id=messages.PointId(num=value))
    return messages.VectorExample(vector=vector_of(value))


def point_id(number: int) -> messages.PointId:
    return messages.PointId(num=number)


SHARED: dict[str, Any] = {
    "limit": 6,
    "with_payload": messages.WithPayloadSelector(
        include=messages.PayloadIncludeSelector(fields=["rank"])
    ),
    "filter": messages.Filter(
        must=[
            messages.Condition(
                field=messages.FieldCondition(key="price", range=messages.Range(lt=60))
            )
        ]
    ),
}
RPCS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "search": ("Search", messages.SearchPoints, {"vector": TEXT, "vector_name": "text"}),
    "search sparse": (
        "Search",
        messages.SearchPoints,
        {
            "vector": TERMS["values"],
            "sparse_indices": messages.SparseIndices(data=TERMS["indices"]),
            "vector_name": "terms",
        },
    ),
    "recommend": (
        "Recommend",
        messages.RecommendPoints,
        {
            "positive": [point_id(5)],
            "positive_vectors": [vector_of(TEXT)],
            "negative": [point_id(12)],
            "using": "text",
        },
    ),
    "discover": (
        "Discover",
        messages.DiscoverPoints,
        {
            "target": messages.TargetVector(single=example(TEXT)),
            "context": [
                messages.ContextExamplePair(
                    positive=example(pair["positive"]), negative=example(pair["negative"])
                )
                for pair in CONTEXT
            ],
            "using": "text",
        },
    ),
}


def as_rest(point: dict[str, Any]) -> tuple[int, float]:
    identity = point["id"]
    return int(identity.get("num", 0)) or identity.get("uuid"), point["score"]


@pytest.mark.parametrize("call", RPCS)
def test_grpc(qdrant, stub, post, collection, call):  # noqa: F811
    method, request, fields = RPCS[call]
    expected = [
        [p["id"], p["score"]] for p in post("query", {**CALLS[call][2], **COMMON})["points"]
    ]
    metadata = tuple(key_of(qdrant).items())
    message = request(collection_name=collection, **fields, **SHARED)
    answer = getattr(stub, method)(message, metadata=metadata)
    points = [list(as_rest(MessageToDict(point))) for point in answer.result]
    assert same(points, expected)
    verb = method.lower()
    batch_type = getattr(messages, f"{method}BatchPoints")
    batch = batch_type(collection_name=collection, **{f"{verb}_points": [message, message]})
    results = getattr(stub, f"{method}Batch")(batch, metadata=metadata).result
    assert [list(one.result) for one in results] == [list(answer.result)] * 2


@pytest.mark.parametrize("call", ["search", "recommend"])
def test_grpc_groups(qdrant, stub, post, collection, call):  # noqa: F811
    method, _, fields = RPCS[call]
    grouping = {"group_by": "colour", "group_size": 2}
    expected = post("query/groups", {**CALLS[call][2], **COMMON, **grouping})["groups"]
    request = getattr(messages, f"{method}PointGroups")
    message = request(collection_name=collection, **fields, **SHARED, **grouping)
    metadata = tuple(key_of(qdrant).items())
    groups = getattr(stub, f"{method}Groups")(message, metadata=metadata).result.groups
    assert [group.id.string_value for group in groups] == [group["id"] for group in expected]
