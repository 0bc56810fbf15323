"""The training loop's units and steps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.worlds import World, make_world, unit, write_vectors
from trimtab_training.adapters import LinearAdapter
from trimtab_training.errors import DataError
from trimtab_training.fit.checkpoint import Workspace
from trimtab_training.fit.device import threads_for
from trimtab_training.fit.recipe import Recipe
from trimtab_training.fit.trainer import Trainer, Weights, plan_steps, score_unit


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def unit_of(world: World, recipe: Recipe | None = None) -> float:
    embeddings = world.embeddings
    queries = torch.from_numpy(embeddings.queries.take(np.arange(40)))
    dim = embeddings.queries.dim
    return score_unit(LinearAdapter(dim), queries, embeddings, recipe or Recipe())


def test_encoder_that_crowds_its_vectors_has_a_small_unit(world: World) -> None:
    before = unit_of(world)
    documents = np.load(world.vectors / "documents.npy")
    queries = np.load(world.vectors / "queries.npy")
    common = 2.0 * np.eye(documents.shape[1])[0]
    write_vectors(world.vectors, unit(documents + common), unit(queries + common))
    after = unit_of(world)
    assert 0.1 * before < after < 0.3 * before  # lengths were about 2.2, so cosines / 5


@pytest.mark.parametrize(("similarity", "power"), [("cosine", 0), ("dot", 1)])
def test_unit_follows_the_length_of_documents_where_scores_do(
    world: World, similarity: str, power: int
) -> None:
    recipe = Recipe(similarity=similarity)
    before = unit_of(world, recipe)
    documents = np.load(world.vectors / "documents.npy")
    np.save(world.vectors / "documents.npy", 10 * documents)
    assert unit_of(world, recipe) == pytest.approx(before * 10**power, rel=1e-4)


def test_equal_documents_have_a_unit_all_the_same(world: World) -> None:
    documents = np.load(world.vectors / "documents.npy")
    np.save(world.vectors / "documents.npy", np.repeat(documents[:1], len(documents), axis=0))
    assert unit_of(world) > 0


@pytest.mark.parametrize(
    ("n_queries", "batch_size", "n_steps"),
    [
        (10, 64, 240),  # few are passed often, to take steps enough
        (2_000, 64, 500),  # 16 passes
        (5_000, 134, 598),  # 16 passes, of larger batches
        (20_000, 256, 600),  # the largest batch: fewer passes
        (1_000_000, 256, 3907),  # one pass
    ],
)
def test_more_queries_make_larger_batches_before_they_make_fewer_passes(
    n_queries: int, batch_size: int, n_steps: int
) -> None:
    plan = plan_steps(n_queries, Recipe())
    assert (plan.batch_size, plan.n_steps) == (batch_size, n_steps)


def test_short_trial_has_the_same_batches_and_fewer_of_them() -> None:
    whole, short = plan_steps(5000, Recipe()), plan_steps(5000, Recipe(), 0.25)
    assert short == replace(whole, n_steps=150)


def test_small_batches_take_small_steps() -> None:
    rates = [plan_steps(n, Recipe()).learning_rate for n in (100, 4800, 20_000)]
    assert rates == pytest.approx([3e-3 / 2**0.5, 3e-3, 3e-3])


def trained(world: World, n_train: int, recipe: Recipe) -> tuple[int, list[int]]:
    """Train on some queries; give the steps, and how often each query came."""
    train = dict(list(world.dataset.split("train").items())[:n_train])
    vectors = torch.from_numpy(world.embeddings.queries.take_ids(list(train)))
    counts = [0] * n_train
    n_steps = 0

    class Counted(LinearAdapter):
        def forward(self, queries: torch.Tensor) -> torch.Tensor:
            nonlocal n_steps
            if self.training:
                n_steps += 1
                for row in torch.cdist(queries, vectors).argmin(dim=1):
                    counts[row] += 1
            return super().forward(queries)

    trial = Trainer(
        "counted",
        Counted(16),
        Weights(unlabelled=0.0, anchor=0.0, temperature=0.03),
        train=train,
        synthetic=(),
        embeddings=world.embeddings,
        recipe=recipe,
        device=torch.device("cpu"),
    )
    trial.run(Workspace(None, {}, resume="never"))
    return n_steps, counts


@pytest.mark.parametrize("n_train", [3, 40, 120])
def test_all_queries_are_passed_equally_often(world: World, n_train: int) -> None:
    n_steps, counts = trained(world, n_train, replace(Recipe(), min_steps=20, epochs=2))
    assert n_steps == 20
    assert max(counts) - min(counts) <= 1


def test_trial_without_a_training_query_is_refused(world: World) -> None:
    with pytest.raises(DataError, match="left without a training query"):
        trained(world, 0, Recipe())


@pytest.mark.parametrize(("n_operations", "n_threads"), [(1e8, 1), (1e10, 2)])
def test_small_steps_take_one_thread_and_give_the_others_back(
    n_operations: float, n_threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(n_operations):
            assert torch.get_num_threads() == n_threads
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
