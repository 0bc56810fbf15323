"""Samples: the same whatever the order, nested, and covering the corpus."""

import numpy as np

from trimtab_training.embeddings.store import VectorTable
from trimtab_training.synthesis.sampling import draw_from_clusters, draw_uniformly


def clustered(sizes: list[int], dim: int = 8) -> VectorTable:
    """Make clusters of vectors around the axes."""
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [np.eye(dim)[at] + 0.05 * rng.standard_normal((n, dim)) for at, n in enumerate(sizes)]
    )
    ids = [f"c{at}-{n}" for at, size in enumerate(sizes) for n in range(size)]
    return VectorTable(ids, rows.astype(np.float32), "documents")


def test_uniform_draw_does_not_depend_on_the_order_and_is_nested() -> None:
    ids = [f"d{n}" for n in range(100)]
    small, large = draw_uniformly(ids, 10, 0), draw_uniformly(ids[::-1], 40, 0)
    assert large[:10] == small
    assert draw_uniformly(ids, 10, 1) != small
    assert sorted(draw_uniformly(ids, None, 0)) == sorted(ids)


def test_small_subjects_have_their_share_of_a_clustered_draw() -> None:
    table = clustered([400, 45, 45, 45])
    drawn = draw_from_clusters(table.ids, table, 40, 0)
    shares = [sum(name.startswith(f"c{at}-") for name in drawn) for at in range(4)]
    uniform = draw_uniformly(table.ids, 40, 0)
    assert min(shares) >= 2
    assert shares[0] < sum(name.startswith("c0-") for name in uniform)


def test_clustered_draw_is_nested_complete_and_without_repeats() -> None:
    table = clustered([100, 60, 50])
    everything = draw_from_clusters(table.ids, table, None, 0)
    assert sorted(everything) == sorted(table.ids)
    assert draw_from_clusters(table.ids, table, 25, 0) == everything[:25]


def test_few_documents_are_drawn_without_clusters() -> None:
    table = clustered([10])
    assert draw_from_clusters(table.ids, table, 4, 0) == draw_uniformly(table.ids, 4, 0)
