"""Qdrant's addresses: which get requests, and what becomes of their connections."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.support.raw_http import PATIENCE_S, answer_bytes
from tests.support.raw_upstream import GOOD_BODY, Exchange, RawUpstream, raw_upstream
from trimtab.addresses import Origin
from trimtab.settings import UpstreamSettings
from trimtab.upstream.rest_fetch import Request, ask_over, is_well
from trimtab.upstream.rest_pool import Pool

ALL = Request(b"GET", b"/collections")


@pytest.fixture
def qdrant() -> Iterator[RawUpstream]:
    with raw_upstream() as upstream:
        yield upstream


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop go on until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            await asyncio.sleep(0)


def pool_before(upstream: RawUpstream, **settings: Any) -> Pool:
    origin = Origin.parse(upstream.url, default_port=6333)
    return Pool(UpstreamSettings(rest=(origin,), **settings), None)


async def leave_the_names(pool: Pool, hosts: list[str]) -> None:
    """Have the names lead elsewhere."""
    hosts[:] = ["127.0.0.2"]
    await until(lambda: [node.host for node in pool.nodes] == hosts)


async def stop(pool: Pool, _: list[str]) -> None:
    await pool.stop()


@pytest.mark.parametrize("end", [leave_the_names, stop])
def test_a_busy_connection_to_an_address_that_is_gone_is_closed_once_it_is_free(
    qdrant: RawUpstream,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[Pool, list[str]], Awaitable[None]],
) -> None:
    may_answer, hosts = threading.Event(), ["127.0.0.1"]

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        may_answer.wait(PATIENCE_S)
        exchange.send(answer_bytes(200, GOOD_BODY))

    async def resolve(_: Origin) -> list[str]:
        return list(hosts)

    async def run() -> None:
        pool = pool_before(qdrant, resolve_interval_s=0.01)
        await pool.start(is_well)
        (node,) = pool.nodes
        asking = asyncio.create_task(ask_over(await pool.connect(), ALL, timeout_s=None))
        await asyncio.to_thread(qdrant.wait_for_requests, 1)
        await end(pool, hosts)
        may_answer.set()
        assert (await asking).body == GOOD_BODY
        await until(lambda: node.n_open == 0)
        assert node.n_busy == 0
        await pool.stop()

    qdrant.answer = answer
    monkeypatch.setattr("trimtab.upstream.rest_pool._resolve", resolve)
    asyncio.run(run())


def test_only_a_check_shows_that_an_address_is_well_again_that_failed_one(
    qdrant: RawUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        pool = pool_before(qdrant, check_interval_s=0.01)
        await pool.start(is_well)
        (node,) = pool.nodes
        await until(lambda: not node.is_up)
        qdrant.start()
        qdrant.health = 503
        await until(lambda: len(qdrant.questions) > 2)
        assert (await ask_over(await pool.connect(), ALL, timeout_s=None)).body == GOOD_BODY
        assert not node.is_up
        assert "upstream is back" not in caplog.messages
        qdrant.health = 200
        await until(lambda: node.is_up)
        await pool.stop()

    qdrant.stop()
    with caplog.at_level(logging.INFO, logger="trimtab"):
        asyncio.run(run())
    assert caplog.messages.count("upstream is back") == 1
