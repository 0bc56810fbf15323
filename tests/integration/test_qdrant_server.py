"""The Qdrant server of our tests, driven over real sockets by the official clients."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.support.qdrant.fixtures import client_options, connect, qdrant, unique_name  # noqa: F401
from tests.support.qdrant.process import Server, running_server

DIM = 4
KEY = "only-for-tests"
RNG = np.random.default_rng(5)
VECTORS = RNG.normal(size=(30, DIM)).astype(np.float32)
POINTS = [
    models.PointStruct(id=i, vector=row.tolist(), payload={"shelf": i % 3})
    for i, row in enumerate(VECTORS)
]


@pytest.fixture(params=["rest", "grpc"])
def client(qdrant, request) -> Iterator[QdrantClient]:  # noqa: F811
    connected = connect(qdrant, grpc=request.param == "grpc")
    yield connected
    connected.close()


@pytest.fixture
def shelf(client) -> Iterator[str]:
    """A collection of thirty points with one unnamed vector each."""
    name = unique_name("shelf")
    client.create_collection(name, models.VectorParams(size=DIM, distance=models.Distance.DOT))
    client.upsert(name, POINTS)
    yield name
    client.delete_collection(name)


@contextmanager
def refused(status: int, code: grpc.StatusCode, message: str) -> Iterator[None]:
    """The block is refused with these words, whichever protocol it speaks."""
    with pytest.raises((UnexpectedResponse, grpc.RpcError)) as caught:
        yield
    error = caught.value
    if isinstance(error, UnexpectedResponse):
        assert error.status_code == status
        assert message in error.content.decode()
    else:
        assert error.code() == code
        assert message in error.details()


# Collections


def test_health(qdrant):  # noqa: F811
    with httpx.Client(base_url=qdrant.rest_url) as http:
        assert http.get("/").json()["title"] == "qdrant - vector search engine"
        for path in ("/healthz", "/livez", "/readyz"):
            assert http.get(path).status_code == 200


def test_collection_life(client):
    name = unique_name("life")
    assert not client.collection_exists(name)
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    assert client.create_collection(name, params)
    assert client.collection_exists(name)
    assert name in {one.name for one in client.get_collections().collections}
    with refused(409, grpc.StatusCode.ALREADY_EXISTS, f"Collection `{name}` already exists!"):
        client.create_collection(name, params)
    assert client.delete_collection(name)
    assert not client.delete_collection(name)


def test_info_reports_what_was_asked_for(client):
    name = unique_name("info")
    client.create_collection(
        name,
        vectors_config={
            "half": models.VectorParams(
                size=DIM, distance=models.Distance.COSINE, datatype=models.Datatype.FLOAT16
            ),
            "bytes": models.VectorParams(
                size=DIM, distance=models.Distance.DOT, datatype=models.Datatype.UINT8
            ),
            "tokens": models.VectorParams(
                size=DIM,
                distance=models.Distance.COSINE,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
                hnsw_config=models.HnswConfigDiff(m=0),
            ),
        },
        sparse_vectors_config={"idf": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        hnsw_config=models.HnswConfigDiff(m=24),
        quantization_config=models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8)
        ),
    )
    client.create_payload_index(name, "shelf", models.PayloadSchemaType.INTEGER, wait=True)
    vectors = {"half": [0.1] * DIM, "bytes": [3, 7, 250, 0], "tokens": [[1.0] * DIM] * 2}
    client.upsert(name, [models.PointStruct(id=1, vector=vectors, payload={"shelf": 2})])
    info = client.get_collection(name)
    dense = info.config.params.vectors
    assert dense["half"].datatype == models.Datatype.FLOAT16
    assert dense["bytes"].datatype == models.Datatype.UINT8
    assert dense["tokens"].multivector_config.comparator == models.MultiVectorComparator.MAX_SIM
    assert dense["tokens"].hnsw_config.m == 0
    assert info.config.params.sparse_vectors["idf"].modifier == models.Modifier.IDF
    assert info.config.hnsw_config.m == 24
    assert info.config.quantization_config.scalar.type == models.ScalarType.INT8
    assert info.payload_schema["shelf"].data_type == models.PayloadSchemaType.INTEGER
    assert info.points_count == 1
    stored = client.retrieve(name, [1], with_vectors=["bytes"])[0].vector["bytes"]
    assert stored == vectors["bytes"]
    client.delete_payload_index(name, "shelf")
    assert client.get_collection(name).payload_schema == {}
    client.delete_collection(name)


def test_aliases_change_together(client, shelf):
    old, new = unique_name("old"), unique_name("new")
    create = models.CreateAlias(collection_name=shelf, alias_name=old)
    rename = models.RenameAlias(old_alias_name=old, new_alias_name=new)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])
    assert client.query_points(old, POINTS[3].vector, limit=1).points
    client.update_collection_aliases([models.RenameAliasOperation(rename_alias=rename)])
    assert [a.alias_name for a in client.get_collection_aliases(shelf).aliases] == [new]
    lost = models.CreateAlias(collection_name="nowhere-at-all", alias_name=old)
    with refused(404, grpc.StatusCode.NOT_FOUND, "Collection `nowhere-at-all` doesn't exist!"):
        client.update_collection_aliases(
            [
                models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=new)),
                models.CreateAliasOperation(create_alias=lost),
            ]
        )
    assert client.collection_exists(shelf)
    assert new in {alias.alias_name for alias in client.get_aliases().aliases}


def test_update_builds_the_graph(client):
    name = unique_name("graph")
    hnsw = models.HnswConfigDiff(m=8, ef_construct=32, full_scan_threshold=10)
    client.create_collection(
        name,
        models.VectorParams(size=64, distance=models.Distance.COSINE),
        hnsw_config=hnsw,
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
    )
    rows = np.random.default_rng(1).normal(size=(800, 64)).astype(np.float32)
    client.upload_collection(name, rows, ids=range(len(rows)))
    threshold = models.OptimizersConfigDiff(indexing_threshold=10)
    assert client.update_collection(name, optimizers_config=threshold)
    info = client.get_collection(name)
    assert info.config.optimizer_config.indexing_threshold == 10
    if info.status != models.CollectionStatus.GREEN:
        pytest.skip("this server builds the graph in the background; ours does it at once")
    nearest = client.query_points(name, rows[17], limit=1).points[0]
    assert nearest.id == 17
    client.delete_collection(name)


# Points


def test_vectors_survive_as_float32(client, shelf):
    records, _ = client.scroll(shelf, limit=100, with_vectors=True)
    stored = np.asarray([record.vector for record in records], np.float32)
    np.testing.assert_array_equal(stored, VECTORS)


def test_scroll_pages_through_everything(client, shelf):
    seen, offset = [], None
    while True:
        page, offset = client.scroll(shelf, limit=7, offset=offset)
        seen += [record.id for record in page]
        if offset is None:
            break
    assert seen == list(range(len(POINTS)))


def test_one_row_searches_a_multivector(client):
    name = unique_name("rows")
    client.create_collection(
        name,
        models.VectorParams(
            size=DIM,
            distance=models.Distance.COSINE,
            multivector_config=models.MultiVectorConfig(
                comparator=models.MultiVectorComparator.MAX_SIM
            ),
        ),
    )
    client.upsert(name, [models.PointStruct(id=i, vector=VECTORS[i : i + 3].tolist())
                         for i in range(9)])  # fmt: skip
    row = VECTORS[4].tolist()
    assert client.query_points(name, row).points == client.query_points(name, [row]).points
    client.delete_collection(name)


def test_sample(client, shelf):
    random = models.SampleQuery(sample=models.Sample.RANDOM)
    points = client.query_points(shelf, random, limit=12).points
    assert len({point.id for point in points}) == 12


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_async_client(qdrant, shelf):  # noqa: F811
    async def ask(prefer_grpc: bool) -> list[Any]:
        client = AsyncQdrantClient(**client_options(qdrant, grpc=prefer_grpc))
        points = (await client.query_points(shelf, POINTS[0].vector, limit=3)).points
        await client.close()
        return [point.id for point in points]

    assert asyncio.run(ask(False)) == asyncio.run(ask(True))


# Refusals

Refusal = Callable[[QdrantClient, str], Any]
ARGUMENT, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
REFUSALS: dict[str, tuple[int, grpc.StatusCode, str, Refusal]] = {
    "collection": (
        404,
        MISSING,
        "Not found: Collection `not-there` doesn't exist!",
        lambda client, name: client.query_points("not-there", [0.0]),
    ),
    "dimension": (
        400,
        ARGUMENT,
        "Wrong input: Vector dimension error: expected dim: 4, got 2",
        lambda client, name: client.query_points(name, [0.5, 0.5]),
    ),
    "dimension of a write": (
        400,
        ARGUMENT,
        "Wrong input: Vector dimension error: expected dim: 4, got 2",
        lambda client, name: client.upsert(name, [models.PointStruct(id=1, vector=[0.5, 0.5])]),
    ),
    "vector name": (
        400,
        ARGUMENT,
        "Wrong input: Not existing vector name error: other",
        lambda client, name: client.query_points(name, [0.5] * 4, using="other"),
    ),
    "point": (
        404,
        MISSING,
        "Not found: No point with id 999 found",
        lambda client, name: client.query_points(name, 999),
    ),
    "prefetch alone": (
        400,
        ARGUMENT,
        "prefetches without",
        lambda client, name: client.query_points(name, prefetch=models.Prefetch(query=[0.5] * 4)),
    ),
    "order without an index": (
        400,
        ARGUMENT,
        "No range index for `order_by` key: `shelf`",
        lambda client, name: client.scroll(name, order_by="shelf"),
    ),
    "facet without an index": (
        400,
        ARGUMENT,
        "No appropriate index for faceting: `shelf`",
        lambda client, name: client.facet(name, "shelf"),
    ),
    "no positive example": (
        400,
        ARGUMENT,
        "At least one positive vector",
        lambda client, name: client.query_points(
            name, models.RecommendQuery(recommend=models.RecommendInput(negative=[1]))
        ),
    ),
}


@pytest.mark.parametrize(("status", "code", "message", "ask"), REFUSALS.values(), ids=REFUSALS)
def test_refusal(client, shelf, status, code, message, ask):
    with refused(status, code, message):
        ask(client, shelf)


def test_inference_is_refused(client, shelf):
    # Over the bare API: the client would look for FastEmbed first.
    document = models.Document(text="sail", model="any/model")
    with pytest.raises((UnexpectedResponse, grpc.RpcError), match="InferenceService is not init"):
        client._client.query_points(shelf, models.NearestQuery(nearest=document))


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"query": [1, 2', 400, "Format error in JSON body"),
        (b'{"query": {"nearby": 3}}', 400, "Format error in JSON body: Expected some form of"),
        (b'{"query": [1,2,3,4], "limit": 0}', 422, "value 0 invalid, must be 1 or larger"),
        (b'{"filter": {"must": [{"ky": 1}]}}', 400, "Expected some form of condition"),
    ],
)
def test_malformed_request(qdrant, shelf, body, status, message):  # noqa: F811
    headers = {"api-key": qdrant.api_key or ""}
    url = f"{qdrant.rest_url}/collections/{shelf}/points/query"
    answer = httpx.post(url, content=body, headers=headers)
    assert answer.status_code == status
    assert message in answer.json()["status"]["error"]


def test_path_segments_are_decoded(qdrant, client):  # noqa: F811
    name = unique_name("été à %")
    client.create_collection(name, models.VectorParams(size=2, distance=models.Distance.DOT))
    assert client.collection_exists(name)
    assert client.get_collection(name).points_count == 0
    client.delete_collection(name)


# A server of our own: keys, records, crashes


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    with running_server(api_key=KEY) as server:
        yield server


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "Must provide an API key or an Authorization bearer token"),
        ({"api-key": "wrong"}, "Invalid API key or JWT"),
        ({"authorization": "Bearer wrong"}, "Invalid API key or JWT"),
        ({"api-key": KEY}, None),
        ({"authorization": f"Bearer {KEY}"}, None),
    ],
)
def test_api_key(locked, headers, words):
    answer = httpx.get(f"{locked.rest_url}/collections", headers=headers)
    assert answer.status_code == (401 if words else 200)
    assert words is None or answer.text == words
    assert httpx.get(f"{locked.rest_url}/", headers=headers).status_code == 200
    with grpc.insecure_channel(f"127.0.0.1:{locked.grpc_port}") as channel:
        metadata = tuple(headers.items())
        assert messages.QdrantStub(channel).HealthCheck(messages.HealthCheckRequest())
        collections = messages.CollectionsStub(channel)
        if words is None:
            assert collections.List(messages.ListCollectionsRequest(), metadata=metadata)
            return
        with pytest.raises(grpc.RpcError, match=re.escape(words)) as caught:
            collections.List(messages.ListCollectionsRequest(), metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
