"""The official clients over gRPC, through the sidecar, before Qdrant's own engine."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
import uvloop
from onnx import helper
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.grpc import points_service_pb2_grpc

from tests.support.onnx_models import MANIFEST, graph_model
from tests.support.qdrant.agreement import plain, same
from tests.support.qdrant.fixtures import unique_name
from tests.support.qdrant.process import Server
from tests.support.sidecar_grpc import Sidecar, running_sidecar, settings_for, write_route
from trimtab.model.adapter import Adapter
from trimtab.rewrite.policies import Policies, Reason
from trimtab.server.grpc.messages import read_rankings
from trimtab.settings import RouteSettings

DIM, N_POINTS, DEPTH = 8, 60, 7
ROWS = np.random.default_rng(3).standard_normal((N_POINTS, DIM)).astype(np.float32)
TITLES = np.random.default_rng(4).standard_normal((N_POINTS, DIM)).astype(np.float32)
QUERIES = np.random.default_rng(6).standard_normal((4, DIM)).astype(np.float32)
IDS = [*range(N_POINTS - 1), "0a8f1f3c-3f0e-4f0f-8f4e-0123456789ab"]


@pytest.fixture(scope="module")
def direct(standin: Server) -> Iterator[QdrantClient]:
    client = connect(standin, standin.grpc_port)
    for name in ("docs", "plain"):
        params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
        client.create_collection(name, {"": params, "title": params})
        client.upsert(name, points())
        client.create_payload_index(name, "shelf", models.PayloadSchemaType.INTEGER)
    client.update_collection_aliases(
        [
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name="docs", alias_name="today")
            )
        ]
    )
    yield client
    client.close()


def points() -> list[models.PointStruct]:
    return [
        models.PointStruct(
            id=point,
            vector={"": row.tolist(), "title": title.tolist()},
            payload={"shelf": n % 3, "text": f"number {n}"},
        )
        for n, (point, row, title) in enumerate(zip(IDS, ROWS, TITLES, strict=True))
    ]


def connect(server: Server, grpc_port: int) -> QdrantClient:
    return QdrantClient(
        host="127.0.0.1", port=server.rest_port, grpc_port=grpc_port, prefer_grpc=True, timeout=30
    )


def identity_route(folder: Path, collection: str, vector: str = "") -> RouteSettings:
    """An adapter that gives what it takes, so that adapted answers equal raw ones."""
    node = helper.make_node("Identity", ["query"], ["adapted"])
    card = replace(MANIFEST, dim_in=DIM, dim_out=DIM, use="relevance")
    path = folder / f"identity-{collection}-{vector}.onnx"
    path.write_bytes(graph_model([node], manifest=card).SerializeToString())
    return RouteSettings(collection, path, vector)


@pytest.fixture(scope="module")
def identity(
    standin: Server, direct: QdrantClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("identity")
    routes = (identity_route(folder, "docs"), identity_route(folder, "docs", "title"))
    settings = settings_for(standin.grpc_port, routes=routes)
    with running_sidecar(settings, uvloop.run) as sidecar:  # as the server runs it
        yield sidecar


@pytest.fixture(scope="module")
def through(standin: Server, identity: Sidecar) -> Iterator[QdrantClient]:
    client = connect(standin, identity.port)
    yield client
    client.close()


def query(seed: int = 0) -> list[float]:
    return QUERIES[seed].tolist()


def rare() -> models.Filter:
    return models.Filter(
        must=[models.FieldCondition(key="shelf", match=models.MatchValue(value=1))]
    )


CALLS: dict[str, Callable[[Any, str], Any]] = {
    "nearest": lambda c, n: c.query_points(n, query=query(), limit=DEPTH),
    "array": lambda c, n: c.query_points(n, query=QUERIES[1], limit=DEPTH),
    "named": lambda c, n: c.query_points(n, query=query(), using="title", limit=DEPTH),
    "payloads": lambda c, n: c.query_points(
        n, query=query(), limit=DEPTH, with_payload=True, with_vectors=True
    ),
    "filter": lambda c, n: c.query_points(n, query=query(), query_filter=rare(), limit=DEPTH),
    "threshold": lambda c, n: c.query_points(n, query=query(), score_threshold=0.2, limit=DEPTH),
    "offset": lambda c, n: c.query_points(n, query=query(), offset=3, limit=DEPTH),
    "by id": lambda c, n: c.query_points(n, query=3, limit=DEPTH),
    "by uuid": lambda c, n: c.query_points(n, query=IDS[-1], limit=DEPTH),
    "exact": lambda c, n: c.query_points(
        n, query=query(), search_params=models.SearchParams(exact=True), limit=DEPTH
    ),
    "recommend": lambda c, n: c.query_points(
        n,
        query=models.RecommendQuery(
            recommend=models.RecommendInput(positive=[1, query()], negative=[2])
        ),
        limit=DEPTH,
    ),
    "discover": lambda c, n: c.query_points(
        n,
        query=models.DiscoverQuery(
            discover=models.DiscoverInput(
                target=query(), context=[models.ContextPair(positive=1, negative=query(1))]
            )
        ),
        limit=DEPTH,
    ),
    "hybrid": lambda c, n: c.query_points(
        n,
        prefetch=[
            models.Prefetch(query=query(), limit=20),
            models.Prefetch(query=query(1), using="title", limit=20),
        ],
        query=models.FusionQuery(fusion=models.Fusion.RRF),
        limit=DEPTH,
    ),
    "rescored": lambda c, n: c.query_points(
        n,
        prefetch=models.Prefetch(
            prefetch=models.Prefetch(query=query(2), limit=40), query=query(1), limit=20
        ),
        query=query(),
        using="title",
        limit=DEPTH,
    ),
    "mmr": lambda c, n: c.query_points(
        n, query=models.NearestQuery(nearest=query(), mmr=models.Mmr(diversity=0.5)), limit=DEPTH
    ),
    "no query": lambda c, n: c.query_points(n, limit=DEPTH),
    "batch": lambda c, n: c.query_batch_points(
        n, [models.QueryRequest(query=query(seed), limit=DEPTH) for seed in range(4)]
    ),
    "groups": lambda c, n: c.query_points_groups(
        n, group_by="shelf", query=query(), limit=2, group_size=3
    ),
    "retrieve": lambda c, n: c.retrieve(n, [1, 2, IDS[-1]], with_vectors=True),
    "scroll": lambda c, n: c.scroll(n, limit=DEPTH, scroll_filter=rare()),
    "count": lambda c, n: c.count(n, count_filter=rare()),
    "facet": lambda c, n: c.facet(n, "shelf"),
    "info": lambda c, n: c.get_collection(n),
    "exists": lambda c, n: c.collection_exists(n),
    "collections": lambda c, n: c.get_collections(),
    "aliases": lambda c, n: c.get_collection_aliases(n),
}


@pytest.mark.parametrize("name", ["docs", "plain", "today"])
@pytest.mark.parametrize("call", CALLS)
def test_official_clients_are_answered_as_by_qdrant_itself(
    direct: QdrantClient, through: QdrantClient, identity: Sidecar, call: str, name: str
) -> None:
    ask = CALLS[call]
    want, got = (plain(ask(client, name)) for client in (direct, through))
    assert same(got, want), f"{got}\n{want}"

    async def ask_asynchronously() -> Any:
        client = AsyncQdrantClient(
            host="127.0.0.1", grpc_port=identity.port, prefer_grpc=True, check_compatibility=False
        )
        try:
            return await ask(client, name)
        finally:
            await client.close()

    got = plain(asyncio.run(ask_asynchronously()))
    assert same(got, want), f"{got}\n{want}"


def test_writes_reach_qdrant_as_they_are(direct: QdrantClient, through: QdrantClient) -> None:
    name = unique_name()
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    assert through.create_collection(name, {"": params, "title": params})
    through.upsert(name, points())
    through.set_payload(name, {"new": 1}, [1])
    through.update_vectors(name, [models.PointVectors(id=2, vector={"title": query()})])
    through.delete(name, [3])
    assert direct.count(name).count == N_POINTS - 1
    assert direct.retrieve(name, [1])[0].payload == {"shelf": 1, "text": "number 1", "new": 1}
    assert through.delete_collection(name)


def test_errors_of_qdrant_pass(direct: QdrantClient, through: QdrantClient) -> None:
    for ask in (
        lambda c: c.query_points("nowhere", query=query()),
        lambda c: c.query_points("docs", query=query(), using="nothing"),
        lambda c: c.query_points("docs", query=[1.0]),
        lambda c: c.get_collection("nowhere"),
    ):
        said = []
        for client in (direct, through):
            with pytest.raises(grpc.RpcError) as caught:
                ask(client)
            said.append((caught.value.code(), caught.value.details()))
        assert said[0] == said[1]


# Every method that carries query vectors


def nearest(vector: Any) -> Any:
    dense = messages.DenseVector(data=list(map(float, vector)))
    return messages.Query(nearest=messages.VectorInput(dense=dense))


def raw(vector: Any) -> Any:
    return messages.Vector(data=list(map(float, vector)))


def target(vector: Any) -> Any:
    example = messages.VectorExample(vector=raw(vector))
    return messages.TargetVector(single=example)


def one(kind: Any, name: str = "", **fields: Any) -> Any:
    return kind(collection_name=name or "docs", limit=DEPTH, **fields)


def grouped(kind: Any, name: str, **fields: Any) -> Any:
    return one(kind, name, group_by="shelf", group_size=3, **fields)


REQUESTS: dict[str, Callable[[Any, str], Any]] = {
    "Query": lambda v, n: one(messages.QueryPoints, n, query=nearest(v)),
    "QueryBatch": lambda v, n: messages.QueryBatchPoints(
        collection_name=n, query_points=[one(messages.QueryPoints, n, query=nearest(v))] * 2
    ),
    "QueryGroups": lambda v, n: grouped(messages.QueryPointGroups, n, query=nearest(v)),
    "Search": lambda v, n: one(messages.SearchPoints, n, vector=v),
    "SearchBatch": lambda v, n: messages.SearchBatchPoints(
        collection_name=n, search_points=[one(messages.SearchPoints, n, vector=v)] * 2
    ),
    "SearchGroups": lambda v, n: grouped(messages.SearchPointGroups, n, vector=v),
    "Recommend": lambda v, n: one(messages.RecommendPoints, n, positive_vectors=[raw(v)]),
    "RecommendBatch": lambda v, n: messages.RecommendBatchPoints(
        collection_name=n,
        recommend_points=[one(messages.RecommendPoints, n, positive_vectors=[raw(v)])] * 2,
    ),
    "RecommendGroups": lambda v, n: grouped(
        messages.RecommendPointGroups, n, positive_vectors=[raw(v)]
    ),
    "Discover": lambda v, n: one(messages.DiscoverPoints, n, target=target(v)),
    "DiscoverBatch": lambda v, n: messages.DiscoverBatchPoints(
        collection_name=n, discover_points=[one(messages.DiscoverPoints, n, target=target(v))] * 2
    ),
}


@dataclass
class Adapting:
    """A sidecar whose adapter turns queries."""

    sidecar: Sidecar
    adapter: Adapter


@pytest.fixture(scope="module")
def adapting(
    standin: Server, direct: QdrantClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Adapting]:
    folder = tmp_path_factory.mktemp("linear")
    route = write_route(folder, "docs", dim_in=DIM, dim_out=DIM, use="relevance", normalised=True)
    settings = settings_for(
        standin.grpc_port, routes=(route,), policies=Policies(examples="always")
    )
    with running_sidecar(settings) as sidecar:
        yield Adapting(sidecar, Adapter.load(route.adapter))


@pytest.mark.parametrize("name", ["docs", "today"])
@pytest.mark.parametrize("method", REQUESTS)
def test_each_query_method_ranks_as_the_query_adapted_by_hand(
    standin: Server, adapting: Adapting, method: str, name: str
) -> None:
    def ask(port: int, vector: Any) -> list[Any]:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(f"/qdrant.Points/{method}")
            return read_rankings(
                method, call(REQUESTS[method](vector, name).SerializeToString(), timeout=30)
            )

    vector = QUERIES[0]
    got = ask(adapting.sidecar.port, vector)
    assert got == ask(standin.grpc_port, adapting.adapter.transform(vector))
    assert got != ask(standin.grpc_port, vector)
    assert {len(ranking) for ranking in got} <= {DEPTH, 9}  # 9: three groups of three
    assert len(got) == (2 if method.endswith("Batch") else 1)


def test_the_official_client_finds_what_the_adapted_query_finds(
    standin: Server, direct: QdrantClient, adapting: Adapting
) -> None:
    through = connect(standin, adapting.sidecar.port)
    before = adapting.sidecar.decisions().get(("docs", Reason.ADAPTED), 0)
    got = through.query_points("docs", query=query(), limit=DEPTH)
    adapted = adapting.adapter.transform(QUERIES[0]).tolist()
    want = direct.query_points("docs", query=adapted, limit=DEPTH)
    assert same(plain(got), plain(want))
    assert adapting.sidecar.decisions()["docs", Reason.ADAPTED] == before + 1
    through.close()


def test_the_generated_stub_finds_the_mark(adapting: Adapting) -> None:
    with grpc.insecure_channel(adapting.sidecar.address) as channel:
        stub = points_service_pb2_grpc.PointsStub(channel)
        request = REQUESTS["Query"](QUERIES[0], "docs")
        answer, call = stub.Query.with_call(request, timeout=30)
        assert len(answer.result) == DEPTH
        assert dict(call.trailing_metadata())["x-trimtab-adapter"] == adapting.adapter.mark
        _, call = stub.Query.with_call(REQUESTS["Query"](QUERIES[0], "plain"), timeout=30)
        assert "x-trimtab-adapter" not in dict(call.trailing_metadata())
