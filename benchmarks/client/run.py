"""What the adapted Qdrant client adds to one query, against the same client unwrapped.

Calls take turns, one plain and one adapted, in one process and over one connection, so whatever
else the machine does hits both. ``added`` is the median of the paired differences. The server is
Qdrant's engine (`qdrant-edge-py`) behind the tests' front, in its own process; it is not the Qdrant
server, and its time cancels out.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import httpx
import numpy as np
from qdrant_client import QdrantClient, models

from benchmarks.record import write_results
from tests.support.onnx_models import linear_adapter
from tests.support.qdrant.process import running_server
from trimtab import AdaptedQdrantClient

DIM, N_POINTS, LIMIT, SEED = 384, 1000, 10, 0
WARM_UP, PAIRS = 200, 3000


def fill(client: QdrantClient) -> None:
    rows = np.random.default_rng(SEED).standard_normal((N_POINTS, DIM)).astype(np.float32)
    client.create_collection(
        "docs", vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    )
    client.upsert(
        "docs",
        [models.PointStruct(id=number, vector=row.tolist()) for number, row in enumerate(rows)],
    )


def measure(plain: QdrantClient, *, lists: bool = False) -> dict[str, Any]:
    adapter = linear_adapter(dim_in=DIM, dim_out=DIM, normalised=True, use="relevance")
    adapted = AdaptedQdrantClient(plain, {"docs": adapter})
    rng = np.random.default_rng(SEED)
    queries = rng.standard_normal((64, DIM)).astype(np.float32)
    check = queries[0]
    want = plain.query_points("docs", query=adapter.transform(check), limit=LIMIT).points
    if adapted.query_points("docs", query=check, limit=LIMIT).points != want:
        raise SystemExit("the adapted client finds something else than the adapter's query")
    times: dict[str, list[float]] = {"plain": [], "adapted": []}
    for turn in range(WARM_UP + PAIRS):
        query = queries[turn % len(queries)]
        query = query.tolist() if lists else query
        pair = [("plain", plain), ("adapted", adapted)]
        for name, client in pair if turn % 2 else reversed(pair):
            took = clock(lambda client=client, query=query: ask(client, query))
            if turn >= WARM_UP:
                times[name].append(took)
    added = np.array(times["adapted"]) - np.array(times["plain"])
    return {
        "added_p50_us": float(np.median(added)),
        "ratio_p50": float(np.median(times["adapted"]) / np.median(times["plain"])),
        **{
            f"{name}_{label}_us": float(np.percentile(taken, at))
            for name, taken in times.items()
            for label, at in (("p50", 50), ("p95", 95), ("p99", 99))
        },
    }


def ask(client: QdrantClient, query: Any) -> None:
    client.query_points("docs", query=query, limit=LIMIT, with_payload=False)


def clock(call: Callable[[], object]) -> float:
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / 1000


def main() -> None:
    results = {}
    local = QdrantClient(":memory:")
    fill(local)
    results["memory"] = measure(local)
    results["memory, lists"] = measure(local, lists=True)
    with running_server() as server:
        keep_alive = httpx.Limits(max_keepalive_connections=4)  # off for 127.0.0.1 unless said
        rest = QdrantClient(url=server.rest_url, limits=keep_alive)
        fill(rest)
        results["rest"] = measure(rest)
        grpc = QdrantClient(
            host=server.host, port=server.rest_port, grpc_port=server.grpc_port, prefer_grpc=True
        )
        results["grpc"] = measure(grpc)
    for name, row in results.items():
        print(f"{name:14} plain {row['plain_p50_us']:7.0f} us, added {row['added_p50_us']:5.0f} us")
    settings = {"dim": DIM, "points": N_POINTS, "limit": LIMIT, "pairs": PAIRS, "seed": SEED}
    print(f"made {write_results(Path(__file__).parent, {'settings': settings, 'modes': results})}")


if __name__ == "__main__":
    main()
