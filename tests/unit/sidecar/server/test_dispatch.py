"""What is to be done with a request, from its head alone."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.onnx_models import linear_bytes
from tests.support.sidecar_settings import settings_of
from trimtab.rewrite.policies import Policies
from trimtab.routing.schema_cache import SchemaCache
from trimtab.server.bypass import Bypass
from trimtab.server.dispatch import Plan, Planner, Way
from trimtab.server.paths import Paths
from trimtab.server.route_table import LiveTable, RouteTable
from trimtab.settings import ListenSettings, UpstreamSettings


def table_of(
    folder: Path, *, use: str = "relevance", routed: bool = True, **more: Any
) -> RouteTable:
    (folder / "adapter.onnx").write_bytes(linear_bytes(use=use))
    settings = settings_of(folder if routed else None, **more)
    return LiveTable(lambda: settings, SchemaCache(vectors_ttl_s=1, aliases_ttl_s=1)).current


def planner_of(
    table: RouteTable, *, has_upstream: bool = True, listen: str = "any", upstream: str = ""
) -> Planner:
    paths = Paths(ListenSettings(path_prefix=listen), UpstreamSettings(path_prefix=upstream))
    return Planner(table, paths, has_upstream=has_upstream)


def plan(table: RouteTable, line: str, *, has_upstream: bool = True) -> Plan:
    method, _, target = line.partition(" ")
    return planner_of(table, has_upstream=has_upstream).plan(method.encode(), target.encode())


QUERIES = [
    f"POST /collections/{name}/points/{call}"
    for name in ("docs", "other")
    for call in (
        "query", "query/batch", "query/groups", "search", "search/batch", "search/groups",
        "recommend", "recommend/batch", "recommend/groups", "discover", "discover/batch",
    )
]  # fmt: skip
WRITES = [
    "PUT /collections/docs/points",
    "PUT /collections/docs/points?wait=true",
    "PUT /collections/docs/points/vectors",
    "POST /collections/docs/points/batch",
]
OTHERS = [
    "GET /",
    "GET /collections",
    "GET /collections/docs/points/query",
    "POST /collections/docs/points",
    "POST /collections/docs/points/scroll",
    "POST /collections/docs/points/delete",
    "POST /collections/docs/points/query/other",
    "POST /collections/docs/points/search/matrix/pairs",
    "PUT /collections/docs",
    "POST /%FF",
]


@pytest.mark.parametrize("line", QUERIES)
def test_queries_are_read_where_there_is_any_route(tmp_path: Path, line: str) -> None:
    # An alias may lead to a route, so that the name alone does not say.
    made = plan(table_of(tmp_path), line)
    assert (made.way, made.kind, made.is_repeatable) == (Way.ADAPT, "query", True)
    assert plan(table_of(tmp_path, routed=False), line).way is Way.PASS


@pytest.mark.parametrize("line", WRITES)
def test_writes_are_read_only_where_they_are_guarded(tmp_path: Path, line: str) -> None:
    made = plan(table_of(tmp_path), line)
    assert (made.way, made.kind, made.is_repeatable) == (Way.PASS, "write", False)
    assert plan(table_of(tmp_path, use="migration"), line).way is Way.ADAPT
    unguarded = table_of(tmp_path, use="migration", policies=Policies(write_guard="pass"))
    assert plan(unguarded, line).way is Way.PASS


@pytest.mark.parametrize("line", OTHERS)
def test_everything_else_is_passed_on(tmp_path: Path, line: str) -> None:
    made = plan(table_of(tmp_path, use="migration"), line)
    assert (made.way, made.kind, made.endpoint) == (Way.PASS, "other", None)


@pytest.mark.parametrize("line", [*QUERIES, *WRITES, *OTHERS])
def test_without_qdrant_only_indexes_answer(tmp_path: Path, line: str) -> None:
    assert plan(table_of(tmp_path), line, has_upstream=False).way is Way.SERVE


@pytest.mark.parametrize(
    ("line", "is_repeatable"),
    [
        ("GET /collections/docs", True),
        ("HEAD /", True),
        ("OPTIONS /collections", True),
        ("POST /collections/docs/points", True),
        ("POST /collections/docs/points/count", True),
        ("POST /collections/docs/points/search/matrix/pairs", True),
        ("POST /collections/docs/facet", True),
        ("POST /collections/docs/points/delete", False),
        ("POST /collections/docs/points/payload", False),
        ("POST /collections/docs/points/batch", False),
        ("PUT /collections/docs/points", False),
        ("DELETE /collections/docs", False),
        ("PATCH /collections/docs", False),
        ("POST /collections/aliases", False),
        ("POST /collections/docs/snapshots", False),
        ("POST /collections", False),
        ("POST /points/query/batch", False),
    ],
)
def test_only_what_changes_nothing_may_be_sent_twice(
    tmp_path: Path, line: str, is_repeatable: bool
) -> None:
    assert plan(table_of(tmp_path), line).is_repeatable is is_repeatable


@pytest.mark.parametrize(
    ("line", "invalidates"),
    [
        ("POST /collections/aliases", ""),
        ("POST //collections//aliases/?timeout=1", ""),
        ("PUT /collections/docs", "docs"),
        ("PATCH /collections/docs", "docs"),
        ("DELETE /collections/docs/", "docs"),
        ("DELETE /collections/a%20b", "a b"),
        ("PUT /collections/docs/vectors/title", "docs"),
        ("DELETE /collections/docs/vectors/title", "docs"),
        ("PUT /collections/docs/snapshots/recover", ""),
        ("POST /collections/docs/snapshots/upload?priority=snapshot", ""),
        ("GET /collections/docs", None),
        ("GET /collections/aliases", None),
        ("PUT /collections/docs/points", None),
        ("PUT /collections/docs/index", None),
        ("POST /collections/docs/points/query", None),
        ("POST /collections/docs/points/delete", None),
        ("PUT /", None),
    ],
)
def test_what_changes_collections_makes_facts_out_of_date(
    tmp_path: Path, line: str, invalidates: str | None
) -> None:
    assert plan(table_of(tmp_path), line).invalidates == invalidates


def test_a_plan_is_the_same_the_second_time_and_after_many_others(tmp_path: Path) -> None:
    planner = planner_of(table_of(tmp_path))
    target = b"/collections/docs/points/query"
    first = planner.plan(b"POST", target)
    assert planner.plan(b"POST", target) == first
    assert planner.plan(b"GET", target) != first
    for number in range(3000):
        planner.plan(b"GET", b"/collections/%d" % number)
    assert planner.plan(b"POST", target) == first


PREFIXED = [
    ("any", "", "/qdrant/collections/docs/points/query", b"/qdrant"),
    ("any", "", "/a/b/collections/docs/points/query/batch?timeout=1", b"/a/b"),
    ("any", "", "/a/collections//docs/points/query/", b"/a"),
    ("any", "", "//collections//docs/points/query/", b""),
    ("any", "", "/q%64rant/collections/docs/points/search", b"/q%64rant"),
    ("any", "", "/collections/collections/docs/points/query", b"/collections"),
    ("any", "/up", "/up/collections/docs/points/query", b"/up"),
    ("any", "/up", "/up/qdrant/collections/docs/points/query", b"/up/qdrant"),
    ("/qdrant", "/up", "/up/collections/docs/points/query", b"/up"),
    ("", "/up", "/up/collections/docs/points/query", b"/up"),
    ("/qdrant", "", "/collections/docs/points/query", b""),
]


@pytest.mark.parametrize(("listen", "upstream", "target", "prefix"), PREFIXED)
def test_a_query_under_a_prefix_is_read(
    tmp_path: Path, listen: str, upstream: str, target: str, prefix: bytes
) -> None:
    planner = planner_of(table_of(tmp_path), listen=listen, upstream=upstream)
    made = planner.plan(b"POST", target.encode())
    assert (made.way, made.kind, made.bypass) == (Way.ADAPT, "query", None)
    assert made.endpoint is not None
    assert made.endpoint.collection == "docs"
    assert made.prefix + made.target == target.encode()
    assert made.prefix == prefix


@pytest.mark.parametrize(
    "prefix",
    ["/.", "/..", "/a/..", "/../a", "/%2e", "/%2E%2e", "//evil.test", "/a/", "/a//b", "/%2f",
     "/a%2Fb", "/a%5cb", "/a b", "/%00", "/\u00e4"],
)  # fmt: skip
@pytest.mark.parametrize("upstream", ["", "/up"])
def test_a_prefix_that_may_mean_another_path_is_none(
    tmp_path: Path, upstream: str, prefix: str
) -> None:
    planner = planner_of(table_of(tmp_path), upstream=upstream)
    target = f"{upstream}{prefix}/collections/docs/points/query".encode()
    made = planner.plan(b"POST", target)
    assert (made.way, made.bypass) == (Way.PASS, Bypass.PATH_PREFIX)
    assert (made.prefix, made.target) == (upstream.encode(), target.removeprefix(upstream.encode()))


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_change_under_a_prefix_makes_facts_out_of_date(tmp_path: Path, method: str) -> None:
    assert plan(table_of(tmp_path), f"{method} /qdrant/collections/docs").invalidates == "docs"
    assert plan(table_of(tmp_path), "POST /qdrant/collections/aliases").invalidates == ""


SUSPECT = {
    Bypass.PATH: [
        "POST /collections/docs/points/query/v2",
        "POST /collections/docs/points/Query",
        "POST /collections/docs/query",
        "POST /v2/docs/search",
        "POST /collections/docs/shards/1/points/search",
        "POST /collections/docs/points/search/matrix",
        "QUERY /collections/docs/points/query",
    ],
    Bypass.GRPC_WEB: [
        "POST /qdrant.Points/Query",
        "POST /prefix/qdrant.Points/SearchBatch",
        "POST /qdrant.v2.Points/QueryNew",
    ],
    Bypass.BODY: [
        "POST /",
        "POST /collections%2Fdocs%2Fpoints%2Fquery",
        "POST /collections/docs/points/query;v=1",
        "POST /collections/docs/points/nearest",
        "POST /%FF",
    ],
    None: [
        "GET /collections/docs/points/query",
        "PUT /collections/docs/points/query",
        "POST /collections/docs/points",
        "POST /collections/docs/points/scroll",
        "POST /collections/docs/points/search/matrix/pairs",
        "POST /collections/docs/shards/1/points/scroll",
        "POST /collections/search/points/scroll",
        "POST /collections/docs/facet",
        "POST /collections/aliases",
        "POST /snapshots",
        "POST /collections/docs/snapshots/upload?priority=snapshot",
        "POST /qdrant.Points/SearchMatrixPairs",
    ],
}


@pytest.mark.parametrize(
    ("expected", "line"), [(why, line) for why, lines in SUSPECT.items() for line in lines]
)
def test_what_looks_like_a_search_and_is_none_that_is_known_is_suspect(
    tmp_path: Path, expected: Bypass | None, line: str
) -> None:
    if line.endswith("MatrixPairs"):
        expected = Bypass.BODY  # which its body clears
    assert plan(table_of(tmp_path), line).bypass is expected
    assert plan(table_of(tmp_path, routed=False), line).bypass is None
    assert plan(table_of(tmp_path), line, has_upstream=False).bypass is None


@pytest.mark.parametrize(("listen", "path"), [("", "/qdrant"), ("/other", "/qdrant")])
def test_a_prefix_that_the_settings_do_not_name_is_suspect(
    tmp_path: Path, listen: str, path: str
) -> None:
    planner = planner_of(table_of(tmp_path), listen=listen)
    made = planner.plan(b"POST", f"{path}/collections/docs/points/query".encode())
    assert (made.way, made.bypass) == (Way.PASS, Bypass.PATH_PREFIX)


def test_a_collection_that_surely_has_no_route_is_not_suspect(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    line = "POST /collections/other/points/query/v2"
    assert plan(table, line).bypass is Bypass.PATH  # it may be an alias
    table.book.facts.learn_aliases({})
    assert plan(table, line).bypass is None


def test_a_call_becomes_suspect_once_an_alias_leads_to_a_route(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    planner, call = planner_of(table), (b"POST", b"/collections/other/points/query/v2")
    table.book.facts.learn_aliases({})
    assert planner.plan(*call).bypass is None
    table.book.facts.learn_aliases({"other": "docs"})
    assert planner.plan(*call).bypass is Bypass.PATH
    table.book.facts.learn_aliases({})
    assert planner.plan(*call).bypass is None


FORWARDED = [
    ("any", "", "/qdrant/collections", "/qdrant/collections"),
    ("any", "/up", "/collections?a=/b", "/up/collections?a=/b"),
    ("any", "/up", "/up/collections", "/up/collections"),
    ("", "/up/", "/up/collections", "/up/up/collections"),
    ("/qdrant", "", "/qdrant/collections/docs?x=1", "/collections/docs?x=1"),
    ("qdrant/", "", "//q%64rant//collections", "//collections"),
    ("/qdrant", "", "/qdrant", "/"),
    ("/qdrant", "", "/qdrant?x", "/?x"),
    ("/qdrant", "", "/qdrants/collections", "/qdrants/collections"),
    ("/qdrant", "", "/healthz", "/healthz"),
    ("/a/b", "/c/d", "/a/b/collections", "/c/d/collections"),
    ("/qdrant", "/qdrant", "/qdrant/collections", "/qdrant/collections"),
    ("/qdrant", "/up", "*", "*"),
]


@pytest.mark.parametrize(("listen", "upstream", "target", "sent"), FORWARDED)
def test_a_prefix_is_taken_away_and_qdrants_is_put_there(
    listen: str, upstream: str, target: str, sent: str
) -> None:
    paths = Paths(ListenSettings(path_prefix=listen), UpstreamSettings(path_prefix=upstream))
    assert paths.forward(target.encode()) == sent.encode()
