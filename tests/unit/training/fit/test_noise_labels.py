"""Labels of noise: nothing can be learnt from them, so no path through a fit may expect a gain.

Whatever lets a held-out query have a part in the adapter that is scored on it (a start, a gate, a
twin, the queries of a start) shows here as an expectation near 1.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.fits import AUTO
from tests.support.worlds import World, make_world, write_vectors
from trimtab_training.adapters import LinearAdapter
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.errors import DataError
from trimtab_training.fit.fit import FitResult, FitSettings, fit_adapter
from trimtab_training.fit.initial import ridge_map
from trimtab_training.fit.recipe import Recipe

QUICK = replace(AUTO, epochs=4, folds=2, unlabelled_weights=(0.0,))
GONE_ON = replace(QUICK, adapter="linear", hidden=Recipe().hidden)
CHANCE = 0.08
"""More than four standard errors of the mean nDCG@10 of 90 queries over 400 documents by chance; a
leak gives from .3 up to 1."""


def noise(folder: Path, dim_query: int = 16, **options: Any) -> World:
    return make_world(folder, n_documents=400, dim_query=dim_query, useful=False, **options)


def fit(world: World, recipe: Recipe, settings: FitSettings | None = None) -> FitResult:
    return fit_adapter(world.dataset, world.embeddings, recipe, settings)


@pytest.mark.parametrize(
    ("adapter", "dim_query"),
    [("auto", 8), ("auto", 16), ("auto", 40), ("linear", 40), ("low_rank", 16), ("two_layer", 8)],
)
def test_no_width_and_no_kind_of_adapter_expects_a_gain(
    tmp_path: Path, adapter: str, dim_query: int
) -> None:
    options = {"low_rank": {"rank": 4}, "two_layer": {"hidden": 16}}.get(adapter, {})
    recipe = replace(QUICK, adapter=adapter, adapter_options=options)
    result = fit(noise(tmp_path, dim_query), recipe)
    assert result.validation["expected_gain"] < CHANCE
    assert result.validation["adapted_ndcg@10"] < CHANCE


@pytest.mark.parametrize(
    "options",
    [
        {"use": "migration"},
        {"similarity": "dot"},
        {"similarity": "euclid"},
        {"gated": False},
        {"anchors": (0.0,)},
        {"unlabelled_weights": (1.0, 0.0)},
        {"max_validated": 200, "sampled_documents": 50},
    ],
    ids=str,
)
def test_no_option_expects_a_gain(tmp_path: Path, options: dict[str, Any]) -> None:
    result = fit(noise(tmp_path), replace(QUICK, **options))
    assert result.validation["expected_gain"] < CHANCE


@pytest.mark.parametrize(("n_dev", "dim_query"), [(20, 16), (100, 40)])
def test_no_dev_split_expects_a_gain(tmp_path: Path, n_dev: int, dim_query: int) -> None:
    world = noise(tmp_path, dim_query, n_queries=260)
    splits = dict(world.dataset.splits)
    train = dict(splits["train"])
    splits["dev"] = {query: train.pop(query) for query in list(train)[:n_dev]}
    dataset = replace(world.dataset, splits={**splits, "train": train})
    result = fit_adapter(dataset, world.embeddings, QUICK)
    assert result.validation["expected_gain"] < CHANCE


def test_queries_of_an_llm_that_judge_nothing_expect_no_gain(tmp_path: Path) -> None:
    world = noise(tmp_path)
    written = frozenset(list(world.dataset.split("train"))[:60])
    dataset = replace(world.dataset, synthetic=written)
    result = fit_adapter(dataset, world.embeddings, QUICK)
    assert result.validation["expected_gain"] < CHANCE


@pytest.mark.parametrize("dim_query", [16, 200])
def test_the_same_query_under_two_ids_expects_no_gain(tmp_path: Path, dim_query: int) -> None:
    """A log may hold one query many times; its twin in training is no future query.

    An adapter of 200 values knows 60 queries by heart, and so every twin of theirs.
    """
    world = noise(tmp_path, dim_query)
    embeddings = world.embeddings
    queries = np.asarray(embeddings.queries.matrix).copy()
    qrels = {split: dict(labels) for split, labels in world.dataset.splits.items()}
    train = [int(query[1:]) for query in qrels["train"]]
    for one, other in zip(train[::2], train[1::2], strict=False):
        queries[other] = queries[one]
        qrels["train"][f"q{other}"] = qrels["train"][f"q{one}"]
    write_vectors(world.vectors, np.asarray(embeddings.documents.matrix), queries)
    result = fit_adapter(replace(world.dataset, splits=qrels), world.embeddings, QUICK)
    assert result.validation["expected_gain"] < CHANCE


@pytest.mark.parametrize(
    ("n_own", "others", "n_judges"), [(90, "dev", 195), (45, "dev", 105), (98, "synthetic", 98)]
)
def test_training_queries_under_other_ids_do_not_judge(
    tmp_path: Path, n_own: int, others: str, n_judges: int
) -> None:
    """The first others, of a dev split or by an LLM, are the training queries once more."""
    world = noise(tmp_path, dim_query=200, n_queries=260)
    labels = dict(world.dataset.split("train"))
    names = list(labels)
    queries = np.asarray(world.embeddings.queries.matrix).copy()
    for query, twin in zip(names[:n_own], names[n_own:], strict=False):
        queries[int(twin[1:])], labels[twin] = queries[int(query[1:])], labels[query]
    write_vectors(world.vectors, np.asarray(world.embeddings.documents.matrix), queries)
    dataset = replace(world.dataset, splits={"train": labels}, synthetic=frozenset(names[n_own:]))
    if others == "dev":
        parts = {"train": names[:n_own], "dev": names[n_own:]}
        splits = {split: {name: labels[name] for name in part} for split, part in parts.items()}
        dataset = replace(world.dataset, splits=splits)
    result = fit_adapter(dataset, world.embeddings, QUICK)
    assert result.validation["n_queries"] == n_judges
    assert result.validation["expected_gain"] < CHANCE


def test_start_that_knows_the_labels_by_heart_is_not_judged_by_them(tmp_path: Path) -> None:
    world = noise(tmp_path / "world", dim_query=200, n_queries=400)
    half = dict(list(world.dataset.split("train").items())[:150])
    old = replace(world.dataset, splits={**world.dataset.splits, "train": half})
    start = LinearAdapter(200, 16)
    start.start_from(ridge_map(half, world.embeddings))
    settings = FitSettings(start_from=start, start_trained_on=TrainedOn.of(old))
    result = fit(world, GONE_ON, settings)
    assert result.validation["n_queries"] == 150
    assert result.validation["expected_gain"] < CHANCE
    with pytest.raises(DataError, match="known to be new"):
        fit(world, GONE_ON, FitSettings(start_from=start))


def test_start_that_is_known_in_part_is_not_judged_by_that_part(tmp_path: Path) -> None:
    """Of the training queries, any may have been seen; of the dev queries, those that are named."""
    world = noise(tmp_path / "world", dim_query=200, n_queries=400)
    labels = list(world.dataset.split("train").items())
    seen, dev, train = dict(labels[:100]), dict(labels[:200]), dict(labels[200:])
    start = LinearAdapter(200, 16)
    start.start_from(ridge_map(seen, world.embeddings))
    known = TrainedOn.of(replace(world.dataset, splits={"train": seen}))
    settings = FitSettings(start_from=start, start_trained_on=replace(known, is_complete=False))
    new = replace(world.dataset, splits={**world.dataset.splits, "train": train, "dev": dev})
    result = fit_adapter(new, world.embeddings, GONE_ON, settings)
    assert (result.validation["on"], result.validation["n_queries"]) == ("dev split", 100)
    assert result.validation["expected_gain"] < CHANCE
