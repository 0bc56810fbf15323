"""One adapter, one ranking: the adapted client's against exact search, on scifact.

The set lies outside of the repository; without it the test skips.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qdrant_client import QdrantClient, models

from tests.support.qdrant.fixtures import connect, unique_name
from tests.support.qdrant.process import Server
from trimtab import AdaptedQdrantClient, Adapter
from trimtab_training.adapters import LinearAdapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.evaluation.evaluate import evaluate_model
from trimtab_training.export.onnx_export import describe_adapter, export_adapter
from trimtab_training.retrieval.exact_search import search
from trimtab_training.retrieval.metrics import grades_of, ndcg

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "scifact"
K = 10
SCORE_GAP = 1e-5  # float32 sums of 384 products, in another order
BATCH = 50

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="scifact's vectors are not beside this checkout (../shared/data)"
)


class World:
    """The set, an adapter that reorders it, and what exact search finds."""

    def __init__(self) -> None:
        self.dataset = Dataset.load(FOLDER)
        self.embeddings = Embeddings.open(FOLDER / "embeddings")
        self.content = make_model(self.embeddings)
        self.adapter = Adapter.from_bytes(self.content)
        self.labels = self.dataset.split("test")
        self.queries = self.embeddings.queries.take_ids(list(self.labels))
        adapted = self.adapter.transform(self.queries)
        documents = self.embeddings.documents
        self.said = evaluate_model(self.content, self.dataset, self.embeddings, split="test")
        self.rows, self.scores = search(adapted, documents, depth=3 * K, similarity="cosine")


def make_model(embeddings: Embeddings) -> bytes:
    adapter = LinearAdapter(embeddings.queries.dim)
    noise = np.random.default_rng(1).standard_normal((adapter.dim_in, adapter.dim_in))
    adapter.difference.data = torch.from_numpy((noise / adapter.dim_in).astype(np.float32))
    said = describe_adapter(adapter, embeddings.encoder, name="noise", similarity="cosine")
    return export_adapter(adapter, said)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module", params=["rest", "grpc", "memory"])
def answers(request: pytest.FixtureRequest, world: World, qdrant: Server) -> Iterator[Any]:
    """What the adapted client finds for each query."""
    way = request.param
    plain = QdrantClient(":memory:") if way == "memory" else connect(qdrant, grpc=way == "grpc")
    name = unique_name("scifact")
    documents = world.embeddings.documents
    params = models.VectorParams(size=documents.dim, distance=models.Distance.COSINE)
    plain.create_collection(name, vectors_config=params)
    for start, block in documents.blocks(1000):
        plain.upsert(
            name,
            models.Batch(ids=list(range(start, start + len(block))), vectors=block.tolist()),
        )
    adapted = AdaptedQdrantClient(plain, {name: world.adapter})
    yield ask(adapted, name, world.queries)
    plain.delete_collection(name)
    plain.close()


def ask(client: QdrantClient, name: str, queries: np.ndarray) -> list[Any]:
    params = None if is_local(client) else models.SearchParams(exact=True)
    found = []
    for start in range(0, len(queries), BATCH):
        requests = [
            models.QueryRequest(query=query.tolist(), limit=K, params=params)
            for query in queries[start : start + BATCH]
        ]
        found += client.query_batch_points(name, requests)
    return [response.points for response in found]


def is_local(client: QdrantClient) -> bool:
    return client.init_options["location"] == ":memory:"


def test_the_ranking_is_that_of_exact_search_up_to_ties(world: World, answers: list[Any]) -> None:
    for number, points in enumerate(answers):
        got = np.array([point.score for point in points])
        assert np.allclose(got, world.scores[number, :K], atol=SCORE_GAP)
        exact = dict(zip(world.rows[number].tolist(), world.scores[number].tolist(), strict=True))
        for point in points:  # a document in another's place has the same score
            assert exact[point.id] == pytest.approx(point.score, abs=SCORE_GAP)


def test_ndcg_is_what_evaluate_says_of_the_same_file(world: World, answers: list[Any]) -> None:
    said = world.said
    rows = np.array([[point.id for point in points] for points in answers])
    documents = world.embeddings.documents
    relevant = [
        {documents.rows[name]: grade for name, grade in labels.items() if grade > 0}
        for labels in world.labels.values()
    ]
    measured = ndcg(grades_of(rows, relevant), relevant, K).mean()
    assert measured == pytest.approx(said.metrics["ndcg@10"].adapted, abs=1e-6)
    assert measured != pytest.approx(said.metrics["ndcg@10"].base, abs=1e-6)
