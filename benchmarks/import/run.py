"""What the runtime costs a process: import time, and memory with a 384-dim adapter in use."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.record import write_results
from trimtab_training.adapters import LinearAdapter
from trimtab_training.embeddings.store import EncoderInfo
from trimtab_training.export.onnx_export import describe_adapter, export_adapter

REPEATS = 15
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
    adapter.transform([0.05] * 384)
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
    adapter = LinearAdapter(384)
    encoder = EncoderInfo("bench", "sha256:bench", 384, normalised=True)
    content = export_adapter(
        adapter, describe_adapter(adapter, encoder, name="bench", similarity="cosine")
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.onnx"
        path.write_bytes(content)
        results = {
            "numpy and onnxruntime alone": probe("import numpy, onnxruntime"),
            "import trimtab": probe("import trimtab"),
            "adapter in use": probe(USE.format(path=str(path))),
        }
    for name, found in results.items():
        print(name, found)
    print(f"wrote {write_results(Path(__file__).parent, {'repeats': REPEATS, **results}).name}")


if __name__ == "__main__":
    main()
