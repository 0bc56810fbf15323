"""Bodies that take long to adapt, beside which a worker goes on."""

import asyncio
import gzip
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.onnx_models import linear_bytes
from tests.support.sidecar_settings import settings_of
from trimtab.metrics import Telemetry
from trimtab.routing.schema_cache import SchemaCache
from trimtab.routing.vector_schema import CollectionVectors, IndexedVector
from trimtab.server.request_head import RequestHead
from trimtab.server.rest import adapt
from trimtab.server.route_table import LiveTable
from trimtab.server.worker_state import BESIDE_BYTES, WorkerState

WAIT_S = 10
QUERY = {"query": [0.5, -1.0, 2.0, 0.25, 1.0, -3.0], "limit": 3}
LONG = json.dumps({**QUERY, "filter": {"must": ["x" * BESIDE_BYTES]}}).encode()


def wait_for_others(work: Callable[..., Any], go_on: threading.Event) -> Callable[..., Any]:
    def waiting(*given: Any, **named: Any) -> Any:
        assert go_on.wait(WAIT_S), "the loop stood still meanwhile"
        return work(*given, **named)

    return waiting


def target_of(call: str) -> bytes:
    return f"/collections/docs/points/{call}".encode()


def request(call: str, body: bytes, coding: dict[bytes, bytes]) -> RequestHead:
    values = {b"host": b"a", b"content-length": b"%d" % len(body), **coding}
    fields = list(values.items())
    return RequestHead(b"POST", target_of(call), fields, values, keep_alive=True, is_http_10=False)


async def prepare(
    state: WorkerState, call: str, body: bytes, coding: dict[bytes, bytes]
) -> adapt.Prepared:
    plan = state.planner.plan(b"POST", target_of(call))
    return await adapt.prepare(state, state.table, plan, request(call, body, coding), body)


def test_numbers_in_the_payload_of_a_watched_write_are_no_vector(tmp_path: Path) -> None:
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes(use="migration"))
    settings, facts = settings_of(tmp_path), SchemaCache(vectors_ttl_s=9, aliases_ttl_s=9)
    payload = {"payload": {"path": [0.25, 0.5, 1.5, -2.5] * 8}, "points": [1]}
    body = json.dumps({"operations": [{"set_payload": payload}]}).encode()
    telemetry = Telemetry()

    async def run() -> adapt.Prepared:
        state = WorkerState(LiveTable(lambda: settings, facts), facts, None, telemetry)
        return await prepare(state, "batch", body, {})

    assert asyncio.run(run()).body == body
    assert not [key for key in telemetry.numbers if "bypassed" in key[0]]


@pytest.mark.parametrize("body", [LONG, json.dumps(QUERY).encode()], ids=["long", "short"])
def test_an_adapter_that_does_not_fit_is_counted_once_a_query(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes(use="relevance"))
    settings, facts = settings_of(tmp_path), SchemaCache(vectors_ttl_s=9, aliases_ttl_s=9)
    narrow = CollectionVectors({"": IndexedVector(5, "cosine", "float32", is_multi=False)})
    facts.learn_vectors("docs", narrow, epoch=facts.epoch)
    facts.learn_aliases({}, epoch=facts.epoch)
    telemetry = Telemetry()

    async def run() -> None:
        state = WorkerState(LiveTable(lambda: settings, facts), facts, None, telemetry)
        head, plan = request("query", body, {}), state.planner.plan(b"POST", target_of("query"))
        if adapt.prepare_at_once(state, state.table, plan, head, body) is None:
            await adapt.prepare(state, state.table, plan, head, body)

    asyncio.run(run())
    assert [n for key, n in telemetry.numbers.items() if "unfit" in key[1:]] == [1]


@pytest.mark.parametrize(
    ("body", "coding"),
    [(LONG, {}), (gzip.compress(json.dumps(QUERY).encode()), {b"content-encoding": b"gzip"})],
    ids=["long", "packed"],
)
def test_a_loop_goes_on_beside_a_body_that_may_take_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes, coding: dict[bytes, bytes]
) -> None:
    (tmp_path / "adapter.onnx").write_bytes(linear_bytes(use="relevance"))
    settings, facts = settings_of(tmp_path), SchemaCache(vectors_ttl_s=9, aliases_ttl_s=9)
    go_on = threading.Event()
    monkeypatch.setattr(adapt, "adapt_body", wait_for_others(adapt.adapt_body, go_on))

    async def run() -> adapt.Prepared:
        state = WorkerState(LiveTable(lambda: settings, facts), facts, None, Telemetry())
        preparing = asyncio.create_task(prepare(state, "query", body, coding))
        await asyncio.sleep(0)
        go_on.set()
        return await preparing

    prepared = asyncio.run(run())
    assert prepared.mark
    assert prepared.body != body
