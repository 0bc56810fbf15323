"""Modes and failure policies of routes, each under an alias of one collection."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient

from tests.support.qdrant.fixtures import connect
from tests.support.qdrant.process import Server
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import (
    DEPTH,
    DIM,
    ask,
    eventually,
    exact,
    fill,
    hits,
    mark_of,
    new_client,
    points,
    query,
    samples,
    search,
    write_model,
)
from trimtab.model.adapter import Adapter
from trimtab.routing.routes import MARK_HEADER

HUGE = [3e38] * DIM
"""Fits float32; no sum of its products does."""
WIDE = DIM + 4
SHARE, N_QUERIES = 0.3, 400
SHARE_GAP = 0.1  # more than four standard deviations of a share of 400
KEPT = 25
WRITTEN = 900
"""The point that a test of policies writes, and that no other may find."""

ROUTES = f"""
[[route]]
collection = "off"
adapter = "model.onnx"
mode = "off"

[[route]]
collection = "shadow"
adapter = "model.onnx"
mode = "shadow"

[[route]]
collection = "canary"
adapter = "model.onnx"
mode = "canary"
share = {SHARE}

[[route]]
collection = "canary"
vector = "title"
adapter = "title.onnx"
mode = "canary"
share = {SHARE}

[[route]]
collection = "canary-none"
adapter = "model.onnx"
mode = "canary"
share = 0

[[route]]
collection = "canary-all"
adapter = "model.onnx"
mode = "canary"
share = 1

[[route]]
collection = "hybrid"
adapter = "model.onnx"

[[route]]
collection = "hybrid"
vector = "title"
adapter = "title.onnx"
mode = "shadow"

[[route]]
collection = "relevance"
adapter = "model.onnx"

[[route]]
collection = "migration"
adapter = "migration.onnx"

[[route]]
collection = "wide"
adapter = "wide.onnx"

[[route]]
collection = "told-to-refuse"
adapter = "model.onnx"
on_error = "refuse"

