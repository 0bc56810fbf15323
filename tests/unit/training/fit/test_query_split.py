"""Who teaches and who judges where an LLM has written some of the queries."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.fits import AUTO, PLAIN
from tests.support.worlds import World, make_world
from trimtab_training.adapters import ComposedAdapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels
from trimtab_training.data.splits import MIN_DEV_QUERIES
from trimtab_training.embeddings.store import VectorTable
from trimtab_training.errors import DataError
from trimtab_training.fit.fit import fit_adapter
from trimtab_training.fit.query_split import split_queries
from trimtab_training.fit.trainer import Weights

QUICK = replace(PLAIN, epochs=12)


def labels(*queries: str) -> Qrels:
    return {query: {f"d{number % 3}": 1.0} for number, query in enumerate(queries)}


def dataset(train: Qrels, dev: Qrels | None = None, *, synthetic: set[str]) -> Dataset:
    splits = {"train": train, "test": labels("t")} | ({"dev": dev} if dev else {})
    return Dataset("x", Path("nowhere"), splits, synthetic=frozenset(synthetic))


def test_real_queries_judge_and_synthetic_ones_only_teach() -> None:
    query_split = split_queries(dataset(labels("a", "b", "s1", "s2"), synthetic={"s1", "s2"}))
    assert set(query_split.real) == {"a", "b"}
    assert query_split.synthetic == {"s1", "s2"}
    assert query_split.judges == "real"


def test_synthetic_queries_alone_do_both_and_it_is_said() -> None:
    query_split = split_queries(dataset(labels("s1", "s2", "s3"), synthetic={"s1", "s2", "s3"}))
    assert (set(query_split.real), query_split.is_mixed) == ({"s1", "s2", "s3"}, False)
    assert query_split.judges == "synthetic"


def test_one_real_query_is_too_few_to_judge() -> None:
    query_split = split_queries(dataset(labels("a", "s1", "s2"), synthetic={"s1", "s2"}))
    assert not query_split.is_mixed
    assert query_split.judges == "mixed"


def test_real_dev_queries_judge_synthetic_training() -> None:
    real = [f"v{number}" for number in range(MIN_DEV_QUERIES)]
    given = dataset(labels("s1", "s2"), labels(*real, "s3"), synthetic={"s1", "s2", "s3"})
    query_split = split_queries(given)
    assert set(query_split.dev) == set(real)
    assert query_split.judges == "real"


def test_small_dev_split_joins_the_queries_that_judge_each_other() -> None:
    dev = [f"v{number}" for number in range(MIN_DEV_QUERIES - 1)]
    query_split = split_queries(dataset(labels("a", "b"), labels(*dev), synthetic=set()))
    assert query_split.dev == {}
    assert set(query_split.train) == set(query_split.real) == {"a", "b", *dev}
    assert (query_split.n_joined, query_split.training_splits) == (len(dev), ("train", "dev"))


def test_few_real_dev_queries_judge_synthetic_training_queries_that_then_only_teach() -> None:
    given = dataset(labels("s1", "s2"), labels("v", "w", "s3"), synthetic={"s1", "s2", "s3"})
    query_split = split_queries(given)
    assert (set(query_split.real), set(query_split.synthetic)) == ({"v", "w"}, {"s1", "s2"})


def test_queries_that_the_start_has_seen_teach_and_do_not_judge() -> None:
    fresh = [f"n{number}" for number in range(MIN_DEV_QUERIES)]
    query_split = split_queries(dataset(labels("a", "b", *fresh), synthetic=set()), {"a", "b"})
    assert set(query_split.train) == {"a", "b", *fresh}
    assert (set(query_split.real), query_split.n_used) == (set(fresh), 2)


def test_start_that_has_seen_nearly_all_queries_leaves_no_judge() -> None:
    fresh = [f"n{number}" for number in range(MIN_DEV_QUERIES - 1)]
    with pytest.raises(
        DataError, match=r"99 training queries of x are known to be new .*--from-un"
    ):
        split_queries(dataset(labels("a", *fresh), synthetic=set()), {"a"})


def test_synthetic_dev_queries_never_judge_beside_real_training_queries() -> None:
    given = dataset(labels("a", "b", "s1"), labels("s2"), synthetic={"s1", "s2"})
    assert split_queries(given).dev == {}


def test_queries_without_relevant_documents_teach_nothing() -> None:
    with pytest.raises(DataError, match="1 training queries"):
        split_queries(dataset({"a": {"d0": 1.0}, "b": {"d0": 0.0}}, synthetic=set()))


# Queries that are the same


def vectors(**places: int) -> VectorTable:
    """Give each query the unit vector of some place; equal places make equal queries."""
    matrix = np.eye(8, dtype=np.float32)[list(places.values())]
    return VectorTable(list(places), matrix, "queries")


@pytest.mark.parametrize("dev", [None, labels("v", "w")])
def test_training_queries_that_are_all_the_same_are_too_few(dev: Qrels | None) -> None:
    table = vectors(a=0, b=0, c=0, v=1, w=2)
    with pytest.raises(DataError, match=r"3 training queries .*, all with the same vector; a fit"):
        split_queries(dataset(labels("a", "b", "c"), dev, synthetic=set()), queries=table)


def test_real_queries_that_are_all_the_same_are_too_few_to_judge() -> None:
    given = dataset(labels("a", "b", "s1", "s2"), synthetic={"s1", "s2"})
    query_split = split_queries(given, queries=vectors(a=0, b=0, s1=1, s2=2))
    assert not query_split.is_mixed
    assert query_split.judges == "mixed"
    assert set(query_split.real) == {"a", "b", "s1", "s2"}


@pytest.mark.parametrize("seed", range(8))
def test_every_fold_has_queries_to_train_on_however_few_differ(world: World, seed: int) -> None:
    train = {"a": {"d0": 1.0}, "b": {"d0": 1.0}, "c": {"d1": 1.0}, "d": {"d2": 1.0}}
    table = vectors(a=0, b=1, c=0, d=1)
    query_split = split_queries(dataset(train, synthetic=set()), queries=table)
    folds = query_split.make_folds(world.embeddings, QUICK, seed)
    assert sorted(query for fold in folds for query in fold.held_out) == ["a", "b", "c", "d"]
    assert all(fold.train for fold in folds)


# A fit with both kinds


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), n_queries=240)


def mark(world: World, share: float) -> Dataset:
    """Call a share of the training queries synthetic."""
    train = list(world.dataset.split("train"))
    return replace(world.dataset, synthetic=frozenset(train[: int(share * len(train))]))


def spoil(given: Dataset) -> Dataset:
    """Let the synthetic queries ask for documents that have nothing to do with them."""
    rng = np.random.default_rng(1)
    train = dict(given.split("train"))
    for query in given.synthetic:
        train[query] = {f"d{rng.integers(120)}": 1.0}
    return replace(given, splits={**given.splits, "train": train})


def test_no_fold_holds_out_a_synthetic_query_and_all_train_on_them(world: World) -> None:
    query_split = split_queries(mark(world, 0.5))
    folds = query_split.make_folds(world.embeddings, QUICK, seed=0)
    assert sorted(query for fold in folds for query in fold.held_out) == sorted(query_split.real)
    assert all(query_split.synthetic <= set(fold.train) for fold in folds)


def test_useless_synthetic_queries_are_left_out(world: World) -> None:
    all_or_none = replace(QUICK, synthetic_weights=(1.0, 0.0), min_steps=80)
    result = fit_adapter(spoil(mark(world, 0.5)), world.embeddings, all_or_none)
    assert result.weights.synthetic == 0.0
    real_only = mark(world, 0.5)
    train = {q: x for q, x in real_only.split("train").items() if q not in real_only.synthetic}
    assert result.adapter is not None
    assert result.validation["n_queries"] == len(train)


def test_good_synthetic_queries_teach(world: World) -> None:
    few = replace(QUICK, synthetic_weights=(0.0, 1.0))
    result = fit_adapter(mark(world, 0.8), world.embeddings, few)
    assert result.weights.synthetic == 1.0


def test_no_rank_is_above_the_number_of_queries_that_count(world: World) -> None:
    recipe = replace(AUTO, epochs=1, folds=2, ranks=(2, 6), synthetic_weights=(0.0,))
    result = fit_adapter(mark(world, 0.956), world.embeddings, recipe)
    assert [size.rank for size in result.sizes] == [2, 4, 0]  # of 8 queries, a fold keeps 4
    for size in result.sizes:
        assert isinstance(size.adapter, ComposedAdapter)
        assert size.adapter.rank == size.rank


def test_weights_of_a_fit_without_synthetic_queries_are_not_tried(world: World) -> None:
    result = fit_adapter(world.dataset, world.embeddings, replace(QUICK, epochs=1))
    assert {trial["synthetic_weight"] for trial in result.validation["trials"]} == {1.0}


def test_weights_name_states_apart() -> None:
    names = {Weights(1.0, 1.0, 0.03, synthetic).name for synthetic in (1.0, 0.3, 0.0)}
    assert len(names) == 3


def test_a_fit_that_synthetic_queries_judged_says_so(world: World) -> None:
    everything = mark(world, 1.0)
    result = fit_adapter(everything, world.embeddings, replace(QUICK, epochs=1))
    assert result.validation["on"].endswith("of synthetic queries")


# Which queries are synthetic


def test_queries_are_marked_in_their_metadata(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    path = world.folder / "queries.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[0]["metadata"] = {"synthetic": True, "model": "some"}
    records[1]["metadata"] = {"synthetic": False}
    records[2]["metadata"] = "free text"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    before = world.dataset
    assert before.synthetic == {"q0"}
    path.write_text("".join(json.dumps({**x, "metadata": {}}) + "\n" for x in records))
    assert world.dataset.synthetic == frozenset()
    assert world.dataset.content_hash() != before.content_hash()
