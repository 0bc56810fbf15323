"""Models, each searched with once over one list of queries, and the raw query beside them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trimtab.model.adapter import Adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels, relevant
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.evaluation.per_query import Queries, Searched
from trimtab_training.evaluation.record import ComparedModel
from trimtab_training.retrieval.exact_search import Ranking, search
from trimtab_training.retrieval.metrics import DEPTH, measure

NO_ADAPTER = ("none", "raw")
"""Words for the raw query in place of a model."""

_DOCUMENTS_AT_ONCE = 6400
"""Of several queries of a second look, whose vectors are held at a time."""

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


class Searcher:
    """Ranks documents for one list of queries, once for each model.

    Attributes:
        queries: The queries.
        vectors: Their raw vectors.
    """

    def __init__(self, qrels: Qrels, embeddings: Embeddings, *, is_comparable: bool) -> None:
        """Gather queries and labels, and whether raw queries mean something to the index."""
        self._is_comparable = is_comparable
        self._documents = embeddings.documents
        rows_of = embeddings.documents.rows
        relevant_rows = [
            {rows_of[doc_id]: grade for doc_id, grade in relevant(labels).items()}
            for labels in qrels.values()
        ]
        self.queries = Queries(list(qrels), relevant_rows, embeddings.documents.ids)
        self.vectors = embeddings.queries.take_ids(self.queries.ids)
        self._found: dict[tuple[int, str], Searched] = {}

    def search(self, adapter: Adapter | None, similarity: str) -> Searched:
        """Rank with a model, or the raw query, exactly, as an index of this similarity does."""
        key = (id(adapter), similarity)
        if key not in self._found:
            if adapter or self._is_comparable:
                vectors = adapter.transform(self.vectors) if adapter else self.vectors
                self._found[key] = self.search_vectors(vectors, similarity)
            else:  # raw queries of another encoder than the documents find nothing
                n_queries = len(self.vectors)
                ranking = np.full((n_queries, 1), -1), np.zeros((n_queries, 1), dtype=np.float32)
                self._found[key] = self._measured(ranking)
        return self._found[key]

    def search_vectors(
        self, vectors: Float[np.ndarray, "queries dim"], similarity: str
    ) -> Searched:
        """Rank with vectors that stand for the queries, one each, in their order."""
        return self._measured(search(vectors, self._documents, depth=DEPTH, similarity=similarity))

    def look_again(self, adapter: Adapter) -> Searched:
        """Search with a model that has a second look, and put the best in its order."""
        key = (id(adapter), "second look")
        if key not in self._found:
            assert adapter.second_look is not None  # noqa: S101 - callers have looked
            look, adapted = adapter.second_look, adapter.transform(self.vectors)
            similarity = adapter.manifest.similarity
            if look.depth <= DEPTH:
                ranking = self.search(adapter, similarity).ranking
            else:
                ranking = search(adapted, self._documents, depth=look.depth, similarity=similarity)
            rows, scores = ranking[0].copy(), ranking[1].copy()
            depth = min(look.depth, rows.shape[1])
            step = max(1, _DOCUMENTS_AT_ONCE // depth)
            for at in np.split(np.arange(len(rows)), range(step, len(rows), step)):
                best = rows[at, :depth]
                found = self._documents.take(best.ravel()).reshape(*best.shape, -1)
                anew = look.rescore(self.vectors[at], adapted[at], found)
                order = np.argsort(-anew, axis=1, kind="stable")
                rows[at, :depth] = np.take_along_axis(best, order, axis=1)
                scores[at, :depth] = np.take_along_axis(anew, order, axis=1)
            rows, scores = rows[:, :DEPTH], scores[:, :DEPTH]
            self._found[key] = self._measured((rows, scores))
        return self._found[key]

    def _measured(self, ranking: Ranking) -> Searched:
        """Put what a ranking is worth beside it."""
        return Searched(ranking, measure(ranking[0], self.queries.relevant_rows))

    def search_with(self, a: Side, b: Side) -> dict[str, Searched]:
        """Rank with ``a``, with ``b`` and with ``raw`` queries, each as its index compares."""
        usual = b.similarity or a.similarity or "cosine"
        return {
            "raw": self.search(None, usual),
            "a": self.search(a.adapter, a.similarity or usual),
            "b": self.search(b.adapter, b.similarity or usual),
        }
