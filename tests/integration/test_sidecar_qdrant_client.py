"""The adapted Qdrant client over the official client's local mode: real calls, no server."""

import asyncio
import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.context_headers import headers

from tests.support.onnx_models import linear_adapter, linear_bytes
from tests.support.qdrant.process import Server
from trimtab import AdaptedQdrantClient, Adapter, AsyncAdaptedQdrantClient, Policies
from trimtab.errors import ConfigError, RefusedError
from trimtab.rewrite import Reason
from trimtab.routing.routes import MARK_HEADER, Route, Routes

DIM, N_POINTS, DEPTH = 16, 60, 5


@pytest.fixture
def adapter() -> Adapter:
    return linear_adapter(dim_in=DIM, dim_out=DIM, normalised=True, use="relevance")


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    fill(client)
    yield client
    client.close()


def points() -> list[models.PointStruct]:
    vectors = np.random.default_rng(7).standard_normal((N_POINTS, 2, DIM))
    return [
        models.PointStruct(
            id=number,
            vector={"": rows[0].tolist(), "title": rows[1].tolist()},
            payload={"group": number % 4},
        )
        for number, rows in enumerate(vectors)
    ]


def config(**more: Any) -> dict[str, models.VectorParams]:
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE, **more)
    return {"": params, "title": params}


def fill(client: QdrantClient, name: str = "docs") -> None:
    client.create_collection(name, vectors_config=config())
    client.upsert(name, points())


def query(seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).standard_normal(DIM).tolist()


def found(response: Any) -> list[tuple[Any, float]]:
    return [(point.id, pytest.approx(point.score, abs=1e-5)) for point in response.points]


def test_a_query_is_adapted_and_the_official_client_stays_as_it_was(
    client: QdrantClient, adapter: Adapter
) -> None:
    adapted = AdaptedQdrantClient(client, {"docs": adapter})
    want = client.query_points("docs", query=adapter.transform(query()), limit=DEPTH)
    assert found(adapted.query_points("docs", query=query(), limit=DEPTH)) == found(want)
    assert found(client.query_points("docs", query=query(), limit=DEPTH)) != found(want)
    assert adapted.decisions == {Reason.ADAPTED: 1}


def test_the_adapted_client_is_an_official_one(client: QdrantClient, adapter: Adapter) -> None:
    adapted = AdaptedQdrantClient(client, {"docs": adapter})
    assert isinstance(adapted, QdrantClient)
    assert adapted.count("docs").count == N_POINTS
    adapted.delete("docs", [0])
    assert client.count("docs").count == N_POINTS - 1
    assert adapted.init_options == client.init_options


def test_what_the_caller_hands_over_is_not_changed(client: QdrantClient, adapter: Adapter) -> None:
    adapted = AdaptedQdrantClient(client, {"docs": adapter, ("docs", "title"): adapter})
    prefetch = models.Prefetch(query=query(1), using="title", limit=20)
    nearest = models.NearestQuery(nearest=query(2))
    before = prefetch.model_dump_json(), nearest.model_dump_json()
    adapted.query_points("docs", query=nearest, prefetch=[prefetch], limit=DEPTH)
    assert (prefetch.model_dump_json(), nearest.model_dump_json()) == before


def test_every_level_takes_the_route_of_its_own_vector(
    client: QdrantClient, adapter: Adapter
) -> None:
    titles = linear_adapter(dim_in=DIM, dim_out=DIM, seed=3)
    adapted = AdaptedQdrantClient(client, {"docs": adapter, ("docs", "title"): titles})
    got = adapted.query_points(
        "docs",
        query=query(1),
        prefetch=models.Prefetch(query=query(2), using="title", limit=20),
        limit=DEPTH,
    )
    want = client.query_points(
        "docs",
        query=adapter.transform(query(1)),
        prefetch=models.Prefetch(
            query=titles.transform(query(2)).tolist(), using="title", limit=20
        ),
        limit=DEPTH,
    )
    assert found(got) == found(want)


