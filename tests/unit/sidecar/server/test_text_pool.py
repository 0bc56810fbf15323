"""Texts are embedded beside the event loop: bounded, once each, and only while somebody waits."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny_encoder import embed, words_bytes
from trimtab import metrics as t
from trimtab.errors import BusyError, TooLargeError
from trimtab.metrics import Telemetry
from trimtab.server.encoders import ServedEncoder
from trimtab.server.text_pool import MAX_LETTERS, TextPool, TextPools
from trimtab.settings import EncoderSettings
from trimtab.text.encoder import Embedded, TextEncoder

PATIENCE_S = 30


class Held:
    """An encoder that waits to be let go, and notes what it was asked."""

    def __init__(self) -> None:
        self._inner = TextEncoder.from_bytes(
            words_bytes(query_prefix="query ", document_prefix="passage ")
        )
        self.manifest = self._inner.manifest
        self.adapter = None
        self.asked: list[list[str]] = []
        self.has_begun = threading.Event()
        self.may_go = threading.Event()
        self.may_go.set()
        self.error: Exception | None = None
        self.bad = ""

    def embed(self, texts: Sequence[str], *, adapted: bool = False) -> list[Embedded]:
        self.asked.append(list(texts))
        self.has_begun.set()
        assert self.may_go.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        if self.bad in texts:
            raise ValueError(self.bad)
        return self._inner.embed(texts, adapted=adapted)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def make(held: Held) -> Iterator[Callable[..., TextPool]]:
    made: list[TextPool] = []

    def pool(**settings: Any) -> TextPool:
        told = replace(EncoderSettings("toy/words", Path("encoder.onnx")), **settings)
        made.append(TextPool(ServedEncoder(told, held), Telemetry()))  # type: ignore[arg-type]
        return made[-1]

    yield pool
    held.may_go.set()
    for each in made:
        each.close()


def counted(pool: TextPool, result: str, role: str = "query") -> float:
    return pool._telemetry.numbers.get((t.TEXTS.name, "toy/words", role, result), 0)


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(work(), PATIENCE_S)

    return asyncio.run(bounded())


async def begin(pool: TextPool, held: Held) -> "asyncio.Task[list[Embedded]]":
    """Let a first text be embedded until somebody says that it may go."""
    held.may_go.clear()
    first = asyncio.create_task(pool.embed(["a"], "query"))
    await until(held.has_begun.is_set)
    return first


async def until(look: Callable[[], bool]) -> None:
    while not look():
        await asyncio.sleep(0.001)


def test_texts_come_back_in_their_order_each_embedded_once(
    held: Held, make: Callable[..., TextPool]
) -> None:
    pool = make()
    found = run(lambda: pool.embed(["money", "back", "money"], "query"))
    wanted = [embed(f"query {text}") for text in ("money", "back", "money")]
    assert np.abs(np.stack([each.vector for each in found]) - wanted).max() < 1e-6
    assert [each.n_tokens for each in found] == [2, 2, 2]
    assert held.asked == [["query money", "query back"]]


def test_roles_have_their_prefixes_and_may_have_none(
    held: Held, make: Callable[..., TextPool]
) -> None:
    pool = make()
    run(lambda: pool.embed(["money"], "document"))
    run(lambda: pool.embed(["money"], "document", prefixed=False))
    assert held.asked == [["passage money"], ["money"]]


def test_what_was_embedded_is_kept_and_the_oldest_goes(
    held: Held, make: Callable[..., TextPool]
) -> None:
    pool = make(cached=2)

    async def work() -> None:
        for text in ("a", "b", "a", "c", "a", "b"):
            await pool.embed([text], "query")

    run(work)
    assert [text for batch in held.asked for text in batch] == [
        *("query a", "query b", "query c", "query b")
    ]
    assert (counted(pool, "cached"), pool.n_cached) == (2, 2)


def test_nothing_is_kept_where_nothing_may_be(held: Held, make: Callable[..., TextPool]) -> None:
    pool = make(cached=0)

    async def work() -> None:
        await pool.embed(["a"], "query")
        await pool.embed(["a"], "query")

    run(work)
    assert len(held.asked) == 2


def test_those_who_want_the_same_wait_together(held: Held, make: Callable[..., TextPool]) -> None:
    pool = make()
    held.may_go.clear()

    async def work() -> None:
        asking = [asyncio.create_task(pool.embed(["a"], "query")) for _ in range(5)]
        await until(held.has_begun.is_set)
        held.may_go.set()
        found = await asyncio.gather(*asking)
        assert all(np.array_equal(each[0].vector, found[0][0].vector) for each in found)

    run(work)
    assert held.asked == [["query a"]]
    assert (counted(pool, "encoded"), counted(pool, "shared")) == (1, 4)


def test_what_waits_is_taken_together_queries_first(
    held: Held, make: Callable[..., TextPool]
) -> None:
    pool = make()

    async def work() -> None:
        first = await begin(pool, held)
        documents = asyncio.create_task(pool.embed(["x", "y"], "document"))
        await asyncio.sleep(0)
        queries = asyncio.create_task(pool.embed(["b", "c"], "query"))
        await until(lambda: pool.n_waiting == 4)
        held.may_go.set()
        await asyncio.gather(first, documents, queries)

    run(work)
    assert held.asked == [["query a"], ["query b", "query c"], ["passage x", "passage y"]]


def test_too_many_waiting_texts_are_refused_with_a_time(
    held: Held, make: Callable[..., TextPool]
) -> None:
    pool = make(waiting=3)

    async def work() -> None:
        first = await begin(pool, held)
        waiting = asyncio.create_task(pool.embed(["b", "c"], "query"))
        await until(lambda: pool.n_waiting == 2)
        with pytest.raises(BusyError, match="2 texts wait to be embedded by toy/words; at most 3"):
            await pool.embed(["d", "e"], "query")
        again = asyncio.create_task(pool.embed(["b"], "query"))  # nothing more to wait for
        held.may_go.set()
        await asyncio.gather(first, waiting, again)

    run(work)
    assert counted(pool, "refused") == 2


def test_a_request_of_more_texts_than_may_wait_is_told_to_come_in_parts(
    make: Callable[..., TextPool],
) -> None:
    """It never could be taken, however often its sender came back."""
    pool = make(waiting=3)
    assert len(run(lambda: pool.embed(["a", "b", "c"], "document"))) == 3
    with pytest.raises(TooLargeError, match="has 4 texts to embed; at most 3 may wait at once"):
        run(lambda: pool.embed(["a", "b", "c", "d"], "document"))


def test_documents_are_not_kept_in_place_of_queries(
    held: Held, make: Callable[..., TextPool]
) -> None:
    pool = make(cached=1)

    async def work() -> None:
        await pool.embed(["a"], "query")
        await pool.embed(["x", "y"], "document")
        await pool.embed(["a"], "query")

    run(work)
    assert held.asked == [["query a"], ["passage x", "passage y"]]


def test_a_query_that_waits_as_a_document_goes_first(
    held: Held, make: Callable[..., TextPool]
) -> None:
    pool = make()

    async def work() -> None:
        first = await begin(pool, held)
        texts = [str(number) for number in range(40)]
        documents = asyncio.create_task(pool.embed(texts, "document", prefixed=False))
        await until(lambda: pool.n_waiting == 40)
        query = asyncio.create_task(pool.embed(["39"], "query", prefixed=False))
        await asyncio.sleep(0)
        assert pool.n_waiting == 40
        held.may_go.set()
        await asyncio.gather(first, documents, query)

    run(work)
    assert held.asked[1] == ["39"]
    assert sum(map(len, held.asked)) == 41


def test_a_text_that_fails_fails_alone(held: Held, make: Callable[..., TextPool]) -> None:
    pool = make()
    held.bad = "query bad"

    async def work() -> None:
        first = await begin(pool, held)
        good, bad = (asyncio.create_task(pool.embed([each], "query")) for each in ("good", "bad"))
        await until(lambda: pool.n_waiting == 2)
        held.may_go.set()
        assert len(await good) == len(await first) == 1
        with pytest.raises(ValueError, match="query bad"):
            await bad

    run(work)


def test_what_nobody_waits_for_is_not_embedded(held: Held, make: Callable[..., TextPool]) -> None:
    pool = make()

    async def work() -> None:
        first = await begin(pool, held)
        left = asyncio.create_task(pool.embed(["b"], "query"))
        await until(lambda: pool.n_waiting == 1)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert pool.n_waiting == 0  # others may wait in its place
        last = asyncio.create_task(pool.embed(["c"], "query"))
        await until(lambda: pool.n_waiting == 1)
        held.may_go.set()
        await asyncio.gather(first, last)

    run(work)
    assert held.asked == [["query a"], ["query c"]]
    assert pool.n_waiting == 0


def test_one_who_leaves_does_not_take_the_text_from_another(
    held: Held, make: Callable[..., TextPool]
) -> None:
    pool = make()

    async def work() -> None:
        first = await begin(pool, held)
        left, stays = (asyncio.create_task(pool.embed(["b"], "query")) for _ in range(2))
        await until(lambda: pool.n_waiting == 1)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        held.may_go.set()
        assert len(await stays) == 1
        await first

    run(work)


def test_an_error_is_told_to_all_and_the_next_batch_runs(
    held: Held, make: Callable[..., TextPool]
) -> None:
    pool = make()

    async def work() -> None:
        held.error = RuntimeError("out of memory")
        with pytest.raises(RuntimeError, match="out of memory"):
            await pool.embed(["a"], "query")
        held.error = None
        assert len(await pool.embed(["a"], "query")) == 1

    run(work)


def test_a_text_that_is_too_long_is_refused(make: Callable[..., TextPool]) -> None:
    pool = make()
    with pytest.raises(TooLargeError, match=f"more than {MAX_LETTERS} letters"):
        run(lambda: pool.embed(["a" * (MAX_LETTERS + 1)], "query"))


def test_a_pool_that_is_replaced_takes_what_waits_to_its_end(held: Held) -> None:
    """Requests keep the table that they began with, and with it their encoder's pool."""
    pools = TextPools(Telemetry())
    served = ServedEncoder(EncoderSettings("one", Path("encoder.onnx")), held)  # type: ignore[arg-type]

    async def work() -> None:
        pool = pools.of(served)
        first = await begin(pool, held)
        second = asyncio.create_task(pool.embed(["b"], "query"))
        await until(lambda: pool.n_waiting == 1)
        pools.keep([])
        held.may_go.set()
        assert len(await first) == len(await second) == 1
        await until(lambda: pool._threads is None)
        again = pools.of(served)  # a request that keeps an old table
        assert len(await again.embed(["c"], "query")) == 1
        assert list(pools) == []

    run(work)
    assert held.asked == [["query a"], ["query b"], ["query c"]]


def test_whoever_waits_at_the_end_is_told(held: Held, make: Callable[..., TextPool]) -> None:
    pool = make()

    async def work() -> None:
        first = await begin(pool, held)
        waits = asyncio.create_task(pool.embed(["b"], "query"))
        await until(lambda: pool.n_waiting == 1)
        pool.close()
        held.may_go.set()
        assert len(await first) == 1
        with pytest.raises(asyncio.CancelledError):
            await waits

    run(work)


def test_pools_of_encoders_that_are_served_no_more_are_closed(held: Held) -> None:
    pools = TextPools(Telemetry())
    one, two = (
        ServedEncoder(EncoderSettings(name, Path("encoder.onnx")), held)  # type: ignore[arg-type]
        for name in ("one", "two")
    )
    first = pools.of(one)
    pools.of(two)
    pools.keep([one])
    assert list(pools) == [first]
    assert pools.of(one) is first
    pools.close()
