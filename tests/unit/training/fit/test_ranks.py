"""Ranks of the linear part: narrow ones are nearest, and ship only where nothing is lost."""

from dataclasses import replace

import pytest
import torch

from tests.support.fits import RECIPES
from tests.support.worlds import World
from trimtab_training.adapters import ComposedAdapter, LinearAdapter, load_adapter, save_adapter
from trimtab_training.errors import ConfigError
from trimtab_training.fit.fit import fit_adapter
from trimtab_training.fit.ranks import (
    Size,
    check_budget,
    choose_size,
    ranks_to_try,
    weight_bytes,
)
from trimtab_training.fit.recipe import Recipe

DIM = 24
BYTES = {4: 100, 8: 200, 0: 300}


def trained(dim_out: int = DIM, rank: int = 6) -> ComposedAdapter:
    """An adapter whose difference is of a low rank, as trained ones nearly are."""
    torch.manual_seed(0)
    adapter = ComposedAdapter(DIM, dim_out, hidden=5)
    with torch.no_grad():
        adapter.difference.copy_(torch.randn(DIM, rank) @ torch.randn(rank, dim_out) / DIM)
        adapter.weight_out.normal_(std=0.1)
        adapter.bias.normal_(std=0.1)
        adapter.blend.fill_(0.5)
    return adapter.eval()


def queries(count: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.nn.functional.normalize(torch.randn(count, DIM, generator=generator), dim=1)


@torch.no_grad()
def test_that_a_rank_that_is_high_enough_changes_nothing() -> None:
    adapter = trained(rank=6)
    narrow = adapter.of_rank(6, queries())
    assert not narrow.training
    torch.testing.assert_close(narrow(queries()), adapter(queries()), atol=1e-5, rtol=0)


@torch.no_grad()
def test_that_no_matrix_of_a_rank_shifts_queries_nearer_to_the_whole() -> None:
    """Two ways to the same least: the singular values that are cut off."""
    adapter = trained(rank=12)
    narrow = adapter.of_rank(4, queries())
    shifts = queries() @ adapter.difference
    gap = shifts - queries() @ narrow.difference_in @ narrow.difference_out
    cut_off = torch.linalg.svdvals(shifts)[4:]
    assert float((gap**2).sum()) == pytest.approx(float((cut_off**2).sum()), rel=1e-3)


@torch.no_grad()
def test_that_a_lower_rank_is_part_of_a_higher_one() -> None:
    adapter = trained(rank=12)
    straight = adapter.of_rank(3, queries())
    by_way = adapter.of_rank(8, queries()).of_rank(3, queries())
    torch.testing.assert_close(straight(queries()), by_way(queries()), atol=1e-5, rtol=0)


@torch.no_grad()
def test_that_a_narrow_adapter_is_saved_and_opened(tmp_path) -> None:
    narrow = trained().of_rank(4, queries())
    narrow.calibrate(queries())
    save_adapter(narrow, tmp_path)
    opened, _ = load_adapter(tmp_path)
    assert isinstance(opened, ComposedAdapter)
    assert opened.rank == 4
    assert opened.is_calibrated
    torch.testing.assert_close(opened.eval()(queries()), narrow(queries()))


def sizes(losses: dict[int, float], error: float = 0.0025) -> list[Size]:
    """An adapter at some ranks, and whole, by what each loses on held-out queries."""
    return [
        Size(rank, trained(), gain=0.3 - loss, loss=loss, loss_error=error if rank else 0.0)
        for rank, loss in {**losses, 0: 0.0}.items()
    ]


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ({4: -0.001, 8: 0.0}, 4),
        ({4: 0.0009, 8: 0.0}, 4),
        ({4: 0.0011, 8: 0.0005}, 8),
        ({4: 0.02, 8: 0.0011}, 0),
    ],
)
def test_that_the_lowest_rank_that_loses_nothing_is_chosen(losses: dict, chosen: int) -> None:
    assert choose_size(sizes(losses), BYTES, Recipe()).rank == chosen


def test_that_a_small_loss_that_all_queries_share_is_a_loss() -> None:
    assert choose_size(sizes({4: 0.0009}, error=0.0), BYTES, Recipe()).rank == 0


def test_that_the_best_within_the_budget_is_chosen() -> None:
    some = sizes({4: 0.2, 8: 0.1})
    tight = replace(Recipe(), max_megabytes=0.0002)
    assert choose_size(some, BYTES, tight).rank == 8
    assert choose_size(some, BYTES, replace(tight, max_megabytes=0.0001)).rank == 4
    assert choose_size(some, BYTES, replace(tight, max_megabytes=1e-6)).rank == 4  # nothing is


def test_that_only_ranks_which_save_bytes_are_tried() -> None:
    recipe = replace(Recipe(), ranks=(2, 8, 12, 16))
    assert ranks_to_try(trained(), recipe, 100) == [2, 8]
    assert ranks_to_try(trained(), recipe, 5) == [2]  # five queries tell five directions apart
    assert ranks_to_try(LinearAdapter(DIM), recipe, 100) == []
    assert ranks_to_try(trained(dim_out=30), recipe, 100) == []  # the start is a matrix anyway


def test_that_a_budget_below_the_smallest_size_is_refused_with_both_numbers() -> None:
    recipe = replace(Recipe(), ranks=(2,), max_megabytes=0.0001)
    smallest = weight_bytes(trained(), 2)
    assert smallest == 2 * DIM * (2 + 5)
    with pytest.raises(ConfigError, match=r"is 0\.0001, but .* has 0\.000336; raise it"):
        check_budget(trained(), [2], recipe)
    check_budget(trained(), [2], replace(recipe, max_megabytes=smallest / 1e6))


def test_that_a_budget_for_a_kind_of_one_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="'max_megabytes' goes with adapter 'auto'"):
        replace(Recipe(), adapter="linear", max_megabytes=1.0)


def test_narrowing_takes_one_thread_and_gives_the_others_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that share a small factorisation spin: a busy machine took 100 times as long."""
    seen = []
    of_rank = ComposedAdapter.of_rank

    def watched(
        self: ComposedAdapter, rank: int, queries: torch.Tensor | None = None
    ) -> ComposedAdapter:
        if queries is not None:
            seen.append(torch.get_num_threads())
        return of_rank(self, rank, queries)

    monkeypatch.setattr(ComposedAdapter, "of_rank", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fit_adapter(world.dataset, world.embeddings, replace(RECIPES["narrow"], epochs=2, folds=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}
