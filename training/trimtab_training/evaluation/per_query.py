"""What changed for whom: per-query change as counts, and the queries that changed most, as texts.

Counts stay small however many queries there are; texts are read for a few queries alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trimtab_training.data.dataset import Dataset
from trimtab_training.retrieval.exact_search import Ranking
from trimtab_training.retrieval.metrics import HEADLINE_CUTOFF

HEADLINE = f"ndcg@{HEADLINE_CUTOFF}"
TIE = 1e-9

_FOUND = "hit@10"
_BIN = 0.1
_N_EXAMPLES = 10
_N_SHOWN = 3

PerQuery = dict[str, NDArray[np.float64]]
"""Every metric's value for every query."""


@dataclass(frozen=True)
class Queries:
    """Queries of one split and what they should find.

    Attributes:
        ids: The queries.
        relevant_rows: For each query, the grade of each relevant document, by row.
        document_ids: Names of the rows.
    """

    ids: Sequence[str]
    relevant_rows: Sequence[dict[int, float]]
    document_ids: Sequence[str]

    @property
    def is_answered(self) -> NDArray[np.bool_]:
        """Whether each query has a relevant document: the others tell nothing of any model."""
        return np.array([bool(wanted) for wanted in self.relevant_rows], dtype=bool)

    def first_relevant(self, place: int, ranking: Ranking) -> int | None:
        """Rank of a query's first relevant document; None where it stands below the depth."""
        for rank, row in enumerate(ranking[0][place], start=1):
            if int(row) in self.relevant_rows[place]:
                return rank
        return None


@dataclass(frozen=True)
class Searched:
    """What one model, or the raw query, finds: each query's ranking and metrics."""

    ranking: Ranking
    scores: PerQuery

    @property
    def has_ranking(self) -> bool:
        """Whether anything was found: not by raw queries that can't be searched with."""
        return bool((self.ranking[0] >= 0).any())


class Found(Struct, frozen=True, kw_only=True):
    """Counts of queries by which side has a relevant document among the first ten."""

    both: int
    only_adapted: int
    only_base: int
    neither: int


class Changes(Struct, frozen=True, kw_only=True):
    """Queries that changed, in bins of adapted minus base from -1 to 1, and the others: counts."""

    metric: str
    edges: list[float]
    counts: list[int]
    unchanged: int
    found: Found


class FoundDocument(Struct, frozen=True, kw_only=True):
    """A document that was wanted or found."""

    doc_id: str
    text: str
    is_relevant: bool


class Example(Struct, frozen=True, kw_only=True):
    """One query's nDCG@10, rank of the first relevant document (None: below 100), and finds."""

    query_id: str
    query: str
    base: float
    adapted: float
    rank_before: int | None
    rank_after: int | None
    relevant: list[FoundDocument]
    found_before: list[FoundDocument]
    found_after: list[FoundDocument]


class ComparedExample(Struct, frozen=True, kw_only=True):
    """The same of one query with raw query, A and B."""

    query_id: str
    query: str
    raw: float
    a: float
    b: float
    rank_raw: int | None
    rank_a: int | None
    rank_b: int | None
    relevant: list[FoundDocument]
    found_a: list[FoundDocument]
    found_b: list[FoundDocument]


def count_wins(base: PerQuery, adapted: PerQuery) -> tuple[int, int, int]:
    """Count the queries whose nDCG@10 rises, falls, and stays."""
    delta = adapted[HEADLINE] - base[HEADLINE]
    wins, losses = int((delta > TIE).sum()), int((delta < -TIE).sum())
    return wins, losses, len(delta) - wins - losses


def count_changes(base: PerQuery, adapted: PerQuery) -> Changes:
    """Count queries by how far their nDCG@10 moved, and by whether the first ten hold an answer.

    Args:
        base: Metrics of the raw queries.
        adapted: Metrics of the adapted ones.
    """
    delta = adapted[HEADLINE] - base[HEADLINE]
    is_changed = np.abs(delta) > TIE
    n_bins = round(2 / _BIN)
    edges = np.round(np.linspace(-1, 1, n_bins + 1), 6)
    # A change of exactly 0.1 must not fall to one side or the other by its last bit.
    counts, _ = np.histogram(np.round(delta[is_changed], 6), bins=edges)
    before, after = base[_FOUND] > 0, adapted[_FOUND] > 0
    return Changes(
        metric=HEADLINE,
        edges=edges.tolist(),
        counts=counts.tolist(),
        unchanged=int((~is_changed).sum()),
        found=Found(
            both=int((before & after).sum()),
            only_adapted=int((~before & after).sum()),
            only_base=int((before & ~after).sum()),
            neither=int((~before & ~after).sum()),
        ),
    )


def most_changed(
    queries: Queries, dataset: Dataset, before: Searched, after: Searched
) -> tuple[list[Example], list[Example]]:
    """Name the queries that lost most and those that gained most, with what they found.

    Args:
        queries: The queries.
        dataset: Where the texts are.
        before: What raw queries, or an older model, found.
        after: What the model found.

    Returns:
        Worst losses and best gains, at most ten each, the largest first.
    """
    delta = after.scores[HEADLINE] - before.scores[HEADLINE]
    order = np.argsort(delta, kind="stable")
    losses = [int(place) for place in order[:_N_EXAMPLES] if delta[place] < -TIE]
    order = np.argsort(-delta, kind="stable")
    gains = [int(place) for place in order[:_N_EXAMPLES] if delta[place] > TIE]
    examples = _examples(queries, dataset, {*losses, *gains}, before, after)
    return [examples[place] for place in losses], [examples[place] for place in gains]


def _examples(
    queries: Queries, dataset: Dataset, places: set[int], before: Searched, after: Searched
) -> dict[int, Example]:
    """Write down some queries, all texts read in one pass over each file."""
    shown = {
        place: (
            list(queries.relevant_rows[place])[:_N_SHOWN],
            *(
                [row for row in one.ranking[0][place][:_N_SHOWN].tolist() if row >= 0]
                for one in (before, after)
            ),
        )
        for place in places
    }
    ids = queries.document_ids
    texts = dataset.document_texts(
        {ids[row] for lists in shown.values() for rows in lists for row in rows}
    )
    asked = dataset.query_texts([queries.ids[place] for place in places])

    def documents(place: int, rows: list[int]) -> list[FoundDocument]:
        wanted = queries.relevant_rows[place]
        return [
            FoundDocument(doc_id=ids[row], text=texts.get(ids[row], ""), is_relevant=row in wanted)
            for row in rows
        ]

    return {
        place: Example(
            query_id=queries.ids[place],
            query=asked.get(queries.ids[place], ""),
            base=float(before.scores[HEADLINE][place]),
            adapted=float(after.scores[HEADLINE][place]),
            rank_before=queries.first_relevant(place, before.ranking),
            rank_after=queries.first_relevant(place, after.ranking),
            relevant=documents(place, wanted),
            found_before=documents(place, found_before),
            found_after=documents(place, found_after),
        )
        for place, (wanted, found_before, found_after) in shown.items()
    }
