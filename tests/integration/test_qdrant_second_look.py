"""A second look through the official Qdrant client, over its local mode and over the engine."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.context_headers import headers
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.support.onnx_models import linear_adapter
from tests.support.qdrant.fixtures import connect
from tests.support.qdrant.process import Server
from tests.support.second_looks import DEPTH, expected_scores, look_bytes
from trimtab import AdaptedQdrantClient, Adapter, AsyncAdaptedQdrantClient
from trimtab.errors import ConfigError
from trimtab.rewrite import Reason
from trimtab.routing.routes import MARK_HEADER, Route, Routes

DIM, N_POINTS, LIMIT, DOCS = 16, 60, 5, "looked-at"
VECTORS = np.random.default_rng(7).standard_normal((N_POINTS, 2, DIM)).astype(np.float32)
NAMES = ("", "title")


@pytest.fixture(scope="module")
def model() -> Adapter:
    return Adapter.from_bytes(look_bytes(DIM, DIM, use="relevance"))


@pytest.fixture(scope="module", params=["memory", "rest", "grpc"])
def client(request: pytest.FixtureRequest, standin: Server) -> Iterator[QdrantClient]:
    if request.param == "memory":
        client = QdrantClient(":memory:")
    else:
        client = connect(standin, grpc=request.param == "grpc")
    fill(client, DOCS)
    yield client
    client.delete_collection(DOCS)
    client.close()


def fill(client: QdrantClient, name: str) -> None:
    config = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    client.create_collection(DOCS, vectors_config=dict.fromkeys(NAMES, config))
    client.upsert(DOCS, points())


def points() -> list[models.PointStruct]:
    return [
        models.PointStruct(
            id=row,
            vector=dict(zip(NAMES, vectors.tolist(), strict=True)),
            payload={"group": row % 2},
        )
        for row, vectors in enumerate(VECTORS)
    ]


def query(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


def by_hand(
    model: Adapter, asked: np.ndarray, *, using: str = "", among: Any = slice(None)
) -> list[tuple[int, float]]:
    """Ids and scores: the best by the adapter, put in order by the formula."""
    rows = np.arange(N_POINTS)[among]
    stored = VECTORS[rows, NAMES.index(using)]
    cosines = stored @ model.transform(asked) / np.linalg.norm(stored, axis=1)
    best = np.argsort(-cosines)[:DEPTH]
    scores = expected_scores(model, asked, stored[best])
    order = np.argsort(-scores)
    return [(int(rows[best[at]]), pytest.approx(scores[at], abs=1e-5)) for at in order]


def close(answer: list[tuple[int, float]]) -> list[tuple[int, Any]]:
    """Expect an answer again: local mode sums in another order from call to call."""
    return [(point, pytest.approx(score, abs=1e-5)) for point, score in answer]


def found(response: Any) -> list[tuple[int, float]]:
    return [(point.id, point.score) for point in response.points]


@pytest.mark.parametrize("using", ["", "title"])
@pytest.mark.parametrize("kind", [np.ndarray.tolist, np.asarray, list])
def test_the_best_come_in_the_order_of_the_second_look(
    client: QdrantClient, model: Adapter, using: str, kind: Any
) -> None:
    routes = {DOCS: model, (DOCS, "title"): model}
    adapted = AdaptedQdrantClient(client, routes, second_look=True)
    answer = adapted.query_points(DOCS, kind(query()), using=using or None, limit=LIMIT)
    assert found(answer) == by_hand(model, query(), using=using)[:LIMIT]
    assert all(point.vector is None and "group" in point.payload for point in answer.points)
    assert adapted.second_looks == {"taken": 1}
    without = AdaptedQdrantClient(client, routes).query_points(DOCS, query(), using=using or None)
    assert found(without)[:LIMIT] != found(answer)


def test_pages_are_parts_of_one_order(client: QdrantClient, model: Adapter) -> None:
    adapted = AdaptedQdrantClient(client, {DOCS: model}, second_look=True)
    seen = [
        point
        for first in (0, 7, 14)
        for point in found(adapted.query_points(DOCS, query(), limit=7, offset=first))
    ]
    assert seen[:DEPTH] == by_hand(model, query())
    assert len(seen) == DEPTH + 1  # which is past the depth, as the first look has it


@pytest.mark.parametrize(
    ("wanted", "names"),
    [(True, {"", "title"}), (["title"], {"title"}), ([""], {""}), (False, None), (None, None)],
)
def test_vectors_are_given_as_they_were_asked_for(
    client: QdrantClient, model: Adapter, wanted: Any, names: set[str] | None
) -> None:
    adapted = AdaptedQdrantClient(client, {(DOCS, "title"): model}, second_look=True)
    asked = {"using": "title", "limit": 2, "with_vectors": wanted}
    answer = adapted.query_points(DOCS, query(), **asked)
    vectors = [point.vector for point in answer.points]
    assert [None if one is None else set(one) for one in vectors] == [names, names]
    assert adapted.second_looks == {"taken": 1}


def test_filters_and_arguments_by_position_go_along(client: QdrantClient, model: Adapter) -> None:
    adapted = AdaptedQdrantClient(client, {DOCS: model}, second_look=True)
    odd = models.Filter(must=[models.FieldCondition(key="group", match=models.MatchValue(value=1))])
    answer = adapted.query_points(DOCS, query(), None, None, odd, None, 3, 1, False)
    assert found(answer) == by_hand(model, query(), among=slice(1, None, 2))[1:4]
    assert not any(point.payload for point in answer.points)


def test_what_is_not_looked_at_twice_is_answered_as_ever_and_counted(
    client: QdrantClient, model: Adapter
) -> None:
    plain = AdaptedQdrantClient(client, {DOCS: model})
    adapted = AdaptedQdrantClient(client, {DOCS: model}, second_look=True)
    for asked in (
        {"query": 3},
        {"query": models.NearestQuery(nearest=query().tolist())},
        {"query": query(), "score_threshold": 0.1},
        {"query": query(), "prefetch": models.Prefetch(query=query(1).tolist(), limit=9)},
        {"query": query(), "using": "title"},
    ):
        wanted = close(found(plain.query_points(DOCS, **asked)))
        assert found(adapted.query_points(DOCS, **asked)) == wanted
    assert adapted.second_looks == {"other_query": 3, "score_threshold": 1, "no_route": 1}


def test_queries_of_other_methods_are_counted(client: QdrantClient, model: Adapter) -> None:
    adapted = AdaptedQdrantClient(client, {DOCS: model}, second_look=True)
    searches = [models.QueryRequest(query=query(seed).tolist(), limit=3) for seed in range(4)]
    adapted.query_batch_points(DOCS, requests=searches)
    adapted.query_points_groups(DOCS, "group", query=query())
    assert adapted.second_looks == {"batch": 4, "groups": 1}
    without = AdaptedQdrantClient(client, {DOCS: model})
    without.query_batch_points(DOCS, searches)
    without.query_points_groups(DOCS, group_by="group", query=query())
    assert without.second_looks == {}


@pytest.mark.parametrize(
    ("mode", "share", "outcome"),
    [
        ("off", None, "off"),
        ("shadow", None, "shadow"),
        ("canary", 0.0, "canary"),
        ("canary", 1.0, "taken"),
    ],
)
def test_a_query_is_looked_at_twice_where_its_route_adapts_it(
    client: QdrantClient, model: Adapter, mode: Any, share: float | None, outcome: str
) -> None:
    relevance = Route.make(DOCS, model, mode=mode, share=share)
    adapted = AdaptedQdrantClient(client, Routes([relevance]), second_look=True)
    answer = found(adapted.query_points(DOCS, query(), limit=LIMIT))
    if outcome == "taken":
        assert answer == by_hand(model, query())[:LIMIT]
    else:
        assert answer == close(found(client.query_points(DOCS, query(), limit=LIMIT)))
    assert adapted.second_looks == {outcome: 1}


def test_a_canary_draws_a_bare_vector_as_any_other(client: QdrantClient, model: Adapter) -> None:
    routes = Routes([Route.make(DOCS, model, mode="canary", share=0.5)])
    twice = AdaptedQdrantClient(client, routes, second_look=True)
    for seed in range(20):
        adapted = AdaptedQdrantClient(client, routes)
        adapted.query_batch_points(DOCS, [models.QueryRequest(query=query(seed).tolist())])
        before = twice.second_looks.get("taken", 0)
        twice.query_points(DOCS, query(seed).astype(np.float64))
        is_taken = twice.second_looks.get("taken", 0) > before
        assert adapted.decisions == {Reason.ADAPTED if is_taken else Reason.CANARY: 1}
    assert set(twice.second_looks) == {"taken", "canary"}


@pytest.mark.parametrize(("mark", "outcome"), [("none", "opted_out"), ("toy@1", "already_adapted")])
def test_a_query_that_is_marked_is_counted_as_such(
    client: QdrantClient, model: Adapter, mark: str, outcome: str
) -> None:
    adapted = AdaptedQdrantClient(client, {DOCS: model}, second_look=True)
    with headers({MARK_HEADER: mark}):
        adapted.query_points(DOCS, query())
    assert adapted.second_looks == {outcome: 1}


def test_a_collection_that_may_not_be_asked_about_has_no_known_distance(
    client: QdrantClient, model: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a key that may search and nothing else."""

    def refuse(*_: Any, **__: Any) -> None:
        raise UnexpectedResponse(403, "Forbidden", b"", httpx.Headers())

    monkeypatch.setattr(client._client, "get_collection", refuse)
    adapted = AdaptedQdrantClient(client, {DOCS: model}, second_look=True)
    adapted.query_points(DOCS, query())
    assert adapted.second_looks == {"unknown_distance": 1}


