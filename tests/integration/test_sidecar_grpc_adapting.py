"""Queries through the sidecar's gRPC, before a server that a test scripts."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from qdrant_client import grpc as messages

from tests.support.faiss_collections import build_index, vectors_of, write_collection
from tests.support.grpc_upstream import first, world
from tests.support.onnx_models import DIM_OUT, queries_of
from tests.support.sidecar_grpc import settings_for, write_route
from trimtab.model.adapter import Adapter
from trimtab.rewrite.policies import Policies, Reason
from trimtab.routing.routes import MARK_HEADER
from trimtab.server.grpc import service
from trimtab.server.worker_state import BESIDE_BYTES
from trimtab.settings import Settings

WAIT_S = 60
QUERY, BATCH = "/qdrant.Points/Query", "/qdrant.Points/QueryBatch"
VECTOR = queries_of(1)[0]
KEY = ("api-key", "only-for-tests")


def vectors_config(dim: int = DIM_OUT, datatype: str = "Float32") -> Any:
    params = messages.VectorParams(
        size=dim,
        distance=messages.Distance.Cosine,
        datatype=messages.Datatype.Value(datatype),
    )
    return messages.VectorsConfig(params=params)


class Qdrant:
    """Answers questions about one collection, and echoes the ids 1 to 3 to every query."""

    def __init__(self, config: Any = None, aliases: dict[str, str] | None = None) -> None:
        self.config = vectors_config() if config is None else config
        self.aliases = aliases or {}
        self.calls: list[tuple[str, bytes, dict[str, Any]]] = []
        self.asked = asyncio.Event()

    async def __call__(self, method: str, requests: Any, context: Any) -> None:
        content = await first(requests)
        self.calls.append((method, content, dict(context.invocation_metadata())))
        self.asked.set()
        if method == "/qdrant.Collections/Get":
            if self.config == "silent":
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
            await context.write(self.info())
        elif method == "/qdrant.Collections/ListAliases":
            await context.write(self.list_aliases())
        else:
            await context.write(self.found(method, content))

    def found(self, method: str, content: bytes) -> bytes:
        points = [messages.ScoredPoint(id=messages.PointId(num=n)) for n in (1, 2, 3)]
        if method != BATCH:
            return messages.QueryResponse(result=points).SerializeToString()
        n_searches = len(messages.QueryBatchPoints.FromString(content).query_points)
        results = [messages.BatchResult(result=points)] * n_searches
        return messages.QueryBatchResponse(result=results).SerializeToString()

    def info(self) -> bytes:
        info = messages.CollectionInfo()
        info.config.params.vectors_config.CopyFrom(self.config)
        return messages.GetCollectionInfoResponse(result=info).SerializeToString()

    def list_aliases(self) -> bytes:
        aliases = [
            messages.AliasDescription(alias_name=alias, collection_name=name)
            for alias, name in self.aliases.items()
        ]
        return messages.ListAliasesResponse(aliases=aliases).SerializeToString()

    def of(self, method: str) -> list[tuple[bytes, dict[str, Any]]]:
        return [(content, metadata) for name, content, metadata in self.calls if name == method]


def query(name: str = "docs", vector: Any = VECTOR) -> bytes:
    dense = messages.DenseVector(data=list(map(float, vector)))
    nearest = messages.Query(nearest=messages.VectorInput(dense=dense))
    return messages.QueryPoints(collection_name=name, query=nearest, limit=3).SerializeToString()


def sent_vector(content: bytes) -> list[float]:
    return list(messages.QueryPoints.FromString(content).query.nearest.dense.data)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(routes=(write_route(tmp_path, "docs", use="relevance"),))


def adapter_of(settings: Settings) -> Adapter:
    return Adapter.load(settings.routes[0].adapter)


def run(settings: Settings, qdrant: Qdrant, talk: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with world(qdrant, settings) as found, asyncio.timeout(WAIT_S):
            await talk(found)

    asyncio.run(main())


def with_route(settings: Settings, **changes: Any) -> Settings:
    return replace(settings, routes=(replace(settings.routes[0], **changes),))


def test_a_query_is_adapted_and_marked_both_ways(settings: Settings) -> None:
    adapter, qdrant = adapter_of(settings), Qdrant()

    async def talk(found: Any) -> None:
        call = found.through.unary_unary(QUERY)(query())
        await call
        assert (MARK_HEADER, adapter.mark) in tuple(await call.trailing_metadata())
        content, metadata = qdrant.of(QUERY)[0]
        np.testing.assert_allclose(sent_vector(content), adapter.transform(VECTOR), rtol=1e-6)
        assert metadata[MARK_HEADER] == adapter.mark
        assert found.decisions() == {("docs", "adapted"): 1}

    run(settings, qdrant, talk)


def test_a_marked_query_is_not_adapted_again(settings: Settings) -> None:
    qdrant = Qdrant()

    async def talk(found: Any) -> None:
        await found.through.unary_unary(QUERY)(query(), metadata=((MARK_HEADER, "other@1"),))
        content, metadata = qdrant.of(QUERY)[0]
        assert content == query()
        assert metadata[MARK_HEADER] == "other@1"
        assert found.decisions() == {("docs", "already_adapted"): 1}

    run(settings, qdrant, talk)


@pytest.mark.parametrize("content", [query("others"), b"\xff\xff\xff", b""])
def test_what_has_no_route_passes_byte_for_byte(settings: Settings, content: bytes) -> None:
    qdrant = Qdrant()

    async def talk(found: Any) -> None:
        call = found.through.unary_unary(QUERY)(content)
        await call
        assert MARK_HEADER not in dict(await call.trailing_metadata())
        assert qdrant.of(QUERY)[0][0] is not None
        assert qdrant.of(QUERY)[0][0] == content
        reason = "malformed" if content.startswith(b"\xff") else "no_route"
        assert found.decisions() == {("", reason): 1}

    run(settings, qdrant, talk)


def test_an_alias_leads_to_the_routes_of_its_collection(settings: Settings) -> None:
    adapter, qdrant = adapter_of(settings), Qdrant(aliases={"today": "docs"})

    async def talk(found: Any) -> None:
        call = found.through.unary_unary(QUERY)
        await call(query("today"))
        np.testing.assert_allclose(
            sent_vector(qdrant.of(QUERY)[0][0]), adapter.transform(VECTOR), rtol=1e-6
        )
        qdrant.aliases["today"] = "elsewhere"
        await call(query("today"))
        assert len(qdrant.of("/qdrant.Collections/ListAliases")) == 1  # believed for a while
        await found.through.unary_unary("/qdrant.Collections/UpdateAliases")(b"")
        await call(query("today"))
        assert sent_vector(qdrant.of(QUERY)[2][0]) == pytest.approx(VECTOR.tolist())
        assert len(qdrant.of("/qdrant.Collections/ListAliases")) == 2

    run(settings, qdrant, talk)


@pytest.mark.parametrize(
    ("method", "name", "is_asked_again"),
    [
        ("/qdrant.Collections/Create", "docs", True),
        ("/qdrant.Collections/Update", "docs", True),
        ("/qdrant.Collections/Delete", "docs", True),
        ("/qdrant.Collections/Delete", "others", False),
        ("/qdrant.Points/CreateVectorName", "docs", True),
        ("/qdrant.Points/DeleteVectorName", "docs", True),
        ("/qdrant.Collections/Get", "docs", False),
        ("/qdrant.Points/Upsert", "docs", False),
    ],
)
def test_what_changes_a_collection_is_noticed(
    settings: Settings, method: str, name: str, is_asked_again: bool
) -> None:
    qdrant = Qdrant()

    async def talk(found: Any) -> None:
        ask = found.through.unary_unary(QUERY)
        await ask(query())
        request = messages.DeleteCollection(collection_name=name).SerializeToString()
        await found.through.unary_unary(method)(request)
        known = len(qdrant.of("/qdrant.Collections/Get"))
        await ask(query())
        assert len(qdrant.of("/qdrant.Collections/Get")) == known + is_asked_again

    run(settings, qdrant, talk)


def test_what_is_forgotten_is_told_to_other_workers(settings: Settings) -> None:
    async def talk(found: Any) -> None:
        told: list[str] = []
        found.sidecar._state.invalidation_listeners.append(told.append)
        request = messages.DeleteCollection(collection_name="docs").SerializeToString()
        await found.through.unary_unary("/qdrant.Collections/Delete")(request)
        await found.through.unary_unary("/qdrant.Collections/UpdateAliases")(request)
        await found.through.unary_unary("/a/qdrant.Collections/UpdateAliases")(request)
        await found.through.unary_unary("/qdrant.Points/Upsert")(request)
        assert told == ["docs", "", ""]

    run(settings, Qdrant(), talk)


def bypassed(found: Any) -> dict[tuple[str, ...], float]:
    numbers = found.sidecar._state.telemetry.numbers
    return {key[1:]: value for key, value in numbers.items() if key[0] == "bypassed_requests"}


def test_a_method_under_a_path_is_adapted_and_keeps_its_path(settings: Settings) -> None:
    adapter, qdrant = adapter_of(settings), Qdrant()

    async def talk(found: Any) -> None:
        for _ in range(2):
            await found.through.unary_unary(f"/some/path{QUERY}")(query())
        for content, _ in qdrant.of(f"/some/path{QUERY}"):
            np.testing.assert_allclose(sent_vector(content), adapter.transform(VECTOR), rtol=1e-6)
        assert found.decisions() == {("docs", "adapted"): 2}
        assert bypassed(found) == {}

    run(settings, qdrant, talk)


@pytest.mark.parametrize(
    ("method", "content", "reason"),
    [
        ("/qdrant.Points/QueryNew", b"", "grpc_method"),
        ("/qdrant.v2.Vectors/SearchAll", b"", "grpc_method"),
        ("/qdrant.Points/Nearest", None, "grpc_method"),
        ("/qdrant.Points/Nearest", b"", ""),
        ("/qdrant.Points/Scroll", None, ""),
    ],
)
def test_a_search_that_is_not_understood_is_counted_and_told_once(
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    method: str,
    content: bytes | None,
    reason: str,
) -> None:
    sent = query(vector=[*VECTOR] * 4) if content is None else content

    async def talk(found: Any) -> None:
        for _ in range(2):
            await found.through.unary_unary(method)(sent)
        assert bypassed(found) == ({("grpc", reason): 2} if reason else {})

    qdrant = Qdrant()
    run(settings, qdrant, talk)
    assert [each for each, _ in qdrant.of(method)] == [sent, sent]
    told = [each for each in caplog.records if "is not understood" in each.message]
    assert len(told) == bool(reason)


def test_a_query_that_may_take_long_keeps_no_other_waiting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    filler = bytes(BESIDE_BYTES)  # in field 1001, which nobody knows
    long = query() + b"\xca\x3e" + bytes([0x80, 0x80, len(filler) >> 14]) + filler
    adapt_message, go_on = service.adapt_message, threading.Event()

    def adapt(method: Any, message: Any, content: bytes, *given: Any, **named: Any) -> Any:
        assert content != long or go_on.wait(10), "the loop stood still meanwhile"
        return adapt_message(method, message, content, *given, **named)

    monkeypatch.setattr(service, "adapt_message", adapt)

    async def talk(found: Any) -> None:
        call = found.through.unary_unary(QUERY)
        await call(query())
        slow = asyncio.ensure_future(call(long))
        await call(query())
        go_on.set()
        await slow
        assert found.decisions() == {("docs", "adapted"): 3}

    run(settings, Qdrant(), talk)


def hidden_in(tag: bytes) -> bytes:
    """Write a vector into a field that nobody knows."""
    dense = messages.DenseVector(data=[float(each) for each in VECTOR] * 4)
    hidden = messages.VectorInput(dense=dense).SerializeToString()
    return tag + bytes([0x80 | len(hidden) & 0x7F, len(hidden) >> 7]) + hidden


def test_a_vector_in_an_example_of_the_future_is_counted(settings: Settings) -> None:
    examples = messages.RecommendInput.FromString(hidden_in(b"\x7a"))
    sent = messages.QueryPoints(
        collection_name="docs", query=messages.Query(recommend=examples)
    ).SerializeToString()

    async def talk(found: Any) -> None:
        await found.through.unary_unary(QUERY)(sent)
        assert bypassed(found) == {("grpc", "unknown_field"): 1}

    run(settings, Qdrant(), talk)


def test_a_vector_in_a_field_of_the_future_is_counted(settings: Settings) -> None:
    unknown = hidden_in(b"\xca\x3e")
    known = messages.QueryPoints(collection_name="docs").SerializeToString()

    async def talk(found: Any) -> None:
        await found.through.unary_unary(QUERY)(known + unknown)
        await found.through.unary_unary(QUERY)(known)
        assert bypassed(found) == {("grpc", "unknown_field"): 1}

    run(settings, Qdrant(), talk)


def test_qdrant_is_asked_with_the_callers_key_or_the_sidecars(settings: Settings) -> None:
    bearer = ("authorization", "Bearer only-for-tests")
    qdrant = Qdrant()

    async def talk(found: Any) -> None:
        ask, state = found.through.unary_unary(QUERY), found.sidecar._state
        await ask(query(), metadata=(KEY, bearer, ("x-other", "1")))
        state.facts.invalidate()
        state.own_key = "its-own"
        await ask(query(), metadata=(KEY,))
        one, other = (
            {key: value for key, value in metadata.items() if key != "user-agent"}
            for _, metadata in qdrant.of("/qdrant.Collections/Get")
        )
        assert one == dict([KEY, bearer])
        assert other == {"api-key": "its-own"}
        assert qdrant.of(QUERY)[1][1]["api-key"] == KEY[1]

    run(settings, qdrant, talk)


def test_a_collection_that_qdrant_does_not_describe_is_adapted_unchecked(
    settings: Settings,
) -> None:
    qdrant = Qdrant(config="silent")

    async def talk(found: Any) -> None:
        await found.through.unary_unary(QUERY)(query())
        assert len(sent_vector(qdrant.of(QUERY)[0][0])) == DIM_OUT
        assert found.decisions() == {("docs", "adapted"): 1}

    run(settings, qdrant, talk)


@pytest.mark.parametrize("config", [vectors_config(dim=9), vectors_config(datatype="Uint8")])
def test_an_adapter_that_does_not_fit_is_left_out_or_refused(
    settings: Settings, config: Any
) -> None:
    async def raw(found: Any) -> None:
        await found.through.unary_unary(QUERY)(query())
        assert found.decisions()["docs", "unfit"] == 1

    async def refused(found: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match="trimtab: collection 'docs'") as caught:
            await found.through.unary_unary(QUERY)(query())
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        errors = {
            key[1:]: n
            for key, n in found.sidecar._state.telemetry.numbers.items()
            if key[0] == "errors"
        }
        assert errors == {("grpc", "unfit"): 1}

    run(settings, passing := Qdrant(config), raw)
    assert passing.of(QUERY)[0][0] == query()
    run(with_route(settings, on_error="refuse"), refusing := Qdrant(config), refused)
    assert refusing.of(QUERY) == []


def test_an_index_that_is_served_over_rest_says_so(settings: Settings, tmp_path: Path) -> None:
    papers = write_collection(tmp_path, build_index("Flat", vectors_of(5, DIM_OUT)))

    async def talk(found: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match="'papers' is a FAISS index") as caught:
            await found.through.unary_unary(QUERY)(query("papers"))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    run(replace(settings, collections=(papers,)), Qdrant(), talk)


def test_a_request_that_a_policy_forbids_never_reaches_qdrant(settings: Settings) -> None:
    document = messages.VectorInput(document=messages.Document(text="a", model="b"))
    content = messages.QueryPoints(
        collection_name="docs", query=messages.Query(nearest=document)
    ).SerializeToString()
    qdrant = Qdrant()

    async def talk(found: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match="trimtab: ") as caught:
            await found.through.unary_unary(QUERY)(content)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION

    run(replace(settings, policies=Policies(inference="refuse")), qdrant, talk)
    assert qdrant.of(QUERY) == []


def upsert(name: str = "docs") -> bytes:
    vectors = messages.Vectors(vector=messages.Vector(data=[1.0] * DIM_OUT))
    point = messages.PointStruct(id=messages.PointId(num=1), vectors=vectors)
    return messages.UpsertPoints(collection_name=name, points=[point]).SerializeToString()


@pytest.mark.parametrize("use", ["relevance", "migration"])
@pytest.mark.parametrize("guard", ["pass", "warn", "refuse"])
def test_writes_are_watched_and_never_adapted(tmp_path: Path, use: str, guard: str) -> None:
    settings = settings_for(
        routes=(write_route(tmp_path, "docs", use=use),), policies=Policies(write_guard=guard)
    )
    qdrant = Qdrant()
    is_refused = (use, guard) == ("migration", "refuse")

    async def talk(found: Any) -> None:
        call = found.through.unary_unary("/qdrant.Points/Upsert")
        if is_refused:
            with pytest.raises(grpc.aio.AioRpcError, match="trimtab: vectors are written"):
                await call(upsert())
        else:
            await call(upsert())
            assert found.decisions() == {("docs", "write"): 1}
        await call(upsert("others"))
        await call(b"\xff\xff")
        assert qdrant.of("/qdrant.Points/Upsert")[-1][0] == b"\xff\xff"

    run(settings, qdrant, talk)
    written = [content for content, _ in qdrant.of("/qdrant.Points/Upsert")]
    assert written.count(upsert()) == (not is_refused)


def test_a_shadow_route_answers_raw_and_asks_the_adapted_twin(settings: Settings) -> None:
    qdrant = Qdrant()

    async def talk(found: Any) -> None:
        await found.through.unary_unary(QUERY)(query(), metadata=(KEY,))
        shadow = found.sidecar._state.shadow
        while shadow._tasks:
            await asyncio.wait(list(shadow._tasks))
        (raw, _), (twin, metadata) = qdrant.of(QUERY)
        assert raw == query()
        assert len(sent_vector(twin)) == DIM_OUT
        assert (metadata["api-key"], MARK_HEADER in metadata) == (KEY[1], True)
        (comparison,) = shadow.comparisons()
        assert (comparison["overlap"], comparison["raw"]) == (1.0, ["1", "2", "3"])
        assert found.decisions() == {("docs", Reason.SHADOW): 1}

    run(with_route(settings, mode="shadow"), qdrant, talk)


def test_shadow_compares_the_searches_of_a_batch_that_are_changed_alone(
    settings: Settings,
) -> None:
    by_id = messages.VectorInput(id=messages.PointId(num=7))
    searches = [
        messages.QueryPoints(query=messages.Query(nearest=by_id)),
        messages.QueryPoints.FromString(query()),
        messages.QueryPoints(query=messages.Query(nearest=by_id)),
    ]
    batch = messages.QueryBatchPoints(collection_name="docs", query_points=searches)

    async def talk(found: Any) -> None:
        await found.through.unary_unary(BATCH)(batch.SerializeToString())
        shadow = found.sidecar._state.shadow
        while shadow._tasks:
            await asyncio.wait(list(shadow._tasks))
        assert len(shadow.comparisons()) == 1

    run(with_route(settings, mode="shadow"), Qdrant(), talk)


def test_routes_that_are_off_leave_queries_as_they_are(settings: Settings) -> None:
    qdrant = Qdrant()

    async def talk(found: Any) -> None:
        await found.through.unary_unary(QUERY)(query())
        assert found.decisions() == {("docs", "off"): 1}

    run(with_route(settings, mode="off"), qdrant, talk)
    assert qdrant.of(QUERY)[0][0] == query()


def test_calls_are_counted_and_timed(settings: Settings) -> None:
    async def talk(found: Any) -> None:
        await found.through.unary_unary(QUERY)(query())
        await found.through.unary_unary("/qdrant.Points/Upsert")(upsert())
        await found.through.unary_unary("/qdrant.Points/Get")(b"")
        await found.through.unary_unary("/any.New/Call")(b"")
        telemetry = found.sidecar._state.telemetry
        requests = {key[1:]: n for key, n in telemetry.numbers.items() if key[0] == "requests"}
        assert requests == {
            ("grpc", "query", "OK"): 1,
            ("grpc", "write", "OK"): 1,
            ("grpc", "other", "OK"): 2,
        }
        timed = {key for key in telemetry.histograms if key[1:] == ("grpc", "query")}
        assert {key[0] for key in timed} == {"request_seconds", "upstream_seconds"}
        assert ("transform_seconds", "grpc") in telemetry.histograms
        assert found.sidecar._state.n_under_way == 0

    run(settings, Qdrant(), talk)


def test_an_error_of_the_sidecars_own_is_told_without_its_words(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("trimtab.server.grpc.service.adapt_message", fail)

    async def talk(found: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match="trimtab: internal error") as caught:
            await found.through.unary_unary(QUERY)(query())
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in (caught.value.details() or "")

    run(settings, Qdrant(), talk)


def test_many_queries_at_once_ask_once_and_all_are_adapted(settings: Settings) -> None:
    qdrant = Qdrant()

    async def talk(found: Any) -> None:
        ask = found.through.unary_unary(QUERY)
        await asyncio.gather(*(ask(query()) for _ in range(50)))
        assert len(qdrant.of("/qdrant.Collections/Get")) == 1
        assert found.decisions() == {("docs", "adapted"): 50}

    run(settings, qdrant, talk)
