"""What the requests of one worker share."""

import asyncio
import threading
from pathlib import Path
from typing import Any

from tests.support.onnx_models import linear_bytes
from tests.support.sidecar_settings import settings_of
from trimtab.errors import ForbiddenError
from trimtab.metrics import Telemetry
from trimtab.routing.route_book import Question
from trimtab.routing.schema_cache import SchemaCache
from trimtab.routing.vector_schema import CollectionVectors, IndexedVector
from trimtab.server.route_table import LiveTable
from trimtab.server.worker_state import WorkerState, beside

DIM, _TIMEOUT_S = 4, 10
FITS = CollectionVectors({"": IndexedVector(DIM, "cosine", "float32", is_multi=False)})


def state_of(folder: Path) -> WorkerState:
    model = folder / "adapter.onnx"
    model.write_bytes(linear_bytes(dim_in=DIM, dim_out=DIM, use="relevance"))
    facts = SchemaCache(vectors_ttl_s=60.0, aliases_ttl_s=60.0)
    live = LiveTable(lambda: settings_of(model), facts)
    return WorkerState(live, facts, None, Telemetry())


async def ask_thrice(state: WorkerState) -> list[str]:
    """Two requests ask for an alias at once; a third once the alias leads elsewhere."""
    asked: list[str] = []
    answered = asyncio.Event()

    async def answer(question: Question) -> Any:
        asked.append(question.method)
        if question.method == "get_collection":
            return FITS
        is_first = len(asked) == 1
        if is_first:
            await answered.wait()
        return {} if is_first else {"alias": "docs"}

    before = [
        asyncio.create_task(state.look_up(state.table, "alias", answer, ())) for _ in range(2)
    ]
    while not asked:
        await asyncio.sleep(0)
    state.invalidate("")
    async with asyncio.timeout(_TIMEOUT_S):
        assert set(await state.look_up(state.table, "alias", answer, ())) == {""}
    answered.set()
    assert [set(await each) for each in before] == [{""}, {""}]  # what is known by now
    assert set(state.table.known_routes("alias") or {}) == {""}
    return asked


def test_who_asks_after_a_change_does_not_wait_for_an_answer_from_before(tmp_path: Path) -> None:
    asked = asyncio.run(ask_thrice(state_of(tmp_path)))
    assert asked == ["get_aliases", "get_aliases", "get_collection"]


def test_what_qdrant_hides_from_one_says_nothing_to_another(tmp_path: Path) -> None:
    state = state_of(tmp_path)

    async def run() -> None:
        goes_on = asyncio.Event()

        async def hidden(_: Question) -> Any:
            await goes_on.wait()
            raise ForbiddenError("not for this key")

        async def shown(question: Question) -> Any:
            return FITS if question.method == "get_collection" else {"alias": "docs"}

        narrow = (b"narrow",)
        first = asyncio.create_task(state.look_up(state.table, "alias", hidden, narrow))
        await asyncio.sleep(0)
        full = (b"full",)
        async with asyncio.timeout(_TIMEOUT_S):
            assert set(await state.look_up(state.table, "alias", shown, full)) == {""}
        goes_on.set()
        await first

    asyncio.run(run())


def test_metrics_name_no_collection_that_a_client_made_up(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    assert [state.label_of(name) for name in ("docs", "tenant-7", "")] == ["docs", "", ""]
    state.facts.learn_aliases({"alias": "docs"}, epoch=state.facts.epoch)
    state.facts.learn_vectors("docs", FITS, epoch=state.facts.epoch)
    assert state.label_of("alias") == "alias"


def test_long_queries_leave_the_threads_of_others_alone() -> None:
    async def run() -> None:
        goes_on = threading.Event()
        long = [asyncio.create_task(beside(goes_on.wait, is_long=True)) for _ in range(64)]
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                assert await asyncio.to_thread(int, "7") == 7
        finally:
            goes_on.set()
        assert all(await asyncio.gather(*long))

    asyncio.run(run())
