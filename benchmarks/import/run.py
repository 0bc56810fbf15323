"""What the runtime costs a process: import time, and memory with an adapter in use.

The adapters have the sizes that ``trimtab fit`` makes without knobs, their linear part at the lower
rank that it tries; linear ones stand beside them.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.record import write_results
from benchmarks.served_models import default_adapter, exported, linear_adapter, low_rank

WORKER = "trimtab.server.process.worker"
DIMS, REPEATS = (384, 768, 1536, 3072), 15
PROBE = """
import json, sys, time
started = time.perf_counter()
{what}
seconds = time.perf_counter() - started
heavy = sorted({{"torch", "faiss", "qdrant_client", "grpc", "onnx"}} & set(sys.modules))
status = open('/proc/self/status').read()
peak = int(status.split('VmHWM:')[1].split()[0]) / 1024
print(json.dumps({{"seconds": seconds, "peak_mb": peak, "heavy": heavy}}))
"""
USE = """
from trimtab import Adapter
adapter = Adapter.load({path!r})
for _ in range(1000):
    adapter.transform([0.05] * {dim})
"""


def probe(what: str) -> dict[str, object]:
    runs = []
    for _ in range(REPEATS + 1):
        done = subprocess.run(
            [sys.executable, "-c", PROBE.format(what=what)],
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append(json.loads(done.stdout))
    runs = runs[1:]  # the first one reads the files from disk
    return {
        "seconds_median": round(statistics.median(run["seconds"] for run in runs), 3),
        "seconds_max": round(max(run["seconds"] for run in runs), 3),
        "peak_mb": round(max(run["peak_mb"] for run in runs), 1),
        "heavy_packages_loaded": runs[0]["heavy"],
    }


def main() -> None:
    results = {
        "numpy and onnxruntime alone": probe("import numpy, onnxruntime"),
        "import trimtab": probe("import trimtab"),
        "what a sidecar imports": probe(f"import {WORKER}"),
        "what a sidecar imports, gRPC too": probe(f"import {WORKER}, trimtab.server.grpc.service"),
        "qdrant_client.grpc alone": probe("import qdrant_client.grpc"),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.onnx"
        for dim in DIMS:
            adapters = {
                "what a default fit makes": default_adapter(dim, low_rank(dim)),
                "a linear adapter": linear_adapter(dim),
            }
            for name, adapter in adapters.items():
                path.write_bytes(exported(adapter))
                results[f"{name} in use, {dim} dims"] = probe(USE.format(path=str(path), dim=dim))
    for name, found in results.items():
        print(name, found)
    print(f"wrote {write_results(Path(__file__).parent, {'repeats': REPEATS, **results}).name}")


if __name__ == "__main__":
    main()
