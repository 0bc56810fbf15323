"""After the same writes, our Qdrant server and the client's local mode hold the same points."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.support.qdrant import world
from tests.support.qdrant.agreement import Pair
from tests.support.qdrant.fixtures import connect, qdrant, unique_name  # noqa: F401

Write = Callable[[QdrantClient, str], Any]
RNG = np.random.default_rng(3)
POINTS = world.points()[:30]
NEW = world.all_vectors(RNG)
ID, UUID = 5, "00000000-0000-4000-8000-000000000014"
BIGGEST_ID = 2**64 - 1
RED = models.Filter(
    must=[models.FieldCondition(key="colour", match=models.MatchValue(value="red"))]
)
CHANGED = [
    models.PointStruct(id=ID, vector=NEW, payload={"fresh": True}),
    models.PointStruct(id=900, vector={"text": NEW["text"]}, payload={"fresh": True}),
]


@pytest.fixture(params=["rest", "grpc"])
def pair(qdrant, request) -> Iterator[Pair]:  # noqa: F811
    local, remote = QdrantClient(":memory:"), connect(qdrant, grpc=request.param == "grpc")
    pair = Pair(local, remote, unique_name("writes"), "")
    for client in (local, remote):
        client.create_collection(
            pair.name,
            vectors_config=world.vectors_config(),
            sparse_vectors_config=world.sparse_config(),
        )
        client.upsert(pair.name, POINTS)
    yield pair
    remote.delete_collection(pair.name)
    remote.close()
    local.close()


def everything(client: QdrantClient, name: str) -> Any:
    return client.scroll(name, limit=1000, with_vectors=True)


def upsert(**arguments: Any) -> Write:
    return lambda client, name: client.upsert(name, **arguments)


COLUMNS = models.Batch(
    ids=[ID, 901],
    vectors={"text": [NEW["text"], NEW["text"]], "terms": [NEW["terms"], NEW["idf"]]},
    payloads=[{"n": 1, "deep": {"list": [1, None, 2.5, "x", True]}}, {"n": BIGGEST_ID // 4}],
)
OPERATIONS: list[Any] = [
    models.UpsertOperation(upsert=models.PointsList(points=CHANGED)),
    models.SetPayloadOperation(set_payload=models.SetPayload(payload={"a": 1}, points=[1, 2])),
    models.OverwritePayloadOperation(
        overwrite_payload=models.SetPayload(payload={"b": {"c": [1]}}, points=[2, 3])
    ),
    models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["price"], filter=RED)),
    models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[6])),
    models.UpdateVectorsOperation(
        update_vectors=models.UpdateVectors(
            points=[models.PointVectors(id=8, vector={"code": NEW["code"]})]
        )
    ),
    models.DeleteVectorsOperation(
        delete_vectors=models.DeleteVectors(points=[ID, 8], vector=["text", "idf"])
    ),
    models.DeleteOperation(delete=models.PointIdsList(points=[10, 4000])),
]
WRITES: dict[str, Write] = {
    "nothing": lambda client, name: None,
    "upsert": upsert(points=CHANGED),
    "upsert columns": upsert(points=COLUMNS),
    "upsert the biggest id": upsert(
        points=[models.PointStruct(id=BIGGEST_ID, vector={"text": NEW["text"]})]
    ),
    "upsert without vectors": upsert(points=[models.PointStruct(id=77, vector={}, payload={})]),
    "upsert a bare uuid": upsert(
        points=[models.PointStruct(id=UUID.replace("-", ""), vector={"text": NEW["text"]})]
    ),
    "insert only": upsert(points=CHANGED, update_mode=models.UpdateMode.INSERT_ONLY),
    "update only": upsert(points=CHANGED, update_mode=models.UpdateMode.UPDATE_ONLY),
    "upsert where": upsert(points=CHANGED, update_filter=RED),
    "update vectors": lambda client, name: client.update_vectors(
        name,
        [
            models.PointVectors(id=ID, vector={"text": NEW["text"], "tokens": NEW["tokens"]}),
            models.PointVectors(id=UUID, vector={"terms": NEW["terms"]}),
        ],
    ),
    "delete vectors": lambda client, name: client.delete_vectors(name, ["text"], [ID, UUID]),
    "delete vectors where": lambda client, name: client.delete_vectors(name, ["tokens"], RED),
    "set payload": lambda client, name: client.set_payload(name, {"x": {"y": [1]}}, [ID, UUID]),
    "set payload where": lambda client, name: client.set_payload(name, {"x": None}, RED),
    "set payload inside": lambda client, name: client.set_payload(
        name, {"year": 3, "who": "me"}, [ID, 6], key="maker"
    ),
    "overwrite payload": lambda client, name: client.overwrite_payload(name, {"z": 0.5}, [ID]),
    "overwrite payload where": lambda client, name: client.overwrite_payload(name, {}, RED),
    "delete payload": lambda client, name: client.delete_payload(name, ["price"], [ID, UUID]),
    "delete payload inside": lambda client, name: client.delete_payload(
        name, ["maker.name", "story"], RED
    ),
    "clear payload": lambda client, name: client.clear_payload(name, [ID]),
    "clear payload where": lambda client, name: client.clear_payload(name, RED),
    "delete": lambda client, name: client.delete(name, [ID, UUID, 12345]),
    "delete where": lambda client, name: client.delete(name, RED),
    "batch": lambda client, name: client.batch_update_points(name, OPERATIONS),
    "upload": lambda client, name: client.upload_points(name, world.points(9), batch_size=13),
    "drop a vector name": lambda client, name: client.delete_vector_name(name, "image"),
    "add a vector name": lambda client, name: client.create_vector_name(
        name,
        "extra",
        models.DenseVectorNameConfig(
            dense=models.DenseVectorConfig(size=3, distance=models.Distance.DOT)
        ),
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_write(pair, write):
    for client in (pair.local, pair.remote):
        write(client, pair.name)
    assert pair.agree(everything)


READS: dict[str, Callable[[QdrantClient, str], Any]] = {
    "retrieve": lambda client, name: client.retrieve(name, [ID, UUID, 4000, 1]),
    "retrieve some": lambda client, name: client.retrieve(
        name, [ID], with_payload=["maker.year"], with_vectors=["terms", "tokens"]
    ),
    "scroll": lambda client, name: client.scroll(name, limit=4, offset=9),
    "scroll from a uuid": lambda client, name: client.scroll(name, limit=4, offset=UUID),
    "scroll where": lambda client, name: client.scroll(name, RED, limit=3, with_payload=False),
    "count": lambda client, name: client.count(name, RED),
    "pairs": lambda client, name: client.search_matrix_pairs(
        name, sample=100, limit=4, using="text"
    ),
    "offsets": lambda client, name: client.search_matrix_offsets(
        name, RED, sample=100, limit=2, using="terms"
    ),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_read(pair, read):
    assert pair.agree(read)


def test_reads_that_need_an_index(pair):
    for field, schema in world.INDEXES.items():
        pair.remote.create_payload_index(pair.name, field, schema)
    assert pair.agree(lambda client, name: client.facet(name, "colour"))["hits"]
    assert pair.agree(lambda client, name: client.facet(name, "tags", RED, limit=3))["hits"]
    assert pair.agree(lambda client, name: client.facet(name, "sold"))["hits"]
    assert pair.agree(lambda client, name: client.scroll(name, limit=5, order_by="rank"))
    after = models.OrderBy(key="price", direction=models.Direction.DESC, start_from=50.0)
    assert pair.agree(lambda client, name: client.scroll(name, limit=5, order_by=after))


def test_one_unnamed_vector(pair):
    unnamed = Pair(pair.local, pair.remote, unique_name("unnamed"), "")
    points = [models.PointStruct(id=i, vector=world.dense(RNG, 6)) for i in range(20)]
    for client in (pair.local, pair.remote):
        params = models.VectorParams(size=6, distance=models.Distance.MANHATTAN)
        client.create_collection(unnamed.name, params)
        client.upsert(unnamed.name, points)
    assert unnamed.agree(everything)
    assert unnamed.agree(lambda client, name: client.query_points(name, 3, with_vectors=True))
    pair.remote.delete_collection(unnamed.name)
