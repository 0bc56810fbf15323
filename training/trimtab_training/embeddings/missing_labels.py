"""Labels of documents and queries that are no longer there: left out up to a share, and counted.

Documents go between one night's fit and the next; what was clicked or judged about them stays in
the labels. A query none of whose relevant documents is left has no answer to find, so it goes too.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import SPLITS, Qrels, name_some, relevant
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DataError

MAX_DROPPED = 0.1
"""Share of the labels that may name what has no vector, where nobody says otherwise."""

_EXAMPLES = 3


@dataclass(frozen=True)
class Dropped:
    """What was left out of a dataset's labels.

    Attributes:
        n_labels: Labels left out of each split, of as many.
        n_queries: Queries left out of each split, of as many.
        documents: Labelled documents without a vector.
        queries: Labelled queries without a vector.
    """

    n_labels: dict[str, tuple[int, int]]
    n_queries: dict[str, tuple[int, int]]
    documents: frozenset[str]
    queries: frozenset[str]

    @property
    def share(self) -> float:
        """Labels left out, as a share of all of them."""
        gone, of = self._totals()
        return gone / of

    def _totals(self) -> tuple[int, int]:
        """Count the labels left out of all splits, and all labels."""
        counts = self.n_labels.values()
        return sum(gone for gone, _ in counts), sum(of for _, of in counts)

    def sentence(self) -> str:
        """Say what is left out, and why."""
        gone, of = self._totals()
        lost = ", ".join(
            f"{count} of {total} {split}" for split, (count, total) in self.n_queries.items()
        )
        missing = [
            f"{name_some(names)} {what}"
            for what, names in (("documents", self.documents), ("queries", self.queries))
            if names
        ]
        return (
            f"{gone} of {of} labels ({gone / of:.1%}) are left out, and with them {lost} queries: "
            f"{' and '.join(missing)} have no vector"
        )

    def as_dict(self) -> dict[str, Any]:
        """Give the counts as JSON."""
        return {
            "labels": {split: list(counts) for split, counts in self.n_labels.items()},
            "queries": {split: list(counts) for split, counts in self.n_queries.items()},
            "share": self.share,
            "documents_without_vector": len(self.documents),
            "queries_without_vector": len(self.queries),
            "examples": sorted(self.documents | self.queries)[:_EXAMPLES],
        }


def keep_embedded(
    dataset: Dataset,
    embeddings: Embeddings,
    max_dropped: float = MAX_DROPPED,
    *,
    splits: Collection[str] = SPLITS,
) -> tuple[Dataset, Dropped | None]:
    """Leave out labels whose query or document has no vector.

    Args:
        dataset: The labels.
        embeddings: The vectors.
        max_dropped: Share of the labels that may be left out, from 0 to 1.
        splits: Splits to look at; the others stay as they are.

    Returns:
        The dataset with the labels that can be used, and what was left out; the same dataset and
        None where everything has a vector.

    Raises:
        DataError: More than that share has none, or a split is left without a query.
    """
    before = {name: qrels for name, qrels in dataset.splits.items() if name in splits}
    kept = {name: dict(_kept(qrels, embeddings)) for name, qrels in before.items()}
    if kept == before:
        return dataset, None
    dropped = _count(before, kept, embeddings)
    if dropped.share > max_dropped:
        raise DataError(
            f"{dropped.sentence()} in {embeddings.folder}; that is more than --max-dropped "
            f"{max_dropped:g} allows. Embed again, or allow a larger share"
        )
    for name, qrels in kept.items():
        if not qrels:
            raise DataError(f"no query of the {name} split is left: {dropped.sentence()}")
    return replace(dataset, splits={**dataset.splits, **kept}), dropped


def _kept(qrels: Qrels, embeddings: Embeddings) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the queries that can still be searched and answered, with the labels that count."""
    for query, labels in qrels.items():
        if query not in embeddings.queries.rows:
            continue
        known = {doc: grade for doc, grade in labels.items() if doc in embeddings.documents.rows}
        if known and bool(relevant(known)) == bool(relevant(labels)):
            yield query, known


def _count(before: dict[str, Qrels], after: dict[str, Qrels], embeddings: Embeddings) -> Dropped:
    """Count what is left out."""
    documents = {
        doc for qrels in before.values() for labels in qrels.values() for doc in labels
    } - embeddings.documents.rows.keys()
    queries = {
        query for qrels in before.values() for query in qrels
    } - embeddings.queries.rows.keys()
    sizes = [{name: _n_labels(qrels) for name, qrels in each.items()} for each in (before, after)]
    return Dropped(
        {name: (of - sizes[1][name], of) for name, of in sizes[0].items()},
        {name: (len(qrels) - len(after[name]), len(qrels)) for name, qrels in before.items()},
        frozenset(documents),
        frozenset(queries),
    )


def _n_labels(qrels: Qrels) -> int:
    """Count labels."""
    return sum(len(labels) for labels in qrels.values())
