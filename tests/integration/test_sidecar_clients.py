"""Official Python clients through the sidecar: the same answers, or those of the adapted query."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from tests.contract.test_qdrant_identity import ASKS, TIED
from tests.support.qdrant import world
from tests.support.qdrant.agreement import order_ties, plain, same
from tests.support.qdrant.fixtures import connect, unique_name
from tests.support.qdrant.process import Server
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import (
    DEPTH,
    exact,
    fill,
    found,
    hits,
    identity_bytes,
    mark_of,
    new_client,
    point_alias,
    query,
    samples,
    search,
    write_model,
)
from trimtab import AdaptedQdrantClient, Adapter

INDEXED = {"order by": ("price", "float"), "facet": ("colour", "keyword")}


class Blocking:
    """The asynchronous client, for callers that block."""

    def __init__(self, client: AsyncQdrantClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            async def wait() -> Any:
                return await method(*arguments, **named)

            return self._runner.run(wait())

        return call


def through(sidecar: Sidecar, server: Server) -> dict[str, Any]:
    """Arguments of an official client before which the sidecar stands."""
    return {"url": sidecar.rest_url, "api_key": server.api_key, "check_compatibility": True}


def await_checks() -> None:
    """Wait for the threads in which clients ask for the version, while there is one to ask."""
    for thread in threading.enumerate():
        if "_check_compatibility" in thread.name:
            thread.join()


@pytest.fixture(scope="module")
def identical(
    qdrant: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sidecar, QdrantClient, str]]:
    folder: Path = tmp_path_factory.mktemp("identity")
    name = unique_name("identity")
    direct = connect(qdrant)
    direct.create_collection(
        name,
        vectors_config=world.vectors_config(),
        sparse_vectors_config=world.sparse_config(),
    )
    direct.upsert(name, world.points())
    for field, kind in INDEXED.values():
        direct.create_payload_index(name, field, kind)
    lines = [f'upstream.rest = "{qdrant.rest_url}"']
    lines += ['policies = { examples = "always", multivector = "rows" }']
    for vector, params in world.vectors_config().items():
        (folder / f"{vector}.onnx").write_bytes(identity_bytes(params.size))
        lines += ["[[route]]", f'collection = "{name}"', f'vector = "{vector}"']
        lines += [f'adapter = "{vector}.onnx"']
    config = folder / "sidecar.toml"
    config.write_text("\n".join(lines))
    with running_sidecar(config=config) as sidecar:
        yield sidecar, direct, name
    direct.delete_collection(name)
    direct.close()


@pytest.fixture(scope="module", params=["sync", "async"])
def client(
    request: pytest.FixtureRequest, identical: tuple[Sidecar, Any, str], qdrant: Server
) -> Iterator[Any]:
    arguments = through(identical[0], qdrant)
    if request.param == "sync":
        made = QdrantClient(**arguments)
        yield made
        await_checks()
        made.close()
        return
    with asyncio.Runner() as runner:
        blocking = Blocking(AsyncQdrantClient(**arguments), runner)
        yield blocking
        await_checks()
        blocking.close()


@pytest.mark.parametrize("what", ASKS)
def test_every_call_answers_as_without_the_sidecar(
    identical: tuple[Sidecar, QdrantClient, str], client: Any, what: str
) -> None:
    sidecar, direct, name = identical
    ask, n_adapted = ASKS[what]
    before = count_adapted(sidecar, name)
    want, got = plain(ask(direct, name)), plain(ask(client, name))
    if what in TIED:
        want, got = order_ties(want), order_ties(got)
    assert same(got, want), f"through the sidecar: {got}\ndirect: {want}"
    assert count_adapted(sidecar, name) - before == n_adapted


def count_adapted(sidecar: Sidecar, name: str) -> float:
    numbers = samples(sidecar)
    counted = ("adapted", "adapted_feedback")
    return sum(numbers.get(("trimtab_query_vectors_total", name, each), 0) for each in counted)


class Linear:
    """A collection with two routes, and an alias, behind the sidecar."""

    def __init__(self, sidecar: Sidecar, name: str, text: Adapter, title: Adapter) -> None:
        self.sidecar, self.name, self.alias = sidecar, name, f"{name}-alias"
        self.text, self.title = text, title
        self.raw = new_client(sidecar.rest_url)

    def adapted(self, seed: int = 0) -> np.ndarray:
        return self.text.transform(np.array(query(seed), dtype=np.float32))

    def adapted_title(self, seed: int = 0) -> np.ndarray:
        return self.title.transform(np.array(query(seed), dtype=np.float32))


@pytest.fixture(scope="module")
def linear(qdrant: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linear]:
    folder, name = tmp_path_factory.mktemp("linear"), unique_name("linear")
    text = write_model(folder / "text" / "adapter.onnx", name="text", seed=1)
    title = write_model(folder / "title" / "adapter.onnx", name="title", seed=2)
    direct = connect(qdrant)
    fill(direct, name, f"{name}-alias")
    direct.create_payload_index(name, "group", "integer")
    routes = ("--route", f"{name}={folder / 'text'}", "--route", f"{name}/title={folder / 'title'}")
    with running_sidecar("--upstream-rest", qdrant.rest_url, *routes) as sidecar:
        made = Linear(sidecar, name, text, title)
        if qdrant.api_key:
            made.raw.headers["api-key"] = qdrant.api_key
        yield made
        made.raw.close()
    direct.delete_collection(name)
    direct.close()


@pytest.fixture(scope="module")
def official(linear: Linear, qdrant: Server) -> Iterator[QdrantClient]:
    client = QdrantClient(**through(linear.sidecar, qdrant))
    yield client
    await_checks()
    client.close()


@pytest.mark.parametrize("is_alias", [False, True], ids=["collection", "alias"])
def test_the_ranking_is_that_of_the_query_adapted_by_hand(
    linear: Linear, official: QdrantClient, is_alias: bool
) -> None:
    name = linear.alias if is_alias else linear.name
    for seed in range(5):
        got = official.query_points(name, query=query(seed), limit=DEPTH).points
        assert found(got) == exact(linear.adapted(seed))
        assert found(got) != exact(query(seed))
        named = official.query_points(name, query=query(seed), using="title", limit=DEPTH).points
        assert found(named) == exact(linear.adapted_title(seed), name="title")


def test_every_search_of_a_batch_is_adapted(linear: Linear, official: QdrantClient) -> None:
    usings = [None, "title", None]
    requests = [
        models.QueryRequest(query=query(seed), using=using, limit=DEPTH)
        for seed, using in enumerate(usings)
    ]
    answers = official.query_batch_points(linear.name, requests)
    assert [found(answer.points) for answer in answers] == [
        exact(linear.adapted(0)),
        exact(linear.adapted_title(1), name="title"),
        exact(linear.adapted(2)),
    ]


def test_groups_are_those_of_the_adapted_query(linear: Linear, official: QdrantClient) -> None:
    got = official.query_points_groups(linear.name, "group", query=query(), limit=4, group_size=2)
    ranking = exact(linear.adapted(), limit=1000)
    best = list(dict.fromkeys(point % 4 for point, _ in ranking))
    assert [group.id for group in got.groups] == best
    for group in got.groups:
        of_group = [(point, score) for point, score in ranking if point % 4 == group.id]
        assert found(group.hits) == of_group[:2]


def test_every_level_of_a_nested_prefetch_is_adapted(
    linear: Linear, official: QdrantClient
) -> None:
    inner = models.Prefetch(query=query(1), using="title", limit=30)
    outer = models.Prefetch(query=query(2), limit=15, prefetch=[inner])
    got = official.query_points(
        linear.name, query=query(3), using="title", prefetch=[outer], limit=DEPTH
    ).points
    first = {point for point, _ in exact(linear.adapted_title(1), name="title", limit=30)}
    second = {point for point, _ in exact(linear.adapted(2), limit=15, among=first)}
    assert found(got) == exact(linear.adapted_title(3), name="title", among=second)


def test_ids_and_examples_keep_the_vectors_of_the_index(
    linear: Linear, official: QdrantClient, qdrant: Server
) -> None:
    with_examples = models.RecommendQuery(
        recommend=models.RecommendInput(
            positive=[3, query()], strategy=models.RecommendStrategy.BEST_SCORE
        )
    )
    direct = connect(qdrant)
    for asked in (3, with_examples):
        want = direct.query_points(linear.name, query=asked, limit=DEPTH).points
        assert official.query_points(linear.name, query=asked, limit=DEPTH).points == want
    direct.close()


LEGACY: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "search": ("search", lambda: {"vector": query()}),
    "search with a name": ("search", lambda: {"vector": {"name": "title", "vector": query()}}),
    "search batch": ("search/batch", lambda: {"searches": [{"vector": query(), "limit": DEPTH}]}),
    "discover": ("discover", lambda: {"target": query(), "context": []}),
    "discover batch": (
        "discover/batch",
        lambda: {"searches": [{"target": query(), "context": [], "limit": DEPTH}]},
    ),
}


@pytest.mark.parametrize("what", LEGACY)
def test_old_endpoints_are_adapted_too(linear: Linear, what: str) -> None:
    path, make = LEGACY[what]
    answer = linear.raw.post(
        f"/collections/{linear.name}/points/{path}", json={**make(), "limit": DEPTH}
    )
    result = answer.raise_for_status().json()["result"]
    got = found(result[0] if "batch" in path else result)
    if "name" in what:
        assert got == exact(linear.adapted_title(), name="title")
        assert mark_of(answer) == linear.title.mark
        return
    want = exact(linear.adapted())
    assert [point for point, _ in got] == [point for point, _ in want]
    assert mark_of(answer) == linear.text.mark
    if path.startswith("search"):
        assert got == want


def test_old_groups_are_adapted_and_old_recommendations_are_not(linear: Linear) -> None:
    start = f"/collections/{linear.name}/points"
    body = {"vector": query(), "group_by": "group", "limit": 2, "group_size": 1}
    answer = linear.raw.post(f"{start}/search/groups", json=body)
    best = exact(linear.adapted(), limit=1)
    assert found(answer.json()["result"]["groups"][0]["hits"]) == best
    assert mark_of(answer) == linear.text.mark
    answer = linear.raw.post(f"{start}/recommend", json={"positive": [query()], "limit": DEPTH})
    assert [point for point, _ in found(answer.json()["result"])] == [
        point for point, _ in exact(query())
    ]
    assert mark_of(answer) == ""


@pytest.mark.parametrize(
    "spelling",
    [
        "//collections//{}/points/query",
        "/collections/{}/points/query/",
        "/collections/{}/points/query?timeout=5",
        "/collections/{}/%70oints/query",
        "/c%6Fllections/{}/points//query//",
    ],
)
def test_no_spelling_of_the_path_gets_round_the_adapter(linear: Linear, spelling: str) -> None:
    body = {"query": query(), "limit": DEPTH}
    address = linear.sidecar.rest_url + spelling.format(linear.name)
    answer = linear.raw.post(httpx.URL(address), json=body)
    assert hits(answer) == exact(linear.adapted())
    assert mark_of(answer) == linear.text.mark


def test_an_adapted_client_behind_the_sidecar_is_not_adapted_twice(
    linear: Linear, official: QdrantClient
) -> None:
    adapted = AdaptedQdrantClient(official, {linear.name: linear.text})
    key = ("trimtab_query_vectors_total", linear.name, "already_adapted")
    before = samples(linear.sidecar).get(key, 0)
    got = adapted.query_points(linear.name, query=query(), limit=DEPTH).points
    assert found(got) == exact(linear.adapted())
    assert samples(linear.sidecar)[key] == before + 1


def test_a_marked_request_stays_and_only_adapted_answers_are_marked(linear: Linear) -> None:
    plain_answer = search(linear.raw, linear.name, query())
    assert mark_of(plain_answer) == linear.text.mark
    linear.raw.headers["x-trimtab-adapter"] = "another@0123456789ab"
    marked = search(linear.raw, linear.name, query())
    del linear.raw.headers["x-trimtab-adapter"]
    assert hits(marked) == exact(query())
    assert mark_of(marked) == ""
    for path in ("/", "/collections", f"/collections/{linear.name}"):
        assert mark_of(linear.raw.get(path)) == ""
    assert mark_of(search(linear.raw, linear.name, query(dim=3))) == ""


def test_an_alias_made_through_the_sidecar_counts_at_once(
    linear: Linear, official: QdrantClient
) -> None:
    alias = f"{linear.name}-new"
    raw = new_client(linear.sidecar.rest_url, headers=linear.raw.headers)
    assert search(raw, alias, query()).status_code == 404
    point_alias(official, alias, linear.name)
    assert hits(search(raw, alias, query())) == exact(linear.adapted())
    raw.close()


def test_a_query_and_its_prefetch_by_different_adapters_have_both_marks(linear: Linear) -> None:
    prefetch = {"query": query(1), "using": "title", "limit": 20}
    answer = search(linear.raw, linear.name, query(), prefetch=prefetch)
    assert set(mark_of(answer).split(",")) == {linear.text.mark, linear.title.mark}
