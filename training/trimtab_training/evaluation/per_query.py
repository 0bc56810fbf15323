"""What changed for whom: per-query change as counts, and the queries that changed most, as texts.

Counts stay small however many queries there are; texts are read for a few queries alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_training.data.dataset import Dataset
from trimtab_training.retrieval.exact_search import Ranking

HEADLINE = "ndcg@10"
TIE = 1e-9

_FOUND = "hit@10"
_BIN = 0.1
_N_EXAMPLES = 10
_N_SHOWN = 3

PerQuery = dict[str, NDArray[np.float64]]
"""Every metric's value for every query."""


@dataclass(frozen=True)
class Searched:
    """Queries of one split and what they found.

    Attributes:
        query_ids: The queries.
        relevant_rows: For each query, the grade of each relevant document, by row.
        document_ids: Names of the rows.
        base: Ranking of the raw queries.
        adapted: Ranking of the adapted queries.
    """

    query_ids: Sequence[str]
    relevant_rows: Sequence[dict[int, float]]
    document_ids: Sequence[str]
    base: Ranking
    adapted: Ranking


def count_changes(base: PerQuery, adapted: PerQuery) -> dict[str, Any]:
    """Count queries by how far their nDCG@10 moved, and by whether the first ten hold an answer.

    Args:
        base: Metrics of the raw queries.
        adapted: Metrics of the adapted ones.

    Returns:
        ``edges`` of bins of adapted minus base from -1 to 1; ``counts`` of the queries in each that
        changed; ``unchanged``, the others; ``found``, queries by which side has a relevant document
        among the first ten: ``both``, ``only_adapted``, ``only_base``, ``neither``.
    """
    delta = adapted[HEADLINE] - base[HEADLINE]
    is_changed = np.abs(delta) > TIE
    n_bins = round(2 / _BIN)
    edges = np.round(np.linspace(-1, 1, n_bins + 1), 6)
    # A change of exactly 0.1 must not fall to one side or the other by its last bit.
    counts, _ = np.histogram(np.round(delta[is_changed], 6), bins=edges)
    before, after = base[_FOUND] > 0, adapted[_FOUND] > 0
    return {
        "metric": HEADLINE,
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "unchanged": int((~is_changed).sum()),
        "found": {
            "both": int((before & after).sum()),
            "only_adapted": int((~before & after).sum()),
            "only_base": int((before & ~after).sum()),
            "neither": int((~before & ~after).sum()),
        },
    }


def most_changed(
    searched: Searched, dataset: Dataset, base: PerQuery, adapted: PerQuery
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Name the queries that lost most and those that gained most, with what they found.

    Args:
        searched: Queries and rankings.
        dataset: Where the texts are.
        base: Metrics of the raw queries.
        adapted: Metrics of the adapted ones.

    Returns:
        Worst losses and best gains, at most ten each, the largest first.
    """
    before, after = base[HEADLINE], adapted[HEADLINE]
    delta = after - before
    order = np.argsort(delta, kind="stable")
    losses = [int(place) for place in order[:_N_EXAMPLES] if delta[place] < -TIE]
    order = np.argsort(-delta, kind="stable")
    gains = [int(place) for place in order[:_N_EXAMPLES] if delta[place] > TIE]
    examples = {
        place: {
            "query_id": searched.query_ids[place],
            "query": "",
            "base": float(before[place]),
            "adapted": float(after[place]),
            "rank_before": first_relevant(searched, place, searched.base),
            "rank_after": first_relevant(searched, place, searched.adapted),
            **_documents(searched, place),
        }
        for place in {*losses, *gains}
    }
    _add_texts(list(examples.values()), dataset)
    return [examples[place] for place in losses], [examples[place] for place in gains]


def first_relevant(searched: Searched, place: int, ranking: Ranking) -> int | None:
    """Rank of the first relevant document, or None where it stands below the depth of the run."""
    for rank, row in enumerate(ranking[0][place], start=1):
        if int(row) in searched.relevant_rows[place]:
            return rank
    return None


def _documents(searched: Searched, place: int) -> dict[str, list[dict[str, Any]]]:
    """Name the documents that were wanted and the first ones found."""
    wanted = searched.relevant_rows[place]
    lists = {
        "relevant": list(wanted)[:_N_SHOWN],
        "found_before": searched.base[0][place][:_N_SHOWN],
        "found_after": searched.adapted[0][place][:_N_SHOWN],
    }
    return {
        name: [
            {
                "doc_id": searched.document_ids[row],
                "text": "",
                "is_relevant": int(row) in wanted,
            }
            for row in rows
            if row >= 0
        ]
        for name, rows in lists.items()
    }


def _add_texts(examples: list[dict[str, Any]], dataset: Dataset) -> None:
    """Read all texts in one pass over each file."""
    found = [
        document
        for example in examples
        for name in ("relevant", "found_before", "found_after")
        for document in example[name]
    ]
    texts = dataset.document_texts({document["doc_id"] for document in found})
    queries = dataset.query_texts([example["query_id"] for example in examples])
    for document in found:
        document["text"] = texts.get(document["doc_id"], "")
    for example in examples:
        example["query"] = queries.get(example["query_id"], "")
