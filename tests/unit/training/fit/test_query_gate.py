"""The gate of a default fit: open to queries like the training queries, shut to strangers."""

from pathlib import Path

import numpy as np
import torch

from tests.support.sets import write_embeddings
from trimtab_training.adapters import ComposedAdapter, Gate
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.fit.query_gate import MIN_GATED, find_gate

DIM, SPREAD = 16, 0.1


def queries_around(centre: int, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = SPREAD * rng.standard_normal((count, DIM)) + np.eye(DIM)[centre]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def gate_of(folder: Path, queries: np.ndarray) -> Gate | None:
    write_embeddings(folder, documents=queries, queries=queries, dim=DIM)
    train = {f"q{n}": {f"d{n}": 1.0} for n in range(len(queries))}
    return find_gate(train, Embeddings.open(folder), seed=0)


def share_of(gate: Gate | None, queries: np.ndarray) -> np.ndarray:
    """The share of a change that is applied."""
    assert gate is not None
    adapter = ComposedAdapter(DIM, centroids=gate.centroids.shape[1])
    adapter.set_gate(gate)
    with torch.no_grad():
        adapter.bias.fill_(1.0)
        return adapter.change(torch.from_numpy(queries))[:, 0].numpy()


def test_that_the_gate_is_open_to_queries_like_the_training_queries(tmp_path: Path) -> None:
    gate = gate_of(tmp_path, queries_around(0, 400, seed=0))
    alike = share_of(gate, queries_around(0, 2000, seed=1))
    assert np.median(alike) > 0.95
    assert (alike < 0.5).mean() < 0.08  # 3 % is meant; a small sample misses by some


def test_that_the_gate_is_shut_to_queries_about_something_else(tmp_path: Path) -> None:
    gate = gate_of(tmp_path, queries_around(0, 400, seed=0))
    assert share_of(gate, queries_around(5, 500, seed=2)).max() < 0.1


def test_that_it_takes_some_queries_to_make_a_gate(tmp_path: Path) -> None:
    assert gate_of(tmp_path / "few", queries_around(0, MIN_GATED - 1, seed=0)) is None
    assert gate_of(tmp_path / "enough", queries_around(0, MIN_GATED, seed=0)) is not None


def test_that_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    queries = queries_around(0, 100, seed=0)
    one, other = gate_of(tmp_path / "a", queries), gate_of(tmp_path / "b", queries)
    assert one is not None
    assert other is not None
    assert torch.equal(one.centroids, other.centroids)
