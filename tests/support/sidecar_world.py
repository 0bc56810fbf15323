"""A small collection, adapters for it, and what the sidecar must therefore answer."""

import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from onnx import helper
from prometheus_client.parser import text_string_to_metric_families
from qdrant_client import QdrantClient, models

from tests.support.onnx_models import MANIFEST, graph_model, linear_bytes
from tests.support.sidecar import Sidecar
from trimtab.model.adapter import Adapter
from trimtab.routing.routes import MARK_HEADER

DIM, N_POINTS, DEPTH = 16, 80, 6
SCORE_GAP = 1e-5
"""Float32 sums of a few products, in another order, differ by less."""
_WAIT_S = 60
_LOOK_S = 0.02

Value = TypeVar("Value")

ROWS = np.random.default_rng(7).standard_normal((N_POINTS, 2, DIM)).astype(np.float32)
"""Vectors of every point: the unnamed one, and ``title``."""


def points() -> list[models.PointStruct]:
    return [
        models.PointStruct(
            id=number,
            vector={"": rows[0].tolist(), "title": rows[1].tolist()},
            payload={"group": number % 4, "story": f"topsecret story {number}"},
        )
        for number, rows in enumerate(ROWS)
    ]


def fill(client: QdrantClient, name: str, *aliases: str) -> None:
    """Make the collection, and give it other names."""
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    client.create_collection(name, vectors_config={"": params, "title": params})
    client.upsert(name, points(), wait=True)
    for alias in aliases:
        point_alias(client, alias, name)


def point_alias(client: QdrantClient, alias: str, collection: str) -> None:
    create = models.CreateAlias(collection_name=collection, alias_name=alias)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])


def query(seed: int = 0, dim: int = DIM) -> list[float]:
    """Draw a query vector whose values JSON and float32 both keep as they are."""
    drawn = np.random.default_rng(1000 + seed).standard_normal(dim)
    values: list[float] = drawn.astype(np.float32).tolist()
    return values


def write_model(path: Path, **settings: Any) -> Adapter:
    """Write a linear model, to a new file that takes the place of the old one."""
    settings = {"dim_in": DIM, "dim_out": DIM, "use": "relevance", **settings}
    content = linear_bytes(**settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)
    return Adapter.from_bytes(content)


def identity_bytes(dim: int) -> bytes:
    """A model that changes nothing."""
    node = helper.make_node("Identity", ["query"], ["adapted"])
    said = replace(MANIFEST, dim_in=dim, dim_out=dim, use="relevance")
    content: bytes = graph_model([node], [], said).SerializeToString()
    return content


def exact(
    vector: Any, *, name: str = "", limit: int = DEPTH, among: Any = None
) -> list[tuple[int, Any]]:
    """Search as Qdrant must, by cosine: ids and scores, best first."""
    asked = np.asarray(vector, dtype=np.float64)
    rows = ROWS[:, 1 if name else 0].astype(np.float64)
    scores = rows @ asked / np.linalg.norm(rows, axis=1) / np.linalg.norm(asked)
    order = [int(row) for row in np.argsort(-scores) if among is None or row in among]
    return [(row, close(scores[row])) for row in order[:limit]]


def close(score: float) -> Any:
    return pytest.approx(score, abs=SCORE_GAP)


def found(points: Any) -> list[tuple[int, float]]:
    """Ids and scores of an answer, whether models or JSON."""
    plain = [each if isinstance(each, dict) else vars(each) for each in points]
    return [(each["id"], each["score"]) for each in plain]


def new_client(base_url: str = "", **more: Any) -> httpx.Client:
    """Make a client for plain HTTP; httpx's own default reads all authorities, each time."""
    return httpx.Client(base_url=base_url, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **more)


def ask(method: str, url: str, **more: Any) -> httpx.Response:
    """Send one request over a connection of its own."""
    with new_client() as client:
        return client.request(method, url, **more)


def search(client: httpx.Client, name: str, vector: Any, **more: Any) -> httpx.Response:
    """Ask over REST, without a client library."""
    body = {"query": list(vector), "limit": DEPTH, **more}
    return client.post(f"/collections/{name}/points/query", json=body)


def hits(response: httpx.Response) -> list[tuple[int, float]]:
    assert response.status_code == 200, response.text
    return found(response.json()["result"]["points"])


def mark_of(response: httpx.Response) -> str:
    """The mark of an answer; empty for one that was not adapted."""
    return str(response.headers.get(MARK_HEADER, ""))


def samples(sidecar: Sidecar, token: str | None = None) -> dict[tuple[str, ...], float]:
    """All metrics, each under its name and the values of its labels in order of their names."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    text = ask("GET", f"{sidecar.admin_url}/metrics", headers=headers).raise_for_status().text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def eventually(look: Callable[[], Value], *, is_right: Callable[[Value], bool] = bool) -> Value:
    """Look until it is right; for what happens beside the answers."""
    deadline = time.monotonic() + _WAIT_S
    while not is_right(seen := look()):
        assert time.monotonic() < deadline, f"still {seen!r}"
        time.sleep(_LOOK_S)
    return seen
