"""The official JavaScript client does its whole work through the sidecar.

Set up once with ``npm ci`` in tests/support/js; without node or that, these tests skip.
"""

import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.qdrant.fixtures import unique_name
from tests.support.qdrant.process import Server
from tests.support.sidecar import Sidecar, running_sidecar
from tests.support.sidecar_world import SCORE_GAP, identity_bytes, samples, write_model

JS = Path(__file__).parents[1] / "support" / "js"
TIMEOUT_S = 300
QUERY = np.array([0.9, 0.1, 0.0, 0.0], dtype=np.float32)  # as in client.js
N_POINTS = 20
N_DENSE_QUERIES = 6
"""Dense query vectors that client.js sends under the collection's own name."""


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("the JavaScript client needs node, which is not on the path")
    if not (JS / "node_modules").is_dir():
        pytest.skip("the JavaScript client is not installed; run npm ci in tests/support/js")
    return found


def work(node: str, url: str, api_key: str | None, collection: str) -> dict[str, Any]:
    """Run client.js against an address."""
    arguments = {"url": url, "apiKey": api_key, "collection": collection}
    run = subprocess.run(
        [node, "client.js", json.dumps(arguments | {"alias": f"{collection}-alias"})],
        cwd=JS,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answers: dict[str, Any] = json.loads(run.stdout)
    return answers


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    return {kind: unique_name(f"js-{kind}") for kind in ("identity", "linear")}


@pytest.fixture(scope="module")
def sidecar(
    qdrant: Server, names: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("js")
    (folder / "dense.onnx").write_bytes(identity_bytes(4))
    (folder / "tokens.onnx").write_bytes(identity_bytes(2))
    write_model(folder / "linear.onnx", dim_in=4, dim_out=4, seed=3)
    routes = [f"{names['identity']}/{vector}={folder / vector}.onnx" for vector in SAME]
    routes.append(f"{names['linear']}/dense={folder / 'linear.onnx'}")
    flags = [flag for route in routes for flag in ("--route", route)]
    with running_sidecar("--upstream-rest", qdrant.rest_url, *flags) as sidecar:
        yield sidecar


SAME = ("dense", "tokens")


def test_the_whole_work_ends_as_without_the_sidecar(
    node: str, qdrant: Server, sidecar: Sidecar, names: dict[str, str]
) -> None:
    name = names["identity"]
    direct = work(node, qdrant.rest_url, qdrant.api_key, name)
    assert work(node, sidecar.rest_url, qdrant.api_key, name) == direct
    numbers = samples(sidecar)
    assert numbers["trimtab_query_vectors_total", name, "adapted"] == N_DENSE_QUERIES
    assert numbers["trimtab_query_vectors_total", name, "id"] == 3
    assert numbers["trimtab_query_vectors_total", name, "multivector"] == 1


def test_the_ranking_is_that_of_the_adapted_query(
    node: str, qdrant: Server, sidecar: Sidecar, names: dict[str, str], tmp_path: Path
) -> None:
    adapter = write_model(tmp_path / "linear.onnx", dim_in=4, dim_out=4, seed=3)
    found = work(node, sidecar.rest_url, qdrant.api_key, names["linear"])["search"]
    rows = np.array(
        [[math.cos(i / 7), math.sin(i / 7), i / 20, 1 / (i + 1)] for i in range(N_POINTS)]
    )
    asked = adapter.transform(QUERY)
    scores = rows @ asked / np.linalg.norm(rows, axis=1) / np.linalg.norm(asked)
    order = np.argsort(-scores)[:10].tolist()
    assert [point["id"] for point in found["nearest"]] == order
    assert [point["score"] for point in found["nearest"]] == pytest.approx(
        scores[order].tolist(), abs=SCORE_GAP
    )
    assert found["byAlias"] == order
    assert order != np.argsort(-(rows @ QUERY) / np.linalg.norm(rows, axis=1))[:10].tolist()


def test_an_error_of_qdrant_comes_as_it_is(
    node: str, qdrant: Server, sidecar: Sidecar, names: dict[str, str]
) -> None:
    answers = work(node, sidecar.rest_url, qdrant.api_key, names["linear"])
    message = "Wrong input: Vector dimension error: expected dim: 4, got 2"
    assert answers["refuse"] == {"status": 400, "message": message}