[[route]]
collection = "told-to-pass"
adapter = "migration.onnx"
on_error = "passthrough"
"""
NAMES = re.findall(r'collection = "(.*)"', ROUTES)


class Modes:
    """A sidecar with routes of all modes, and the Qdrant behind it."""

    def __init__(self, sidecar: Sidecar, server: Server, folder: Path, model: Adapter) -> None:
        self.sidecar, self.server, self.folder, self.model = sidecar, server, folder, model
        self.raw = new_client(sidecar.rest_url)

    def adapted(self, seed: int = 0) -> np.ndarray:
        return self.model.transform(np.array(query(seed), dtype=np.float32))

    def configure(self, policies: str = "", shadow: str = "") -> None:
        """Write the file anew, and have it read."""
        write_config(self.folder, self.server, policies, shadow)
        answer = ask("POST", f"{self.sidecar.admin_url}/reload")
        assert answer.status_code == 200, answer.text

    def arrived(self) -> list[dict[str, Any]]:
        """Clients' requests at Qdrant: all but the sidecar's own questions, which have no body."""
        return [one for one in self.server.requests() if one["body"]]

    def ids(self, name: str, seed: int = 0) -> list[int]:
        return [point for point, _ in hits(search(self.raw, name, query(seed)))]


def write_config(folder: Path, server: Server, policies: str = "", shadow: str = "") -> Path:
    config = folder / "sidecar.toml"
    tables = f'upstream = {{ rest = "{server.rest_url}" }}\npolicies = {{ {policies} }}\n'
    tables += f"shadow = {{ {shadow or f'kept = {KEPT}'} }}\nreload = {{ watch = false }}\n"
    config.write_text(tables + ROUTES)
    return config


@pytest.fixture(scope="module")
def modes(standin: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Modes]:
    folder = tmp_path_factory.mktemp("modes")
    model = write_model(folder / "model.onnx", name="model", seed=1)
    write_model(folder / "title.onnx", name="title", seed=2)
    write_model(folder / "migration.onnx", name="migration", seed=3, use="migration")
    write_model(folder / "wide.onnx", name="wide", dim_in=WIDE, use="migration", seed=4)
    direct = connect(standin)
    fill(direct, "docs", *set(NAMES))
    direct.close()
    with running_sidecar(config=write_config(folder, standin)) as sidecar:
        made = Modes(sidecar, standin, folder, model)
        yield made
        made.raw.close()


@pytest.fixture(autouse=True)
def defaults(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "policy" in request.node.name:
        modes: Modes = request.getfixturevalue("modes")
        modes.configure()
        path = "/collections/docs/points/delete?wait=true"
        modes.raw.post(path, json={"points": [WRITTEN]}).raise_for_status()


def compare(raw: Sequence[int], adapted: Sequence[int]) -> tuple[float, float]:
    """Overlap and distance of two rankings, from their definitions."""
    k = len(raw)
    place = [{point: i + 1 for i, point in enumerate(each)} for each in (raw, adapted)]
    both = set(raw) | set(adapted)
    moved = sum(abs(place[0].get(p, k + 1) - place[1].get(p, k + 1)) for p in both)
    return len(set(raw) & set(adapted)) / k, moved / (k * (k + 1))


def test_off_answers_the_raw_query(modes: Modes) -> None:
    answer = search(modes.raw, "off", query())
    assert hits(answer) == exact(query())
    assert mark_of(answer) == ""
    assert samples(modes.sidecar)["trimtab_query_vectors_total", "off", "off"] >= 1


def test_shadow_answers_the_raw_query_and_compares_it_with_the_adapted_one(modes: Modes) -> None:
    seeds = range(4)
    before = samples(modes.sidecar)
    for seed in seeds:
        answer = search(modes.raw, "shadow", query(seed))
        assert hits(answer) == exact(query(seed))
        assert mark_of(answer) == ""
        eventually(
            lambda: (
                samples(modes.sidecar).get(("trimtab_shadow_rank_distance_count", "shadow"), 0)
                - before.get(("trimtab_shadow_rank_distance_count", "shadow"), 0)
            ),
            is_right=lambda count, n=seed + 1: count == n,
        )
    kept = ask("GET", f"{modes.sidecar.admin_url}/shadow").json()["comparisons"]
    found = kept[-len(seeds) :]
    for seed, comparison in zip(seeds, found, strict=True):
        raw = [point for point, _ in exact(query(seed))]
        adapted = [point for point, _ in exact(modes.adapted(seed))]
        assert raw != adapted
        overlap, distance = compare(raw, adapted)
        assert comparison.pop("time")
        assert comparison == {
            "collection": "shadow",
            "overlap": pytest.approx(overlap),
            "rank_distance": pytest.approx(distance),
            "raw": list(map(str, raw)),
            "adapted": list(map(str, adapted)),
        }
    numbers = {key: value - before.get(key, 0) for key, value in samples(modes.sidecar).items()}
    assert numbers["trimtab_shadow_overlap_count", "shadow"] == len(seeds)
    assert numbers["trimtab_shadow_rank_distance_count", "shadow"] == len(seeds)
    for what, key in (("overlap", "overlap"), ("rank_distance", "rank_distance")):
        total = sum(comparison[key] for comparison in found)
        assert numbers[f"trimtab_shadow_{what}_sum", "shadow"] == pytest.approx(total)
    assert numbers["trimtab_query_vectors_total", "shadow", "shadow"] == len(seeds)


def test_shadow_compares_every_search_of_a_batch_and_keeps_the_last_ones(modes: Modes) -> None:
    path = "/collections/shadow/points/query/batch"
    seeds = range(KEPT + 5)
    searches = [{"query": query(seed), "limit": DEPTH} for seed in seeds]
    before = samples(modes.sidecar).get(("trimtab_shadow_overlap_count", "shadow"), 0)
    modes.raw.post(path, json={"searches": searches}).raise_for_status()
    eventually(
        lambda: samples(modes.sidecar).get(("trimtab_shadow_overlap_count", "shadow"), 0),
        is_right=lambda count: count == before + len(seeds),
    )
    kept = ask("GET", f"{modes.sidecar.admin_url}/shadow").json()["comparisons"]
    assert len(kept) == KEPT
    assert kept[-1]["adapted"] == [str(point) for point, _ in exact(modes.adapted(seeds[-1]))]


def test_shadow_compares_the_searches_of_a_batch_that_are_changed_alone(modes: Modes) -> None:
    """Of the others, both answers are the same whatever the adapter does."""
    seed = 3
    batches = {
        "shadow": [{"query": 5}, {"query": query(seed)}, {"query": 6}],
        "hybrid": [{"query": query(seed)}, {"query": query(seed), "using": "title"}],
    }
    for name, searches in batches.items():
        before = samples(modes.sidecar).get(("trimtab_shadow_overlap_count", name), 0)
        asked = {"searches": [{**each, "limit": DEPTH} for each in searches]}
        path = f"/collections/{name}/points/query/batch"
        modes.raw.post(path, json=asked).raise_for_status()
        counted = eventually(
            lambda name=name: samples(modes.sidecar).get(("trimtab_shadow_overlap_count", name), 0),
            is_right=lambda count, before=before: count > before,
        )
        assert counted == before + 1
        vector = "title" if name == "hybrid" else ""
        newest = ask("GET", f"{modes.sidecar.admin_url}/shadow").json()["comparisons"][-1]
        expected = [str(point) for point, _ in exact(query(seed), name=vector)]
        assert (newest["collection"], newest["raw"]) == (name, expected)


def test_a_search_over_an_adapted_vector_and_one_in_shadow_is_compared(modes: Modes) -> None:
    prefetch = [{"query": query(), "limit": DEPTH}, {"query": query(), "using": "title"}]
    body = {"prefetch": prefetch, "query": {"fusion": "rrf"}, "limit": DEPTH}
    before = samples(modes.sidecar).get(("trimtab_shadow_overlap_count", "hybrid"), 0)
    answer = modes.raw.post("/collections/hybrid/points/query", json=body)
    assert mark_of(answer) == modes.model.mark
    eventually(
        lambda: samples(modes.sidecar).get(("trimtab_shadow_overlap_count", "hybrid"), 0),
        is_right=lambda count: count == before + 1,
    )


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_shadow_waits_for_ever_where_queries_do(
    standin: Server, modes: Modes, tmp_path: Path, protocol: str
) -> None:
    config = tmp_path / "sidecar.toml"
    config.write_text(f"""
