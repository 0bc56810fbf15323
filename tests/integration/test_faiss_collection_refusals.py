"""What Qdrant has and a served FAISS file has not is refused in one way, whatever asks for it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.support.faiss_collections import build_index, serving, vectors_of, write_collection
from trimtab.faiss_collections import Collections

NAME = "papers"
VECTORS = vectors_of(40, 4)
V, W = VECTORS[:2].tolist()
PAIR = models.ContextPair(positive=V, negative=W)
FIRST = models.Prefetch(query=V, limit=9)


def recommend(strategy: models.RecommendStrategy) -> models.RecommendQuery:
    return models.RecommendQuery(
        recommend=models.RecommendInput(positive=[3], negative=[W], strategy=strategy)
    )


QUERIES: dict[str, tuple[str, Any]] = {
    **{
        f"recommend by {each.value}": ("`recommend`", recommend(each))
        for each in models.RecommendStrategy
    },
    "discover": (
        "`discover`",
        models.DiscoverQuery(discover=models.DiscoverInput(target=V, context=[PAIR])),
    ),
    "context": ("`context`", models.ContextQuery(context=[PAIR])),
    "order_by": ("`order_by`", models.OrderByQuery(order_by="n")),
    "sample": ("`sample`", models.SampleQuery(sample=models.Sample.RANDOM)),
    "rrf": ("`fusion`", models.FusionQuery(fusion=models.Fusion.RRF)),
    "dbsf": ("`fusion`", models.FusionQuery(fusion=models.Fusion.DBSF)),
    "weighted rrf": ("`rrf`", models.RrfQuery(rrf=models.Rrf(k=5, weights=[3.0]))),
    "formula": ("a formula", models.FormulaQuery(formula="$score")),
    "feedback": (
        "relevance feedback",
        models.RelevanceFeedbackQuery(
            relevance_feedback=models.RelevanceFeedbackInput(
                target=V,
                feedback=[models.FeedbackItem(example=3, score=1.0)],
                strategy=models.NaiveFeedbackStrategy(
                    naive=models.NaiveFeedbackStrategyParams(a=1.0, b=1.0, c=1.0)
                ),
            )
        ),
    ),
}

Send = Callable[[QdrantClient, Any], Any]


def batch(client: QdrantClient, *requests: models.QueryRequest) -> Any:
    return client.query_batch_points(NAME, [models.QueryRequest(query=V), *requests])


FORMS: dict[str, Send] = {
    "query": lambda client, asked: client.query_points(NAME, query=asked),
    "query over a prefetch": lambda client, asked: client.query_points(
        NAME, prefetch=FIRST, query=asked
    ),
    "prefetch": lambda client, asked: client.query_points(
        NAME, prefetch=[FIRST, models.Prefetch(query=asked)], query=V
    ),
    "batch": lambda client, asked: batch(client, models.QueryRequest(query=asked)),
    "prefetch in a batch": lambda client, asked: batch(
        client, models.QueryRequest(prefetch=models.Prefetch(query=asked), query=V)
    ),
    "groups": lambda client, asked: client.query_points_groups(NAME, "n", query=asked),
    "groups over a prefetch": lambda client, asked: client.query_points_groups(
        NAME, "n", prefetch=models.Prefetch(query=asked), query=V
    ),
}

NESTED = models.Prefetch(prefetch=FIRST, query=W)


def post(path: str, **body: Any) -> Callable[[QdrantClient], Any]:
    return lambda client: client.http.client.request(
        type_=object,
        method="POST",
        url="/collections/" + NAME + path,
        content=json.dumps(body),
        headers={"content-type": "application/json"},
    )


CALLS: dict[str, tuple[str, Callable[[QdrantClient], Any]]] = {
    "facet": ("`facet`", lambda client: client.facet(NAME, "n")),
    "scroll in an order": ("`order_by`", lambda client: client.scroll(NAME, order_by="n")),
    "nested": (
        "a prefetch inside a prefetch",
        lambda client: client.query_points(NAME, prefetch=NESTED, query=V),
    ),
    "nested beside a plain one": (
        "a prefetch inside a prefetch",
        lambda client: client.query_points(NAME, prefetch=[FIRST, NESTED], query=V),
    ),
    "nested in a batch": (
        "a prefetch inside a prefetch",
        lambda client: batch(client, models.QueryRequest(prefetch=[NESTED], query=V)),
    ),
    "nested under groups": (
        "a prefetch inside a prefetch",
        lambda client: client.query_points_groups(NAME, "n", prefetch=NESTED, query=V),
    ),
    "recommend": ("`recommend`", post("/points/recommend", positive=[3], limit=2)),
    "recommend batch": (
        "`recommend`",
        post("/points/recommend/batch", searches=[{"positive": [3], "limit": 2}]),
    ),
    "recommend groups": (
        "`recommend`",
        post("/points/recommend/groups", positive=[3], limit=2, group_by="n", group_size=2),
    ),
    "discover": ("`discover`", post("/points/discover", target=V, limit=2)),
    "discover batch": (
        "`discover`",
        post("/points/discover/batch", searches=[{"target": V, "limit": 2}]),
    ),
    "matrix by pairs": (
        "a distance matrix",
        lambda client: client.search_matrix_pairs(NAME, sample=5, limit=2),
    ),
    "matrix by offsets": (
        "a distance matrix",
        lambda client: client.search_matrix_offsets(NAME, sample=5, limit=2),
    ),
    "words": ("a BM25 text query", post("/points/query", query={"text": "words"}, using="text")),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantClient]:
    settings = write_collection(
        tmp_path_factory.mktemp("refusals"),
        build_index("Flat", VECTORS),
        payloads=[{"n": row % 4} for row in range(len(VECTORS))],
        name=NAME,
    )
    with serving(Collections.load([settings], alone=True)) as url:
        client = QdrantClient(url=url, check_compatibility=False)
        yield client
        client.close()


def assert_refused(what: str, send: Callable[[], Any]) -> None:
    """One status and one sentence: what is not done, and where it is."""
    with pytest.raises(UnexpectedResponse) as refused:
        send()
    assert refused.value.status_code == 400
    answer = refused.value.structured()
    assert answer["result"] is None
    assert answer["status"]["error"] == (
        f"Bad request: {what} can't be done on a FAISS index; search it in process "
        "(`AdaptedIndex`), or load its vectors into Qdrant"
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", QUERIES)
def test_queries_that_are_not_nearest_are_refused(
    client: QdrantClient, kind: str, form: str
) -> None:
    what, asked = QUERIES[kind]
    assert_refused(what, lambda: FORMS[form](client, asked))


@pytest.mark.parametrize("kind", CALLS)
def test_calls_that_are_not_served_are_refused(client: QdrantClient, kind: str) -> None:
    what, send = CALLS[kind]
    assert_refused(what, lambda: send(client))


def test_what_the_server_would_not_look_at_is_not_refused(client: QdrantClient) -> None:
    order = {"order_by": "n"}
    for send in (
        post("/points/query", query={"nearest": V, **order}, searches=[{"query": order}]),
        post("/points/query", query=V, prefetch={"query": W, "prefetch": []}, **order),
        post("/points/search", vector=V, limit=2, query=order, prefetch={"prefetch": {}}),
        post("/points/count", **order),
    ):
        assert send(client)["status"] == "ok"
