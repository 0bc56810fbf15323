"""The start in closed form: a known map comes back, labels weigh by grade."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.sets import write_embeddings
from tests.support.worlds import make_world
from trimtab_training.adapters import (
    Adapter,
    ComposedAdapter,
    IdentityAdapter,
    LinearAdapter,
    LowRankAdapter,
    TwoLayerAdapter,
)
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import ConfigError
from trimtab_training.fit.initial import Initialisation, recipe_from, ridge_map
from trimtab_training.fit.recipe import Recipe

LOUD = 1e3  # queries so long that the penalty of 1 weighs one part in a million
RECOVERED = 1e-4


def world(folder: Path, documents: np.ndarray, queries: np.ndarray) -> Embeddings:
    write_embeddings(
        folder,
        documents=documents.astype(np.float32),
        queries=queries.astype(np.float32),
        dim=queries.shape[1],
    )
    return Embeddings.open(folder)


@pytest.mark.parametrize(("dim_in", "dim_out"), [(6, 4), (4, 6), (5, 5)])
def test_known_linear_map_is_recovered(tmp_path: Path, dim_in: int, dim_out: int) -> None:
    rng = np.random.default_rng(0)
    queries = LOUD * rng.standard_normal((50, dim_in))
    wanted = rng.standard_normal((dim_in, dim_out)) / LOUD
    embeddings = world(tmp_path, queries @ wanted, queries)
    found = ridge_map({f"q{n}": {f"d{n}": 1.0} for n in range(50)}, embeddings)
    assert found.shape == (dim_in, dim_out)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(LOUD * found.numpy(), LOUD * wanted, atol=RECOVERED)


def test_map_is_the_ridge_solution(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    queries, documents = rng.standard_normal((9, 4)), rng.standard_normal((9, 3))
    found = ridge_map(
        {f"q{n}": {f"d{n}": 1.0} for n in range(9)}, world(tmp_path, documents, queries)
    ).numpy()
    # Where the loss is least its gradient is zero: Q'(QW - D) + W = 0.
    np.testing.assert_allclose(queries.T @ (queries @ found - documents) + found, 0, atol=1e-5)


def test_relevant_documents_weigh_by_their_grade(tmp_path: Path) -> None:
    embeddings = world(tmp_path, np.array([[1.0, 0], [0, 1.0], [9.0, 9.0]]), LOUD * np.eye(1))
    found = ridge_map({"q0": {"d0": 3.0, "d1": 1.0, "d2": 0.0}}, embeddings)
    np.testing.assert_allclose(LOUD * found.numpy(), [[0.75, 0.25]], atol=RECOVERED)


@pytest.mark.parametrize("hidden", [10**12, 10**18, 10**30])
@pytest.mark.parametrize("kind", ["auto", "two_layer"])
def test_adapter_that_no_memory_holds_is_refused(tmp_path: Path, kind: str, hidden: int) -> None:
    options = {"gated": False, "hidden": hidden} if kind == "auto" else {}
    more = {} if kind == "auto" else {"adapter_options": {"hidden": hidden}}
    recipe = Recipe(adapter=kind, **options, **more)
    start = Initialisation(recipe, world(tmp_path, np.eye(16), np.eye(16)), None, 0)
    with pytest.raises(ConfigError, match=f"'{kind}'.*{hidden}"):
        start.make({"q0": {"d0": 1.0}})


def test_start_that_has_nothing_to_train_is_refused(tmp_path: Path) -> None:
    embeddings = world(tmp_path, np.eye(4), np.eye(4))
    start = Initialisation(Recipe(), embeddings, IdentityAdapter(4), 0)
    with pytest.raises(ConfigError, match="'identity' has no parameters"):
        start.make({"q0": {"d0": 1.0}})


@pytest.mark.parametrize(
    ("start", "knobs", "key"),
    [
        (ComposedAdapter(4, hidden=3), {"adapter": "two_layer"}, "adapter"),
        (ComposedAdapter(4, hidden=3), {"hidden": 4}, "hidden"),
        (ComposedAdapter(4, hidden=3, centroids=2), {"gated": False}, "gated"),
        (LinearAdapter(4), {"adapter": "low_rank"}, "adapter"),
        (LinearAdapter(4), {"hidden": 4}, "hidden"),
        (LinearAdapter(4), {"dropout": 0.5}, "dropout"),
        (
            LowRankAdapter(4, rank=2),
            {"adapter": "low_rank", "adapter_options": {"rank": 3}},
            "adapter_options",
        ),
    ],
)
def test_recipe_that_asks_for_what_the_start_is_not_is_refused(
    start: Adapter, knobs: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError, match=f"key '{key}' is .* starts from has .* or fit anew"):
        recipe_from(start, Recipe(**knobs))


@pytest.mark.parametrize(
    ("start", "knobs", "trained"),
    [
        (ComposedAdapter(4, hidden=3), {}, ("auto", {}, 3, 0.25, False)),
        (
            ComposedAdapter(4, hidden=3, centroids=2),
            {"hidden": 3, "dropout": 0.5},
            ("auto", {}, 3, 0.5, True),
        ),
        (TwoLayerAdapter(4, hidden=3), {}, ("two_layer", {"hidden": 3}, 0, 0.0, False)),
        (LowRankAdapter(4, rank=2), {"adapter": "low_rank"}, ("low_rank", {"rank": 2}, 0, 0.0, 0)),
    ],
)
def test_recipe_of_a_fit_that_goes_on_says_what_is_trained(
    start: Adapter, knobs: dict[str, Any], trained: tuple[object, ...]
) -> None:
    recipe = recipe_from(start, Recipe(**knobs))
    said = (recipe.adapter, recipe.adapter_options, recipe.hidden, recipe.dropout, recipe.gated)
    assert said == trained


def test_start_is_trained_with_the_recipe_s_dropout(tmp_path: Path) -> None:
    given = ComposedAdapter(4, hidden=3)
    made = Initialisation(Recipe(dropout=0.4), world(tmp_path, np.eye(4), np.eye(4)), given, 0)
    adapter = made.make({"q0": {"d0": 1.0}})
    assert isinstance(adapter, ComposedAdapter)
    assert adapter.dropout == 0.4


def test_direction_without_queries_maps_to_nothing(tmp_path: Path) -> None:
    embeddings = world(tmp_path, np.eye(2), np.eye(1, 3))
    found = ridge_map({"q0": {"d1": 1.0}}, embeddings)
    assert (found[1:] == 0).all()


def test_start_is_made_of_the_training_queries_that_are_given(tmp_path: Path) -> None:
    """Gate and map of a fold owe nothing to the queries of a start that was made before."""
    made = make_world(tmp_path, dim_query=24)
    everything = made.dataset.split("train")
    half = dict(list(everything.items())[::2])
    recipe = Recipe(adapter="auto", hidden=0)
    alone = Initialisation(recipe, made.embeddings, None, seed=0).make(half).state_dict()
    initialisation = Initialisation(recipe, made.embeddings, None, seed=0)
    first = initialisation.make(everything).state_dict()
    second = initialisation.make(half).state_dict()
    for part in ("start", "gate_centroids", "gate_bounds"):
        assert torch.equal(second[part], alone[part])
        assert not torch.equal(second[part], first[part])
