"""How narrow the linear part of an adapter may be: the cheapest rank that loses nothing.

A default fit trains a full matrix, the easiest to train. What it has learned is mostly of a far
lower rank, and two narrow matrices are fewer bytes to read for every query. So ranks are tried on
the adapters of the folds, whose held-out queries say what each one loses; training takes no part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab_training.adapters import Adapter, ComposedAdapter
from trimtab_training.errors import ConfigError
from trimtab_training.fit.recipe import Recipe

LOSS = 0.001
"""Most that a lower rank may lose, in nDCG@10 on held-out queries."""

MOST_QUERIES = 512
"""Training queries whose shifts tell what a lower rank keeps: no rank is higher."""

_MEGABYTE = 1e6
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Size:
    """One size of the adapter that a fit has made.

    Attributes:
        rank: Rank of the linear part; 0 for any.
        adapter: The adapter.
        gain: Its held-out gain over the base.
        loss: What it loses to the whole adapter on the same held-out queries.
        loss_error: Standard error of that.
    """

    rank: int
    adapter: Adapter
    gain: float
    loss: float
    loss_error: float

    @property
    def is_harmless(self) -> bool:
        """Tell whether it loses nothing to speak of."""
        return self.loss <= 0 or self.loss <= min(LOSS, self.loss_error)


def ranks_to_try(adapter: Adapter, recipe: Recipe, n_queries: int) -> list[int]:
    """List the ranks whose two matrices are smaller than the whole, the lowest first.

    Args:
        adapter: An adapter as the fit trains it.
        recipe: The knobs.
        n_queries: Training queries, which tell at most so many directions apart.

    Returns:
        None at all where there is no linear part of full rank that a file would hold alone.
    """
    if not isinstance(adapter, ComposedAdapter) or adapter.rank or adapter.has_start:
        return []
    whole = weight_bytes(adapter, 0)
    return [
        rank
        for rank in sorted(set(recipe.ranks))
        if rank <= min(n_queries, MOST_QUERIES) and weight_bytes(adapter, rank) < whole
    ]


def weight_bytes(adapter: Adapter, rank: int, *, may_round: bool = True) -> int:
    """Count the bytes of an adapter's weights in a model file.

    Args:
        adapter: The adapter.
        rank: Rank of its linear part; 0 for any.
        may_round: Whether 8 bits do for its weights, where there can be such a file.
    """
    if not isinstance(adapter, ComposedAdapter):
        n_weights = sum(value.numel() for value in adapter.parameters()) + adapter.start.numel()
        return _FLOAT_BYTES * n_weights
    both = adapter.dim_in + adapter.dim_out
    n_weights = both * adapter.hidden + adapter.dim_in * adapter.n_centroids
    n_weights += both * rank if rank else adapter.dim_in * adapter.dim_out
    n_weights += adapter.start.numel()
    is_rounded = may_round and adapter.normalised and not adapter.has_start
    return n_weights if is_rounded else _FLOAT_BYTES * n_weights


def choose_size(sizes: Sequence[Size], n_bytes: Mapping[int, int], recipe: Recipe) -> Size:
    """Choose the smallest adapter that loses nothing worth having, within the budget.

    It is the one of fewest bytes whose mean loss is under :data:`LOSS` and within a standard error
    of none. Where the budget rules that out, it is the best of what the budget allows; where that
    is nothing, the smallest.

    Args:
        sizes: The adapters.
        n_bytes: Bytes of weights by rank; 0 is the whole adapter.
        recipe: Has the budget.

    Source:
        The cheapest within a standard error of the best: Breiman et al. (1984), Classification and
        Regression Trees, section 3.4.3.
    """
    allowed = [size for size in sizes if within_budget(n_bytes[size.rank], recipe)]
    if harmless := [size for size in allowed if size.is_harmless]:
        return min(harmless, key=lambda size: n_bytes[size.rank])
    if allowed:
        return max(allowed, key=lambda size: size.gain)
    return min(sizes, key=lambda size: n_bytes[size.rank])


def check_budget(adapter: Adapter, ranks: Sequence[int], recipe: Recipe) -> None:
    """Refuse a budget that no size is within, before anything is trained.

    Args:
        adapter: An adapter as the fit trains it.
        ranks: Ranks of its linear part that will be tried.
        recipe: The knobs.

    Raises:
        ConfigError: The smallest adapter is over the budget.
    """
    smallest = min(weight_bytes(adapter, rank) for rank in (*ranks, 0))
    if not within_budget(smallest, recipe):
        raise ConfigError(
            f"recipe key 'max_megabytes' is {recipe.max_megabytes:g}, but the smallest adapter of "
            f"these widths has {smallest / _MEGABYTE:.3g}; raise it, or lower 'hidden' (now "
            f"{recipe.hidden}) or 'ranks' (now {list(recipe.ranks)})"
        )


def within_budget(n_bytes: int, recipe: Recipe) -> bool:
    """Tell whether weights of some bytes may be shipped."""
    return not recipe.max_megabytes or n_bytes <= recipe.max_megabytes * _MEGABYTE