def test_batches_and_groups_are_adapted(client: QdrantClient, adapter: Adapter) -> None:
    adapted = AdaptedQdrantClient(client, {"docs": adapter})
    requests = [models.QueryRequest(query=query(seed), limit=DEPTH) for seed in range(3)]
    for got, seed in zip(adapted.query_batch_points("docs", requests), range(3), strict=True):
        want = client.query_points("docs", query=adapter.transform(query(seed)), limit=DEPTH)
        assert found(got) == [(p.id, pytest.approx(p.score, abs=1e-5)) for p in want.points[:DEPTH]]
    got_groups = adapted.query_points_groups("docs", "group", query=query(), limit=2)
    want_groups = client.query_points_groups(
        "docs", "group", query=adapter.transform(query()), limit=2
    )
    assert [g.id for g in got_groups.groups] == [g.id for g in want_groups.groups]
    assert adapted.decisions == {Reason.ADAPTED: 4}


def test_the_asynchronous_client_adapts_too(adapter: Adapter) -> None:
    async def compare() -> None:
        client = AsyncQdrantClient(":memory:")
        await client.create_collection("docs", vectors_config=config())
        await client.upsert("docs", points())
        adapted = AsyncAdaptedQdrantClient(client, {"docs": adapter})
        assert isinstance(adapted, AsyncQdrantClient)
        want = await client.query_points("docs", query=adapter.transform(query()), limit=DEPTH)
        got = await adapted.query_points("docs", query=query(), limit=DEPTH)
        assert found(got) == found(want)
        batch = [models.QueryRequest(query=query(), limit=DEPTH)]
        assert found((await adapted.query_batch_points("docs", batch))[0]) == found(want)
        await client.close()

    asyncio.run(compare())


def test_an_alias_leads_to_the_routes_of_its_collection(
    client: QdrantClient, adapter: Adapter
) -> None:
    adapted = AdaptedQdrantClient(client, {"docs": adapter}, alias_ttl_s=0)
    want = found(client.query_points("docs", query=adapter.transform(query()), limit=DEPTH))
    point_alias(client, "live", "docs")
    assert found(adapted.query_points("live", query=query(), limit=DEPTH)) == want
    fill(client, "other")
    point_alias(client, "live", "other")
    raw = found(client.query_points("other", query=query(), limit=DEPTH))
    assert found(adapted.query_points("live", query=query(), limit=DEPTH)) == raw


def test_a_route_under_the_name_of_an_alias_wins(client: QdrantClient, adapter: Adapter) -> None:
    canary = linear_adapter(dim_in=DIM, dim_out=DIM, seed=5)
    point_alias(client, "live", "docs")
    adapted = AdaptedQdrantClient(client, {"docs": adapter, "live": canary})
    want = client.query_points("docs", query=canary.transform(query()), limit=DEPTH)
    assert found(adapted.query_points("live", query=query(), limit=DEPTH)) == found(want)


def point_alias(client: QdrantClient, alias: str, collection: str) -> None:
    create = models.CreateAlias(collection_name=collection, alias_name=alias)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])


def test_other_collections_and_vectors_are_left_alone(
    client: QdrantClient, adapter: Adapter
) -> None:
    fill(client, "other")
    adapted = AdaptedQdrantClient(client, {"docs": adapter})
    for name, using in (("other", None), ("docs", "title")):
        want = client.query_points(name, query=query(), using=using, limit=DEPTH)
        got = adapted.query_points(name, query=query(), using=using, limit=DEPTH)
        assert found(got) == found(want)
    assert adapted.decisions == {Reason.NO_ROUTE: 2}


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((DIM, DIM + 1), f"has vectors of {DIM} values; adapter 'toy' takes {DIM} and gives 17"),
        ((DIM + 1, DIM + 2), f"takes {DIM + 1} and gives {DIM + 2}"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    client: QdrantClient, dims: tuple[int, int], message: str
) -> None:
    wrong = linear_adapter(dim_in=dims[0], dim_out=dims[1])
    adapted = AdaptedQdrantClient(client, {"docs": wrong})
    with pytest.raises(ConfigError, match=message):
        adapted.query_points("docs", query=query(), limit=DEPTH)


