"""One adapter, many threads: nobody ever gets another's answer."""

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tests.support.onnx_models import linear_adapter, queries_of

N_THREADS = 8
N_ROUNDS = 300


def at_once(work: Callable[[int], None]) -> None:
    """Start the same work in every thread at the same moment, and let errors out."""
    start = threading.Barrier(N_THREADS)

    def run(number: int) -> None:
        start.wait(timeout=30)
        work(number)

    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(run, range(N_THREADS)))


def test_threads_get_the_answers_to_their_own_queries() -> None:
    adapter = linear_adapter()
    queries = queries_of(N_THREADS * N_ROUNDS)
    serial = np.stack([adapter.transform(query) for query in queries])
    found = np.zeros_like(serial)

    def work(number: int) -> None:
        for row in range(number, len(queries), N_THREADS):
            found[row] = adapter.transform(queries[row])

    at_once(work)
    assert np.array_equal(found, serial)


def test_threads_may_mix_rows_and_batches() -> None:
    adapter = linear_adapter(normalised=True)
    queries = queries_of(64)
    serial = adapter.transform(queries)

    def work(number: int) -> None:
        for start in range(N_ROUNDS // 4):
            rows = np.arange(start, start + 1 + number % 3) % len(queries)
            adapted = adapter.transform(queries[rows])
            assert np.abs(adapted - serial[rows]).max() < 1e-5

    at_once(work)


def test_threads_keep_answers_while_others_go_on() -> None:
    adapter = linear_adapter()
    queries = queries_of(N_THREADS)
    serial = np.stack([adapter.transform(query) for query in queries])

    def work(number: int) -> None:
        kept = [adapter.transform(queries[number]) for _ in range(N_ROUNDS)]
        assert all(np.array_equal(answer, serial[number]) for answer in kept)

    at_once(work)


def test_two_adapters_in_one_thread_do_not_share_a_row() -> None:
    first, second = linear_adapter(seed=1), linear_adapter(seed=2)
    query = queries_of(1)[0]
    wanted = first.transform(query), second.transform(query)
    assert not np.allclose(*wanted)
    assert np.array_equal(first.transform(query), wanted[0])
    assert np.array_equal(second.transform(query), wanted[1])


def test_adapter_is_freed_with_its_last_reference() -> None:
    """A reload swaps adapters for as long as the process lives."""
    adapter = linear_adapter()
    adapter.transform(queries_of(1)[0])
    gone = weakref.ref(adapter)
    del adapter
    gc.collect()
    assert gone() is None
