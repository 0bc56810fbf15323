"""100,000 generated requests through the rewriting, each held against what was known when written.

The requests, and the checks that each must pass, are the property tests' own
(tests/support/qdrant_requests.py): as JSON byte for byte, as protobuf messages with unknown fields,
as the official client's models. An exception, a changed byte that should have stayed or a wrong
decision ends the run. Then, at 384 dims, the time of one rewriting against the plain way in the
same run: parse the whole request, transform, write it whole again.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import orjson
from qdrant_client import grpc
from rich.progress import track

from benchmarks.record import write_results
from tests.property.test_rewrite_grpc import MessageWriter, check_grpc, scatter_unknown_fields
from tests.property.test_rewrite_models import check_models
from tests.property.test_rewrite_rest import POLICIES, RIGS, check_rest
from tests.support.onnx_models import linear_adapter
from tests.support.qdrant_requests import RequestWriter
from trimtab import Policies, Routes
from trimtab.routing.adapt_grpc import adapt_grpc
from trimtab.routing.adapt_rest import adapt_rest

DIM, WARM_UP, ROUNDS = 384, 200, 3000
FORMS = ("rest", "grpc", "models")


def check_one(seed: int) -> tuple[str, Counter[str]]:
    """Write one request from its seed, in one of the three forms, and check its rewriting."""
    form = FORMS[seed % len(FORMS)]
    turn = seed // len(FORMS)
    rig = list(RIGS.values())[turn % len(RIGS)]
    policies = POLICIES[turn // len(RIGS) % len(POLICIES)]
    if form == "rest":
        writer = RequestWriter(seed)
        case = writer.legacy_case() if turn % 3 == 0 else writer.model_case()
        return form, check_rest(case, seed, rig, policies)
    if form == "models":
        return form, check_models(RequestWriter(seed).model_case(), rig, policies)
    messages = MessageWriter(seed)
    case = messages.message_case()
    if turn % 2:
        scatter_unknown_fields(case.request, messages)
    return form, check_grpc(case, rig, policies)


def check_all(n: int, first: int) -> dict[str, Any]:
    requests: Counter[str] = Counter()
    decisions: Counter[str] = Counter()
    started = time.monotonic()
    for seed in track(range(first, first + n), "checking"):
        form, seen = check_one(seed)
        requests[form] += 1
        decisions.update({str(reason): count for reason, count in seen.items()})
    return {
        "requests": dict(requests),
        "places_by_decision": dict(sorted(decisions.items())),
        "exceptions": 0,  # the first would have ended the run
        "wrong_bytes_or_decisions": 0,
        "seconds": round(time.monotonic() - started, 1),
    }


def contenders() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Give ours and the rival for each protocol, on an ordinary filtered query."""
    adapter = linear_adapter(dim_in=DIM, dim_out=DIM, normalised=True, use="relevance")
    routes, policies = Routes.of({"docs": adapter}).of_collection, Policies()
    vector = np.random.default_rng(0).standard_normal(DIM).astype(np.float32)
    condition = {"key": "lang", "match": {"value": "en"}}
    request = {"query": vector.tolist(), "limit": 10, "filter": {"must": [condition]}}
    body = orjson.dumps(request)
    dense = grpc.VectorInput(dense=grpc.DenseVector(data=vector.tolist()))
    message = grpc.QueryPoints(collection_name="docs", query=grpc.Query(nearest=dense), limit=10)
    content = message.SerializeToString()

    def plain_rest() -> bytes:
        read = orjson.loads(body)
        read["query"] = adapter.transform(read["query"])
        return orjson.dumps(read, option=orjson.OPT_SERIALIZE_NUMPY)

    def plain_grpc() -> bytes:
        read = grpc.QueryPoints.FromString(content)
        data = read.query.nearest.dense.data
        data[:] = adapter.transform(list(data)).tolist()
        return read.SerializeToString()

    path = "/collections/docs/points/query"
    return {
        "rest": (lambda: adapt_rest("POST", path, body, routes, policies), plain_rest),
        "grpc": (lambda: adapt_grpc("/qdrant.Points/Query", content, routes, policies), plain_grpc),
    }


def time_all() -> dict[str, Any]:
    results = {}
    for name, pair in contenders().items():
        taken: list[list[float]] = [[], []]
        for turn in range(WARM_UP + ROUNDS):
            for times, call in zip(taken, pair, strict=True):
                started = time.perf_counter_ns()
                call()
                if turn >= WARM_UP:
                    times.append((time.perf_counter_ns() - started) / 1000)
        ours, rival = taken
        results[name] = {
            **{f"p{at}_us": float(np.percentile(ours, at)) for at in (50, 95, 99)},
            "rival_p50_us": float(np.median(rival)),
            "ratio_p50": float(np.median(ours) / np.median(rival)),
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000, help="requests to check")
    parser.add_argument("--first", type=int, default=1_000_000, help="first seed")
    arguments = parser.parse_args()
    checked = check_all(arguments.n, arguments.first)
    times = time_all()
    settings = {"n": arguments.n, "first_seed": arguments.first, "dim": DIM, "rounds": ROUNDS}
    results = {"settings": settings, "checked": checked, "times": times}
    print(checked)
    for name, row in times.items():
        print(f"{name}: p50 {row['p50_us']:.0f} us, {row['ratio_p50']:.2f} x the plain way")
    print(f"made {write_results(Path(__file__).parent, results)}")


if __name__ == "__main__":
    main()
