"""Our stand-in for Qdrant does not lie: it answers as the official client's local mode does.

Local mode is brute force in numpy, written from the server's source by others, so it knows nothing
of our conversions. Asked is what the tests of the product rely on. With ``QDRANT_URL`` set, the
same calls compare local mode with that server.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.contract.test_qdrant_identity import ASKS, TIED
from tests.support.qdrant import world
from tests.support.qdrant.agreement import Pair, order_ties
from tests.support.qdrant.fixtures import connect, unique_name
from tests.support.qdrant.process import Server, running_server

Call = Callable[[QdrantClient, str], Any]

ID, UUID = 5, "00000000-0000-4000-8000-000000000014"
RNG = np.random.default_rng(11)
NEW = world.all_vectors(RNG)
TEXT = NEW["text"]
WAYS = pytest.mark.parametrize("way", ["rest", "grpc"])


def field(key: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, **condition)


def must(*conditions: Any) -> models.Filter:
    return models.Filter(must=list(conditions))


RED = must(field("colour", match=models.MatchValue(value="red")))


@contextmanager
def making_pair(server: Server, way: str, n_points: int = world.N_POINTS) -> Iterator[Pair]:
    local, remote = QdrantClient(":memory:"), connect(server, grpc=way == "grpc")
    pair = Pair(local, remote, unique_name("agree"))
    for client in (local, remote):
        client.create_collection(
            pair.name,
            vectors_config=world.vectors_config(),
            sparse_vectors_config=world.sparse_config(),
        )
        client.upsert(pair.name, world.points()[:n_points])
    for name, schema in world.INDEXES.items():
        remote.create_payload_index(pair.name, name, schema)
    yield pair
    remote.delete_collection(pair.name)
    remote.close()
    local.close()


@pytest.fixture(scope="module", params=["rest", "grpc"])
def pair(qdrant: Server, request: pytest.FixtureRequest) -> Iterator[Pair]:
    with making_pair(qdrant, request.param) as made:
        yield made


def arranged(what: str) -> Callable[[Any], Any]:
    """How an answer is compared: what has ties has them in any order."""
    if what in TIED:
        return order_ties
    if what == "context":  # many points score 0 together
        return lambda points: [point["score"] for point in points]
    return lambda answer: answer


# Local mode tells of a collection less, and looks for groups among fewer points of a prefetch.
@pytest.mark.parametrize("what", [what for what in ASKS if what not in {"info", "groups"}])
def test_calls_agree(pair: Pair, what: str) -> None:
    pair.agree(ASKS[what][0], arranged(what))


@pytest.mark.parametrize("group_by", ["colour", "tags", "rank"])
def test_groups_agree(pair: Pair, group_by: str) -> None:
    more = {"query": TEXT, "using": "text", "limit": 5, "with_payload": ["colour"]}
    assert pair.agree(
        lambda client, name: client.query_points_groups(name, group_by, **more).groups
    )


def test_info_says_what_the_collection_was_made_with(pair: Pair) -> None:
    info = pair.remote.get_collection(pair.name)
    assert info.config.params.vectors == world.vectors_config()
    assert info.config.params.sparse_vectors["idf"].modifier == models.Modifier.IDF
    assert info.points_count == world.N_POINTS


CONDITIONS: dict[str, Any] = {
    "value": field("colour", match=models.MatchValue(value="teal")),
    "integer": field("rank", match=models.MatchValue(value=14)),
    "boolean": field("sold", match=models.MatchValue(value=False)),
    "any": field("colour", match=models.MatchAny(any=["red", "blue"])),
    "except": field("colour", match=models.MatchExcept(**{"except": ["red", "blue"]})),
    "text": field("story", match=models.MatchText(text="keel")),
    "any word": field("story", match=models.MatchTextAny(text_any="keel mast")),
    "range": field("price", range=models.Range(gte=20, lt=40.5)),
    "dates": field("date", range=models.DatetimeRange(gte="2024-05-01T00:00:00Z")),
    "count": field("tags", values_count=models.ValuesCount(gt=1)),
    "in an object": field("maker.year", range=models.Range(gt=2005)),
    "in a list": field("parts[].size", match=models.MatchValue(value=2)),
    "empty": models.IsEmptyCondition(is_empty=models.PayloadField(key="colour")),
    "null": models.IsNullCondition(is_null=models.PayloadField(key="note")),
    "ids": models.HasIdCondition(has_id=[ID, UUID, 33, 4000]),
    "vector": models.HasVectorCondition(has_vector="image"),
    "nested": models.NestedCondition(
        nested=models.Nested(
            key="parts",
            filter=must(
                field("name", match=models.MatchValue(value="keel")),
                field("size", match=models.MatchValue(value=2)),
            ),
        )
    ),
}
ONE, TWO, THREE = (CONDITIONS[kind] for kind in ("any", "range", "boolean"))
FILTERS = {kind: must(condition) for kind, condition in CONDITIONS.items()} | {
    "should": models.Filter(should=[ONE, TWO]),
    "must not": models.Filter(must_not=[ONE, TWO]),
    "some of": models.Filter(
        min_should=models.MinShould(conditions=[ONE, TWO, THREE], min_count=2)
    ),
    "filter in a filter": must(models.Filter(should=[ONE, TWO]), THREE),
    "empty filter in a filter": must(models.Filter(), THREE),
}


@pytest.mark.parametrize("kind", FILTERS)
def test_filters_agree(pair: Pair, kind: str) -> None:
    chosen = FILTERS[kind]
    assert pair.agree(lambda client, name: client.count(name, chosen).count)
    pair.agree(lambda client, name: client.scroll(name, chosen, limit=200))
    pair.agree(
        lambda client, name: client.query_points(name, TEXT, using="text", query_filter=chosen)
    )


OPERATIONS: list[Any] = [
    models.UpsertOperation(
        upsert=models.PointsList(points=[models.PointStruct(id=902, vector={"text": TEXT})])
    ),
    models.SetPayloadOperation(set_payload=models.SetPayload(payload={"a": 1}, points=[1, 2])),
    models.DeleteOperation(delete=models.PointIdsList(points=[10, 4000])),
]
WRITES: dict[str, Call] = {
    "upsert": lambda client, name: client.upsert(
        name, [models.PointStruct(id=ID, vector=NEW, payload={"deep": [1, None, 2.5, "x"]})]
    ),
    "upsert columns": lambda client, name: client.upsert(
        name, models.Batch(ids=[1, 901], vectors={"text": [TEXT, TEXT]}, payloads=[{"n": 1}, {}])
    ),
    "update vectors": lambda client, name: client.update_vectors(
        name, [models.PointVectors(id=UUID, vector={"text": TEXT, "terms": NEW["terms"]})]
    ),
    "set payload": lambda client, name: client.set_payload(name, {"x": {"y": [1]}}, [ID, UUID]),
    "set payload inside": lambda client, name: client.set_payload(
        name, {"year": 3, "who": "me"}, [2, 6], key="maker"
    ),
    "set payload where": lambda client, name: client.set_payload(name, {"x": None}, RED),
    "delete": lambda client, name: client.delete(name, [3, 12345]),
    "delete where": lambda client, name: client.delete(name, must(TWO)),
}
OVER_REST: dict[str, Call] = {
    "delete vectors": lambda client, name: client.delete_vectors(name, ["text"], [1, UUID]),
    "delete payload": lambda client, name: client.delete_payload(
        name, ["price", "maker.name"], RED
    ),
    "batch": lambda client, name: client.batch_update_points(name, OPERATIONS),
}


@WAYS
def test_after_each_write_both_hold_the_same_points(qdrant: Server, way: str) -> None:
    with making_pair(qdrant, way, n_points=30) as pair:
        for what, write in (WRITES | (OVER_REST if way == "rest" else {})).items():
            for client in (pair.local, pair.remote):
                write(client, pair.name)
            assert pair.agree(
                lambda client, name: client.scroll(name, limit=1000, with_vectors=True)
            ), what


# Endpoints older than `points/query` give what the query that means the same gives.

EXAMPLES = {"positive": [ID, TEXT], "negative": [12]}
DISCOVERY = {"target": TEXT, "context": [{"positive": ID, "negative": 8}]}
LEGACY: dict[str, tuple[dict[str, Any], Any]] = {
    "search": ({"vector": {"name": "text", "vector": TEXT}}, TEXT),
    "recommend": ({**EXAMPLES, "using": "text"}, {"recommend": EXAMPLES}),
    "discover": ({**DISCOVERY, "using": "text"}, {"discover": DISCOVERY}),
}


@pytest.mark.parametrize("verb", LEGACY)
def test_older_endpoints_say_the_same_as_newer_ones(qdrant: Server, pair: Pair, verb: str) -> None:
    old, query = LEGACY[verb]
    key = {"api-key": qdrant.api_key or ""}
    with httpx.Client(base_url=f"{qdrant.rest_url}/collections/{pair.name}", headers=key) as http:

        def ask(path: str, body: dict[str, Any]) -> Any:
            answer = http.post(f"/points/{path}", json={"limit": 6, "with_payload": True, **body})
            assert answer.status_code == 200, answer.text
            return answer.json()["result"]

        new = {"query": query, "using": "text"}
        want = ask("query", new)["points"]
        assert len(want) == 6
        assert ask(verb, old) == want
        assert ask(f"{verb}/batch", {"searches": [{**old, "limit": 2}]}) == [
            [{n: v for n, v in point.items() if n != "payload"} for point in want[:2]]
        ]
        if verb != "discover":
            groups = {"group_by": "colour", "group_size": 2}
            assert ask(f"{verb}/groups", old | groups) == ask("query/groups", new | groups)


# Refusals, in the server's words

ARGUMENT, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
REFUSALS: dict[str, tuple[int, grpc.StatusCode, str, Call]] = {
    "collection": (
        404,
        MISSING,
        "Not found: Collection `not-there` doesn't exist!",
        lambda client, name: client.query_points("not-there", [0.0]),
    ),
    "dimension": (
        400,
        ARGUMENT,
        "Wrong input: Vector dimension error: expected dim: 24, got 2",
        lambda client, name: client.query_points(name, [0.5, 0.5], using="text"),
    ),
    "dimension of a write": (
        400,
        ARGUMENT,
        "Wrong input: Vector dimension error: expected dim: 24, got 2",
        lambda client, name: client.upsert(
            name, [models.PointStruct(id=1, vector={"text": [0.5, 0.5]})]
        ),
    ),
    "vector name": (
        400,
        ARGUMENT,
        "Wrong input: Not existing vector name error: other",
        lambda client, name: client.query_points(name, TEXT, using="other"),
    ),
    "point": (
        404,
        MISSING,
        "Not found: No point with id 999 found",
        lambda client, name: client.query_points(name, 999, using="text"),
    ),
    "facet without an index": (
        400,
        ARGUMENT,
        "No appropriate index for faceting: `story`",
        lambda client, name: client.facet(name, "story"),
    ),
    "collection twice": (
        409,
        grpc.StatusCode.ALREADY_EXISTS,
        "already exists!",
        lambda client, name: client.create_collection(name, world.vectors_config()),
    ),
}


def check_refusal(way: str, ask: Callable[[], Any], status: int, code: Any, message: str) -> None:
    with pytest.raises((UnexpectedResponse, grpc.RpcError)) as caught:
        ask()
    error = caught.value
    if isinstance(error, UnexpectedResponse):
        assert (way, error.status_code) == ("rest", status)
        assert message in error.content.decode()
    else:
        assert (way, error.code()) == ("grpc", code)
        assert message in error.details()


def way_of(pair: Pair) -> str:
    return "grpc" if pair.remote.init_options["prefer_grpc"] else "rest"


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_are_in_the_servers_words(pair: Pair, what: str) -> None:
    status, code, message, ask = REFUSALS[what]
    check_refusal(way_of(pair), lambda: ask(pair.remote, pair.name), status, code, message)


def test_what_is_lacking_is_refused_and_not_ignored(standin: Server) -> None:
    calls: list[tuple[str, Call]] = [
        (
            "lookup_from",
            lambda client, name: client.query_points(
                name, ID, using="text", lookup_from=models.LookupLocation(collection=name)
            ),
        ),
        ("update_filter", lambda client, name: client.upsert(name, [], update_filter=RED)),
    ]
    for way in ("rest", "grpc"):
        with making_pair(standin, way, n_points=1) as pair:
            for word, ask in calls:
                code = grpc.StatusCode.UNIMPLEMENTED
                check_refusal(way, lambda a=ask, p=pair: a(p.remote, p.name), 501, code, word)


# What only the stand-in has


def test_requests_are_kept_as_they_came(standin: Server) -> None:
    body = b'{"query" : [1.50,  2], "limit": 1 }'
    message = messages.CountPoints(collection_name="seen", exact=True)
    standin.clear_requests()
    httpx.post(
        f"{standin.rest_url}/collections/seen/points/query?timeout=3",
        content=body,
        headers={"x-mark": "here"},
    )
    with (
        grpc.insecure_channel(f"{standin.host}:{standin.grpc_port}") as channel,
        pytest.raises(grpc.RpcError),
    ):
        messages.PointsStub(channel).Count(message, metadata=(("x-mark", "there"),))
    rest, rpc = standin.requests()
    assert (rest["protocol"], rest["method"], rest["body"]) == ("rest", "POST", body)
    assert rest["path"] == "/collections/seen/points/query?timeout=3"
    assert ["x-mark", "here"] in rest["headers"]
    assert (rpc["method"], rpc["body"]) == ("/qdrant.Points/Count", message.SerializeToString())
    assert ["x-mark", "there"] in rpc["headers"]


def test_a_key_opens_it_over_rest_and_grpc() -> None:
    with running_server(api_key="right") as server:
        with grpc.insecure_channel(f"{server.host}:{server.grpc_port}") as channel:
            collections = messages.CollectionsStub(channel)
            for headers, opens in (
                ({}, False),
                ({"api-key": "wrong"}, False),
                ({"api-key": "right"}, True),
                ({"authorization": "Bearer right"}, True),
            ):
                answer = httpx.get(f"{server.rest_url}/collections", headers=headers)
                assert answer.status_code == (200 if opens else 401)
                call = collections.List.with_call
                if opens:
                    call(messages.ListCollectionsRequest(), metadata=tuple(headers.items()))
                    continue
                with pytest.raises(grpc.RpcError) as caught:
                    call(messages.ListCollectionsRequest(), metadata=tuple(headers.items()))
                assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert httpx.get(server.rest_url).status_code == 200
    assert server.process is not None
    assert server.process.returncode == 0
