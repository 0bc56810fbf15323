"""Metrics add up with what was sent, and headers reach where they are meant for."""

import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.qdrant.fixtures import connect
from tests.support.qdrant.process import Server
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import (
    DEPTH,
    DIM,
    ask,
    eventually,
    fill,
    new_client,
    query,
    samples,
    search,
    write_model,
)

N_QUERIES = 12
Samples = dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def server(standin: Server) -> Server:
    direct = connect(standin)
    fill(direct, "docs", "strict")
    direct.close()
    return standin


@pytest.fixture(scope="module", params=[2], ids=["two workers"])
def sidecar(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("metrics")
    write_model(folder / "model.onnx", name="model")
    write_model(folder / "strict.onnx", name="strict", use="migration")
    config = folder / "sidecar.toml"
    config.write_text(
        f'workers = {request.param}\nupstream.rest = "{server.rest_url}"\n'
        '[[route]]\ncollection = "docs"\nadapter = "model.onnx"\n'
        '[[route]]\ncollection = "strict"\nadapter = "strict.onnx"\n'
    )
    with running_sidecar(config=config) as sidecar:
        yield sidecar


def grown(before: Samples, after: Samples, name: str) -> dict[tuple[str, ...], float]:
    """How much each sample of a metric has grown, by its labels."""
    changes = {key[1:]: after[key] - before.get(key, 0) for key in after if key[0] == name}
    return {labels: change for labels, change in changes.items() if change}


def send_everything(sidecar: Sidecar) -> None:
    """Send requests of all kinds, over several connections."""
    for seed in range(N_QUERIES):
        with new_client(sidecar.rest_url) as raw:
            search(raw, "docs", query(seed)).raise_for_status()
            raw.get("/collections").raise_for_status()
    with new_client(sidecar.rest_url) as raw:
        searches = [{"query": query(seed), "limit": DEPTH} for seed in range(3)]
        searches += [{"query": 5}, {"query": query(dim=3)}]
        raw.post("/collections/docs/points/query/batch", json={"searches": searches})
        raw.post("/collections/docs/points/query", content=b"no JSON")
        raw.post("/collections/nothing/points/query", json={"query": query()})
        search(raw, "strict", [3e38] * DIM)
        point = {"id": 900, "vector": {"": query(), "title": query()}}
        raw.put("/collections/docs/points?wait=true", json={"points": [point]}).raise_for_status()
        raw.get("/no/such/path")


def test_counters_add_up_with_what_was_sent(sidecar: Sidecar) -> None:
    before = samples(sidecar)
    send_everything(sidecar)
    n_sent = 2 * N_QUERIES + 6
    after = eventually(
        lambda: samples(sidecar),
        is_right=lambda seen: sum(grown(before, seen, "trimtab_requests_total").values()) == n_sent,
    )
    # Labels in order of their names: kind, protocol, status.
    assert grown(before, after, "trimtab_requests_total") == {
        ("query", "rest", "200"): N_QUERIES,
        ("query", "rest", "400"): 2,
        ("query", "rest", "404"): 1,
        ("query", "rest", "422"): 1,
        ("write", "rest", "200"): 1,
        ("other", "rest", "200"): N_QUERIES,
        ("other", "rest", "404"): 1,
    }
    assert grown(before, after, "trimtab_query_vectors_total") == {
        ("docs", "adapted"): N_QUERIES + 3,
        ("docs", "id"): 1,
        ("docs", "dims_fit_neither"): 1,
        ("docs", "malformed"): 1,
        ("docs", "write"): 1,
        ("", "no_route"): 1,
    }
    assert grown(before, after, "trimtab_errors_total") == {("refused", "rest"): 1}
    n_adapted_requests = N_QUERIES + 1
    assert grown(before, after, "trimtab_transform_seconds_count") == {
        ("rest",): n_adapted_requests
    }
    n_queries = N_QUERIES + 4
    assert grown(before, after, "trimtab_request_seconds_count") == {
        ("query", "rest"): n_queries,
        ("write", "rest"): 1,
        ("other", "rest"): N_QUERIES + 1,
    }
    assert grown(before, after, "trimtab_upstream_seconds_count") == {
        ("query", "rest"): n_queries - 1,  # all but the refused one
        ("write", "rest"): 1,
        ("other", "rest"): N_QUERIES + 1,
    }


def test_the_text_is_what_prometheus_reads(sidecar: Sidecar, server: Server) -> None:
    answer = ask("GET", f"{sidecar.admin_url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert all(name.startswith("trimtab_") for name in families)
    assert all(family.documentation for family in families.values())
    kinds = Counter(family.type for family in families.values())
    assert set(kinds) == {"counter", "gauge", "histogram"}
    numbers = samples(sidecar)
    workers = len(ask("GET", f"{sidecar.admin_url}/routes").json()["workers"])
    address = server.rest_url.removeprefix("http://")
    assert numbers["trimtab_upstream_up", address] == workers
    assert numbers["trimtab_draining",] == 0
    in_use = [key for key in numbers if key[0] == "trimtab_adapter"]
    assert {key[1:3] for key in in_use} == {("model", "docs"), ("strict", "strict")}
    assert all(numbers[key] == workers for key in in_use)


def test_buckets_of_a_histogram_only_grow(sidecar: Sidecar) -> None:
    send_everything(sidecar)
    numbers = samples(sidecar)
    for name in ("request", "upstream", "transform"):
        count = sum(v for key, v in numbers.items() if key[0] == f"trimtab_{name}_seconds_count")
        most = [
            v for key, v in numbers.items()
            if key[0] == f"trimtab_{name}_seconds_bucket" and "+Inf" in key
        ]  # fmt: skip
        assert sum(most) == count > 0


TOLD = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "rojo=00f067aa0ba902b7",
    "x-request-id": "request-17",
    "x-tracing-id": "tracing-17",
    "x-qdrant-route-affinity": "here",
    "openai-api-key": "another-key",
    "X-Odd-Header": "Kept As It Is",
    "user-agent": "a client/1.0",
}


@pytest.mark.parametrize("is_adapted", [True, False], ids=["adapted", "passed"])
def test_headers_reach_qdrant_as_they_were_sent(
    sidecar: Sidecar, server: Server, is_adapted: bool
) -> None:
    server.clear_requests()
    with new_client(sidecar.rest_url, headers=TOLD) as raw:
        if is_adapted:
            search(raw, "docs", query()).raise_for_status()
        else:
            raw.get("/collections").raise_for_status()
    (headers,) = (
        dict(one["headers"])
        for one in server.requests()
        if one["path"] in ("/collections", "/collections/docs/points/query")
    )
    assert {name.lower(): value for name, value in TOLD.items()}.items() <= headers.items()
    assert ("x-trimtab-adapter" in headers) == is_adapted
    assert "connection" not in headers


def test_the_model_is_named_by_the_file_that_it_came_from(sidecar: Sidecar) -> None:
    workers = ask("GET", f"{sidecar.admin_url}/routes").json()["workers"]
    for worker in workers:
        by_name = {route["collection"]: route for route in worker["routes"]}
        assert by_name["docs"]["on_error"] == "passthrough"
        assert by_name["strict"]["on_error"] == "refuse"
        for route in by_name.values():
            name, _, version = route["adapter"].partition("@")
            assert name in {"model", "strict"}
            assert len(version) == 12
            assert (route["dim_in"], route["dim_out"], route["mode"]) == (DIM, DIM, "on")
    assert len({worker["pid"] for worker in workers}) == len(workers)


def test_an_answer_is_otherwise_as_qdrant_gave_it(sidecar: Sidecar, server: Server) -> None:
    for path in ("/", "/collections/docs", "/collections/none", "/healthz"):
        direct, through = ask("GET", server.rest_url + path), ask("GET", sidecar.rest_url + path)
        assert through.status_code == direct.status_code
        assert list(through.headers) == list(direct.headers)
        assert through.headers["content-type"] == direct.headers["content-type"]
        if "json" in direct.headers["content-type"]:
            assert through.json() | {"time": 0} == direct.json() | {"time": 0}
        else:
            assert through.content == direct.content


def test_a_worker_that_dies_is_replaced_and_no_count_is_lost(sidecar: Sidecar) -> None:
    def pids() -> set[int]:
        workers = ask("GET", f"{sidecar.admin_url}/routes").json()["workers"]
        return {worker["pid"] for worker in workers}

    first, before = pids(), samples(sidecar)
    killed = min(first)
    os.kill(killed, signal.SIGKILL)
    second = eventually(pids, is_right=lambda seen: killed not in seen and len(seen) == len(first))
    assert len(second & first) == len(first) - 1
    with new_client(sidecar.rest_url) as raw:
        search(raw, "docs", query()).raise_for_status()
    after = samples(sidecar)
    for key in before:
        if key[0].endswith("_total"):
            assert after[key] >= before[key]
    assert "a worker has died" in sidecar.log()
    assert "Traceback" not in sidecar.log()
