"""Through an identity adapter, every call and every kind of query answers as the plain client.

Policies are set so that as much as possible goes through the adapter: if a vector were put in
another's place, lost, or changed beside the way, an answer would differ.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import helper
from qdrant_client import QdrantClient, models

from tests.support.onnx_models import MANIFEST, graph_model
from tests.support.qdrant import world
from tests.support.qdrant.agreement import order_ties, plain, same
from tests.support.qdrant.fixtures import connect, unique_name
from trimtab import AdaptedQdrantClient, Adapter, Policies
from trimtab.rewrite import Reason

RNG = np.random.default_rng(3)
TEXT, OTHER, IMAGE = world.dense(RNG, 24), world.dense(RNG, 24), world.dense(RNG, 32)
TOKENS, TERMS = world.tokens(RNG), world.sparse(RNG)
ID = 5
EVERYTHING = Policies(examples="always", multivector="rows")
PAIR = models.ContextPair(positive=TEXT, negative=ID)

Ask = Callable[[QdrantClient, str], Any]


def identity(dim: int) -> Adapter:
    node = helper.make_node("Identity", ["query"], ["adapted"])
    said = replace(MANIFEST, dim_in=dim, dim_out=dim, use="relevance")
    return Adapter.from_bytes(graph_model([node], [], said).SerializeToString())


@pytest.fixture(scope="module", params=["rest", "grpc", "memory"])
def clients(
    request: pytest.FixtureRequest, qdrant: Any
) -> Iterator[tuple[QdrantClient, AdaptedQdrantClient, str]]:
    way = request.param
    official = QdrantClient(":memory:") if way == "memory" else connect(qdrant, grpc=way == "grpc")
    name = unique_name("identity")
    official.create_collection(
        name,
        vectors_config=world.vectors_config(),
        sparse_vectors_config=world.sparse_config(),
    )
    official.upsert(name, world.points())
    dims = {vector: params.size for vector, params in world.vectors_config().items()}
    routes = {(name, vector): identity(dim) for vector, dim in dims.items()}
    yield official, AdaptedQdrantClient(official, routes, policies=EVERYTHING), name
    official.delete_collection(name)
    official.close()


def query(**arguments: Any) -> Ask:
    return lambda client, name: client.query_points(name, **arguments).points


def text(value: Any, **more: Any) -> Ask:
    return query(query=value, using="text", **more)


def recommend(strategy: str, *positive: Any) -> Ask:
    return text(
        models.RecommendQuery(
            recommend=models.RecommendInput(
                positive=list(positive),
                negative=[OTHER],
                strategy=models.RecommendStrategy(strategy),
            )
        )
    )


def feedback() -> models.RelevanceFeedbackQuery:
    return models.RelevanceFeedbackQuery(
        relevance_feedback=models.RelevanceFeedbackInput(
            target=TEXT,
            feedback=[
                models.FeedbackItem(example=OTHER, score=0.9),
                models.FeedbackItem(example=ID, score=0.1),
            ],
            strategy=models.NaiveFeedbackStrategy(
                naive=models.NaiveFeedbackStrategyParams(a=1.0, b=1.0, c=1.0)
            ),
        )
    )


TWO = [
    models.Prefetch(query=TEXT, using="text", limit=30),
    models.Prefetch(query=TERMS, using="terms", limit=30),
]
NESTED = models.Prefetch(
    query=IMAGE,
    using="image",
    limit=20,
    prefetch=[models.Prefetch(query=TEXT, using="text", limit=40)],
)
BATCH = [
    models.QueryRequest(query=TEXT, using="text", limit=4),
    models.QueryRequest(query=models.NearestQuery(nearest=IMAGE), using="image", limit=4),
    models.QueryRequest(query=ID, using="text", limit=4),
    models.QueryRequest(prefetch=[NESTED], query=OTHER, using="text", limit=4),
]

ASKS: dict[str, tuple[Ask, int]] = {
    "list": (text(TEXT), 1),
    "array": (text(np.array(TEXT, dtype=np.float32)), 1),
    "nearest": (text(models.NearestQuery(nearest=TEXT)), 1),
    "mmr": (text(models.NearestQuery(nearest=TEXT, mmr=models.Mmr(diversity=0.4))), 1),
    "id": (text(ID), 0),
    "sparse": (query(query=TERMS, using="terms"), 0),
    "multivector": (query(query=TOKENS, using="tokens"), 1),
    "recommend average": (recommend("average_vector", TEXT, ID), 2),
    "recommend best": (recommend("best_score", TEXT, ID), 2),
    "recommend sum": (recommend("sum_scores", TEXT, ID), 2),
    "discover": (
        text(models.DiscoverQuery(discover=models.DiscoverInput(target=TEXT, context=[PAIR]))),
        2,
    ),
    "context": (text(models.ContextQuery(context=[PAIR])), 1),
    "feedback": (text(feedback()), 2),
    "fusion": (query(query=models.FusionQuery(fusion=models.Fusion.RRF), prefetch=TWO), 1),
    "dbsf": (query(query=models.FusionQuery(fusion=models.Fusion.DBSF), prefetch=TWO), 1),
    "weighted rrf": (
        query(query=models.RrfQuery(rrf=models.Rrf(k=10, weights=[2.0, 1.0])), prefetch=TWO),
        1,
    ),
    "rescored": (text(OTHER, prefetch=NESTED), 3),
    "formula": (
        query(
            query=models.FormulaQuery(
                formula=models.SumExpression(
                    sum=["$score", models.MultExpression(mult=[0.1, "price"])]
                ),
                defaults={"price": 1.0},
            ),
            prefetch=TWO[:1],
        ),
        1,
    ),
    "order by": (query(query=models.OrderByQuery(order_by="price")), 0),
    "nothing": (query(), 0),
    "filtered": (
        text(
            TEXT,
            query_filter=models.Filter(
                must=[models.FieldCondition(key="price", range=models.Range(lt=60))]
            ),
            with_vectors=["image"],
            with_payload=["colour"],
            score_threshold=-1.0,
            offset=2,
            limit=5,
        ),
        1,
    ),
    "batch": (lambda client, name: client.query_batch_points(name, BATCH), 5),
    "groups": (
        lambda client, name: client.query_points_groups(
            name, "colour", query=TEXT, using="text", prefetch=[NESTED], limit=3
        ),
        3,
    ),
    "scroll": (lambda client, name: client.scroll(name, limit=7, with_vectors=True), 0),
    "count": (lambda client, name: client.count(name), 0),
    "retrieve": (lambda client, name: client.retrieve(name, [1, 2], with_vectors=True), 0),
    "facet": (lambda client, name: client.facet(name, "colour"), 0),
    "info": (lambda client, name: client.get_collection(name).config.params, 0),
}


TIED = {"fusion", "weighted rrf"}
"""Ranks alone make the score, so several points share one, in any order."""


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect")
@pytest.mark.parametrize("what", ASKS)
def test_every_call_answers_as_the_plain_client(
    clients: tuple[QdrantClient, AdaptedQdrantClient, str], what: str
) -> None:
    official, adapted, name = clients
    ask, n_adapted = ASKS[what]
    if what in {"order by", "facet"} and not is_local(official):
        kind = "float" if what == "order by" else "keyword"
        official.create_payload_index(name, "price" if kind == "float" else "colour", kind)
    before = count_adapted(adapted)
    want, got = plain(ask(official, name)), plain(ask(adapted, name))
    if what in TIED:
        want, got = order_ties(want), order_ties(got)
    assert same(got, want), f"adapted: {got}\nplain: {want}"
    assert count_adapted(adapted) - before == n_adapted


def count_adapted(client: AdaptedQdrantClient) -> int:
    counted = (Reason.ADAPTED, Reason.ADAPTED_FEEDBACK)
    return sum(client.decisions.get(reason, 0) for reason in counted)


def is_local(client: QdrantClient) -> bool:
    return client.init_options["location"] == ":memory:"
