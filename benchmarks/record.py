"""What every result carries: the machine, the versions, the commit; and how it is written."""

import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("numpy", "onnxruntime", "torch", "faiss-cpu", "onnx")


def environment() -> dict[str, Any]:
    """Describe where a benchmark ran."""
    return {
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in PACKAGES},
        "commit": commit_of(ROOT),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", "sidecar", "training")),
        "date": datetime.now(UTC).date().isoformat(),
    }


def write_results(folder: Path, results: dict[str, Any], name: str = "results.json") -> Path:
    """Write ``results.json``, or another name, beside a benchmark's script."""
    path = folder / name
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({**environment(), **results}, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def run_measured(command: list[str], **options: Any) -> tuple[float, float]:
    """Run a command that must succeed; give its seconds and its peak resident set in GB.

    The peak is the kernel's high-water mark of the process (VmHWM), mapped files included. Options
    are those of :class:`subprocess.Popen`.
    """
    started = time.monotonic()
    running = subprocess.Popen(command, **options)
    peak_kb = 0
    while running.poll() is None:
        peak_kb = max(peak_kb, high_water_kb(running.pid))
        time.sleep(0.1)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command)
    return time.monotonic() - started, peak_kb / 1024**2


def high_water_kb(pid: int | str) -> int:
    """Read a process's peak resident set; 0 once it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def commit_of(checkout: Path) -> str:
    """Name the commit that a checkout stands at."""
    return _git("-C", str(checkout), "rev-parse", "HEAD")


def _processor() -> str:
    """Name the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _git(*words: str) -> str:
    """Ask git."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
