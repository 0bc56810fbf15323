"""Who teaches and who judges: queries that an LLM wrote teach, real queries judge.

Scores on synthetic queries are not scores on real ones. So where a dataset has both, adapters are
trained on both, the synthetic ones with a weight, and everything that is chosen, that weight too,
is chosen by real held-out queries. Where it has only the one kind, that kind does both.
"""

from dataclasses import dataclass

from training.config import Recipe
from training.dataset import Dataset, Qrels, relevant, relevant_documents
from training.embeddings import Embeddings
from training.errors import DataError
from training.folds import Fold, make_folds

MIN_QUERIES = 2


@dataclass(frozen=True)
class Roles:
    """The training and dev queries of a fit by what they are for.

    Attributes:
        train: All training queries with a relevant document.
        real: Those that may be held out to judge: the real ones, or all where there is one kind.
        dev: Dev queries with a relevant document; only real ones where there are any.
        synthetic: Training queries that only teach: an LLM wrote them, and there are real ones.
        judges: Whose queries judge: ``real``, ``synthetic`` or ``mixed``.
    """

    train: Qrels
    real: Qrels
    dev: Qrels
    synthetic: frozenset[str]
    judges: str

    @property
    def is_mixed(self) -> bool:
        """Tell whether there are synthetic queries to weigh against real ones."""
        return bool(self.synthetic)

    def make_folds(self, embeddings: Embeddings, recipe: Recipe, seed: int) -> list[Fold]:
        """Split the queries that may judge; the synthetic ones teach in every fold.

        Args:
            embeddings: Tells how many documents have no training query.
            recipe: Says how many folds.
            seed: Makes another split.
        """
        n_documents = len(embeddings.documents)
        taught = {query: self.train[query] for query in sorted(self.synthetic)}
        folds = make_folds(
            self.real,
            n_folds=recipe.folds,
            unlabelled_share=1 - len(relevant_documents(self.train)) / n_documents,
            seed=seed,
        )
        return [Fold({**fold.train, **taught}, fold.held_out) for fold in folds]

    def only_real(self, train: Qrels) -> Qrels:
        """Leave out the queries that only teach."""
        return {query: labels for query, labels in train.items() if query not in self.synthetic}


def assign_roles(dataset: Dataset) -> Roles:
    """Tell the training and dev queries apart by what they are for.

    Raises:
        DataError: Fewer than two usable training queries.
    """
    train = _usable(dataset.split("train"))
    if len(train) < MIN_QUERIES:
        raise DataError(
            f"dataset {dataset.name} has {len(train)} training queries with a relevant "
            f"document; a fit needs at least {MIN_QUERIES}, and pays from a few hundred"
        )
    written = dataset.synthetic
    dev = _usable(dataset.splits.get("dev", {}))
    real_dev = {query: labels for query, labels in dev.items() if query not in written}
    real = {query: labels for query, labels in train.items() if query not in written}
    if len(real) < MIN_QUERIES:  # nothing to weigh against, and nobody real to hold out
        kind = "real" if real_dev else "synthetic" if not real else "mixed"
        return Roles(train, train, real_dev or dev, frozenset(), kind)
    synthetic = frozenset(train) - frozenset(real)
    return Roles(train, real, real_dev if synthetic or real_dev else dev, synthetic, "real")


def _usable(qrels: Qrels) -> Qrels:
    """Keep queries that have a relevant document; the others can teach nothing."""
    return {query: labels for query, labels in qrels.items() if relevant(labels)}
