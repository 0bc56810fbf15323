"""The official JavaScript client does its whole work against our Qdrant server.

Set up once with ``npm ci`` in tests/support/js; without node or that, these tests skip.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.qdrant.fixtures import qdrant, unique_name  # noqa: F401

JS = Path(__file__).parents[1] / "support" / "js"
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def answers(qdrant) -> dict[str, Any]:  # noqa: F811
    node = shutil.which("node")
    if node is None:
        pytest.skip("the JavaScript client needs node, which is not on the path")
    if not (JS / "node_modules").is_dir():
        pytest.skip("the JavaScript client is not installed; run npm ci in tests/support/js")
    arguments = {
        "url": qdrant.rest_url,
        "apiKey": qdrant.api_key,
        "collection": unique_name("js"),
        "alias": unique_name("js-alias"),
    }
    run = subprocess.run(
        [node, "client.js", json.dumps(arguments)],
        cwd=JS,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if qdrant.process is not None:
        assert run.stderr == ""  # such as a warning that client and server don't fit
    return json.loads(run.stdout)


def test_prepares(answers):
    assert answers["prepare"] == {"created": True, "upserted": "completed"}


def test_searches(answers):
    found = answers["search"]
    nearest = found["nearest"]
    scores = [point["score"] for point in nearest]
    order = [point["id"] for point in nearest]
    assert scores == sorted(scores, reverse=True)
    assert nearest[0]["payload"] == {"title": f"document {order[0]}"}
    assert found["byAlias"] == order
    assert 3 not in found["byId"]
    assert len(found["byId"]) == 4
    assert {point_id % 4 for point_id in found["filtered"]} == {2}
    assert found["tokens"] == [19, 18]
    assert not {1, 15} & set(found["recommended"])
    assert found["hybrid"] == 3
    assert found["batch"] == [10, 3]
    assert found["groups"][0] == [order[0] % 4, [i for i in order if i % 4 == order[0] % 4][:2]]
    assert found["pairs"] == 40


def test_reads(answers):
    assert answers["read"] == {
        "version": "qdrant - vector search engine",
        "exists": True,
        "page": [5, 6, 7, 8, 9],
        "next": 10,
        "count": 20,
        "facet": [{"value": shelf, "count": 5} for shelf in range(4)],
        "info": 20,
    }


def test_writes(answers):
    assert answers["write"] == {
        "payload": {"title": "document 1", "seen": True},
        "vector": [0, 0, 0, 1],
        "names": ["dense", "tokens"],
        "left": 18,
    }


def test_is_refused(answers):
    message = "Wrong input: Vector dimension error: expected dim: 4, got 2"
    assert answers["refuse"] == {"status": 400, "message": message}
