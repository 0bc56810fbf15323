"""Runs the strangers' tests in processes of their own and compares the two ways."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qdrant_client import QdrantClient

from tests.support.client_suite.client_suite_plugin import PREFIX
from tests.support.qdrant.process import Server, running_server
from tests.support.sidecar import running_sidecar
from tests.support.sidecar_world import identity_bytes
from trimtab.model.adapter import Adapter

PINNED = "v1.18.0"
"""The newest release of qdrant-client whose tests were to be had; the client itself is newer."""

VARIABLE = "QDRANT_CLIENT_CHECKOUT"
"""Names a checkout of github.com/qdrant/qdrant-client, or its bare git directory."""

FILES = (
    "tests/congruence_tests/test_aliases.py",
    "tests/congruence_tests/test_collections.py",
    "tests/congruence_tests/test_count.py",
    "tests/congruence_tests/test_delete_points.py",
    "tests/congruence_tests/test_discovery.py",
    "tests/congruence_tests/test_facet.py",
    "tests/congruence_tests/test_geo_polygon_filter_query.py",
    "tests/congruence_tests/test_group_recommend.py",
    "tests/congruence_tests/test_group_search.py",
    "tests/congruence_tests/test_has_vector.py",
    "tests/congruence_tests/test_info.py",
    "tests/congruence_tests/test_modify_named_vector.py",
    "tests/congruence_tests/test_multivector_discovery_queries.py",
    "tests/congruence_tests/test_multivector_recommend_queries.py",
    "tests/congruence_tests/test_multivector_search_queries.py",
    "tests/congruence_tests/test_multivector_updates.py",
    "tests/congruence_tests/test_nested_filter.py",
    "tests/congruence_tests/test_optional_vectors.py",
    "tests/congruence_tests/test_payload.py",
    "tests/congruence_tests/test_query.py",
    "tests/congruence_tests/test_query_batch.py",
    "tests/congruence_tests/test_recommendation.py",
    "tests/congruence_tests/test_retrieve.py",
    "tests/congruence_tests/test_scroll.py",
    "tests/congruence_tests/test_scroll_order_by.py",
    "tests/congruence_tests/test_search.py",
    "tests/congruence_tests/test_search_distance_matrix.py",
    "tests/congruence_tests/test_sparse_discovery.py",
    "tests/congruence_tests/test_sparse_idf_search.py",
    "tests/congruence_tests/test_sparse_recommend.py",
    "tests/congruence_tests/test_sparse_search.py",
    "tests/congruence_tests/test_sparse_updates.py",
    "tests/congruence_tests/test_unflatten_values_methods.py",
    "tests/congruence_tests/test_updates.py",
    "tests/congruence_tests/test_uuids.py",
    "tests/congruence_tests/test_values_count.py",
    "tests/test_qdrant_client.py",
    "tests/test_async_qdrant_client.py",
)
"""Their files whose tests talk to a server."""

FILE_LIMIT_S = 600
DID_NOT_END = "did not end"
_ROUTED = {"text": 50, "image": 100, "code": 80}
"""Their collection's vectors; every test's collection has the same name or none of ours."""

_SETTINGS = """
[listen]
rest = "127.0.0.1:0"
grpc = "127.0.0.1:0"
[upstream]
rest = "{rest}"
grpc = "http://127.0.0.1:{grpc}"
[policies]
examples = "always"
multivector = "rows"
"""
_ROUTE = """
[[route]]
collection = "congruence_test_collection"
vector = "{name}"
adapter = "{name}.onnx"
"""

Outcomes = Mapping[str, tuple[str, str]]
"""By test: how it ended, and what it said where it failed."""


@dataclass(frozen=True)
class Ways:
    """Where one kind of client is sent.

    Attributes:
        direct: REST and gRPC port of the stand-in.
        through: Those of the sidecar before it.
    """

    direct: tuple[int, int]
    through: tuple[int, int]
    server: Server


def unpack(checkout: Path, folder: Path) -> None:
    """Write the pinned version's tests into a folder."""
    git = ["git", "-C", str(checkout), "archive", PINNED, "tests"]
    archive = subprocess.run(git, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")


@contextlib.contextmanager
def both_ways(folder: Path) -> Iterator[Ways]:
    """Run the stand-in, and a sidecar before it whose adapters change nothing."""
    with running_server() as server:
        config = folder / "sidecar.toml"
        routes = ""
        for name, dim in _ROUTED.items():
            (folder / f"{name}.onnx").write_bytes(identity_bytes(dim))
            Adapter.load(folder / f"{name}.onnx")
            routes += _ROUTE.format(name=name)
        settings = _SETTINGS.format(rest=server.rest_url, grpc=server.grpc_port)
        config.write_text(settings + routes, encoding="utf-8")
        with running_sidecar(config=config) as sidecar:
            through = (sidecar.rest_address[1], sidecar.grpc_address[1])
            yield Ways((server.rest_port, server.grpc_port), through, server)


def run_tests(
    folder: Path, names: Sequence[str], ports: tuple[int, int], protocol: str, *, n_points: int = 0
) -> Outcomes:
    """Run some of their tests against one place.

    Args:
        folder: Where they are.
        names: A file, or tests of one.
        ports: REST and gRPC port of the place.
        protocol: ``rest``, or ``grpc`` for every client that a test makes.
        n_points: Points that a test draws; 0 for as many as they say.
    """
    written = folder / "outcomes.jsonl"
    written.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "client_suite_plugin", *names]
    command += ["-p", "no:cacheprovider", "-W", "ignore", "-c", os.devnull, "--rootdir", "."]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        PREFIX + "REST_PORT": str(ports[0]),
        PREFIX + "GRPC_PORT": str(ports[1]),
        PREFIX + "PROTOCOL": protocol,
        PREFIX + "OUTCOMES": str(written),
        PREFIX + "POINTS": str(n_points),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop(VARIABLE, None)
    is_late = False
    try:
        subprocess.run(
            command,
            cwd=folder,
            env=environment,
            timeout=FILE_LIMIT_S,
            capture_output=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        is_late = True
    lines = written.read_text(encoding="utf-8").splitlines() if written.exists() else []
    found = {each["test"]: (each["outcome"], each["said"]) for each in map(json.loads, lines)}
    if is_late or not found:
        said = f"within {FILE_LIMIT_S} s" if is_late else "pytest ran no test"
        found[f"{names[0].partition('::')[0]}::*"] = (DID_NOT_END, said)
    return found


def run_file(
    folder: Path, ways: Ways, name: str, protocol: str, *, n_points: int = 0
) -> tuple[Outcomes, Outcomes]:
    """Run a file through the sidecar, and straight whatever did not pass there.

    Returns:
        Outcomes of all its tests through the sidecar, and of those that failed so, straight.
    """
    clear(ways.server)
    through = run_tests(folder, [name], ways.through, protocol, n_points=n_points)
    again = [test for test, (end, _) in through.items() if end == "failed"]
    if not again:
        return through, {}
    clear(ways.server)
    return through, run_tests(folder, again, ways.direct, protocol, n_points=n_points)


def clear(server: Server) -> None:
    """Delete what a file has left."""
    client = QdrantClient(url=server.rest_url, timeout=30, check_compatibility=False)
    for each in client.get_collections().collections:
        client.delete_collection(each.name)
    client.close()


def differences(through: Outcomes, direct: Outcomes) -> list[str]:
    """Say which tests fail through the sidecar and not straight."""
    return [
        f"{test}: {said}; straight to the stand-in: {direct.get(test, (DID_NOT_END, ''))[0]}"
        for test, (end, said) in sorted(through.items())
        if end == "failed" and direct.get(test, (DID_NOT_END, ""))[0] != "failed"
    ]


def count(outcomes: Outcomes) -> dict[str, int]:
    """Count ends of tests."""
    return dict(sorted(Counter(end for end, _ in outcomes.values()).items()))
