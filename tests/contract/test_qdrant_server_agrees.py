"""Our Qdrant server and the official client's local mode give one answer, over REST and gRPC.

In the style of qdrant-client's own congruence tests: each call is made on both clients. Local
mode is brute force in numpy, written from the server's source by others, so it knows nothing of
our conversions. With ``QDRANT_URL`` set, the same calls compare local mode with that server.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.support.qdrant import world
from tests.support.qdrant.agreement import Ask, Pair, order_ties
from tests.support.qdrant.fixtures import connect, qdrant, unique_name  # noqa: F401

RNG = np.random.default_rng(11)
TEXT, IMAGE, CODE = (world.dense(RNG, dim) for dim in world.DENSE.values())
TOKENS, TERMS = world.tokens(RNG), world.sparse(RNG)
ID, UUID = 5, "00000000-0000-4000-8000-000000000014"


@pytest.fixture(scope="module", params=["rest", "grpc"])
def pair(qdrant, request) -> Iterator[Pair]:  # noqa: F811
    local = QdrantClient(":memory:")
    remote = connect(qdrant, grpc=request.param == "grpc")
    pair = Pair(local, remote, unique_name("agree"), unique_name("other"))
    for client in (local, remote):
        for name, seed in ((pair.name, 7), (pair.other, 8)):
            client.create_collection(
                name,
                vectors_config=world.vectors_config(),
                sparse_vectors_config=world.sparse_config(),
            )
            client.upsert(name, world.points(seed))
    for field, schema in (world.INDEXES | world.TEXT_INDEX).items():
        remote.create_payload_index(pair.name, field, schema)
    with warnings.catch_warnings(action="ignore"):  # local mode has no other kind of index
        for field, schema in world.TEXT_INDEX.items():
            local.create_payload_index(pair.name, field, schema)
    yield pair
    for name in (pair.name, pair.other):
        remote.delete_collection(name)
    remote.close()
    local.close()


def query(**arguments: Any) -> Ask:
    return lambda client, name: client.query_points(name, **arguments).points


def field(key: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, **condition)


def must(*conditions: Any) -> models.Filter:
    return models.Filter(must=list(conditions))


RED = must(field("colour", match=models.MatchValue(value="red")))
CHEAP = must(field("price", range=models.Range(lt=60)))
PAIRS = [
    models.ContextPair(positive=ID, negative=8),
    models.ContextPair(positive=12, negative=UUID),
]


def recommend(strategy: models.RecommendStrategy | None, using: str, *examples: Any) -> Ask:
    positive, negative = examples
    chosen = models.RecommendInput(positive=positive, negative=negative, strategy=strategy)
    return query(query=models.RecommendQuery(recommend=chosen), using=using, limit=9)


QUERIES: dict[str, Ask] = {
    "cosine": query(query=TEXT, using="text", limit=15),
    "dot": query(query=IMAGE, using="image", limit=15),
    "euclid": query(query=CODE, using="code", limit=15),
    "multivector": query(query=TOKENS, using="tokens", limit=15),
    "sparse": query(query=TERMS, using="terms", limit=15),
    "sparse idf": query(query=TERMS, using="idf", limit=15),
    "nearest object": query(query=models.NearestQuery(nearest=TEXT), using="text"),
    "numpy": query(query=np.asarray(TEXT, np.float32), using="text"),
    "offset": query(query=TEXT, using="text", limit=5, offset=7),
    "threshold": query(query=TEXT, using="text", limit=50, score_threshold=0.2),
    "threshold of a distance": query(query=CODE, using="code", limit=50, score_threshold=5.0),
    "filter": query(query=TEXT, using="text", query_filter=RED),
    "by id": query(query=ID, using="text", limit=8),
    "by uuid": query(query=UUID, using="text", limit=8),
    "by id, sparse": query(query=ID, using="terms", limit=8),
    "by id, multivector": query(query=ID, using="tokens", limit=8),
    "by id and filter": query(query=ID, using="text", query_filter=CHEAP),
    "no query": query(limit=12),
    "no query, filter": query(limit=12, query_filter=RED, offset=2),
    "vectors": query(query=TEXT, using="text", limit=3, with_vectors=True),
    "vectors by name": query(query=TEXT, using="text", limit=3, with_vectors=["code", "terms"]),
    "payload fields": query(query=TEXT, using="text", with_payload=["colour", "maker.name"]),
    "payload without": query(
        query=TEXT, using="text", with_payload=models.PayloadSelectorExclude(exclude=["story"])
    ),
    "payload none": query(query=TEXT, using="text", with_payload=False),
    "mmr": query(
        query=models.NearestQuery(nearest=TEXT, mmr=models.Mmr(diversity=0.6, candidates_limit=40)),
        using="text",
        limit=8,
    ),
    "mmr by id": query(
        query=models.NearestQuery(nearest=ID, mmr=models.Mmr(diversity=0.3, candidates_limit=40)),
        using="image",
        with_vectors=["image"],
        limit=8,
    ),
    "recommend average": recommend(None, "text", [ID, 12], [20]),
    "recommend average, raw": recommend(None, "text", [ID, TEXT], [world.dense(RNG, 24)]),
    "recommend average, sparse": recommend(None, "terms", [ID, 12], [20]),
    "recommend average, multivector": recommend(None, "tokens", [ID, 12], [20]),
    "recommend best score": recommend(
        models.RecommendStrategy.BEST_SCORE, "text", [ID, TEXT], [UUID]
    ),
    "recommend best score, negatives": recommend(
        models.RecommendStrategy.BEST_SCORE, "text", [], [UUID, 12]
    ),
    "recommend sum scores": recommend(
        models.RecommendStrategy.SUM_SCORES, "image", [ID, IMAGE], [UUID]
    ),
    "recommend sum scores, sparse": recommend(
        models.RecommendStrategy.SUM_SCORES, "terms", [ID, TERMS], [UUID]
    ),
    "discover": query(
        query=models.DiscoverQuery(discover=models.DiscoverInput(target=TEXT, context=PAIRS)),
        using="text",
    ),
    "discover by id": query(
        query=models.DiscoverQuery(discover=models.DiscoverInput(target=30, context=PAIRS[0])),
        using="text",
    ),
    "order by": query(query=models.OrderByQuery(order_by="rank"), limit=7),
    "order by, descending": query(
        query=models.OrderByQuery(
            order_by=models.OrderBy(key="rank", direction=models.Direction.DESC, start_from=60)
        ),
        limit=7,
    ),
    "mmr by id, other vectors": query(
        query=models.NearestQuery(nearest=ID, mmr=models.Mmr(diversity=0.3, candidates_limit=40)),
        using="image",
        with_vectors=["code"],
        limit=8,
    ),
    "relevance feedback": query(
        query=models.RelevanceFeedbackQuery(
            relevance_feedback=models.RelevanceFeedbackInput(
                target=TEXT,
                feedback=[
                    models.FeedbackItem(example=ID, score=0.9),
                    models.FeedbackItem(example=world.dense(RNG, 24), score=0.2),
                ],
                strategy=models.NaiveFeedbackStrategy(
                    naive=models.NaiveFeedbackStrategyParams(a=0.12, b=0.43, c=0.16)
                ),
            )
        ),
        using="text",
    ),
}


@pytest.mark.parametrize("ask", QUERIES.values(), ids=QUERIES)
def test_query(pair, ask):
    assert pair.agree(ask)


def test_context_query_scores_alike(pair):
    """Many points score 0 together, so only the scores have an order."""
    ask = query(query=models.ContextQuery(context=PAIRS), using="text", limit=40)
    pair.agree(lambda client, name: [point.score for point in ask(client, name)])


def test_text_query_scores_alike(pair):
    """Stories are short, so many points share a score."""
    text = models.TextQueryInput(
        query="keel anchor", scoring=models.Bm25Scoring(bm25=models.Bm25Params(k=1.5, b=0.6))
    )
    ask = query(query=models.TextQuery(text=text), using="story", limit=30, query_filter=CHEAP)
    pair.agree(lambda client, name: [point.score for point in ask(client, name)])


def prefetch(using: str, value: Any, **more: Any) -> models.Prefetch:
    return models.Prefetch(query=value, using=using, **{"limit": 30, **more})


HYBRID = [prefetch("text", TEXT), prefetch("terms", TERMS)]
SCORE_AND_PRICE = models.SumExpression(
    sum=[
        "$score",
        models.MultExpression(mult=[0.01, "price"]),
        models.MultExpression(mult=[0.5, RED]),
    ]
)
PREFETCHES: dict[str, Ask] = {
    "rescored": query(prefetch=prefetch("text", TEXT), query=CODE, using="code"),
    "rrf": query(prefetch=HYBRID, query=models.FusionQuery(fusion=models.Fusion.RRF)),
    "dbsf": query(prefetch=HYBRID, query=models.FusionQuery(fusion=models.Fusion.DBSF)),
    "rrf with k": query(prefetch=HYBRID, query=models.RrfQuery(rrf=models.Rrf(k=60))),
    "rrf with weights": query(
        prefetch=HYBRID, query=models.RrfQuery(rrf=models.Rrf(weights=[3.0, 1.0]))
    ),
    "rrf, threshold and offset": query(
        prefetch=HYBRID,
        query=models.FusionQuery(fusion=models.Fusion.RRF),
        score_threshold=0.05,
        offset=2,
        with_vectors=["text"],
    ),
    "nested": query(
        prefetch=models.Prefetch(
            prefetch=[prefetch("text", TEXT, limit=60), prefetch("image", IMAGE, limit=60)],
            query=models.FusionQuery(fusion=models.Fusion.RRF),
            limit=40,
        ),
        query=TOKENS,
        using="tokens",
    ),
    "filters at two levels": query(
        prefetch=[prefetch("text", TEXT, filter=CHEAP), prefetch("code", ID, filter=RED)],
        query=models.FusionQuery(fusion=models.Fusion.RRF),
        query_filter=must(field("sold", match=models.MatchValue(value=True))),
    ),
    "threshold inside": query(
        prefetch=prefetch("text", TEXT, score_threshold=0.15), query=IMAGE, using="image"
    ),
    "formula": query(
        prefetch=prefetch("text", TEXT, limit=50),
        query=models.FormulaQuery(formula=SCORE_AND_PRICE, defaults={"price": 1.0}),
    ),
    "formula of two scores": query(
        prefetch=HYBRID,
        query=models.FormulaQuery(
            formula=models.SumExpression(
                sum=[
                    "$score[0]",
                    models.DivExpression(div=models.DivParams(left="$score[1]", right=10.0)),
                ]
            ),
            defaults={"$score[0]": 0.0, "$score[1]": 0.0},
        ),
    ),
    "formula of distance": query(
        prefetch=prefetch("text", TEXT, limit=50),
        query=models.FormulaQuery(
            formula=models.GaussDecayExpression(
                gauss_decay=models.DecayParamsExpression(
                    x=models.GeoDistance(
                        geo_distance=models.GeoDistanceParams(
                            origin=models.GeoPoint(lon=0, lat=48), to="place"
                        )
                    ),
                    scale=500_000,
                )
            )
        ),
    ),
}


@pytest.mark.parametrize("ask", PREFETCHES.values(), ids=PREFETCHES)
def test_query_over_prefetches(pair, ask):
    assert pair.agree(ask, order_ties)  # first here and second there ties with the reverse


def test_batch(pair):
    requests = [
        models.QueryRequest(query=TEXT, using="text", limit=4, with_payload=True),
        models.QueryRequest(query=ID, using="image", limit=4, filter=RED),
        models.QueryRequest(
            prefetch=HYBRID, query=models.FusionQuery(fusion=models.Fusion.RRF), limit=4
        ),
    ]
    assert pair.agree(lambda client, name: client.query_batch_points(name, requests))


def test_lookup_from_another_collection(pair):
    where = models.LookupLocation(collection=pair.other, vector="text")
    assert pair.agree(query(query=ID, using="text", lookup_from=where))
    inner = prefetch("text", ID, lookup_from=where)
    assert pair.agree(query(prefetch=inner, query=CODE, using="code"))


@pytest.mark.parametrize("group_by", ["colour", "tags", "rank"])
def test_groups(pair, group_by):
    def ask(client: QdrantClient, name: str) -> Any:
        return client.query_points_groups(
            name, group_by, query=TEXT, using="text", limit=5, group_size=3, with_payload=["colour"]
        )

    assert pair.agree(ask)["groups"]


def test_groups_with_lookup(pair):
    def ask(client: QdrantClient, name: str) -> Any:
        lookup = models.WithLookup(collection=pair.other, with_payload=["colour", "rank"])
        return client.query_points_groups(
            name, "parts[].size", query=TEXT, using="text", limit=4, with_lookup=lookup
        )

    assert pair.agree(ask)["groups"]


def condition_filters() -> dict[str, models.Filter]:
    key, geo = field, models.GeoPoint
    ring = models.GeoLineString(points=[
        geo(lon=-5, lat=42), geo(lon=5, lat=42), geo(lon=5, lat=52), geo(lon=-5, lat=52),
        geo(lon=-5, lat=42),
    ])  # fmt: skip
    conditions = {
        "value": key("colour", match=models.MatchValue(value="teal")),
        "integer": key("rank", match=models.MatchValue(value=14)),
        "boolean": key("sold", match=models.MatchValue(value=False)),
        "any": key("colour", match=models.MatchAny(any=["red", "blue"])),
        "except": key("colour", match=models.MatchExcept(**{"except": ["red", "blue"]})),
        "text": key("story", match=models.MatchText(text="keel")),
        "text any": key("story", match=models.MatchTextAny(text_any="keel mast")),
        "range": key("price", range=models.Range(gte=20, lt=40.5)),
        "dates": key("date", range=models.DatetimeRange(gte="2024-05-01T00:00:00Z")),
        "box": key("place", geo_bounding_box=models.GeoBoundingBox(
            top_left=geo(lon=-4, lat=52), bottom_right=geo(lon=6, lat=44))),
        "radius": key("place", geo_radius=models.GeoRadius(
            center=geo(lon=0, lat=48), radius=400_000)),
        "polygon": key("place", geo_polygon=models.GeoPolygon(exterior=ring)),
        "count of values": key("tags", values_count=models.ValuesCount(gt=1)),
        "inside an object": key("maker.year", range=models.Range(gt=2005)),
        "inside a list": key("parts[].size", match=models.MatchValue(value=2)),
        "empty": models.IsEmptyCondition(is_empty=models.PayloadField(key="colour")),
        "null": models.IsNullCondition(is_null=models.PayloadField(key="note")),
        "ids": models.HasIdCondition(has_id=[ID, UUID, 33, 4000]),
        "vector": models.HasVectorCondition(has_vector="image"),
        "nested": models.NestedCondition(nested=models.Nested(
            key="parts", filter=must(key("name", match=models.MatchValue(value="keel")),
                                     key("size", match=models.MatchValue(value=2))))),
    }  # fmt: skip
    one, two = conditions["any"], conditions["range"]
    return {name: must(condition) for name, condition in conditions.items()} | {
        "should": models.Filter(should=[one, two]),
        "must not": models.Filter(must_not=[one, two]),
        "some of": models.Filter(
            min_should=models.MinShould(conditions=[one, two, conditions["boolean"]], min_count=2)
        ),
        "filter in a filter": must(models.Filter(should=[one, two]), conditions["boolean"]),
    }


FILTERS = condition_filters()


@pytest.mark.parametrize("chosen", FILTERS.values(), ids=FILTERS)
def test_filter(pair, chosen):
    assert pair.agree(lambda client, name: client.count(name, chosen))["count"]
    pair.agree(lambda client, name: client.scroll(name, chosen, limit=200))
    pair.agree(query(query=TEXT, using="text", query_filter=chosen, limit=200))
