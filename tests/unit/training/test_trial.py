"""The training loop's units and steps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.worlds import World, make_world, unit, write_vectors
from training.adapters import LinearAdapter
from training.checkpoint import Workspace
from training.config import Recipe
from training.trial import Trial, Weights, score_unit, step_size


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


@pytest.mark.parametrize("n_train", [3, 40, 120])
def test_an_epoch_of_few_queries_has_as_many_steps_as_one_of_many(
    world: World, n_train: int
) -> None:
    train = dict(list(world.dataset.split("train").items())[:n_train])
    recipe = replace(Recipe(), batch_size=256)
    steps = 0

    class Counted(LinearAdapter):
        def forward(self, queries: torch.Tensor) -> torch.Tensor:
            nonlocal steps
            steps += self.training
            return super().forward(queries)

    trial = Trial(
        "counted",
        Counted(16),
        Weights(unlabelled=0.0, anchor=0.0, temperature=0.03),
        train=train,
        synthetic=(),
        validation=None,
        embeddings=world.embeddings,
        recipe=recipe,
        device=torch.device("cpu"),
    )
    trial.run(Workspace(None, {}, resume="never"), epochs=1)
    batch_size, _ = step_size(n_train, recipe)
    a_pass = -(-n_train // batch_size)
    assert recipe.min_steps <= steps < recipe.min_steps + a_pass
