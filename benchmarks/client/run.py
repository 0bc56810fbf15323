"""What the adapted Qdrant client adds to one query, against the same client unwrapped.

With linear adapters, and with models of the sizes that ``trimtab fit`` makes without knobs, their
linear part at the lower rank that it tries. Calls take turns, one plain and one adapted, in one
process and over one connection, so whatever else the machine does hits both. ``added`` is the
median of the paired differences. The server is Qdrant's engine (`qdrant-edge-py`) behind the tests'
front, in its own process; it is not the Qdrant server, and its time cancels out.
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
from benchmarks.served_models import default_adapter, exported, linear_adapter, low_rank
from tests.support.qdrant.process import running_server
from trimtab import AdaptedQdrantClient, Adapter

DIMS, N_POINTS, LIMIT, SEED = (384, 768, 1536, 3072), 500, 10, 0
WARM_UP, PAIRS = 100, 1000


def fill(client: QdrantClient, dim: int) -> str:
    name = f"docs-{dim}"
    rows = np.random.default_rng(SEED).standard_normal((N_POINTS, dim)).astype(np.float32)
    client.create_collection(
        name, vectors_config=models.VectorParams(size=dim, distance=models.Distance.COSINE)
    )
    points = [models.PointStruct(id=n, vector=row.tolist()) for n, row in enumerate(rows)]
    for start in range(0, N_POINTS, 100):
        client.upsert(name, points[start : start + 100])
    return name


def adapters(dim: int) -> dict[str, Adapter]:
    return {
        "linear": Adapter.from_bytes(exported(linear_adapter(dim))),
        "default fit": Adapter.from_bytes(exported(default_adapter(dim, low_rank(dim)))),
    }


def measure(
    plain: QdrantClient, name: str, adapter: Adapter, *, lists: bool = False
) -> dict[str, Any]:
    adapted = AdaptedQdrantClient(plain, {name: adapter})
    rng = np.random.default_rng(SEED)
    queries = rng.standard_normal((64, adapter.dim_in)).astype(np.float32)
    check = queries[0]
    want = plain.query_points(name, query=adapter.transform(check), limit=LIMIT).points
    found = adapted.query_points(name, query=check, limit=LIMIT).points
    scores = [[point.score for point in points] for points in (found, want)]
    if [point.id for point in found] != [point.id for point in want] or not np.allclose(*scores):
        raise SystemExit("the adapted client finds something else than the adapter's query")
    times: dict[str, list[float]] = {"plain": [], "adapted": []}
    for turn in range(WARM_UP + PAIRS):
        query = queries[turn % len(queries)]
        query = query.tolist() if lists else query
        pair = [("plain", plain), ("adapted", adapted)]
        for who, client in pair if turn % 2 else reversed(pair):
            took = clock(lambda client=client, query=query: ask(client, name, query))
            if turn >= WARM_UP:
                times[who].append(took)
    added = np.array(times["adapted"]) - np.array(times["plain"])
    return {
        "added_p50_us": float(np.median(added)),
        "ratio_p50": float(np.median(times["adapted"]) / np.median(times["plain"])),
        **{
            f"{who}_{label}_us": float(np.percentile(taken, at))
            for who, taken in times.items()
            for label, at in (("p50", 50), ("p95", 95), ("p99", 99))
        },
    }


def ask(client: QdrantClient, name: str, query: Any) -> None:
    client.query_points(name, query=query, limit=LIMIT, with_payload=False)


def clock(call: Callable[[], object]) -> float:
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / 1000


def main() -> None:
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    local = QdrantClient(":memory:")
    with running_server() as server:
        keep_alive = httpx.Limits(max_keepalive_connections=4)  # off for 127.0.0.1 unless said
        rest = QdrantClient(url=server.rest_url, limits=keep_alive)
        grpc = QdrantClient(
            host=server.host, port=server.rest_port, grpc_port=server.grpc_port, prefer_grpc=True
        )
        for dim in DIMS:
            name = fill(local, dim)
            fill(rest, dim)
            for kind, adapter in adapters(dim).items():
                cell = cells.setdefault(str(dim), {})[kind] = {
                    "memory": measure(local, name, adapter),
                    "memory, lists": measure(local, name, adapter, lists=True),
                    "rest": measure(rest, name, adapter),
                    "grpc": measure(grpc, name, adapter),
                }
                for mode, row in cell.items():
                    plain, added = row["plain_p50_us"], row["added_p50_us"]
                    print(
                        f"{dim:5} {kind:12} {mode:14} plain {plain:7.0f} us, added {added:5.0f} us",
                        flush=True,
                    )
    settings = {"points": N_POINTS, "limit": LIMIT, "pairs": PAIRS, "seed": SEED}
    print(f"made {write_results(Path(__file__).parent, {'settings': settings, 'dims': cells})}")


if __name__ == "__main__":
    main()
