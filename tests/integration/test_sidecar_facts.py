"""What the sidecar knows of Qdrant's collections: at its start and after changes."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.support.qdrant.fixtures import connect, unique_name
from tests.support.qdrant.process import Server, running_server
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import (
    DIM,
    ask,
    eventually,
    exact,
    fill,
    hits,
    mark_of,
    new_client,
    point_alias,
    query,
    samples,
    search,
    write_model,
)
from trimtab.model.adapter import Adapter

TTL_S = 0.3
N_CLIENTS = 16
"""The system deals connections out to the workers; each gets some of so many."""


def raw_client(sidecar: Sidecar, server: Server) -> httpx.Client:
    headers = {"api-key": server.api_key} if server.api_key else {}
    return new_client(sidecar.rest_url, headers=headers)


class Knowing:
    """A sidecar with routes for collections that tests make, change and drop."""

    def __init__(
        self, sidecar: Sidecar, server: Server, models: dict[str, Adapter], prefix: str
    ) -> None:
        self.sidecar, self.models, self.prefix = sidecar, models, prefix
        self.raw = raw_client(sidecar, server)
        self.direct = connect(server)
        self.through = QdrantClient(
            url=sidecar.rest_url, api_key=server.api_key, check_compatibility=False
        )

    def adapted(self, collection: str) -> np.ndarray:
        return self.models[collection].transform(np.array(query(), dtype=np.float32))

    def close(self) -> None:
        for client in (self.raw, self.direct, self.through):
            client.close()


ROUTES = {"one": "relevance", "two": "relevance", "strict": "migration", "late": "relevance"}
"""Only one test makes ``late``; the others leave none of theirs behind."""


def write_config(folder: Path, server: Server, ttl_s: float, collections: dict[str, str]) -> Path:
    lines = [f'upstream.rest = "{server.rest_url}"', f"facts.ttl_s = {ttl_s}"]
    for collection, model in collections.items():
        lines += ["[[route]]", f'collection = "{collection}"', f'adapter = "{model}.onnx"']
    config = folder / "sidecar.toml"
    config.write_text("\n".join(lines))
    return config


@pytest.fixture(scope="module", params=[60.0, TTL_S], ids=["long", "short"])
def knowing(
    request: pytest.FixtureRequest, qdrant: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Knowing]:
    """The names in it are prefixed, since the server may hold collections of others."""
    folder = tmp_path_factory.mktemp("facts")
    prefix = unique_name("facts")
    made, collections = {}, {}
    for seed, (name, use) in enumerate(ROUTES.items()):
        made[name] = write_model(folder / f"{name}.onnx", name=name, seed=seed, use=use)
        collections[f"{prefix}-{name}"] = name
    config = write_config(folder, qdrant, request.param, collections)
    with running_sidecar(config=config) as sidecar:  # none of the collections is there yet
        knowing = Knowing(sidecar, qdrant, made, prefix)
        yield knowing
        for collection in collections:
            knowing.direct.delete_collection(collection)
        knowing.close()


@pytest.fixture(autouse=True)
def leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drops what a test has made, through the sidecar, which then knows that it is gone."""
    if "knowing" not in request.fixturenames:
        yield
        return
    knowing: Knowing = request.getfixturevalue("knowing")
    yield
    for name in ROUTES:
        knowing.through.delete_collection(named(knowing, name))


def named(knowing: Knowing, name: str) -> str:
    return f"{knowing.prefix}-{name}"


@pytest.fixture
def has_long_ttl(request: pytest.FixtureRequest) -> bool:
    return bool(request.node.callspec.params["knowing"] > TTL_S)


def test_a_collection_that_is_missing_at_the_start_is_adapted_once_it_is_made(
    knowing: Knowing,
) -> None:
    name = named(knowing, "late")
    assert search(knowing.raw, name, query()).status_code == 404
    fill(knowing.through, name)
    assert hits(search(knowing.raw, name, query())) == exact(knowing.adapted("late"))


