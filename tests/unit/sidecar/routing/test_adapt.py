"""Requests in, requests to send on out: what is matched, read, refused, guarded and said of it."""

import json
import logging
from collections import Counter
from typing import Any

import numpy as np
import pytest
from qdrant_client import grpc

from tests.support.onnx_models import linear_adapter, weight_of
from trimtab.errors import RefusedError
from trimtab.model.adapter import Adapter
from trimtab.rewrite import Policies, Reason
from trimtab.rewrite.qdrant_rest import match_endpoint
from trimtab.routing.adapt_grpc import adapt_grpc
from trimtab.routing.adapt_rest import adapt_body, adapt_rest
from trimtab.routing.outcome import Outcome
from trimtab.routing.routes import Route, Routes
from trimtab.routing.transform import Origin

VECTOR = [0.5, -1.25, 3.0, 0.1, 2e-3, 1.0]
GAP = 1e-5
"""float32 sums of six products in two orders differ by less."""
ADAPTER = linear_adapter(name="toy")
ROUTES = Routes.of({"docs": ADAPTER, ("docs", "title"): linear_adapter(seed=1, name="titles")})
QUERY = "/collections/docs/points/query"
BODY = b'{"query": [0.5, -1.25, 3, 0.10, 2E-3, 1.0], "limit": 3}'
ADAPTED = Counter({Reason.ADAPTED: 1})


def relevance_adapter() -> Adapter:
    return linear_adapter(dim_in=6, dim_out=6, use="relevance")


def send(
    body: bytes, path: Any = QUERY, method: str = "POST", routes: Routes = ROUTES, **policies: Any
) -> Outcome:
    return adapt_rest(method, path, body, routes.of_collection, Policies(**policies))


# What is matched


@pytest.mark.parametrize(
    "path",
    [
        "/collections/docs/points/query",
        "/collections/docs/points/query/",
        "/collections/docs/points/query//",
        "//collections//docs///points/query/",
        "/collections/docs/points/query?timeout=5&consistency=all",
        "/collections/docs/points/query/?wait=true",
        "/collections/docs/points/query?x=/collections/other/points",
        "/%63ollections/docs/points/query",
        "/collections/d%6Fcs/points/query",
        "/collections/d%6fcs/p%6Fints/%71uery",
        b"/collections/docs/points/query",
        b"//collections/docs/points/query/?timeout=1",
    ],
)
def test_path_is_read_as_qdrant_reads_it(path: str | bytes) -> None:
    assert send(BODY, path).decisions == ADAPTED


@pytest.mark.parametrize(
    ("segment", "collection"),
    {
        "a%20b": "a b",
        "a+b": "a+b",
        "a%2Bb": "a+b",
        "a%3Fb": "a?b",
        "a%25b": "a%b",
        "a%2525b": "a%25b",
        "%C3%A9t%C3%A9": "été",
        "é": "é",
        "points": "points",
    }.items(),
)
def test_collection_is_decoded_once(segment: str, collection: str) -> None:
    found = match_endpoint("POST", f"/collections/{segment}/points/query")
    assert found is not None
    assert found.collection == collection
    raw = match_endpoint("POST", f"/collections/{segment}/points/query".encode())
    assert raw == found


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, QUERY) for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "")),
        ("POST", "/collections/docs/points/queryx"),
        ("POST", "/collections/docs/points/query/batch/x"),
        ("POST", "/collections/docs/points/query/pairs"),
        ("POST", "/collections/docs/points/Query"),
        ("POST", "/Collections/docs/points/query"),
        ("POST", "/collections/points/query"),
        ("POST", "/collections//points/query"),
        ("POST", "/x/collections/docs/points/query"),
        ("POST", "/collections/docs/points%2Fquery"),
        ("POST", "/collections/docs/points/%2571uery"),
        ("POST", "/collections/docs/../docs/points/query"),
        ("POST", "/collections/docs/shards/1/points/query"),
        ("POST", "/collections/docs/points/search/matrix/pairs"),
        ("POST", "/collections/docs/points/search/matrix/offsets"),
        ("POST", "/collections/docs/points/discover/groups"),
        ("POST", "/collections/docs/points/scroll"),
        ("POST", "/collections/docs/points/count"),
        ("POST", "/collections/docs/facet"),
        ("POST", "/collections/docs/points"),
        ("GET", "/collections/docs/points/7"),
        ("POST", "/collections/docs/points/delete"),
        ("POST", "/collections/docs/points/payload"),
        ("PUT", "/collections/docs/vectors/title"),
        ("POST", "/collections/docs/points/vectors/delete"),
        ("PUT", "/collections/docs"),
        ("POST", "/collections/aliases"),
        ("GET", "/"),
        ("POST", ""),
        ("POST", "/collections/%FF/points/%FF"),
    ],
)
def test_other_calls_pass_unread(method: str, path: str) -> None:
    outcome = send(BODY, path, method, write_guard="refuse")
    assert outcome.content is BODY
    assert outcome.decisions == Counter()
    assert outcome.mark == ""