def test_a_uint8_collection_is_refused(client: QdrantClient, adapter: Adapter) -> None:
    client.create_collection("small", vectors_config=config(datatype=models.Datatype.UINT8))
    adapted = AdaptedQdrantClient(client, {"small": adapter})
    with pytest.raises(ConfigError, match="uint8"):
        adapted.query_points("small", query=query())


def test_a_vector_that_does_not_exist_is_refused(client: QdrantClient, adapter: Adapter) -> None:
    adapted = AdaptedQdrantClient(client, {("docs", "body"): adapter})
    with pytest.raises(ConfigError, match=r"vector 'body' does not exist.* '', 'title'"):
        adapted.query_points("docs", query=query())


def test_a_new_client_says_which_routes_cannot_apply(
    client: QdrantClient, adapter: Adapter, caplog: pytest.LogCaptureFixture
) -> None:
    routes = {"docs": adapter, "typo": adapter, ("docs", "body"): adapter}
    with caplog.at_level("WARNING", logger="trimtab"):
        adapted = AdaptedQdrantClient(client, routes)
    told = [vars(each)["cause"] for each in caplog.records if "can't apply" in each.message]
    assert len(told) == 2
    assert "vector 'body' does not exist" in told[0]
    assert "'typo'" in told[1]
    assert "no collection or alias" in told[1]
    assert [each.fit for each in adapted.check_routes()] == ["fine", "unfit", "missing"]
    client.create_collection("typo", vectors_config=config())  # it is adapted from now on
    adapted.query_points("typo", query=query())
    assert adapted.decisions == {Reason.ADAPTED: 1}


