"""Latency: what is timed, never how long it took."""

import numpy as np

from trimtab_training.evaluation.latency import measure_latency


def test_single_queries_and_batches_are_timed() -> None:
    shapes: set[tuple[int, ...]] = set()

    def transform(queries: np.ndarray) -> np.ndarray:
        shapes.add(queries.shape)
        return queries

    queries = np.ones((3, 8), dtype=np.float32)
    record = measure_latency(transform, queries, 8)
    assert shapes == {(8,), (256, 8)}
    assert record.n_calls >= 1
    assert record.batch.size == 256
    assert record.batch.queries_per_s > 0


def test_quantiles_are_in_order_for_both() -> None:
    record = measure_latency(lambda row: row, np.ones((1, 4), dtype=np.float32), 6)
    for times in (record.transform_us, record.numpy_matvec_us):
        assert 0 <= times.p50 <= times.p99
    assert (record.dim_in, record.dim_out) == (4, 6)
    assert record.machine.cores >= 1