def test_collection_that_is_no_utf8_passes() -> None:
    for path in ("/collections/%FF%FE/points/query", b"/collections/\xff/points/query"):
        assert send(BODY, path).content is BODY


@pytest.mark.parametrize(
    "method",
    [
        *("Scroll", "Count", "Get", "Facet", "SearchMatrixPairs", "SearchMatrixOffsets"),
        *("CreateVectorName", "Delete", "DeleteVectors", "query", "QueryX", "Query/", ""),
    ],
)
@pytest.mark.parametrize("service", ["/qdrant.Points/", "/qdrant.PointsInternal/"])
def test_other_methods_pass_unread(service: str, method: str) -> None:
    content = grpc.QueryPoints(collection_name="docs").SerializeToString()
    outcome = adapt_grpc(service + method, content, ROUTES.of_collection, Policies())
    assert outcome.content is content
    assert outcome.decisions == Counter()


def test_collection_without_route_is_counted_once_and_not_read() -> None:
    for body in (b'{"searches": [{}, {}]}', b"no json"):
        outcome = send(body, "/collections/other/points/query/batch", inference="refuse")
        assert outcome.content is body
        assert outcome.decisions == {Reason.NO_ROUTE: 1}
    content = grpc.QueryPoints(collection_name="other").SerializeToString()
    answer = adapt_grpc("/qdrant.Points/Query", content, ROUTES.of_collection, Policies())
    assert answer.content is content
    assert answer.decisions == {Reason.NO_ROUTE: 1}


def test_alias_has_the_route_of_its_own_name_alone() -> None:
    for name in ("docs2", "doc", "DOCS", "docs%20"):
        path = f"/collections/{name}/points/query"
        assert send(BODY, path).decisions == {Reason.NO_ROUTE: 1}


# What an adapter can't transform

BAD = "[1,2,3,4,5,1e39]"
"""No float32 holds its last value."""


def batch(*vectors: str) -> bytes:
    return f'{{"searches": [{",".join(f"""{{"query": {one}}}""" for one in vectors)}]}}'.encode()


def routed(on_error: Any) -> Routes:
    return Routes([Route.make("docs", ADAPTER, on_error=on_error)])


def test_bad_vector_spoils_no_other_under_passthrough(caplog: pytest.LogCaptureFixture) -> None:
    body = batch("[1,2,3,4,5,6]", BAD, "[[1,2,3,4,5,6]]", "[6,5,4,3,2,1]")
    outcome = send(body, QUERY + "/batch", routes=routed("passthrough"), multivector="rows")
    assert outcome.decisions == {Reason.ADAPTED: 3, Reason.ADAPTER_ERROR: 1}
    queries = [search["query"] for search in json.loads(outcome.content)["searches"]]
    assert BAD.encode() in outcome.content
    wanted = np.float32([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]]) @ weight_of()
    np.testing.assert_allclose(
        [queries[0], *queries[2], queries[3]], wanted[[0, 0, 1]], atol=GAP * 9
    )
    assert "1e39" not in caplog.text
    assert "1e+39" not in caplog.text


def test_request_of_bad_vectors_alone_comes_back_as_it_is() -> None:
    for body in (batch(BAD), batch(BAD, BAD)):
        outcome = send(body, QUERY + "/batch", routes=routed("passthrough"))
        assert outcome.content is body
        assert outcome.decisions == {Reason.ADAPTER_ERROR: body.count(b"1e39")}
        assert outcome.mark == ""


