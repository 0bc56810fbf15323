"""Qdrant's addresses: which are known, and what becomes of their connections."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.support.raw_http import PATIENCE_S, answer_bytes
from tests.support.raw_upstream import GOOD_BODY, Exchange, RawUpstream, raw_upstream
from trimtab.addresses import Origin
from trimtab.settings import UpstreamSettings
from trimtab.upstream.rest_fetch import Request, ask_over, is_answering
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
        origin = Origin.parse(qdrant.url, default_port=6333)
        pool = Pool(UpstreamSettings(rest=(origin,), resolve_interval_s=0.01), None)
        await pool.start(is_answering)
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
