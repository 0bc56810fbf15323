"""What is to be done with a request, from its head alone."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.facts import Facts
from sidecar.rewrite.policies import Policies
from sidecar.server.live import Live, Table
from sidecar.server.plan import Plan, Planner, Way
from tests.support.onnx_models import linear_bytes
from tests.support.sidecar_settings import settings_of


def table_of(folder: Path, *, use: str = "relevance", routed: bool = True, **more: Any) -> Table:
    (folder / "adapter.onnx").write_bytes(linear_bytes(use=use))
    settings = settings_of(folder if routed else None, **more)
    return Live(lambda: settings, Facts(vectors_ttl_s=1, aliases_ttl_s=1)).current


def plan(table: Table, line: str, *, has_upstream: bool = True) -> Plan:
    method, _, target = line.partition(" ")
    return Planner(table, has_upstream=has_upstream).plan(method.encode(), target.encode())


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
    "POST /x/collections/docs/points/query",
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
    ("line", "forgets"),
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
    tmp_path: Path, line: str, forgets: str | None
) -> None:
    assert plan(table_of(tmp_path), line).forgets == forgets


def test_a_plan_is_the_same_the_second_time_and_after_many_others(tmp_path: Path) -> None:
    planner = Planner(table_of(tmp_path), has_upstream=True)
    target = b"/collections/docs/points/query"
    first = planner.plan(b"POST", target)
    assert planner.plan(b"POST", target) == first
    assert planner.plan(b"GET", target) != first
    for number in range(3000):
        planner.plan(b"GET", b"/collections/%d" % number)
    assert planner.plan(b"POST", target) == first