def test_rows_of_a_file_and_no_prefetch_are_looked_at_twice(
    client: QdrantClient, model: Adapter, tmp_path: Path
) -> None:
    np.save(tmp_path / "queries.npy", query()[np.newaxis])
    row = np.load(tmp_path / "queries.npy", mmap_mode="r")[0]
    adapted = AdaptedQdrantClient(client, {DOCS: model}, second_look=True)
    for asked in ({"query": row}, {"query": query(), "prefetch": []}):
        assert found(adapted.query_points(DOCS, **asked)) == by_hand(model, query())[:10]
    assert adapted.second_looks == {"taken": 2}


def test_what_an_array_masks_is_not_uncovered(client: QdrantClient, model: Adapter) -> None:
    adapted = AdaptedQdrantClient(client, {DOCS: model}, second_look=True)
    masked = np.ma.masked_less(query(), 0)
    with pytest.raises(Exception) as official:  # noqa: PT011  # whatever it says
        client.query_points(DOCS, masked)
    with pytest.raises(official.type):
        adapted.query_points(DOCS, masked)


@pytest.mark.parametrize(
    ("distance", "is_looked_at"), [("Dot", True), ("Euclid", True), ("Manhattan", False)]
)
def test_scores_are_of_the_collections_distance(
    model: Adapter, distance: str, is_looked_at: bool
) -> None:
    client = QdrantClient(":memory:")
    config = models.VectorParams(size=DIM, distance=models.Distance(distance))
    client.create_collection(DOCS, vectors_config=config)
    unit = VECTORS[:, 0] / np.linalg.norm(VECTORS[:, 0], axis=1, keepdims=True)
    client.upsert(
        DOCS, [models.PointStruct(id=row, vector=one) for row, one in enumerate(unit.tolist())]
    )
    adapted = AdaptedQdrantClient(client, {DOCS: model}, second_look=True)
    answer = found(adapted.query_points(DOCS, query(), limit=N_POINTS))
    if not is_looked_at:
        assert adapted.second_looks == {"other_distance": 1}
        return
    wanted = by_hand(model, query())
    assert [one for one, _ in answer[:DEPTH]] == [one for one, _ in wanted]
    scores = [score for _, score in answer[:DEPTH]]
    if distance == "Euclid":
        assert scores == sorted(scores)
        scores = [1 - score**2 / 2 for score in scores]
    assert scores == [score for _, score in wanted]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((None, None, 3), {"limit": 4}),
        ((), {"with_vectors": "title"}),
        ((), {"limit": 0}),
        ((), {"limit": 2.5}),
    ],
)
def test_arguments_that_are_none_are_the_official_clients_to_judge(
    client: QdrantClient, model: Adapter, values: tuple[Any, ...], named: dict[str, Any]
) -> None:
    told = []
    for looks_twice in (False, True):
        adapted = AdaptedQdrantClient(client, {DOCS: model}, second_look=looks_twice)
        try:
            answer = adapted.query_points(DOCS, query(), None, None, *values, **named)
            told.append(found(answer))
        except Exception as error:
            told.append(type(error))
    assert told[1] == (told[0] if isinstance(told[0], type) else close(told[0]))


