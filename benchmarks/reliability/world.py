"""What the soak asks, and all that it may be answered.

Three collections: ``docs``, whose route is on; ``trial``, whose route is a canary; ``log``, which
has no route and is written to. For every prepared request the answers with the raw query, with
adapter a and with adapter b are asked of the upstream itself beforehand, and told apart.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from qdrant_client import grpc as messages
from qdrant_client import models
from qdrant_client.conversions.conversion import RestToGrpc

from tests.support.onnx_models import linear_bytes
from tests.support.qdrant.process import Server
from tests.support.raw_http import connect, request_bytes
from tests.support.raw_upstream import JSON_LINE
from trimtab.model.adapter import Adapter

DIM, N_POINTS, LIMIT = 64, 400, 10
RAW = "raw"
TOLERANCE = 1e-5
"""Two ways of writing the same float32 query differ by less in a score."""

Vector = list[float]
Transform = Callable[[Vector], Vector]
Hits = list[tuple[int, float]]


@dataclass(frozen=True)
class Prepared:
    """One request and what it may be answered.

    Attributes:
        kind: For the counts.
        data: The bytes to send over REST.
        method: The method of the service ``Points`` that asks the same over gRPC.
        message: What is sent to it.
        parts: For each query in it, its answer by adapter name (and :data:`RAW`).
        is_canary: True where each query may be left as it is.
        fixed: The whole ``result`` of a request that holds no query; over gRPC its bytes.
    """

    kind: str
    data: bytes
    method: str
    message: bytes
    parts: tuple[dict[str, Hits], ...] = ()
    is_canary: bool = False
    fixed: Any = None


class World:
    """Collections in an upstream, two adapters and prepared requests."""

    def __init__(
        self, upstream: Server, folder: Path, *, protocol: str = "rest", seed: int = 0
    ) -> None:
        """Fill the collections and ask for every answer."""
        self._port, self._grpc_port = upstream.rest_port, upstream.grpc_port
        self._protocol = protocol
        self._rng = np.random.default_rng(seed)
        self.models = {
            name: linear_bytes(
                dim_in=DIM, dim_out=DIM, normalised=True, use="relevance", seed=number, name=name
            )
            for number, name in enumerate("ab")
        }
        self.adapters = {name: Adapter.from_bytes(model) for name, model in self.models.items()}
        self.model_path = folder / "adapter.onnx"
        self.points = self._fill()
        self.requests = self._prepare()

    def put_model(self, name: str) -> None:
        """Put a model in the route's place, whole at once."""
        partial = self.model_path.with_suffix(".partial")
        partial.write_bytes(self.models[name])
        partial.replace(self.model_path)

    def ask(self, method: str, path: str, body: Any) -> Any:
        """Ask the upstream itself."""
        with connect(("127.0.0.1", self._port)) as wire:
            answer = wire.ask(request_bytes(method, path, json.dumps(body).encode(), JSON_LINE))
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.start}: {answer.body[:200]!r}")
        return json.loads(answer.body)["result"]

    def stored(self, collection: str) -> list[Any]:
        """Give the points of a collection as they are now, by id."""
        body = {"limit": 10 * N_POINTS, "with_vector": True}
        points: list[Any] = self.ask("POST", f"/collections/{collection}/points/scroll", body)[
            "points"
        ]
        return sorted(points, key=lambda point: point["id"])

    def log_request(self, number: int) -> Prepared:
        """Write one point to ``log``."""
        point = {"id": number, "vector": [1.0] * DIM, "payload": {"n": number}}
        return self._upsert("log", "log", [point])

    def _fill(self) -> list[dict[str, Any]]:
        rows = self._rng.standard_normal((N_POINTS, DIM)).astype(np.float32)
        points = [
            {"id": number, "vector": row.tolist(), "payload": {"n": number}}
            for number, row in enumerate(rows)
        ]
        for name in ("docs", "trial", "log"):
            self.ask(
                "PUT", f"/collections/{name}", {"vectors": {"size": DIM, "distance": "Cosine"}}
            )
        for name in ("docs", "trial"):
            self.ask("PUT", f"/collections/{name}/points?wait=true", {"points": points})
        return points

    def _prepare(self) -> list[Prepared]:
        requests: list[Prepared] = []
        for number in range(40):
            queries = self._rng.standard_normal((4, DIM)).astype(np.float32).tolist()
            requests += [
                self._queried("query", "docs", [queries[0]]),
                self._queried("query", "docs", [queries[1]]),
                self._queried("prefetch", "docs", [queries[2]], inner=queries[3]),
                self._queried("canary", "trial", [queries[3]]),
                self._queried("batch", "docs", queries),
                self._queried("canary batch", "trial", queries),
                self._read("scroll", f"/collections/docs/points/scroll?n={number}", number),
                self._rewritten(number),
            ]
        return requests

    def _queried(
        self,
        kind: str,
        collection: str,
        queries: Sequence[Vector],
        *,
        inner: Vector | None = None,
    ) -> Prepared:
        def body_of(transform: Transform) -> dict[str, Any]:
            searches = []
            for query in queries:
                search: dict[str, Any] = {"query": transform(query), "limit": LIMIT}
                if inner is not None:
                    search["prefetch"] = [{"query": transform(inner), "limit": 5 * LIMIT}]
                searches.append(search)
            return {"searches": searches}

        base = f"/collections/{collection}/points/query"
        answers = {RAW: self._hits(base, body_of(lambda query: query))}
        for name, adapter in self.adapters.items():
            answers[name] = self._hits(
                base, body_of(lambda query, on=adapter: on.transform(np.float32(query)).tolist())
            )
        parts = tuple(
            {name: hits[at] for name, hits in answers.items()} for at in range(len(queries))
        )
        for part in parts:
            if any(same(part[one], part[two]) for one, two in (("a", "b"), (RAW, "a"), (RAW, "b"))):
                raise RuntimeError("two adapters give one answer; the soak could not tell them")
        body = body_of(lambda query: query)
        is_batch = len(queries) > 1
        data = json.dumps(body if is_batch else body["searches"][0]).encode()
        path = f"{base}/batch" if is_batch else base
        sent = request_bytes("POST", path, data, JSON_LINE)
        asked = [_message(collection, search) for search in body["searches"]]
        many = messages.QueryBatchPoints(collection_name=collection, query_points=asked)
        method, message = ("QueryBatch", many) if is_batch else ("Query", asked[0])
        return Prepared(
            kind,
            sent,
            method,
            message.SerializeToString(),
            parts,
            is_canary=collection == "trial",
        )

    def _hits(self, base: str, body: dict[str, Any]) -> list[Hits]:
        return [hits_of(each) for each in self.ask("POST", f"{base}/batch", body)]

    def _read(self, kind: str, path: str, number: int) -> Prepared:
        body = {"limit": 5, "offset": number, "with_vector": True}
        fixed = self.ask("POST", path, body)
        data = request_bytes("POST", path, json.dumps(body).encode(), JSON_LINE)
        asked = messages.ScrollPoints(
            collection_name="docs",
            limit=5,
            offset=messages.PointId(num=number),
            with_vectors=messages.WithVectorsSelector(enable=True),
        )
        content = asked.SerializeToString()
        if self._protocol == "grpc":
            fixed = self._ask_grpc(content)
        return Prepared(kind, data, "Scroll", content, fixed=fixed)

    def _ask_grpc(self, content: bytes) -> bytes:
        """Ask the upstream itself to scroll; give its answer without the time."""
        with grpc.insecure_channel(f"127.0.0.1:{self._grpc_port}") as channel:
            said = channel.unary_unary("/qdrant.Points/Scroll")(content, timeout=30)
        answer = messages.ScrollResponse.FromString(said)
        answer.ClearField("time")
        return answer.SerializeToString(deterministic=True)

    def _rewritten(self, number: int) -> Prepared:
        """Write points of ``docs`` as they are: an adapted one would be seen afterwards."""
        return self._upsert("upsert", "docs", self.points[number::40])

    def _upsert(self, kind: str, collection: str, points: list[dict[str, Any]]) -> Prepared:
        path = f"/collections/{collection}/points?wait=true"
        body = json.dumps({"points": points}).encode()
        written = [RestToGrpc.convert_point_struct(models.PointStruct(**each)) for each in points]
        message = messages.UpsertPoints(collection_name=collection, wait=True, points=written)
        sent = request_bytes("PUT", path, body, JSON_LINE)
        return Prepared(kind, sent, "Upsert", message.SerializeToString())


def _message(collection: str, search: dict[str, Any]) -> Any:
    """Write one search of the REST form as a message."""
    request = models.QueryRequest(**search)
    return RestToGrpc.convert_query_request(request, collection)


def hits_of(result: Any) -> Hits:
    """Read the ids and scores of one query's result."""
    return [(point["id"], point["score"]) for point in result["points"]]


def same(one: Hits, two: Hits) -> bool:
    """Tell whether two answers are the same but for how their query was written."""
    return [each[0] for each in one] == [each[0] for each in two] and all(
        abs(first[1] - second[1]) < TOLERANCE for first, second in zip(one, two, strict=True)
    )
