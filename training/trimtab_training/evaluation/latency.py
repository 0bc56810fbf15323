"""What one transform costs on this machine, beside the least that its weights allow."""

import os
import platform
import time
from collections.abc import Callable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Transform = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_WARM_UP = 20
_MAX_CALLS = 2000
_MAX_SECONDS = 0.3
_BATCH = 256
_CALLS_BETWEEN_LOOKS = 10


class Times(Struct, frozen=True, kw_only=True):
    """Median and 99th percentile, in microseconds."""

    p50: float
    p99: float


class Batch(Struct, frozen=True, kw_only=True):
    """Queries a second in batches of a size."""

    size: int
    queries_per_s: int


class Machine(Struct, frozen=True, kw_only=True):
    """Where times were taken."""

    processor: str
    cores: int | None
    system: str


class Latency(Struct, frozen=True, kw_only=True):
    """What one transform costs, beside numpy's product of a matrix of these widths."""

    dim_in: int
    dim_out: int
    n_calls: int
    transform_us: Times
    numpy_matvec_us: Times
    batch: Batch
    machine: Machine


def measure_latency(transform: Transform, queries: NDArray[np.float32], dim_out: int) -> Latency:
    """Time single queries and batches.

    Each call is timed alone, in turn with numpy's product of a matrix of the same widths and the
    query, so that both meet the same machine. Takes under a second.

    Args:
        transform: Adapts a query of shape ``(dim_in,)`` or a batch ``(n, dim_in)``.
        queries: Queries to use, float32, shape ``(n, dim_in)``, at least one.
        dim_out: Values in an adapted query.
    """
    ours, theirs = _time_calls(transform, queries, dim_out)
    return Latency(
        dim_in=queries.shape[1],
        dim_out=dim_out,
        n_calls=len(ours),
        transform_us=_quantiles(ours),
        numpy_matvec_us=_quantiles(theirs),
        batch=Batch(size=_BATCH, queries_per_s=_throughput(transform, queries)),
        machine=Machine(
            processor=_processor(),
            cores=os.cpu_count(),
            system=f"{platform.system()} {platform.machine()}",
        ),
    )


def measure_calls(transform: Transform, queries: NDArray[np.float32], dim_out: int) -> Times:
    """Time single queries alone, as :func:`measure_latency` does."""
    return _quantiles(_time_calls(transform, queries, dim_out)[0])


def _time_calls(
    transform: Transform, queries: NDArray[np.float32], dim_out: int
) -> tuple[list[int], list[int]]:
    """Time single queries, and numpy's product of a matrix and each; nanoseconds."""
    shape = dim_out, queries.shape[1]
    matrix = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    rows = [np.ascontiguousarray(row) for row in queries[:_BATCH]]
    for _ in range(_WARM_UP):
        transform(rows[0])
        matrix @ rows[0]
    return _time_in_turn(transform, matrix.__matmul__, rows)


def _time_in_turn(
    one: Transform, other: Transform, rows: list[NDArray[np.float32]]
) -> tuple[list[int], list[int]]:
    """Time two functions on the same queries, one call of each at a time; nanoseconds."""
    clock = time.perf_counter_ns
    ones: list[int] = []
    others: list[int] = []
    end = clock() + int(_MAX_SECONDS * 1e9)
    for call in range(_MAX_CALLS):
        row = rows[call % len(rows)]
        start = clock()
        one(row)
        between = clock()
        other(row)
        ones.append(between - start)
        others.append(clock() - between)
        if call % _CALLS_BETWEEN_LOOKS == 0 and clock() > end:
            break
    return ones, others


def _throughput(transform: Transform, queries: NDArray[np.float32]) -> int:
    """Count the queries that batches get through in a second."""
    batch = np.ascontiguousarray(np.resize(queries, (_BATCH, queries.shape[1])))
    transform(batch)
    n_batches, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < _MAX_SECONDS / 2 or n_batches == 0:
        transform(batch)
        n_batches += 1
    return round(n_batches * _BATCH / taken) if taken else 0


def _quantiles(nanoseconds: list[int]) -> Times:
    """Median and 99th percentile in microseconds."""
    p50, p99 = np.quantile(nanoseconds, [0.5, 0.99]) / 1000
    return Times(p50=round(float(p50), 2), p99=round(float(p99), 2))


def _processor() -> str:
    """Name the processor as the system does."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - not a user's file
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
