"""Shares for cross-fitting: which queries each fit leaves out, and what they stand for.

A query that is left out while other queries of its documents are trained on stands for future
queries about known documents (*seen*). One whose documents are left out with it stands for
queries about documents that nobody has asked for yet (*unseen*). Both kinds come up in real
traffic, so every fold holds both, in a proportion that follows the index: where every document
has training queries, nothing unseen is left to ask for.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trimtab_training.data.qrels import Qrels
from trimtab_training.data.splits import group_by_document, unit_hash


@dataclass(frozen=True)
class Fold:
    """One split of the training queries.

    Attributes:
        train: Labels to train on.
        held_out: Labels to validate on.
    """

    train: Qrels
    held_out: Qrels


def make_folds(
    qrels: Qrels,
    *,
    n_folds: int,
    unlabelled_share: float,
    seed: int,
    duplicates: Mapping[str, str] | None = None,
) -> list[Fold]:
    """Split queries so that each is held out once.

    Args:
        qrels: Labels of the training queries, each with a relevant document.
        n_folds: Number of shares; fewer where there are fewer queries.
        unlabelled_share: Share of the index's documents without a training query. Half that
            share of the documents is held out with all its queries.
        seed: Makes another split.
        duplicates: Names one query for all that are the same: they are held out together, since
            whoever has trained on one has trained on all.
    """
    duplicates = duplicates or {}
    groups = group_by_document(qrels)
    sizes = Counter(groups.values())
    n_folds = max(2, min(n_folds, len(qrels)))
    assigned: dict[str, int] = {}
    counts = np.zeros(n_folds, dtype=np.int64)
    for query in sorted(qrels, key=lambda name: unit_hash(name, f"order {seed}")):
        group = groups[query]
        is_small = sizes[group] <= len(qrels) // 2  # what is left must be enough to train on
        together = is_small and unit_hash(group, f"together {seed}") < unlabelled_share / 2
        key = group if together else duplicates.get(query, query)
        if key not in assigned:
            assigned[key] = int(counts.argmin())
        counts[assigned[key]] += 1
        assigned[query] = assigned[key]
    return [
        Fold(
            {query: labels for query, labels in qrels.items() if assigned[query] != fold},
            {query: labels for query, labels in qrels.items() if assigned[query] == fold},
        )
        for fold in range(n_folds)
        if any(assigned[query] == fold for query in qrels)
    ]
