"""QDRANT_WIRE.md, "Qdrant 1.17 to 1.20: what is new": a test for each of its rows, by number."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.context_headers import headers

from tests.contract.test_qdrant_wire_table import (
    ID,
    LEGACY,
    NONE,
    ONE,
    RIG,
    Row,
    check_rest,
    feedback,
    vec,
)
from tests.integration.test_sidecar_grpc_adapting import QUERY, Qdrant, query, run
from tests.property.test_rewrite_rest import send
from tests.support.onnx_models import linear_adapter
from tests.support.qdrant.process import Server
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_grpc import settings_for, write_route
from tests.support.sidecar_world import DEPTH, DIM, exact, fill, found, samples, write_model
from tests.support.sidecar_world import query as vector_of
from tests.unit.sidecar.server.test_dispatch import plan, table_of
from trimtab import AdaptedQdrantClient, AsyncAdaptedQdrantClient
from trimtab.errors import ConfigError
from trimtab.model.adapter import Adapter
from trimtab.rewrite.policies import Policies, Reason
from trimtab.routing.route_book import Question
from trimtab.routing.routes import MARK_HEADER
from trimtab.routing.vector_schema import read_vectors
from trimtab.server import worker_state as state
from trimtab.server.grpc import messages as grpc_messages

OPT_OUT = {MARK_HEADER: "none"}
SERVERLESS = "/qdrant.serverless.CollectionsService/"
GET = Question("get_collection", {"collection_name": "docs"})


@dataclass
class World:
    """The stand-in with a collection and an alias, and a sidecar with a route for each."""

    server: Server
    sidecar: Sidecar
    adapter: Adapter

    def client(self, *, grpc: bool = False, kind: Any = QdrantClient) -> Any:
        return kind(
            url=self.sidecar.rest_url,
            grpc_port=self.sidecar.grpc_address[1],
            prefer_grpc=grpc,
            check_compatibility=False,
        )


@pytest.fixture(scope="module")
def world(standin: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("since")
    adapter = write_model(folder / "adapter.onnx")
    write_model(folder / "migration.onnx", use="migration")
    config = folder / "sidecar.toml"
    config.write_text(
        f'[listen]\ngrpc = "127.0.0.1:0"\n[upstream]\nrest = "{standin.rest_url}"\n'
        f'grpc = "http://127.0.0.1:{standin.grpc_port}"\n'
        '[policies]\nwrite_guard = "refuse"\n'
        '[[route]]\ncollection = "docs"\nadapter = "adapter.onnx"\n'
        '[[route]]\ncollection = "moved"\nadapter = "migration.onnx"\n'
    )
    direct = QdrantClient(url=standin.rest_url, check_compatibility=False)
    fill(direct, "docs", "moved")
    direct.close()
    with running_sidecar(config=config) as sidecar:
        yield World(standin, sidecar, adapter)


# 1: `text` is a string or an object


@pytest.mark.parametrize(
    "text", ["words", {"query": "words", "scoring": {"bm25": {"k": 1.5, "b": 0.5}}}]
)
@pytest.mark.parametrize("using", ["title", "a.payload.field", None])
def test_1_a_text_query_passes_and_is_counted(text: Any, using: str | None) -> None:
    body = {"query": {"text": text}, "using": using}
    check_rest(Row(body, NONE, policies={"inference": "refuse", "unknown_variant": "refuse"}))
    nested = {"query": {"fusion": "rrf"}, "prefetch": [body, {"query": vec(1)}]}
    check_rest(Row(nested, {"adapted": 1, "no_vector": 2}, {1}))


# 2: a collection that was made anew


def info_over_rest(**more: Any) -> Any:
    params = {"vectors": {"size": 4, "distance": "Cosine"}}
    return state.read_answer(GET, {"config": {"params": params}, **more})


def info_over_grpc(**moment: int) -> Any:
    answer = messages.GetCollectionInfoResponse()
    params = messages.VectorParams(size=4, distance=messages.Distance.Cosine)
    answer.result.config.params.vectors_config.params.CopyFrom(params)
    if moment:
        answer.result.created_at.seconds = moment["seconds"]
        answer.result.created_at.nanos = moment["nanos"]
    return grpc_messages.read_answer(GET, answer.SerializeToString())


def test_2_the_time_of_creation_is_read_alike_over_rest_and_grpc() -> None:
    over_rest = info_over_rest(created_at="2026-11-01T10:00:00.123456789Z")
    over_grpc = info_over_grpc(seconds=1793527200, nanos=123456789)
    assert over_rest == over_grpc
    assert over_rest.created_s == pytest.approx(over_grpc.created_s, abs=1e-3)
    vague = info_over_rest(created_at="2026-11-01T10:00:00Z")
    assert vague.created_s == 1793527200
    absent = [info_over_rest(), info_over_rest(created_at="soon"), info_over_grpc()]
    assert [each.created_s for each in absent] == [None, None, None]


def test_2_the_official_models_give_it_too() -> None:
    client = QdrantClient(":memory:")
    params = models.VectorParams(size=4, distance=models.Distance.COSINE)
    client.create_collection("docs", vectors_config=params)
    info = client.get_collection("docs")
    assert read_vectors(info).created_s is None
    info.created_at = models.CollectionInfo.model_validate(
        {**info.model_dump(), "created_at": "2026-11-01T10:00:00Z"}
    ).created_at
    assert read_vectors(info).created_s == 1793527200
    client.close()


# 3: filters without vectors


@pytest.mark.parametrize(
    "condition",
    [
        {"slice": {"total": 4, "index": 1}},
        {"key": "path", "match": {"prefix": "a/b"}},
        {"key": "story", "match": {"substring": "el"}},
        {"nested": {"key": "parts", "filter": {"must": [{"slice": {"total": 2, "index": 0}}]}}},
    ],
)
def test_3_new_conditions_hold_no_vectors(condition: dict[str, Any]) -> None:
    wanted = {"must": [condition], "min_should": {"conditions": [condition], "min_count": 1}}
    check_rest(Row({"query": vec(1), "filter": wanted}, ONE, {1}))
    check_rest(Row({"query": ID, "filter": wanted}, {"id": 1}))
    prefetch = {"query": vec(2), "filter": wanted}
    check_rest(Row({"query": vec(1), "prefetch": prefetch}, {"adapted": 2}, {1, 2}))


# 4: vectors that come and go


def changes() -> list[tuple[str, bytes, str]]:
    name = {"collection_name": "docs", "vector_name": "title"}
    return [
        (
            "/qdrant.Points/DeleteVectorName",
            messages.DeleteVectorNameRequest(**name).SerializeToString(),
            "DELETE /collections/docs/vectors/title",
        ),
        (
            "/qdrant.Points/CreateVectorName",
            messages.CreateVectorNameRequest(**name).SerializeToString(),
            "PUT /collections/docs/vectors/title?wait=true",
        ),
    ]


@pytest.mark.parametrize(("method", "content", "line"), changes())
def test_4_a_changed_vector_name_is_asked_about_anew(
    tmp_path: Path, method: str, content: bytes, line: str
) -> None:
    assert plan(table_of(tmp_path), line).invalidates == "docs"
    settings = settings_for(routes=(write_route(tmp_path, "docs", use="relevance"),))
    qdrant = Qdrant()

    async def talk(found: Any) -> None:
        ask = found.through.unary_unary(QUERY)
        await ask(query())
        await ask(query())
        assert len(qdrant.of("/qdrant.Collections/Get")) == 1
        await found.through.unary_unary(method)(content)
        assert qdrant.of(method)[0][0] == content
        await ask(query())
        assert len(qdrant.of("/qdrant.Collections/Get")) == 2

    run(settings, qdrant, talk)


def test_4_listing_shard_keys_passes_and_forgets_nothing() -> None:
    method = {each.path: each for each in grpc_messages.known_methods()}[
        "/qdrant.Collections/ListShardKeys"
    ]
    assert (method.kind, method.invalidates) == ("other", False)


def test_4_the_client_wrapper_asks_anew_after_its_own_changes() -> None:
    client = QdrantClient(":memory:")
    fill(client, "docs")
    adapter = linear_adapter(dim_in=DIM, dim_out=DIM, use="relevance")
    adapted = AdaptedQdrantClient(client, {("docs", "title"): adapter})
    adapted.query_points("docs", query=vector_of(), using="title")
    adapted.delete_collection("docs")
    params = models.VectorParams(size=DIM + 1, distance=models.Distance.COSINE)
    adapted.create_collection("docs", vectors_config={"title": params})
    with pytest.raises(ConfigError, match=f"{DIM + 1} values"):
        adapted.query_points("docs", query=vector_of(), using="title")
    client.close()


def test_4_so_does_the_asynchronous_one() -> None:
    async def change() -> None:
        client = AsyncQdrantClient(":memory:")
        params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
        await client.create_collection("docs", vectors_config=params)
        adapter = linear_adapter(dim_in=DIM, dim_out=DIM, use="relevance")
        adapted = AsyncAdaptedQdrantClient(client, {"docs": adapter})
        await adapted.query_points("docs", query=vector_of())
        wider = models.VectorParams(size=DIM + 1, distance=models.Distance.COSINE)
        await adapted.delete_collection(collection_name="docs")
        await adapted.create_collection("docs", vectors_config=wider)
        with pytest.raises(ConfigError, match=f"{DIM + 1} values"):
            await adapted.query_points("docs", query=vector_of())
        await client.close()

    asyncio.run(change())


# 5: paths that pass


@pytest.mark.parametrize(
    ("line", "is_repeatable"),
    [
        ("GET /cluster/telemetry", True),
        ("GET /collections/docs/optimizations", True),
        ("GET /collections/docs/shards/1/snapshot", True),
        ("POST /collections/docs/shards/1/cleanup", False),
        ("POST /collections/docs/shards/1/cleanup?wait=true", False),
    ],
)
def test_5_new_paths_pass_and_only_reads_are_sent_twice(
    tmp_path: Path, line: str, is_repeatable: bool
) -> None:
    made = plan(table_of(tmp_path), line)
    assert (made.way.value, made.kind, made.invalidates) == ("pass", "other", None)
    assert made.is_repeatable is is_repeatable


# 6: batches stay whole


@pytest.mark.parametrize("n_searches", [1, 7, 150])
def test_6_a_batch_is_neither_merged_nor_split(tmp_path: Path, n_searches: int) -> None:
    body = orjson.dumps({"searches": [{"query": vec(n)} for n in range(1, n_searches + 1)]})
    outcome = send("query/batch", body, RIG, {})
    assert len(orjson.loads(outcome.content)["searches"]) == n_searches
    assert outcome.decisions == {Reason.ADAPTED: n_searches}
    one = messages.QueryPoints.FromString(query())
    batch = messages.QueryBatchPoints(collection_name="docs", query_points=[one] * n_searches)
    settings = settings_for(routes=(write_route(tmp_path, "docs", use="relevance"),))
    qdrant = Qdrant()
    method = "/qdrant.Points/QueryBatch"

    async def talk(found: Any) -> None:
        call = found.through.unary_unary(method)
        await asyncio.gather(*(call(batch.SerializeToString()) for _ in range(3)))
        arrived = [messages.QueryBatchPoints.FromString(each) for each, _ in qdrant.of(method)]
        assert [len(each.query_points) for each in arrived] == [n_searches] * 3

    run(settings, qdrant, talk)


# 7: relevance feedback


def feedback_over_grpc(name: str = "docs") -> bytes:
    target = messages.QueryPoints.FromString(query()).query.nearest
    said = messages.RelevanceFeedbackInput(target=target)
    said.strategy.naive.a = said.strategy.naive.b = said.strategy.naive.c = 1.0
    asked = messages.Query(relevance_feedback=said)
    return messages.QueryPoints(collection_name=name, query=asked).SerializeToString()


def test_7_an_adapted_feedback_target_is_counted_apart_and_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(routes=(write_route(tmp_path, "docs", use="relevance"),))

    async def talk(found: Any) -> None:
        for _ in range(3):
            await found.through.unary_unary(QUERY)(feedback_over_grpc())
        assert found.decisions() == {("docs", "adapted_feedback"): 3}

    with caplog.at_level(logging.WARNING):
        run(settings, Qdrant(), talk)
    assert [each.message.count("coefficients") for each in caplog.records] == [1]


def test_7_over_rest_it_is_counted_apart_as_well() -> None:
    outcome = send("query", orjson.dumps({"query": feedback(vec(1), vec(2))}), RIG, {})
    assert outcome.decisions == {Reason.ADAPTED_FEEDBACK: 1, Reason.EXAMPLE: 1}
    assert outcome.mark
    beside = {"query": feedback(vec(1), ID), "prefetch": {"query": vec(2)}}
    outcome = send("query", orjson.dumps(beside), RIG, {})
    assert outcome.decisions == {Reason.ADAPTED_FEEDBACK: 1, Reason.ADAPTED: 1, Reason.ID: 1}
    by_id = send("query", orjson.dumps({"query": feedback(ID, ID)}), RIG, {})
    assert by_id.decisions == {Reason.ID: 2}


def test_7_the_client_wrapper_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    client = QdrantClient(":memory:")
    fill(client, "docs")
    adapter = linear_adapter(dim_in=DIM, dim_out=DIM, use="relevance")
    adapted = AdaptedQdrantClient(client, {"docs": adapter}, policies=Policies())
    naive = models.NaiveFeedbackStrategyParams(a=1.0, b=1.0, c=1.0)
    asked = models.RelevanceFeedbackQuery(
        relevance_feedback=models.RelevanceFeedbackInput(
            target=vector_of(),
            feedback=[models.FeedbackItem(example=n, score=1.0 - n) for n in range(2)],
            strategy=models.NaiveFeedbackStrategy(naive=naive),
        )
    )
    with caplog.at_level(logging.WARNING, logger="trimtab"):
        for _ in range(2):
            adapted.query_points("docs", query=asked, limit=DEPTH)
    assert adapted.decisions == {Reason.ADAPTED_FEEDBACK: 2, Reason.ID: 4}
    assert [each.message.count("coefficients") for each in caplog.records] == [1]
    client.close()


# 8: headers of a call, clients without a port, arrays in models


def opted_out(world: World) -> float:
    return samples(world.sidecar).get(("trimtab_query_vectors_total", "docs", "opted_out"), 0.0)


@pytest.mark.parametrize("over_grpc", [False, True], ids=["rest", "grpc"])
def test_8_a_call_opts_out_by_the_clients_own_headers(world: World, over_grpc: bool) -> None:
    client = world.client(grpc=over_grpc)
    raw, adapted = exact(vector_of()), exact(world.adapter.transform(np.float32(vector_of())))
    before = opted_out(world)
    with headers(OPT_OUT):
        got = client.query_points("docs", query=vector_of(), limit=DEPTH)
        assert found(got.points) == raw
        many = [models.QueryRequest(query=vector_of(), limit=DEPTH)] * 2
        for each in client.query_batch_points("docs", requests=many):
            assert found(each.points) == raw
    assert opted_out(world) == before + 2
    assert found(client.query_points("docs", query=vector_of(), limit=DEPTH).points) == adapted
    assert opted_out(world) == before + 2
    client.close()


def test_8_the_asynchronous_client_opts_out_too(world: World) -> None:
    async def ask() -> Any:
        client = world.client(kind=AsyncQdrantClient)
        with headers({"X-Trimtab-Adapter": "None"}):
            got = await client.query_points("docs", query=vector_of(), limit=DEPTH)
        await client.close()
        return got.points

    assert found(asyncio.run(ask())) == exact(vector_of())


@pytest.mark.parametrize("name", [MARK_HEADER, "X-Trimtab-Adapter"])
def test_8_so_does_the_client_wrapper(name: str) -> None:
    client = QdrantClient(":memory:")
    fill(client, "docs")
    adapter = linear_adapter(dim_in=DIM, dim_out=DIM, use="relevance")
    adapted = AdaptedQdrantClient(client, {"docs": adapter})
    with headers({name: "none"}):
        plain = adapted.query_points("docs", query=vector_of(), limit=DEPTH)
        nearest = models.NearestQuery(nearest=vector_of())
        same = adapted.query_points("docs", query=nearest, limit=DEPTH)
    assert found(plain.points) == found(same.points) == exact(vector_of())
    assert adapted.decisions == {Reason.OPTED_OUT: 2}
    client.close()


def test_8_headers_of_a_call_reach_qdrant_beside_the_mark(world: World) -> None:
    client = world.client()
    world.server.clear_requests()
    with headers({"x-tenant": "blue"}):
        client.query_points("docs", query=vector_of())
    arrived = [one for one in world.server.requests() if one["path"].endswith("/points/query")]
    sent = dict(map(tuple, arrived[-1]["headers"]))
    assert (sent["x-tenant"], sent[MARK_HEADER]) == ("blue", world.adapter.mark)
    client.close()


def test_8_a_write_is_watched_whatever_it_is_marked_with(world: World) -> None:
    client = world.client()
    point = models.PointStruct(id=1, vector={"": vector_of()})
    with headers(OPT_OUT), pytest.raises(Exception, match="write_guard"):
        client.upsert("moved", [point])
    client.close()


def test_8_a_client_without_a_port_can_be_adapted(world: World) -> None:
    adapter = linear_adapter(dim_in=DIM, dim_out=DIM, use="relevance")
    official = QdrantClient(url=world.server.rest_url, port=None, check_compatibility=False)
    adapted = AdaptedQdrantClient(official, {"docs": adapter})
    got = adapted.query_points("docs", query=vector_of(), limit=DEPTH)
    assert found(got.points) == exact(adapter.transform(np.float32(vector_of())))
    assert adapted.init_options["port"] is None
    official.close()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_8_arrays_stand_in_models_of_writes_and_queries(world: World, dtype: Any) -> None:
    adapter = linear_adapter(dim_in=DIM, dim_out=DIM, use="relevance")
    array = np.array(vector_of(3), dtype=dtype)
    for client in (
        world.client(),
        world.client(grpc=True),
        AdaptedQdrantClient(
            QdrantClient(url=world.server.rest_url, check_compatibility=False), {"docs": adapter}
        ),
    ):
        point = models.PointStruct(id=900, vector={"": array, "title": array})
        client.upsert("docs", [point])
        batch = models.Batch(ids=[901], vectors={"": [array], "title": [array]})
        client.upsert("docs", batch)
        stored = client.retrieve("docs", [900, 901], with_vectors=True)
        for each in stored:
            unit = array / np.linalg.norm(array)
            assert each.vector["title"] == pytest.approx(unit.tolist(), abs=1e-6)
        client.delete("docs", [900, 901])
        client.close()
    asked = AdaptedQdrantClient(
        QdrantClient(url=world.server.rest_url, check_compatibility=False), {"docs": adapter}
    )
    got = asked.query_points("docs", query=array, limit=DEPTH)
    assert found(got.points) == exact(adapter.transform(array.astype(np.float32)))
    asked.close()


# 9: the serverless service


@pytest.mark.parametrize(
    ("name", "is_asked_again"),
    [
        ("CreateCollection", True),
        ("DeleteCollection", True),
        ("GetCollection", False),
        ("ListCollections", False),
    ],
)
def test_9_the_serverless_service_passes(tmp_path: Path, name: str, is_asked_again: bool) -> None:
    content = b"\x0a\x04docs\x92\x03\x03new"  # with a field that nobody knows
    settings = settings_for(routes=(write_route(tmp_path, "docs", use="relevance"),))
    qdrant = Qdrant()

    async def talk(found: Any) -> None:
        ask = found.through.unary_unary(QUERY)
        await ask(query())
        answer = await found.through.unary_unary(SERVERLESS + name)(content)
        assert answer == await found.direct.unary_unary(SERVERLESS + name)(content)
        assert [each for each, _ in qdrant.of(SERVERLESS + name)] == [content] * 2
        await ask(query())
        assert len(qdrant.of("/qdrant.Collections/Get")) == 1 + is_asked_again

    run(settings, qdrant, talk)


# 10: the index's side


@pytest.mark.parametrize("datatype", ["turbo4", "turbo8", "turbo16", "float16", "of the future"])
def test_10_new_ways_to_store_vectors_are_no_obstacle(datatype: str) -> None:
    params = {
        "vectors": {
            "": {"size": 4, "distance": "Cosine", "datatype": datatype, "memory": "on_disk"},
            "rows": {"size": 4, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}},
        },
        "id_tracker": {"type": "compact"},
    }
    found = state.read_answer(GET, {"config": {"params": params, "nested": {"a": [1, 2]}}})
    assert (found[""].dim, found[""].datatype, found["rows"].is_multi) == (4, datatype, True)
    numbered = messages.GetCollectionInfoResponse()
    params_of = numbered.result.config.params.vectors_config.params
    params_of.size, params_of.datatype = 4, 97
    over_grpc = grpc_messages.read_answer(GET, numbered.SerializeToString())
    assert over_grpc[""].datatype == "number 97"


# 11: the eight legacy routes


def test_11_all_eight_legacy_routes_are_adapted() -> None:
    rows = [row for row in LEGACY.values() if row.changed]
    assert {row.call for row in rows} == {
        f"{what}{how}"
        for what in ("search", "recommend", "discover")
        for how in ("", "/batch", "/groups")
        if (what, how) != ("discover", "/groups")
    }
    for row in rows:
        check_rest(row)


def test_11_an_unknown_legacy_field_beside_the_vector_stays() -> None:
    row = LEGACY["search"]
    check_rest(replace(row, body={**row.body, "hyper": {"a": [1, 2]}}))