def test_an_asynchronous_client_says_so_before_its_first_query(
    adapter: Adapter, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> None:
        client = AsyncQdrantClient(":memory:")
        await client.create_collection("docs", vectors_config=config())
        adapted = AsyncAdaptedQdrantClient(client, {"docs": adapter, "typo": adapter})
        for _ in range(2):
            await adapted.query_points("docs", query=query())
        assert [each.fit for each in await adapted.check_routes()] == ["fine", "missing"]
        await client.close()

    with caplog.at_level("ERROR", logger="trimtab"):
        asyncio.run(ask())
    told = [vars(each)["collection"] for each in caplog.records if "can't apply" in each.message]
    assert told == ["typo"] * 2  # once before the first query, once when asked


def test_a_missing_collection_gives_the_official_error(
    client: QdrantClient, adapter: Adapter
) -> None:
    adapted = AdaptedQdrantClient(client, {"gone": adapter})
    with pytest.raises(ValueError, match="Collection gone not found"):
        adapted.query_points("gone", query=query())


def test_a_query_that_cannot_be_transformed_passes_or_is_refused_by_the_use(
    client: QdrantClient,
) -> None:
    bad = models.NearestQuery.model_construct(nearest=[float("nan")] * DIM)
    passing = linear_adapter(dim_in=DIM, dim_out=DIM, use="relevance")
    adapted = AdaptedQdrantClient(client, {"docs": passing})
    with pytest.raises((ValueError, AssertionError), match="must not contain NaN"):  # its own
        adapted.query_points("docs", query=bad)
    assert adapted.decisions == {Reason.ADAPTER_ERROR: 1}
    refusing = linear_adapter(dim_in=DIM, dim_out=DIM, use="migration")
    with pytest.raises(RefusedError, match=r"NaN|nan"):
        AdaptedQdrantClient(client, {"docs": refusing}).query_points("docs", query=bad)


def test_a_call_that_carries_the_mark_is_not_adapted_again(
    client: QdrantClient, adapter: Adapter
) -> None:
    adapted = AdaptedQdrantClient(client, {"docs": adapter})
    raw = client.query_points("docs", query=query(), limit=DEPTH)
    with headers({MARK_HEADER: "other@0123456789ab"}):
        assert found(adapted.query_points("docs", query=query(), limit=DEPTH)) == found(raw)
    assert adapted.decisions == {Reason.ALREADY_ADAPTED: 1}


def test_policies_reach_the_query(client: QdrantClient, adapter: Adapter) -> None:
    adapted = AdaptedQdrantClient(client, {"docs": adapter}, policies=Policies(examples="always"))
    example = models.RecommendQuery(
        recommend=models.RecommendInput(
            positive=[query(), 3], strategy=models.RecommendStrategy.BEST_SCORE
        )
    )
    adapted.query_points("docs", query=example)
    assert adapted.decisions == {Reason.ADAPTED: 1, Reason.ID: 1}


@pytest.mark.parametrize("routes", [{}, None, {"": "models/x"}, ["docs"]])
def test_routes_that_say_nothing_are_refused(client: QdrantClient, routes: Any) -> None:
    with pytest.raises(ConfigError):
        AdaptedQdrantClient(client, routes)


def test_a_wrong_client_is_refused_with_the_right_one(
    client: QdrantClient, adapter: Adapter
) -> None:
    routes = {"docs": adapter}
    with pytest.raises(ConfigError, match="AsyncAdaptedQdrantClient"):
        AdaptedQdrantClient(AsyncQdrantClient(":memory:"), routes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="into AdaptedQdrantClient"):
        AsyncAdaptedQdrantClient(client, routes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="adapted already"):
        AdaptedQdrantClient(AdaptedQdrantClient(client, routes), routes)


@pytest.mark.parametrize("send", [copy.deepcopy, pickle.dumps])
def test_a_client_that_can_not_travel_says_what_does(
    client: QdrantClient, adapter: Adapter, send: Callable[[object], object]
) -> None:
    adapted = AdaptedQdrantClient(client, {"docs": adapter})
    with pytest.raises(ConfigError, match=r"send its routes.* AdaptedQdrantClient\(client, routes"):
        send(adapted)
    with pytest.raises(ConfigError, match=r"AsyncAdaptedQdrantClient\(client, routes"):
        send(AsyncAdaptedQdrantClient(AsyncQdrantClient(":memory:"), {"docs": adapter}))
    routes = pickle.loads(pickle.dumps(adapted.routes))  # noqa: S301 - our own bytes
    again = AdaptedQdrantClient(client, routes)
    wanted = found(adapted.query_points("docs", query()))
    assert found(again.query_points("docs", query())) == wanted
    assert found(copy.copy(adapted).query_points("docs", query())) == wanted


def test_a_route_follows_a_watched_model(client: QdrantClient, tmp_path: Path) -> None:
    file = tmp_path / "adapter.onnx"
    options: Any = {"dim_in": DIM, "dim_out": DIM, "normalised": True, "use": "relevance"}
    file.write_bytes(linear_bytes(seed=0, **options))
    watched = Adapter.watch(file)
    adapted = AdaptedQdrantClient(client, {"docs": watched})
    for seed in (0, 1):
        file.write_bytes(linear_bytes(seed=seed, **options))
        watched.reload()
        plain = AdaptedQdrantClient(client, {"docs": linear_adapter(seed=seed, **options)})
        for asked in (query(), models.NearestQuery(nearest=query())):
            wanted = found(plain.query_points("docs", asked))
            assert found(adapted.query_points("docs", asked)) == wanted
    assert watched.n_reloads == 1
    watched.close()


def test_the_connection_outlives_the_adapted_client(client: QdrantClient, adapter: Adapter) -> None:
    adapted = AdaptedQdrantClient(client, {"docs": adapter})
    del adapted
    assert client.count("docs").count == N_POINTS


def test_the_connection_lives_while_only_the_adapted_client_is_held(adapter: Adapter) -> None:
    def make() -> AdaptedQdrantClient:
        official = QdrantClient(":memory:")
        fill(official)
        return AdaptedQdrantClient(official, {"docs": adapter})

    adapted = make()
    assert len(adapted.query_points("docs", query=query(), limit=DEPTH).points) == DEPTH
    adapted.close()
    with pytest.raises(RuntimeError, match="closed"):
        adapted.query_points("docs", query=query())


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
def test_the_asynchronous_client_adapts_over_the_wire_and_marks_its_requests(
    standin: Server, adapter: Adapter, grpc: bool
) -> None:
    async def compare() -> None:
        client = AsyncQdrantClient(
            url=standin.rest_url,
            grpc_port=standin.grpc_port,
            prefer_grpc=grpc,
            check_compatibility=False,
        )
        await client.create_collection("docs", vectors_config=config())
        await client.upsert("docs", points())
        adapted = AsyncAdaptedQdrantClient(client, {"docs": adapter, ("docs", "title"): adapter})
        want = await client.query_points("docs", query=adapter.transform(query()), limit=DEPTH)
        standin.clear_requests()
        assert found(await adapted.query_points("docs", query=query(), limit=DEPTH)) == found(want)
        nested = models.Prefetch(query=query(1), using="title", limit=DEPTH)
        await adapted.query_points("docs", query=query(), prefetch=nested)
        await adapted.query_points("docs", query=3)
        await client.delete_collection("docs")
        await client.close()

    asyncio.run(compare())
    marks = [
        dict(map(tuple, one["headers"])).get(MARK_HEADER)
        for one in standin.requests()
        if one["path"].endswith(("/points/query", "/qdrant.Points/Query"))
    ]
    assert marks == [adapter.mark, adapter.mark, None]


@pytest.mark.parametrize(
    ("mode", "share", "reason"),
    [
        ("off", None, Reason.OFF),
        ("shadow", None, Reason.SHADOW),
        ("canary", 0.0, Reason.CANARY),
        ("canary", 1.0, Reason.ADAPTED),
    ],
)
def test_a_bare_query_is_adapted_as_its_route_says(
    client: QdrantClient, adapter: Adapter, mode: Any, share: float | None, reason: Reason
) -> None:
    route = Route.make("docs", adapter, mode=mode, share=share)
    adapted = AdaptedQdrantClient(client, Routes([route]))
    sent = adapter.transform(query()) if reason is Reason.ADAPTED else query()
    want = found(client.query_points("docs", query=sent, limit=DEPTH))
    for bare in (query(), np.array(query()), np.array(query(), dtype=np.float32)):
        assert found(adapted.query_points("docs", query=bare, limit=DEPTH)) == want
    assert adapted.decisions == {reason: 3}


@pytest.mark.parametrize("wrong", ["0.5", True, b"0.5"])
def test_a_list_that_is_no_vector_is_left_to_the_official_client(
    client: QdrantClient, adapter: Adapter, wrong: Any
) -> None:
    adapted = AdaptedQdrantClient(client, {"docs": adapter})
    given: list[Any] = [*query()[:-1], wrong]
    with pytest.raises(ValidationError):
        adapted.query_points("docs", query=given)
    with pytest.raises((ValueError, TypeError)) as official:
        client.query_points("docs", query=np.array(1.0))
    with pytest.raises(official.type):
        adapted.query_points("docs", query=np.array(1.0))


@pytest.mark.parametrize("bare", [list, np.array])
def test_a_bare_query_past_float32_is_refused_like_any_other(
    client: QdrantClient, bare: Callable[[list[float]], Any]
) -> None:
    """Without a warning of numpy's, which the tests would take for an error."""
    refusing = linear_adapter(dim_in=DIM, dim_out=DIM, use="migration")
    adapted = AdaptedQdrantClient(client, {"docs": refusing})
    with pytest.raises(RefusedError, match="query holds inf at position 0"):
        adapted.query_points("docs", query=bare([1e39] * DIM))
