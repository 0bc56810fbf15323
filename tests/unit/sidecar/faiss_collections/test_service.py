"""Whose is a request, and what is answered where it can't be done."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.faiss_collections import ask, build_index, vectors_of, write_collection
from trimtab.errors import ConfigError
from trimtab.faiss_collections import Collections
from trimtab.settings import CollectionSettings

VECTORS = vectors_of(40, 4)
PAYLOADS = [{"n": i % 4, "text": f"t{i}"} for i in range(40)]
C = "/collections/papers"
QUERY = {"query": VECTORS[3].tolist(), "limit": 3}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> CollectionSettings:
    folder = tmp_path_factory.mktemp("library")
    return write_collection(folder, build_index("Flat", VECTORS), payloads=PAYLOADS)


@pytest.fixture(scope="module")
def served(settings: CollectionSettings) -> Collections:
    return Collections.load([settings])


@pytest.fixture(scope="module")
def alone(settings: CollectionSettings) -> Collections:
    return Collections.load([settings], alone=True)


def test_names_and_vectors_are_told(served: Collections) -> None:
    assert served.names() == ["papers"]
    assert "papers" in served
    assert "other" not in served
    vector = served.vectors("papers")[""]
    assert (vector.dim, vector.distance, vector.datatype, vector.is_multi) == (
        4,
        "dot",
        "float32",
        False,
    )


@pytest.mark.parametrize(
    "target",
    [
        b"/collections/papers/points/query",
        b"//collections///papers/points/query/?timeout=5&consistency=all",
        b"/collections/%70apers/points/quer%79",
    ],
)
def test_paths_are_read_as_qdrant_reads_them(served: Collections, target: bytes) -> None:
    reply = served.answer("POST", target, json.dumps(QUERY).encode())
    assert reply is not None
    assert (reply.status, reply.content_type) == (200, "application/json")
    points = json.loads(reply.body)["result"]["points"]
    assert (len(points), points[0]["id"]) == (3, 3)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", b"/"),
        ("GET", b"/collections"),
        ("GET", b"/healthz"),
        ("POST", b"/collections/other/points/query"),
        ("PUT", b"/collections/other"),
        ("POST", b"/collections/aliases"),
        ("GET", b"/collections/\xff"),
        ("GET", b"/collections/%ff"),
        ("GET", b"/dashboard"),
    ],
)
def test_other_requests_are_left_to_the_upstream(
    served: Collections, method: str, target: bytes
) -> None:
    assert served.answer(method, target, b"{}") is None


WRITES = [
    ("DELETE", ""),
    ("PUT", ""),
    ("PATCH", ""),
    ("PUT", "/points"),
    ("POST", "/points/delete"),
    ("POST", "/points/payload"),
    ("PUT", "/points/vectors"),
    ("POST", "/points/batch"),
    ("PUT", "/index"),
    ("POST", "/snapshots"),
    ("HEAD", ""),
    ("POST", "/points/5"),
]


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_what_a_file_can_not_do_is_forbidden(served: Collections, method: str, path: str) -> None:
    status, body = ask(served, method, C + path, {})
    assert status == 403
    assert "read-only FAISS index" in body["status"]["error"]
    assert body["result"] is None
    assert body["time"] >= 0


@pytest.mark.parametrize(
    "path", ["/snapshots", "/snapshots/one", "/cluster", "/optimizations", "/shards", "/points"]
)
def test_what_a_file_has_not_is_no_forbidden_write(served: Collections, path: str) -> None:
    status, body = ask(served, "GET", C + path)
    assert (status, body["result"]) == (400, None)
    error = body["status"]["error"]
    assert f"`GET {path[1:]}` can't be done on a FAISS index" in error
    assert "`GET /collections/papers`" in error


def test_a_machine_without_qdrant_answers_for_one(alone: Collections) -> None:
    assert ask(alone, "GET", "/")[1]["version"]
    assert ask(alone, "GET", "/collections")[1]["result"] == {"collections": [{"name": "papers"}]}
    assert ask(alone, "GET", "/aliases")[1]["result"] == {"aliases": []}
    assert ask(alone, "GET", C + "/aliases")[1]["result"] == {"aliases": []}
    assert ask(alone, "GET", C + "/exists")[1]["result"] == {"exists": True}
    assert ask(alone, "GET", "/collections/other/exists")[1]["result"] == {"exists": False}
    for path in ("healthz", "readyz", "livez"):
        reply = alone.answer("GET", f"/{path}/".encode(), b"")
        assert reply is not None
        assert (reply.status, reply.content_type) == (200, "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/collections/other", 404, "Collection `other` doesn't exist"),
        ("POST", "/collections/other/points/query", 404, "Collection `other` doesn't exist"),
        ("DELETE", "/collections/other", 404, "Collection `other` doesn't exist"),
        ("PUT", "/collections/other", 403, "read-only FAISS indexes and no Qdrant"),
        ("POST", "/collections/aliases", 403, "read-only FAISS indexes and no Qdrant"),
    ],
)
def test_a_machine_without_qdrant_knows_no_others(
    alone: Collections, method: str, path: str, status: int, message: str
) -> None:
    found, body = ask(alone, method, path, {})
    assert (found, message in body["status"]["error"]) == (status, True)
    assert alone.answer("GET", b"/metrics", b"") is None


REFUSED: list[tuple[str, Any, int, str]] = [
    ("query", [], 400, "expected a map"),
    ("query", {"query": [1.0]}, 400, "expected dim: 4, got 1"),
    ("query", {"query": ["a", "b", "c", "d"]}, 400, "array of numbers"),
    ("query", {"query": [1, [2], 3, 4]}, 400, "array of numbers"),
    ("query", {"query": [1e300, 0, 0, 0]}, 400, "too large for float32"),
    ("query", {"query": True}, 400, "untagged enum VectorInput"),
    ("query", {"query": 1.5}, 400, "untagged enum VectorInput"),
    ("query", {"query": {"text": "a", "model": "b"}}, 400, "send its vector instead"),
    ("query", {"query": {"nearest": [0, 0, 0, 0], "mmr": {"diversity": 2}}}, 422, "diversity"),
    ("query", {"query": {"nearest": 3, "mmr": {"candidates_limit": 16385}}}, 422, "or smaller"),
    ("query", {"query": 3, "lookup_from": {"collection": "x"}}, 404, "`x` is not a FAISS index"),
    ("query", {"prefetch": [5], "query": 3}, 400, "expected a map"),
    ("query", QUERY | {"limit": 0}, 422, "limit: value 0 invalid"),
    ("query", QUERY | {"limit": "3"}, 400, "whole number for `limit`"),
    ("query", QUERY | {"offset": -1}, 422, "offset: value -1 invalid"),
    ("query", QUERY | {"shard_key": "a"}, 400, "no shard keys"),
    ("query", QUERY | {"score_threshold": "high"}, 400, "number for `score_threshold`"),
    ("query", QUERY | {"params": {"hnsw_ef": "many"}}, 400, "whole number for `hnsw_ef`"),
    ("query", QUERY | {"params": 5}, 400, "expected a map"),
    ("query", QUERY | {"with_payload": "n"}, 400, "WithPayloadInterface"),
    ("query/batch", {}, 400, "missing field `searches`"),
    ("query/batch", {"searches": [5]}, 400, "expected a map"),
    ("query/groups", QUERY, 400, "missing field `group_by`"),
    ("query/groups", QUERY | {"group_by": 5}, 400, "expected a string"),
    ("query/groups", QUERY | {"group_by": "n", "with_lookup": "x"}, 404, "`x` is not a FAISS"),
    ("search", {"vector": [0, 0, 0, 0]}, 400, "missing field `limit`"),
    ("search", {"vector": "a", "limit": 1}, 400, "NamedVectorStruct"),
    ("search", {"vector": {"name": "x", "vector": [0, 0, 0, 0]}, "limit": 1}, 400, "name error: x"),
    ("scroll", {"offset": "x"}, 400, "not a valid point ID"),
    ("", {"ids": [3], "with_vector": ["image"]}, 400, "Not existing vector name error: image"),
    *(
        (call, request | {name: wrong}, 400, "untagged enum WithVector")
        for call, request in (("", {"ids": [3]}), ("query", QUERY), ("scroll", {}))
        for name in ("with_vector", "with_vectors")
        for wrong in ("x", 1, {}, [None], [True])
    ),
    ("scroll", {"with_payload": 1}, 400, "WithPayloadInterface"),
    ("scroll", {"with_payload": {"exclude": "n"}}, 400, "WithPayloadInterface"),
    ("", {"ids": 5}, 400, "missing field `ids`"),
    ("", {"ids": ["x"]}, 400, "not a valid point ID"),
]


@pytest.mark.parametrize(("call", "body", "status", "message"), REFUSED)
def test_what_can_not_be_answered_says_why(
    served: Collections, call: str, body: Any, status: int, message: str
) -> None:
    path = f"{C}/points/{call}"
    found, answer = ask(served, "POST", path, body)
    assert (found, answer["result"]) == (status, None)
    assert message in answer["status"]["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"query": NaN}', b"[" * 5000])
def test_bodies_that_are_no_json_are_refused(served: Collections, body: bytes) -> None:
    reply = served.answer("POST", b"/collections/papers/points/query", body)
    assert reply is not None
    assert reply.status == 400


def test_bodies_nested_without_end_are_refused(served: Collections) -> None:
    prefetch = b'{"prefetch":' * 400 + b"{}" + b"}" * 400
    must = b'{"must":' * 900 + b"{}" + b"}" * 900
    for body in (prefetch, b'{"filter":' + must + b"}"):
        reply = served.answer("POST", b"/collections/papers/points/query", body)
        assert reply is not None
        assert reply.status == 400


def test_a_failure_inside_is_told_and_logged(
    served: Collections, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("Error in faiss: no memory\nmore")

    index = served._served["papers"].index
    monkeypatch.setattr(index, "search", fail)
    status, body = ask(served, "POST", C + "/points/query", QUERY)
    assert (status, body["status"]["error"]) == (
        500,
        "Service internal error: Error in faiss: no memory",
    )
    assert "a collection can't answer" in caplog.text


def test_a_uuid_of_digits_alone_is_no_number(tmp_path: Path) -> None:
    point_id = "00000000-0000-4000-8000-000000000014"
    settings = write_collection(tmp_path, build_index("Flat", VECTORS[:1]), [point_id])
    path = f"{C}/points/{point_id.replace('-', '')}"
    assert ask(Collections.load([settings]), "GET", path)[1]["result"]["id"] == point_id


@pytest.mark.parametrize(
    ("asked", "is_given"),
    [
        ({}, False),
        ({"with_vector": True}, True),
        ({"with_vectors": True}, True),
        ({"with_vector": [""]}, True),
        ({"with_vector": []}, False),
    ],
)
def test_vectors_are_asked_for_by_either_word(
    served: Collections, asked: dict[str, Any], is_given: bool
) -> None:
    point = ask(served, "POST", C + "/points", {"ids": [3], **asked})[1]["result"][0]
    assert ("vector" in point) is is_given


def test_groups_and_ids_look_into_other_served_collections(
    tmp_path: Path, settings: CollectionSettings
) -> None:
    other = write_collection(
        tmp_path,
        build_index("Flat", VECTORS[:8]),
        payloads=[{"title": f"group {i}"} for i in range(8)],
        name="groups",
    )
    wide = write_collection(tmp_path, build_index("Flat", vectors_of(3, 7)), name="wide")
    both = Collections.load([settings, other, wide])
    lookup = {"collection": "groups", "with_vectors": True}
    request = QUERY | {"group_by": "n", "limit": 4, "with_lookup": lookup}
    groups = ask(both, "POST", C + "/points/query/groups", request)[1]["result"]["groups"]
    assert [group["lookup"]["payload"]["title"] for group in groups] == [
        f"group {group['id']}" for group in groups
    ]
    assert len(groups[0]["lookup"]["vector"]) == 4
    by_text = ask(both, "POST", C + "/points/query/groups", request | {"group_by": "text"})
    assert all("lookup" not in group for group in by_text[1]["result"]["groups"])
    request = {"query": 3, "lookup_from": {"collection": "groups"}, "limit": 1}
    found = ask(both, "POST", C + "/points/query", request)[1]["result"]["points"]
    assert found[0]["id"] == 3  # its vector comes from elsewhere, so it may be found itself
    own = {"query": 3, "lookup_from": {"collection": "papers"}, "limit": 1}
    assert ask(both, "POST", C + "/points/query", own)[1]["result"]["points"][0]["id"] != 3
    request["lookup_from"] = {"collection": "wide"}
    request["query"] = 2
    assert ask(both, "POST", C + "/points/query", request)[0] == 400


def test_threads_get_their_own_answers(served: Collections) -> None:
    wanted = {
        row: [row, *np.argsort(-(VECTORS @ VECTORS[row]))[:3].tolist()][1:] for row in range(40)
    }
    wrong: list[int] = []

    def work(start: int) -> None:
        for row in [*range(start, 40), *range(start)]:
            request = {"query": VECTORS[row].tolist(), "limit": 3, "filter": {"must": []}}
            points = ask(served, "POST", C + "/points/query", request)[1]["result"]["points"]
            if [point["id"] for point in points] != wanted[row]:
                wrong.append(row)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 40, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("names", [("",), ("papers", "papers")])
def test_names_stand_once(settings: CollectionSettings, names: tuple[str, ...]) -> None:
    chosen = [CollectionSettings(name, settings.index) for name in names]
    with pytest.raises(ConfigError, match="expected a name that stands once"):
        Collections.load(chosen)
