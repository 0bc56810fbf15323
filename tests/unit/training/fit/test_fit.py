"""A fit: better where something can be learnt, nothing where it can't, the same every time."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.fits import AUTO, PLAIN, QUICK, RECIPES, TINY, Fitted, state_of
from tests.support.worlds import World, make_world
from trimtab_training.adapters import LinearAdapter
from trimtab_training.adapters.registry import save_adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.errors import ConfigError, DataError, DivergedError
from trimtab_training.fit.fit import FitSettings, fit_adapter
from trimtab_training.fit.recipe import Recipe
from trimtab_training.retrieval.exact_search import search
from trimtab_training.retrieval.metrics import measure


def ndcg_of(world: World, adapter: torch.nn.Module | None) -> float:
    """Mean test nDCG@10, of the raw queries without an adapter."""
    embeddings, qrels = world.embeddings, world.dataset.split("test")
    queries = embeddings.queries.take_ids(list(qrels))
    if adapter is not None:
        with torch.no_grad():
            queries = adapter(torch.from_numpy(queries)).numpy()
    rows, _ = search(queries, embeddings.documents, depth=100, similarity="cosine")
    wanted = [{embeddings.documents.rows[d]: g for d, g in x.items()} for x in qrels.values()]
    return float(measure(rows, wanted)["ndcg@10"].mean())


@pytest.mark.parametrize("name", ["auto", "linear", "low_rank", "two_layer"])
def test_fit_ranks_unseen_queries_better(
    world: World, whole: Callable[[str], Fitted], name: str
) -> None:
    result = whole(name).result
    assert result.adapter is not None, result.verdict
    assert ndcg_of(world, result.adapter) > ndcg_of(world, None) + 0.05


def test_fit_says_no_where_labels_are_noise(tmp_path: Path) -> None:
    world = make_world(tmp_path, useful=False)
    result = fit_adapter(world.dataset, world.embeddings, AUTO)
    assert result.adapter is None
    assert "No adapter helps" in result.verdict


def test_fit_never_looks_at_test_labels(world: World, whole: Callable[[str], Fitted]) -> None:
    scrambled = dict(world.dataset.splits)
    scrambled["test"] = {query: {"d0": 1.0} for query in scrambled["test"]}
    other = fit_adapter(replace(world.dataset, splits=scrambled), world.embeddings, QUICK)
    assert state_of(whole("linear").result.adapter) == state_of(other.adapter)


def test_fit_gives_same_bytes_for_same_seed_and_others_for_another(
    world: World, whole: Callable[[str], Fitted]
) -> None:
    first = whole("auto").result.adapter
    second, third = (
        fit_adapter(world.dataset, world.embeddings, AUTO, FitSettings(seed=seed)).adapter
        for seed in (0, 8)
    )
    assert state_of(first) == state_of(second)
    assert state_of(first) != state_of(third)


def test_fit_leaves_global_random_state_alone(world: World) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit_adapter(world.dataset, world.embeddings, replace(TINY, adapter="auto"))
    assert torch.equal(before, torch.get_rng_state())


def test_budget_decides_what_is_shipped_and_scores_are_of_what_is_shipped(
    world: World, whole: Callable[[str], Fitted]
) -> None:
    free, recipe = whole("narrow").result, replace(RECIPES["narrow"], max_megabytes=0.0004)
    tight = fit_adapter(world.dataset, world.embeddings, recipe)
    assert (free.rank, tight.rank) == (0, 2), free.sizes
    assert tight.adapter is not None
    assert tight.adapter.options["rank"] == 2
    assert tight.validation["adapted_ndcg@10"] < free.validation["adapted_ndcg@10"]
    narrow, full = tight.sizes
    assert narrow.gain == pytest.approx(
        tight.validation["adapted_ndcg@10"] - tight.validation["base_ndcg@10"]
    )
    assert narrow.loss == pytest.approx(full.gain - narrow.gain)


def test_budget_that_nothing_meets_is_refused_before_any_training(world: World) -> None:
    calls: list[int] = []
    recipe = replace(RECIPES["narrow"], max_megabytes=0.0001)
    with pytest.raises(ConfigError, match=r"'max_megabytes' is 0\.0001, but the smallest"):
        fit_adapter(world.dataset, world.embeddings, recipe, progress=lambda *_: calls.append(1))
    assert not calls


def test_progress_counts_steps_and_never_goes_back(whole: Callable[[str], Fitted]) -> None:
    calls = whole("auto").calls
    done = [each[0] for each in calls]
    assert done == sorted(done)
    assert calls[-1][0] == calls[-1][1]
    assert all(one <= total for one, total in calls)


def test_all_relevant_documents_and_grades_count(world: World) -> None:
    plain = fit_adapter(world.dataset, world.embeddings, TINY)
    splits = dict(world.dataset.splits)
    splits["train"] = {query: {**x, "d0": 3.0} for query, x in splits["train"].items()}
    graded = fit_adapter(replace(world.dataset, splits=splits), world.embeddings, TINY)
    assert plain.curves != graded.curves


def test_judged_non_relevant_documents_are_candidates(world: World) -> None:
    recipe = replace(TINY, folds=3)
    plain = fit_adapter(world.dataset, world.embeddings, recipe)
    splits = dict(world.dataset.splits)
    first = next(iter(splits["train"]))
    judged = {f"d{row}": 0.0 for row in range(120)} | splits["train"][first]
    splits["train"] = {**splits["train"], first: judged}
    other = fit_adapter(replace(world.dataset, splits=splits), world.embeddings, recipe)
    assert plain.curves[0] != other.curves[0]


def test_temperature_is_chosen_by_held_out_queries(world: World) -> None:
    recipe = replace(PLAIN, temperatures=(1000.0, 0.03), unlabelled_weights=(1.0,))
    result = fit_adapter(world.dataset, world.embeddings, recipe)
    assert result.weights.temperature == 0.03
    rated = {each["temperature"]: each["objective"] for each in result.validation["trials"]}
    assert rated[0.03] > rated[1000.0]


@pytest.mark.parametrize(("n_queries", "tried"), [(240, {0.03, 0.05}), (60, {0.03})])
def test_second_temperature_is_tried_where_documents_are_known(
    tmp_path: Path, n_queries: int, tried: set[float]
) -> None:
    world = make_world(tmp_path, n_queries=n_queries, n_documents=60)
    recipe = replace(PLAIN, temperatures=())
    result = fit_adapter(world.dataset, world.embeddings, recipe)
    rated = [(one["temperature"], one["steps"]) for one in result.validation["trials"]]
    assert {temperature for temperature, _ in rated} == tried
    assert {steps for temperature, steps in rated if temperature == 0.05} <= {1.0}


def test_whole_corpus_must_be_clearly_better_to_be_the_candidates(world: World) -> None:
    recipe = replace(PLAIN, unlabelled_weights=(1.0, 0.999))
    result = fit_adapter(world.dataset, world.embeddings, recipe)
    assert result.weights.unlabelled == 0.999


def test_dev_split_decides_where_there_is_one(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    splits = dict(world.dataset.splits)
    queries = list(splits["train"])
    splits["dev"] = {query: splits["train"].pop(query) for query in queries[:100]}
    result = fit_adapter(replace(world.dataset, splits=splits), world.embeddings, TINY)
    assert result.validation["on"] == "dev split"
    assert result.validation["n_queries"] == 100


def test_few_dev_queries_are_held_out_like_any_training_query(
    world: World, whole: Callable[[str], Fitted]
) -> None:
    splits = dict(world.dataset.splits)
    train = dict(splits["train"])
    splits["dev"] = {query: train.pop(query) for query in list(train)[:10]}
    few = fit_adapter(
        replace(world.dataset, splits={**splits, "train": train}), world.embeddings, TINY
    )
    plain = whole("linear").result
    assert few.validation["n_queries"] == plain.validation["n_queries"] == 120
    assert "10 queries are too few alone" in few.validation["on"]
    assert few.training_splits == ("train", "dev")
    assert few.validation["standard_error"] > 0


def test_widths_may_differ_and_start_from_ridge(tmp_path: Path) -> None:
    world = make_world(tmp_path, dim_query=24, n_queries=400)
    result = fit_adapter(world.dataset, world.embeddings, AUTO)
    assert result.adapter is not None
    assert (result.adapter.dim_in, result.adapter.dim_out) == (24, 16)
    assert ndcg_of(world, result.adapter) > 0.5


def test_new_encoder_of_the_same_width_starts_from_ridge_too(tmp_path: Path) -> None:
    world = make_world(tmp_path, dim_query=16, n_queries=400)
    result = fit_adapter(world.dataset, world.embeddings, replace(AUTO, use="migration"))
    assert result.adapter is not None
    assert result.adapter.has_start
    assert "over an order of chance" in result.verdict
    assert ndcg_of(world, None) < 0.1
    assert ndcg_of(world, result.adapter) > 0.5


def test_queries_of_another_width_are_never_of_the_documents_encoder(tmp_path: Path) -> None:
    world = make_world(tmp_path, dim_query=24)
    with pytest.raises(ConfigError, match=r"24 values and documents 16: .* say 'migration'"):
        fit_adapter(world.dataset, world.embeddings, replace(QUICK, use="relevance"))


def test_fit_continues_from_a_given_adapter(world: World, whole: Callable[[str], Fitted]) -> None:
    first = whole("auto").result.adapter
    assert first is not None
    result = fit_adapter(
        world.dataset,
        world.embeddings,
        Recipe(folds=2, min_steps=1, epochs=1, learning_rate=1e-9, blends=(1.0,)),
        FitSettings(start_from=first, start_trained_on=TrainedOn.nothing()),
    )
    assert result.adapter is not None
    assert (result.recipe.adapter, result.recipe.hidden) == ("auto", AUTO.hidden)
    assert ndcg_of(world, result.adapter) == pytest.approx(ndcg_of(world, first), abs=1e-6)


@pytest.mark.parametrize("similarity", ["dot", "euclid"])
def test_other_similarities_learn_too(world: World, similarity: str) -> None:
    result = fit_adapter(world.dataset, world.embeddings, replace(PLAIN, similarity=similarity))
    assert result.adapter is not None
    assert ndcg_of(world, result.adapter) > ndcg_of(world, None) + 0.05


def test_unnormalised_documents_train_an_unnormalised_adapter(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    matrix = np.load(world.vectors / "documents.npy") * 3
    np.save(world.vectors / "documents.npy", matrix)
    result = fit_adapter(world.dataset, world.embeddings, replace(PLAIN, similarity="dot"))
    assert result.adapter is not None
    assert not result.adapter.normalised


def test_large_corpora_are_sampled_and_still_learnt(tmp_path: Path) -> None:
    world = make_world(tmp_path, n_documents=600, n_queries=240)
    recipe = replace(PLAIN, unlabelled_weights=(1.0,), sampled_documents=50, max_validated=300)
    result = fit_adapter(world.dataset, world.embeddings, recipe)
    assert result.adapter is not None
    assert ndcg_of(world, result.adapter) > ndcg_of(world, None) + 0.05


def test_diverging_fit_says_what_to_change(world: World) -> None:
    recipe = replace(QUICK, temperatures=(1e-38,))
    with pytest.raises(DivergedError, match="lower learning_rate"):
        fit_adapter(world.dataset, world.embeddings, recipe)


def test_too_few_queries_are_refused_with_their_number(world: World) -> None:
    splits = dict(world.dataset.splits)
    splits["train"] = {"q0": splits["train"]["q0"]}
    with pytest.raises(DataError, match="1 training queries"):
        fit_adapter(replace(world.dataset, splits=splits), world.embeddings, QUICK)


def test_two_queries_are_enough_to_say_no(world: World) -> None:
    splits = dict(world.dataset.splits)
    splits["train"] = dict(list(splits["train"].items())[:2])
    result = fit_adapter(replace(world.dataset, splits=splits), world.embeddings, QUICK)
    assert result.adapter is None
    assert "No adapter helps" in result.verdict
    assert result.validation["n_queries"] == 2


def test_unknown_device_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="can't be used here"):
        fit_adapter(world.dataset, world.embeddings, QUICK, FitSettings(device="cuda:9"))


def test_labels_without_vectors_are_refused(world: World, tmp_path: Path) -> None:
    splits = {**world.dataset.splits, "train": {"q0": {"nowhere": 1.0}, "q1": {"d1": 1.0}}}
    dataset = Dataset("x", tmp_path, splits)
    with pytest.raises(DataError, match="'nowhere'"):
        fit_adapter(dataset, world.embeddings, QUICK)


def test_saved_adapter_names_its_kind_and_options(tmp_path: Path) -> None:
    save_adapter(LinearAdapter(4), tmp_path)
    record = json.loads((tmp_path / "adapter.json").read_text())
    assert record["kind"] == "linear"
    assert (record["dim_in"], record["dim_out"]) == (4, 4)
