"""Where training queries lie: as many prototypes as asked for, and a gate that knows strangers."""

from pathlib import Path

import numpy as np
import torch

from tests.support.sets import write_embeddings
from training.config import Recipe
from training.embeddings import Embeddings
from training.locality import MIN_GATED, Locality, find_locality

DIM, SPREAD = 16, 0.1


def queries_around(centre: int, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = SPREAD * rng.standard_normal((count, DIM)) + np.eye(DIM)[centre]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def locality(folder: Path, queries: np.ndarray, **knobs: float) -> Locality:
    write_embeddings(folder, documents=queries, queries=queries, dim=DIM)
    train = {f"q{n}": {f"d{n}": 1.0} for n in range(len(queries))}
    return find_locality(train, Embeddings.open(folder), Recipe(**knobs), seed=0)


def gate_of(found: Locality, queries: np.ndarray) -> np.ndarray:
    adapter = found.make_adapter(DIM, hidden=0, has_prototypes=False)
    with torch.no_grad():
        adapter.bias.fill_(1.0)
        return adapter.change(torch.from_numpy(queries))[:, 0].numpy()


def test_that_the_gate_is_open_to_queries_like_the_training_queries(tmp_path: Path) -> None:
    found = locality(tmp_path, queries_around(0, 400, seed=0))
    alike = gate_of(found, queries_around(0, 2000, seed=1))
    assert np.median(alike) > 0.95
    assert (alike < 0.5).mean() < 0.08  # 3 % is meant; a small sample misses by some


def test_that_the_gate_is_shut_to_queries_about_something_else(tmp_path: Path) -> None:
    found = locality(tmp_path, queries_around(0, 400, seed=0))
    assert gate_of(found, queries_around(5, 500, seed=2)).max() < 0.1


def test_that_it_takes_some_queries_to_make_a_gate(tmp_path: Path) -> None:
    few = locality(tmp_path / "few", queries_around(0, MIN_GATED - 1, seed=0))
    enough = locality(tmp_path / "enough", queries_around(0, MIN_GATED, seed=0))
    assert few.gate is None
    assert enough.gate is not None


def test_that_the_recipe_can_leave_the_gate_out(tmp_path: Path) -> None:
    assert locality(tmp_path, queries_around(0, 100, seed=0), gated=False).gate is None


def test_that_it_says_whether_a_prototype_is_one_query(tmp_path: Path) -> None:
    queries = queries_around(0, 64, seed=0)
    fine = locality(tmp_path / "fine", queries, queries_per_prototype=1.0)
    coarse = locality(tmp_path / "coarse", queries, queries_per_prototype=64.0)
    assert fine.holds_queries
    assert not coarse.holds_queries
    assert coarse.prototypes.shape == (DIM, 1)


def test_that_prototypes_are_unit_vectors_and_bounded(tmp_path: Path) -> None:
    found = locality(tmp_path, queries_around(0, 200, seed=0), prototypes=7)
    assert found.prototypes.shape == (DIM, 7)
    assert torch.allclose(found.prototypes.norm(dim=0), torch.ones(7), atol=1e-4)


def test_that_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    queries = queries_around(0, 100, seed=0)
    one, other = locality(tmp_path / "a", queries), locality(tmp_path / "b", queries)
    assert torch.equal(one.prototypes, other.prototypes)
    assert one.gate is not None
    assert other.gate is not None
    assert torch.equal(one.gate.centroids, other.gate.centroids)
