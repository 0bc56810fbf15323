"""Splits of labelled queries: made where there are none, and held apart."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from trimtab_training.data.qrels import SPLITS, Qrels, name_some, only_relevant, relevant_documents
from trimtab_training.errors import DataError

MIN_DEV_QUERIES = 100
"""Dev queries from which on a dev split judges alone. At a spread of .3 in what one query gains,
fewer leave a standard error above .03, more than most adapters give."""

TEST_SHARE = 0.2
"""Share of the labelled queries that a made test split takes, as nearly as it can."""


def split_qrels(
    qrels: Qrels, *, by: str, test_share: float = TEST_SHARE, key: str = "test"
) -> dict[str, Qrels]:
    """Split labels into train and test by a stable hash, whatever their order.

    Where queries hang together by a popular document, chance alone may take nearly all of them or
    nearly none: then groups are taken in the order of their hashes until the share is full, and
    those that would overfill it are trained on.

    Args:
        qrels: Labels of all queries.
        by: ``document`` keeps all queries that share a relevant document, directly or through
            others, on one side, so that no relevant test document was seen in training;
            ``query`` splits queries alone.
        test_share: Share of the test split, from 0 to 1; a few large groups may leave it farther
            off than :func:`is_near_share` allows.
        key: Makes another split of the same labels.

    Raises:
        DataError: A side would be empty.
    """
    if by not in {"document", "query"}:
        raise DataError(f"can't split by {by!r}; expected 'document' or 'query'")
    groups = group_by_document(qrels) if by == "document" else {query: query for query in qrels}
    sizes = Counter(groups.values())
    place = {group: unit_hash(group, key) for group in sizes}
    chosen = {group for group in sizes if place[group] < test_share}
    if not is_near_share(sum(sizes[group] for group in chosen), len(qrels), test_share):
        chosen = _fill(sizes, sorted(sizes, key=place.__getitem__), test_share * len(qrels))
    test = {query: qrels[query] for query in qrels if groups[query] in chosen}
    train = {query: qrels[query] for query in qrels if query not in test}
    if not test or not train:
        raise DataError(
            f"{len(qrels)} queries can't be split by {by} into train and test "
            f"({len(train)} and {len(test)}); add queries, or split by "
            f"{'query' if by == 'document' else 'document'}"
        )
    return {"train": train, "test": test}


def is_near_share(n_test: int, n_queries: int, test_share: float = TEST_SHARE) -> bool:
    """Tell whether a test split has its share of the queries, give or take half of that."""
    wanted = test_share * n_queries
    return abs(n_test - wanted) <= wanted / 2


def _fill(sizes: Mapping[str, int], order: Sequence[str], wanted: float) -> set[str]:
    """Take groups in some order until there are as many queries as wanted, or nearly.

    Where every group is too large, the smallest is taken.
    """
    chosen: set[str] = set()
    n_taken = 0
    for group in order:
        if n_taken < wanted and sizes[group] <= wanted and n_taken + sizes[group] <= 1.5 * wanted:
            chosen.add(group)
            n_taken += sizes[group]
    return chosen or {min(order, key=sizes.__getitem__)}


def group_by_document(qrels: Qrels) -> dict[str, str]:
    """Name for every query the group of queries that it shares relevant documents with.

    Returns:
        ``{query_id: group}``, where queries have one group if a chain of shared relevant
        documents joins them; a group is named by its least query id.
    """
    parent = {query: query for query in qrels}

    def find(query: str) -> str:
        while parent[query] != query:
            parent[query] = parent[parent[query]]
            query = parent[query]
        return query

    first_with: dict[str, str] = {}
    for query, labels in only_relevant(qrels).items():
        for doc_id in labels:
            one, other = find(query), find(first_with.setdefault(doc_id, query))
            parent[max(one, other)] = min(one, other)
    return {query: find(query) for query in qrels}


def unit_hash(text: str, key: str) -> float:
    """Map a text to a number in [0, 1) that never changes."""
    digest = hashlib.sha256(f"{key}\x00{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def refuse_shared_queries(splits: dict[str, Qrels]) -> None:
    """Refuse a query that stands in two splits: it would be trained on and tested.

    Raises:
        DataError: There is one.
    """
    for position, one in enumerate(SPLITS):
        for other in SPLITS[position + 1 :]:
            shared = set(splits.get(one, {})) & set(splits.get(other, {}))
            if shared:
                raise DataError(
                    f"{name_some(shared)} queries stand in both {one} and {other}; "
                    "keep each query in one split"
                )


def has_seen_document(qrels: Qrels, training: Qrels) -> np.ndarray:
    """Tell for each query whether one of its relevant documents is relevant in training.

    Returns:
        Booleans in the order of ``qrels``.
    """
    known = relevant_documents(training)
    return np.array(
        [not known.isdisjoint(labels) for labels in only_relevant(qrels).values()], dtype=bool
    )
