"""The models of a comparison: loaded, and each searched with once over one list of queries."""

from dataclasses import dataclass

from trimtab.model.adapter import Adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.evaluation.evaluate import find_relevant_rows, found_nothing
from trimtab_training.evaluation.per_query import PerQuery
from trimtab_training.evaluation.record import ComparedModel
from trimtab_training.retrieval.exact_search import Ranking, search
from trimtab_training.retrieval.metrics import DEPTH, measure

NO_ADAPTER = ("none", "raw")
"""Words for the raw query in place of a model."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What the models are called, in the order in which they are named."""


@dataclass(frozen=True)
class Side:
    """One of the two models, or the raw query.

    Attributes:
        name: As the user has named it.
        adapter: The model; None for the raw query.
        trained_on: What it was trained on, or None where that is not known.
    """

    name: str
    adapter: Adapter | None
    trained_on: TrainedOn | None

    @classmethod
    def load(cls, name: str, dataset: Dataset) -> "Side":
        """Load a model, and look up what it was trained on.

        That stands beside it, or is this very dataset. Nothing was trained for the raw query.

        Raises:
            trimtab.errors.ModelError: The model can't be loaded.
        """
        if name in NO_ADAPTER:
            return cls(name, None, TrainedOn.nothing())
        adapter = Adapter.load(name)
        return cls(name, adapter, TrainedOn.find(name, adapter.manifest.training, dataset))

    @property
    def is_known(self) -> bool:
        """Tell whether all that it was trained on is known."""
        return self.trained_on is not None and self.trained_on.is_complete

    @property
    def is_migration(self) -> bool:
        """Tell whether its queries are of another encoder than the documents."""
        return self.adapter is not None and self.adapter.manifest.use == "migration"

    @property
    def similarity(self) -> str | None:
        """How its index compares; None for the raw query, which takes the other's."""
        return self.adapter.manifest.similarity if self.adapter else None

    def describe(self) -> ComparedModel:
        """Say what it is."""
        model, kind = None, "raw query"
        if self.adapter:
            model, kind = self.adapter.mark, self.adapter.manifest.kind
        return ComparedModel(name=self.name, model=model, kind=kind)


@dataclass(frozen=True)
class Measured:
    """Rankings and metrics of A, B and the raw query, over one list of queries.

    Attributes:
        query_ids: The queries.
        relevant_rows: For each query, the grade of each relevant document, by row.
        rankings: ``a``, ``b`` and ``raw``.
        scores: The same three's metrics of every query.
    """

    query_ids: list[str]
    relevant_rows: list[dict[int, float]]
    rankings: dict[str, Ranking]
    scores: dict[str, PerQuery]


class Searcher:
    """Ranks documents for one list of queries, once for each model."""

    def __init__(self, qrels: Qrels, embeddings: Embeddings, *, is_comparable: bool) -> None:
        """Gather queries and labels, and whether raw queries mean something to the index."""
        self._is_comparable = is_comparable
        self._query_ids = list(qrels)
        self._queries = embeddings.queries.take_ids(self._query_ids)
        self._relevant_rows = find_relevant_rows(qrels, embeddings)
        self._embeddings = embeddings
        self._found: dict[tuple[int, str], tuple[Ranking, PerQuery]] = {}

    def measure(self, a: Side, b: Side) -> Measured:
        """Give the rankings of A, of B and of raw queries, and what each is worth."""
        usual = b.similarity or a.similarity or "cosine"
        found = {
            "raw": self._search(None, usual),
            "a": self._search(a.adapter, usual),
            "b": self._search(b.adapter, usual),
        }
        return Measured(
            self._query_ids,
            self._relevant_rows,
            {key: ranking for key, (ranking, _) in found.items()},
            {key: scores for key, (_, scores) in found.items()},
        )

    def _search(self, adapter: Adapter | None, usual: str) -> tuple[Ranking, PerQuery]:
        """Rank with one model, as its index compares."""
        similarity = adapter.manifest.similarity if adapter else usual
        key = (id(adapter), similarity)
        if key not in self._found:
            ranking = self._rank(adapter, similarity)
            self._found[key] = ranking, measure(ranking[0], self._relevant_rows)
        return self._found[key]

    def _rank(self, adapter: Adapter | None, similarity: str) -> Ranking:
        """Rank every query; raw queries of another encoder than the documents find nothing."""
        documents = self._embeddings.documents
        if adapter is None and not self._is_comparable:
            return found_nothing(len(self._queries))
        vectors = adapter.transform(self._queries) if adapter else self._queries
        return search(vectors, documents, depth=DEPTH, similarity=similarity)