def test_numbers_of_numpys_are_numbers(client: QdrantClient, model: Adapter) -> None:
    adapted = AdaptedQdrantClient(client, {DOCS: model}, second_look=True)
    answer = adapted.query_points(DOCS, query(), limit=np.int64(3), offset=np.int32(1))
    assert found(answer) == by_hand(model, query())[1:4]


def test_a_route_whose_model_has_none_is_counted(client: QdrantClient, model: Adapter) -> None:
    none = linear_adapter(dim_in=DIM, dim_out=DIM, normalised=True)
    routes = {DOCS: model, (DOCS, "title"): none}
    adapted = AdaptedQdrantClient(client, routes, second_look=True)
    adapted.query_points(DOCS, query(), using="title")
    assert adapted.second_looks == {"no_second_look": 1}


def test_a_client_without_any_such_model_is_refused(client: QdrantClient) -> None:
    none = linear_adapter(dim_in=DIM, dim_out=DIM, normalised=True)
    with pytest.raises(ConfigError, match="no model among the routes has a second look"):
        AdaptedQdrantClient(client, {DOCS: none}, second_look=True)


def test_the_asynchronous_client_looks_twice_from_its_first_query(model: Adapter) -> None:
    async def look() -> tuple[Any, dict[str, int]]:
        client = AsyncQdrantClient(":memory:")
        config = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
        await client.create_collection("docs", vectors_config=dict.fromkeys(NAMES, config))
        await client.upsert("docs", points())
        adapted = AsyncAdaptedQdrantClient(client, {"docs": model}, second_look=True)
        answer = await adapted.query_points("docs", query().tolist(), limit=LIMIT)
        asked = models.QueryRequest(query=query().tolist())
        await adapted.query_batch_points("docs", [asked, asked])
        await adapted.query_points_groups("docs", "group", query=query())
        await client.close()
        return answer, adapted.second_looks

    answer, counted = asyncio.run(look())
    assert found(answer) == by_hand(model, query())[:LIMIT]
    assert counted == {"taken": 1, "batch": 2, "groups": 1}