def test_an_alias_that_is_switched_through_the_sidecar_is_followed_at_once(
    knowing: Knowing,
) -> None:
    one, two, alias = (named(knowing, name) for name in ("one", "two", "alias"))
    for name in (one, two):
        fill(knowing.through, name)
    for _ in range(3):
        for target, model in ((one, "one"), (two, "two")):
            point_alias(knowing.through, alias, target)
            assert hits(search(knowing.raw, alias, query())) == exact(knowing.adapted(model))


def test_an_alias_that_is_switched_around_the_sidecar_is_followed_in_time(
    knowing: Knowing, has_long_ttl: bool
) -> None:
    one, two, alias = (named(knowing, name) for name in ("one", "two", "around"))
    for name in (one, two):
        fill(knowing.through, name)
    point_alias(knowing.through, alias, one)
    first, second = (knowing.models[name].mark for name in ("one", "two"))
    assert mark_of(search(knowing.raw, alias, query())) == first
    point_alias(knowing.direct, alias, two)
    if has_long_ttl:
        assert mark_of(search(knowing.raw, alias, query())) == first
        return
    eventually(lambda: mark_of(search(knowing.raw, alias, query())) == second)
    assert hits(search(knowing.raw, alias, query())) == exact(knowing.adapted("two"))


def make_other_dims(client: QdrantClient, name: str) -> None:
    """Make a collection anew, with vectors that no adapter here gives."""
    client.delete_collection(name)
    client.create_collection(
        name, vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT)
    )
    client.upsert(name, [models.PointStruct(id=1, vector=[1.0, 0.0, 0.0, 0.0])], wait=True)


@pytest.mark.parametrize("around", [False, True], ids=["through", "around"])
def test_an_adapter_is_no_longer_applied_to_a_collection_that_was_made_anew(
    knowing: Knowing, around: bool, has_long_ttl: bool
) -> None:
    name = named(knowing, "two")
    fill(knowing.through, name)
    assert mark_of(search(knowing.raw, name, query())) == knowing.models["two"].mark
    make_other_dims(knowing.direct if around else knowing.through, name)
    if around and has_long_ttl:  # it may go on for as long as it believes what it was told
        answer = search(knowing.raw, name, query())
        assert (answer.status_code, mark_of(answer)) == (400, knowing.models["two"].mark)
        return
    eventually(lambda: mark_of(search(knowing.raw, name, query())) == "" or not around)
    answer = search(knowing.raw, name, query())
    assert mark_of(answer) == ""
    assert answer.status_code == 400
    assert "expected dim: 4, got 16" in answer.json()["status"]["error"]  # which Qdrant says
    assert hits(search(knowing.raw, name, [1.0, 0, 0, 0])) == [(1, 1.0)]
    assert samples(knowing.sidecar)["trimtab_query_vectors_total", name, "unfit"] >= 2


def test_a_migration_adapter_refuses_a_collection_that_it_does_not_fit(knowing: Knowing) -> None:
    name = named(knowing, "strict")
    fill(knowing.through, name)
    assert hits(search(knowing.raw, name, query())) == exact(knowing.adapted("strict"))
    make_other_dims(knowing.through, name)
    answer = search(knowing.raw, name, query())
    assert answer.status_code == 503
    assert "has vectors of 4 values" in answer.json()["status"]["error"]
    assert knowing.raw.get(f"/collections/{name}").status_code == 200
    knowing.through.delete_collection(name)
    fill(knowing.through, name)
    assert hits(search(knowing.raw, name, query())) == exact(knowing.adapted("strict"))


def pids(sidecar: Sidecar) -> set[int]:
    workers = ask("GET", f"{sidecar.admin_url}/routes").json()["workers"]
    return {worker["pid"] for worker in workers}