def test_bad_vector_is_refused_where_the_route_says_so() -> None:
    with pytest.raises(RefusedError, match=r"searches\[1\]"):
        send(batch("[1,2,3,4,5,6]", BAD), QUERY + "/batch", routes=routed("refuse"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_message_with_nan_is_passed_or_refused(value: float) -> None:
    dense = grpc.VectorInput(dense=grpc.DenseVector(data=[1, 2, 3, 4, 5, value]))
    content = grpc.QueryPoints(
        collection_name="docs", query=grpc.Query(nearest=dense)
    ).SerializeToString()
    send_to = ("/qdrant.Points/Query", content)
    outcome = adapt_grpc(*send_to, routed("passthrough").of_collection, Policies())
    assert outcome.content is content
    assert outcome.decisions == {Reason.ADAPTER_ERROR: 1}
    with pytest.raises(RefusedError):
        adapt_grpc(*send_to, routed("refuse").of_collection, Policies())


# What is said of it


def test_mark_names_every_adapter_that_was_used_once() -> None:
    titles = ROUTES.of_collection("docs")["title"]
    both = b'{"query":[1,2,3,4,5,6],"using":"title","prefetch":[{"query":[1,2,3,4,5,6]},'
    both += b'{"query":[1,2,3,4,5,6]},{"query":[1,2,3,4,5,6],"using":"title"}]}'
    mark = send(both).mark
    assert sorted(mark.split(",")) == sorted([f"toy@{ADAPTER.version}", titles.adapter.mark])
    assert send(BODY).mark == f"toy@{ADAPTER.version}"
    assert send(b'{"query": 7}').mark == ""


# Writes

POINT = {"id": 1, "vector": VECTOR, "payload": {"vector": [1]}}
WRITES = {
    "points": ("PUT", "/points", {"points": [POINT]}),
    "points, named": ("PUT", "/points", {"points": [{"id": 1, "vector": {"title": VECTOR}}]}),
    "points, columns": ("PUT", "/points", {"batch": {"ids": [1], "vectors": [VECTOR]}}),
    "vectors": ("PUT", "/points/vectors?wait=true", {"points": [{"id": 1, "vector": VECTOR}]}),
    "batch upsert": (
        "POST",
        "//points/batch/",
        {"operations": [{"delete": {"points": [1]}}, {"upsert": {"points": [POINT]}}]},
    ),
    "batch upsert, columns": (
        "POST",
        "/points/batch",
        {"operations": [{"upsert": {"batch": {"ids": [1], "vectors": [VECTOR]}}}]},
    ),
    "batch vectors": (
        "POST",
        "/points/batch",
        {"operations": [{"update_vectors": {"points": [{"id": 1, "vector": VECTOR}]}}]},
    ),
}
HARMLESS = (
    {"operations": []},
    {"operations": [{"delete": {"points": [1, 2, 3, 4, 5, 6]}}]},
    {"operations": [{"set_payload": {"payload": {"upsert": {"points": [POINT]}}, "points": [1]}}]},
    {"operations": [{"delete_vectors": {"points": [1], "vector": ["title"]}}]},
    {"operations": [{"clear_payload": {"points": [1]}}], "upsert": {"points": [POINT]}},
)


@pytest.mark.parametrize(("method", "path", "body"), WRITES.values(), ids=list(WRITES))
def test_writes_are_never_adapted_but_watched(
    method: str, path: str, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    text = json.dumps(body).encode()
    where = "/collections/docs" + path
    with caplog.at_level(logging.WARNING):
        passed = send(text, where, method, write_guard="pass")
        assert caplog.records == []
        warned = send(text, where, method)
    assert passed.content is warned.content is text
    assert passed.decisions == warned.decisions == {Reason.WRITE: 1}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "0.5" not in caplog.text
    with pytest.raises(RefusedError, match="docs"):
        send(text, where, method, write_guard="refuse")
    elsewhere = where.replace("/docs", "/other")
    assert send(text, elsewhere, method, write_guard="refuse").content is text


@pytest.mark.parametrize("body", HARMLESS)
def test_batch_without_vectors_is_no_write(body: Any) -> None:
    text = json.dumps(body).encode()
    outcome = send(text, "/collections/docs/points/batch", write_guard="refuse")
    assert outcome.content is text
    assert outcome.decisions == Counter()


VECTORS = grpc.Vectors(vector=grpc.Vector(dense=grpc.DenseVector(data=VECTOR)))
UPSERT = grpc.PointsUpdateOperation.PointStructList(points=[grpc.PointStruct(vectors=VECTORS)])
UPDATE = grpc.PointsUpdateOperation.UpdateVectors(points=[grpc.PointVectors(vectors=VECTORS)])
DELETE = grpc.PointsUpdateOperation(delete_points=grpc.PointsUpdateOperation.DeletePoints())
MESSAGES = {
    "Upsert": grpc.UpsertPoints(points=UPSERT.points),
    "UpdateVectors": grpc.UpdatePointVectors(points=UPDATE.points),
    "UpdateBatch": grpc.UpdateBatchPoints(
        operations=[DELETE, grpc.PointsUpdateOperation(upsert=UPSERT)]
    ),
    "UpdateBatch ": grpc.UpdateBatchPoints(
        operations=[grpc.PointsUpdateOperation(update_vectors=UPDATE)]
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_written_messages_are_never_adapted_but_watched(name: str) -> None:
    MESSAGES[name].collection_name = "docs"
    content = MESSAGES[name].SerializeToString()
    call = (f"/qdrant.Points/{name.strip()}", content, ROUTES.of_collection)
    outcome = adapt_grpc(*call, Policies())
    assert outcome.content is content
    assert outcome.decisions == {Reason.WRITE: 1}
    with pytest.raises(RefusedError):
        adapt_grpc(*call, Policies(write_guard="refuse"))


def test_batch_of_deletions_is_no_write() -> None:
    message = grpc.UpdateBatchPoints(collection_name="docs", operations=[DELETE])
    content = message.SerializeToString()
    refuse = Policies(write_guard="refuse")
    outcome = adapt_grpc("/qdrant.Points/UpdateBatch", content, ROUTES.of_collection, refuse)
    assert outcome.content is content
    assert outcome.decisions == Counter()


# Canaries


@pytest.mark.parametrize("using", [["title", None], [None, "title"]])
def test_each_canary_of_a_search_keeps_its_own_share(using: list[str | None]) -> None:
    docs = Route.make("docs", relevance_adapter(), mode="canary", share=0.2)
    title = Route.make("docs", relevance_adapter(), vector_name="title", mode="canary", share=0.7)
    routes = Routes([docs, title])
    rng = np.random.default_rng(0)
    kept: Counter[int] = Counter()
    for _ in range(400):
        vector = rng.standard_normal(6).tolist()
        prefetch = [{"query": vector} | ({"using": name} if name else {}) for name in using]
        body = json.dumps({"prefetch": prefetch, "query": {"fusion": "rrf"}}).encode()
        kept[send(body, routes=routes).decisions[Reason.ADAPTED]] += 1
    # Of one number: both below .2, one of them between .2 and .7, none above.
    assert [round(kept[n] / 400, 1) for n in (2, 1, 0)] == [0.2, 0.5, 0.3]


def test_the_twin_of_a_text_is_drawn_as_the_text_is() -> None:
    """A search over a canary and a vector in shadow: only the latter may differ in its twin."""
    docs = Route.make("docs", relevance_adapter(), mode="canary", share=0.5)
    title = Route.make("docs", relevance_adapter(), vector_name="title", mode="shadow")
    routes = Routes([docs, title]).of_collection("docs")
    endpoint = match_endpoint("POST", QUERY)
    assert endpoint is not None
    seen = set()
    for number in range(30):
        vectors = [VECTOR, np.nextafter(np.float32(VECTOR), np.float32(9)).tolist()]
        origins = {("query",): Origin("toy", f"text {number}")}
        changed = set()
        for shadow, vector in zip((False, True), vectors, strict=True):
            prefetch = {"query": VECTOR, "using": "title"}
            body = json.dumps({"prefetch": prefetch, "query": vector}).encode()
            given = endpoint, body, routes, Policies()
            outcome = adapt_body(*given, shadow=shadow, origins=origins)
            changed.add(json.loads(outcome.content)["query"] != vector)
        assert len(changed) == 1
        seen |= changed
    assert seen == {True, False}
