"""Watches the resident memory of a process and its children."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

INTERVAL_S = 0.5


class MemoryWatch:
    """Samples resident memory until it is stopped."""

    def __init__(self, pid: int) -> None:
        """Take the process that all others descend from."""
        self._pid = pid
        self._samples: list[tuple[float, float]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "MemoryWatch":
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._is_over.set()
        self._thread.join()

    def report(self, warm_up: float = 0.3) -> dict[str, Any]:
        """Fit a line to what came after the warm-up (a share of the time) and to the last half."""
        samples = np.array(self._samples)
        times, sizes = samples[:, 0] - samples[0, 0], samples[:, 1]
        steady, late = times >= warm_up * times[-1], times >= 0.5 * times[-1]
        slope, spread = _slope(times[steady], sizes[steady])
        return {
            "slope_mb_per_hour": slope,
            "slope_standard_error": spread,
            "slope_of_last_half_mb_per_hour": _slope(times[late], sizes[late])[0],
            "n_samples": int(steady.sum()),
            "warm_up_s": round(warm_up * float(times[-1]), 1),
            "start_mb": round(float(sizes[0]), 1),
            "after_warm_up_mb": round(float(sizes[steady][0]), 1),
            "end_mb": round(float(sizes[-1]), 1),
            "peak_mb": round(float(sizes.max()), 1),
            "by_tenths_mb": [
                round(float(np.median(each)), 2) for each in np.array_split(sizes, 10)
            ],
        }

    def _watch(self) -> None:
        while not self._is_over.wait(INTERVAL_S):
            self._samples.append((time.monotonic(), resident_mb(self._pid)))


def _slope(times_s: np.ndarray, sizes_mb: np.ndarray) -> tuple[float, float]:
    """Give the slope of the least-squares line, in MB per hour, and its standard error."""
    hours = times_s / 3600
    slope, base = np.polyfit(hours, sizes_mb, 1)
    rest = ((sizes_mb - slope * hours - base) ** 2).sum() / max(1, len(hours) - 2)
    spread = np.sqrt(rest / ((hours - hours.mean()) ** 2).sum())
    return round(float(slope), 2), round(float(spread), 2)


def children_of(pid: int) -> list[int]:
    """Give the processes that a process has started and that live; none once it is gone."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return [int(child) for child in text.split()]


def resident_mb(pid: int) -> float:
    """Add up a process and its descendants; 0 for one that has gone."""
    own = Path(f"/proc/{pid}")
    try:
        lines = (own / "status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    size_kb = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return size_kb / 1024 + sum(map(resident_mb, children_of(pid)))