def test_a_new_alias_counts_at_once_in_all_workers(qdrant: Server, tmp_path: Path) -> None:
    name, other, alias = (unique_name(kind) for kind in ("first", "second", "alias"))
    model = write_model(tmp_path / "adapter.onnx", name="model")
    direct = connect(qdrant)
    for each in (name, other):
        fill(direct, each)
    point_alias(direct, alias, name)
    flags = ("--upstream-rest", qdrant.rest_url, "--route", f"{name}={tmp_path}", "--workers", "2")
    with running_sidecar(*flags) as sidecar, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(raw_client(sidecar, qdrant)) for _ in range(N_CLIENTS)]
        workers = pids(sidecar)

        def marks() -> set[str]:
            return {mark_of(search(client, alias, query())) for client in clients}

        assert marks() == {model.mark}
        actions = [{"create_alias": {"collection_name": other, "alias_name": alias}}]
        clients[0].post("/collections/aliases", json={"actions": actions}).raise_for_status()
        assert mark_of(search(clients[0], alias, query())) == ""
        eventually(marks, is_right=lambda seen: seen == {""})
        assert pids(sidecar) == workers  # none has ended over what it was told
        assert "Traceback" not in sidecar.log()
    for each in (name, other):
        direct.delete_collection(each)
    direct.close()


def test_a_collection_that_no_adapter_can_serve_is_refused_at_the_start(
    qdrant: Server, tmp_path: Path
) -> None:
    name = unique_name("unfit")
    params = models.VectorParams(size=DIM, distance="Dot", datatype="uint8")
    direct = connect(qdrant)
    direct.create_collection(name, vectors_config=params)
    write_model(tmp_path / "adapter.onnx")
    env = {"QDRANT_API_KEY": qdrant.api_key or ""}
    flags = ("--upstream-rest", qdrant.rest_url, "--route", f"{name}={tmp_path}")
    with pytest.raises(RuntimeError) as caught, running_sidecar(*flags, env=env):
        pass
    direct.delete_collection(name)
    direct.close()
    said = str(caught.value).partition("it said:\n")[2].splitlines()
    assert said[-1].startswith("Error: ")
    assert "uint8" in said[-1]
    assert not any("Traceback" in line for line in said)


def test_a_qdrant_that_is_down_at_the_start_is_told_and_served_once_it_is_up(
    tmp_path: Path,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    model = write_model(tmp_path / "adapter.onnx")
    flags = ("--upstream-rest", f"http://127.0.0.1:{port}", "--route", f"docs={tmp_path}")
    with running_sidecar(*flags) as sidecar, new_client(sidecar.rest_url) as raw:
        assert "warning:" in sidecar.log()
        refused = search(raw, "docs", query())
        assert refused.status_code == 502
        assert f"127.0.0.1:{port}" in refused.json()["status"]["error"]
        assert ask("GET", f"{sidecar.admin_url}/ready").status_code == 503
        assert ask("GET", f"{sidecar.admin_url}/health").status_code == 200
        with running_server(rest_port=port) as server:
            direct = connect(server)
            fill(direct, "docs")
            direct.close()
            eventually(lambda: search(raw, "docs", query()).status_code == 200)
            answer = search(raw, "docs", query())
            assert mark_of(answer) == model.mark
            asked = model.transform(np.array(query(), dtype=np.float32))
            assert hits(answer) == exact(asked)
            assert ask("GET", f"{sidecar.admin_url}/ready").status_code == 200
        assert "Traceback" not in sidecar.log()


def test_a_sidecar_for_grpc_alone_is_ready_while_qdrant_answers(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    write_model(tmp_path / "adapter.onnx")
    flags = ("--rest", "", "--grpc", "127.0.0.1:0", "--upstream-grpc", address)
    with running_sidecar(*flags, "--route", f"docs={tmp_path}") as sidecar:

        def state() -> tuple[int, float]:
            ready = ask("GET", f"{sidecar.admin_url}/ready").status_code
            return ready, samples(sidecar)["trimtab_upstream_up", address]

        eventually(state, is_right=lambda found: found == (503, 0))
        with running_server(grpc_port=int(address.rpartition(":")[2])):
            eventually(state, is_right=lambda found: found == (200, 1))
        eventually(state, is_right=lambda found: found == (503, 0))