listen = {{ rest = "127.0.0.1:0", grpc = "127.0.0.1:0", admin = "127.0.0.1:0" }}
[upstream]
rest = "{standin.rest_url}"
grpc = "http://127.0.0.1:{standin.grpc_port}"
query_timeout_s = 0
[[route]]
collection = "shadow"
adapter = "{modes.folder / "model.onnx"}"
mode = "shadow"
""")
    with running_sidecar(config=config) as sidecar:
        client = QdrantClient(
            url=sidecar.rest_url,
            grpc_port=sidecar.grpc_address[1],
            prefer_grpc=protocol == "grpc",
            check_compatibility=False,
        )
        client.query_points("shadow", query=query(), limit=DEPTH)
        client.close()
        counted = eventually(
            lambda: {
                name: value
                for (name, *_), value in samples(sidecar).items()
                if name in {"trimtab_shadow_overlap_count", "trimtab_shadow_skipped_total"}
            },
            is_right=lambda found: sum(found.values()) >= 1,
        )
    assert counted == {"trimtab_shadow_overlap_count": 1}


def test_a_twin_carries_the_keys_of_its_query_and_no_other_header(modes: Modes) -> None:
    keys = {
        "api-key": "topsecret-1",
        "authorization": "Bearer topsecret-2",
        "openai-api-key": "topsecret-3",
        "JINA-API-KEY": "topsecret-4",
    }
    modes.server.clear_requests()
    headers = {**keys, "cookie": "a=1", "x-request-id": "7"}
    body = {"query": query(), "limit": DEPTH}
    path = "/collections/shadow/points/query"
    modes.raw.post(path, json=body, headers=headers).raise_for_status()
    _, twin = eventually(
        lambda: [one for one in modes.server.requests() if one["path"] == path],
        is_right=lambda asked: len(asked) == 2,
    )
    sent = {name.lower(): value for name, value in twin["headers"]}
    mark = sent.pop(MARK_HEADER)
    assert mark == modes.model.mark
    own = {"host", "content-type", "content-length", "accept-encoding"}
    assert {name: sent[name] for name in sent.keys() - own} == {
        name.lower(): value for name, value in keys.items()
    }


def test_shadow_asks_no_twin_of_what_is_not_adapted(modes: Modes) -> None:
    modes.server.clear_requests()
    search(modes.raw, "shadow", query(), using="title")
    modes.raw.post("/collections/shadow/points/query", json={"query": 5}).raise_for_status()
    eventually(
        lambda: samples(modes.sidecar).get(("trimtab_shadow_skipped_total", "not_adapted"), 0),
        is_right=lambda count: count >= 1,
    )
    asked = [one for one in modes.server.requests() if one["path"].endswith("/points/query")]
    assert len(asked) == 2


def test_a_canary_adapts_its_share_and_the_same_query_always_alike(modes: Modes) -> None:
    marks = [mark_of(search(modes.raw, "canary", query(seed))) for seed in range(N_QUERIES)]
    assert set(marks) == {"", modes.model.mark}
    assert abs(sum(map(bool, marks)) / N_QUERIES - SHARE) < SHARE_GAP
    for seed in range(30):
        answer = search(modes.raw, "canary", query(seed))
        assert mark_of(answer) == marks[seed]
        assert hits(answer) == exact(modes.adapted(seed) if marks[seed] else query(seed))


def test_all_vectors_of_one_search_are_drawn_alike(modes: Modes) -> None:
    drawn = set()
    for first, second in itertools.pairwise(range(30)):
        prefetch = {"query": query(first), "using": "title", "limit": 30}
        modes.server.clear_requests()
        search(modes.raw, "canary", query(second), prefetch=prefetch).raise_for_status()
        (passed,) = modes.arrived()
        body = json.loads(passed["body"])
        changed = (body["query"] != query(second), body["prefetch"]["query"] != query(first))
        assert changed in {(True, True), (False, False)}
        drawn.add(changed)
    assert len(drawn) == 2


def test_searches_of_a_batch_are_drawn_as_they_would_be_alone(modes: Modes) -> None:
    seeds = range(20)
    alone = [modes.ids("canary", seed) for seed in seeds]
    searches = [{"query": query(seed), "limit": DEPTH} for seed in seeds]
    answer = modes.raw.post(
        "/collections/canary/points/query/batch", json={"searches": searches}
    ).json()
    assert [[point["id"] for point in one["points"]] for one in answer["result"]] == alone


def test_a_canary_of_nothing_and_of_everything(modes: Modes) -> None:
    for seed in range(40):
        assert mark_of(search(modes.raw, "canary-none", query(seed))) == ""
        assert mark_of(search(modes.raw, "canary-all", query(seed))) == modes.model.mark
    numbers = samples(modes.sidecar)
    assert numbers["trimtab_query_vectors_total", "canary-none", "canary"] == 40
    assert numbers["trimtab_query_vectors_total", "canary-all", "adapted"] == 40


@pytest.mark.parametrize("name", ["relevance", "told-to-pass"])
def test_a_query_that_cannot_be_adapted_is_passed_on(modes: Modes, name: str) -> None:
    modes.server.clear_requests()
    answer = search(modes.raw, name, HUGE)
    assert mark_of(answer) == ""
    (passed,) = modes.arrived()
    assert passed["body"] == answer.request.content
    key = ("trimtab_query_vectors_total", name, "adapter_error")
    assert samples(modes.sidecar)[key] == 1


@pytest.mark.parametrize("name", ["migration", "told-to-refuse"])
def test_a_query_that_cannot_be_adapted_is_refused(modes: Modes, name: str) -> None:
    modes.server.clear_requests()
    answer = search(modes.raw, name, HUGE)
    assert answer.status_code == 422
    assert "query" in answer.json()["status"]["error"]
    assert not modes.arrived()
    assert samples(modes.sidecar)["trimtab_errors_total", "refused", "rest"] >= 1


def test_dims_of_the_index_pass_and_those_of_the_adapter_are_adapted(modes: Modes) -> None:
    wide = write_model(
        modes.folder / "again.onnx", name="wide", dim_in=WIDE, use="migration", seed=4
    )
    asked = query(1, WIDE)
    answer = search(modes.raw, "wide", asked)
    assert hits(answer) == exact(wide.transform(np.array(asked, dtype=np.float32)))
    assert mark_of(answer) == wide.mark
    old_client = search(modes.raw, "wide", query())
    assert hits(old_client) == exact(query())
    assert mark_of(old_client) == ""
    neither = search(modes.raw, "wide", query(dim=5))
    assert neither.status_code == 400
    assert "expected dim: 16, got 5" in neither.json()["status"]["error"]


def test_policy_refuses_dims_of_the_index(modes: Modes) -> None:
    modes.configure('dims_out_match = "refuse"')
    answer = search(modes.raw, "wide", query())
    assert answer.status_code == 422
    assert "16 values" in answer.json()["status"]["error"]
    assert mark_of(search(modes.raw, "wide", query(dim=WIDE)))
    assert mark_of(search(modes.raw, "relevance", query()))


TEXT = {"text": "topsecret words", "model": "some/model"}


def test_policy_refuses_inference_and_passes_it_by_default(modes: Modes) -> None:
    body: dict[str, Any] = {"query": TEXT, "limit": 2}
    path = "/collections/relevance/points/query"
    passed = modes.raw.post(path, json=body)
    assert "trimtab" not in passed.text
    modes.configure('inference = "refuse"')
    answer = modes.raw.post(path, json=body)
    assert answer.status_code == 422
    assert "embed" in answer.json()["status"]["error"]
    assert "topsecret" not in answer.text
    nested = {"prefetch": {"query": {"nearest": TEXT}, "limit": 3}, "query": query()}
    assert modes.raw.post(path, json=nested).status_code == 422
    assert modes.raw.post("/collections/docs/points/query", json=body).status_code != 422


def test_policy_refuses_what_it_does_not_know(modes: Modes) -> None:
    body = {"query": {"tomorrow": {"vector": query()}}}
    path = "/collections/relevance/points/query"
    assert modes.raw.post(path, json=body).status_code != 422
    modes.configure('unknown_variant = "refuse"')
    answer = modes.raw.post(path, json=body)
    assert answer.status_code == 422
    assert "unknown kind of query" in answer.json()["status"]["error"]


def writes() -> list[tuple[str, str, dict[str, Any]]]:
    point = {"id": WRITTEN, "vector": points()[0].vector}
    return [
        ("PUT", "", {"points": [point]}),
        ("PUT", "", {"batch": {"ids": [WRITTEN], "vectors": {"": [query()], "title": [query()]}}}),
        ("PUT", "/vectors", {"points": [point]}),
        ("POST", "/batch", {"operations": [{"upsert": {"points": [point]}}]}),
        ("POST", "/batch", {"operations": [{"update_vectors": {"points": [point]}}]}),
    ]


@pytest.mark.parametrize("guard", ["pass", "warn", "refuse"])
def test_policy_guards_vectors_that_are_written(modes: Modes, guard: str) -> None:
    if guard != "warn":  # which is the default
        modes.configure(f'write_guard = "{guard}"')
    start, warned = "/collections/migration/points", modes.sidecar.log().count("vectors written")
    for method, path, body in writes():
        modes.server.clear_requests()
        answer = modes.raw.request(method, f"{start}{path}?wait=true", json=body)
        passed = modes.arrived()
        assert answer.status_code == (422 if guard == "refuse" else 200), answer.text
        assert [one["body"] for one in passed] == [answer.request.content] * (guard != "refuse")
        assert mark_of(answer) == ""
    n_warnings = modes.sidecar.log().count("vectors written") - warned
    assert (n_warnings > 0) == (guard == "warn")
    # Payloads, deletions and collections without such a route are free.
    free = {"operations": [{"set_payload": {"payload": {"a": 1}, "points": [1]}}]}
    assert modes.raw.post(f"{start}/batch", json=free).status_code == 200
    assert modes.raw.post(f"{start}/delete", json={"points": [WRITTEN]}).status_code == 200
    other = {"points": writes()[0][2]["points"]}
    assert modes.raw.put("/collections/relevance/points", json=other).status_code == 200
