"""The same points in a FAISS collection and in Qdrant's engine, behind the official client."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.support.faiss_collections import build_index, serving, vectors_of, write_collection
from tests.support.qdrant import world
from tests.support.qdrant.agreement import Ask, Pair
from tests.support.qdrant.fixtures import KEPT_OPEN, connect, unique_name
from tests.support.qdrant.process import Server
from trimtab.faiss_collections import Collections

MakePair = Callable[..., Pair]

DIM, N_POINTS = 16, world.N_POINTS
VECTORS = vectors_of(N_POINTS, DIM)
QUERY, OTHER = (row.tolist() for row in vectors_of(2, DIM, seed=6))
ID, UUID = 5, "00000000-0000-4000-8000-000000000014"
DISTANCES = {
    "Cosine": models.Distance.COSINE,
    "Dot": models.Distance.DOT,
    "Euclid": models.Distance.EUCLID,
    "Manhattan": models.Distance.MANHATTAN,
}
INDEXES = world.INDEXES | {"maker.year": models.PayloadSchemaType.INTEGER}


def ids() -> list[int | str]:
    return [i if i % 7 else f"00000000-0000-4000-8000-{i:012d}" for i in range(N_POINTS)]


def payloads() -> list[dict[str, Any]]:
    rng = np.random.default_rng(7)
    made = [world.payload(rng, i) for i in range(N_POINTS)]
    for i in range(0, N_POINTS, 5):
        made[i] |= {"mixed": [i, str(i), None, 1.5, i % 2 == 0], "none": []}
    return made


@contextlib.contextmanager
def making_pairs(server: Server, folders: pytest.TempPathFactory) -> Iterator[MakePair]:
    """Makes a pair for a distance and a kind of index, once each; clears all away at the end."""
    made: dict[tuple[str, str], Pair] = {}
    engine = connect(server)
    fronts = []

    def make(distance: str, kind: str = "Flat") -> Pair:
        if (distance, kind) not in made:
            folder: Path = folders.mktemp("faiss")
            name = unique_name("faiss")
            made[distance, kind] = Pair(engine, serve(folder, distance, kind, name), name)
            engine.create_collection(
                name, models.VectorParams(size=DIM, distance=DISTANCES[distance])
            )
            points = zip(ids(), VECTORS.tolist(), payloads(), strict=True)
            engine.upsert(
                name,
                [models.PointStruct(id=i, vector=vector, payload=p) for i, vector, p in points],
            )
            for field, schema in INDEXES.items():
                engine.create_payload_index(name, field, schema)
        return made[distance, kind]

    def serve(folder: Path, distance: str, kind: str, name: str) -> QdrantClient:
        index = build_index(kind, VECTORS, distance)
        settings = write_collection(folder, index, ids(), payloads(), name)
        front = serving(Collections.load([settings], alone=True))
        url = front.__enter__()
        client = QdrantClient(url=url, check_compatibility=False, limits=KEPT_OPEN)
        fronts.append((client, front))
        return client

    yield make
    for client, _ in fronts:
        client.close()
    with ThreadPoolExecutor(len(fronts) or 1) as pool:  # each looks up seldom whether it shall end
        list(pool.map(lambda each: each[1].__exit__(None, None, None), fronts))
    for pair in made.values():
        engine.delete_collection(pair.name)
    engine.close()


def query(**arguments: Any) -> Ask:
    return lambda client, name: client.query_points(name, **arguments).points


def field(key: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, **condition)


def must(*conditions: Any) -> models.Filter:
    return models.Filter(must=list(conditions))


RED = must(field("colour", match=models.MatchValue(value="red")))
CHEAP = must(field("price", range=models.Range(lt=60)))
