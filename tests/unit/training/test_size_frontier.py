"""Sizes by the files that they really make: rounding to 8 bits is too much for some adapters."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.support.fits import RECIPES
from tests.support.worlds import World, make_world
from trimtab.model.onnx_file import check_model
from trimtab_training.adapters import Adapter, ComposedAdapter, IdentityAdapter
from trimtab_training.export.onnx_export import describe_adapter, export_adapter
from trimtab_training.fit.fit import FitResult, fit_adapter
from trimtab_training.fit.ranks import Size
from trimtab_training.size_frontier import settle_size, tell_precision


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world: World) -> FitResult:
    return fit_adapter(world.dataset, world.embeddings, RECIPES["narrow"])


@pytest.fixture
def fitted(whole: FitResult) -> FitResult:
    """A fit whose adapters a test may change."""
    return copy.deepcopy(whole)


@torch.no_grad()
def coarse(size: Size) -> Size:
    """Make a size of which 8 bits tell little: they have to reach far."""
    adapter = size.adapter
    assert isinstance(adapter, ComposedAdapter)
    for reach in (adapter.input_range, adapter.linear_range, adapter.hidden_range):
        reach.mul_(300)
    return size


def of_rank(fitted: FitResult, rank: int) -> FitResult:
    """Say that a fit has chosen a size, which loses nothing."""
    sizes = tuple(
        replace(size, loss=0.0 if size.rank in (0, rank) else 1.0) for size in fitted.sizes
    )
    adapter = next(size.adapter for size in sizes if size.rank == rank)
    return replace(fitted, sizes=sizes, adapter=adapter, rank=rank)


def settled(world: World, fitted: FitResult) -> tuple[FitResult, list[str]]:
    queries = world.embeddings.queries.take_ids(list(world.dataset.split("test")))
    told: list[str] = []
    return settle_size(fitted, world.embeddings.encoder, queries, told.append), told


def exported(world: World, adapter: Adapter) -> bytes:
    manifest = describe_adapter(adapter, world.embeddings.encoder, name="docs", similarity="cosine")
    queries = world.embeddings.queries.take_ids(list(world.dataset.split("test")))
    return export_adapter(adapter, manifest, queries=queries)


def has_bytes(world: World, adapter: Adapter | None) -> bool:
    assert adapter is not None
    return "MatMulInteger" in check_model(exported(world, adapter)).operators


def test_a_size_that_8_bits_do_for_stays(world: World, fitted: FitResult) -> None:
    chosen = of_rank(fitted, fitted.sizes[0].rank)
    assert has_bytes(world, chosen.adapter)
    assert settled(world, chosen) == (chosen, [])


def test_a_size_that_8_bits_are_too_few_for_gives_way_to_a_smaller_file(
    world: World, fitted: FitResult
) -> None:
    chosen = of_rank(fitted, fitted.sizes[0].rank)
    assert chosen.rank > 0
    coarse(chosen.sizes[0])
    assert not has_bytes(world, chosen.adapter)
    result, told = settled(world, chosen)
    assert result.rank == 0
    assert has_bytes(world, result.adapter)
    assert told == [
        f"8 bits are too few for the weights of rank {chosen.rank}: whole matrix is the smaller "
        "file"
    ]


def test_where_no_file_is_within_the_budget_that_is_said(world: World, fitted: FitResult) -> None:
    chosen = of_rank(fitted, fitted.sizes[0].rank)
    for size in chosen.sizes:
        coarse(size)
    tight = replace(chosen, recipe=replace(chosen.recipe, max_megabytes=0.0004))
    result, told = settled(world, tight)
    assert result.rank == chosen.rank  # the smallest still
    assert told[-1].startswith("no size is within max_megabytes of 0.0004, since 8 bits are too")


def test_a_file_of_float32_weights_is_told_where_8_bits_were_expected(
    world: World, fitted: FitResult
) -> None:
    told: list[str] = []
    adapter = copy.deepcopy(fitted.sizes[0].adapter)
    tell_precision(adapter, exported(world, adapter), told.append)
    tell_precision(
        IdentityAdapter(adapter.dim_in), exported(world, IdentityAdapter(16)), told.append
    )
    assert told == []
    coarse(replace(fitted.sizes[0], adapter=adapter))
    tell_precision(adapter, exported(world, adapter), told.append)
    (line,) = told
    assert "the file has float32 weights" in line
