"""Who teaches and who judges: queries that an LLM wrote teach, real queries judge.

Scores on synthetic queries are not scores on real ones. So where a dataset has both, adapters are
trained on both, the synthetic ones with a weight, and everything that is chosen, that weight too,
is chosen by real held-out queries. Where it has only the one kind, that kind does both.

Nobody judges an adapter that it has taught, under this id or another: queries that the start of a
fit was trained on only teach, and dev queries that repeat training queries do not judge. And a
handful of queries is no judge: a small dev split joins the training queries, which judge each
other.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from trimtab_training.data.dataset import Dataset
from trimtab_training.data.folds import Fold, make_folds
from trimtab_training.data.qrels import Qrels, answered, relevant_documents
from trimtab_training.data.splits import MIN_DEV_QUERIES
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.store import Embeddings, VectorTable
from trimtab_training.errors import DataError
from trimtab_training.fit.recipe import Recipe

MIN_QUERIES = 2
"""Queries that differ from one another, at least: one to train on, and one to judge by."""


@dataclass(frozen=True)
class QuerySplit:
    """The training and dev queries of a fit by what they are for.

    Attributes:
        train: All training queries with a relevant document.
        real: Those that may be held out to judge: the real ones, or all where there is one kind;
            none that the start has seen.
        dev: Dev queries with a relevant document that judge instead; only real ones where there
            are any. None where they are too few: then they are training queries.
        synthetic: Training queries that only teach: an LLM wrote them, and there are real ones.
        judges: Whose queries judge: ``real``, ``synthetic`` or ``mixed``.
        n_joined: Dev queries that are training queries here.
        n_used: Training queries that only teach, since the start may have seen them.
        n_repeated: Dev queries that do not count as such, since training queries are the same.
        duplicates: Names one query for all that are the same; what it lacks is the same as none.
    """

    train: Qrels
    real: Qrels
    dev: Qrels
    synthetic: frozenset[str]
    judges: str
    n_joined: int = 0
    n_used: int = 0
    n_repeated: int = 0
    duplicates: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_mixed(self) -> bool:
        """Tell whether there are synthetic queries to weigh against real ones."""
        return bool(self.synthetic)

    @property
    def training_splits(self) -> tuple[str, ...]:
        """Name the splits whose queries are trained on."""
        return ("train", "dev") if self.n_joined else ("train",)

    def name_judges(self, n_folds: int) -> str:
        """Say whose scores decide, where so many folds are compared."""
        repeated = f", without {self.n_repeated} that repeat training queries"
        what = "dev split" if self.dev else f"{n_folds} cross-fitted folds"
        if self.dev and self.n_repeated:
            what += repeated
        if self.n_joined:
            what += (
                f" (with the dev split, whose {self.n_joined - self.n_repeated} queries"
                f"{repeated if self.n_repeated else ''} are too few alone)"
            )
        if self.n_used and not self.dev:
            what += f" (without {self.n_used} queries that the start may have seen)"
        return what if self.judges == "real" else f"{what} of {self.judges} queries"

    def unlabelled_share(self, embeddings: Embeddings) -> float:
        """Tell which share of the documents has no training query."""
        return 1 - len(relevant_documents(self.train)) / len(embeddings.documents)

    def make_folds(self, embeddings: Embeddings, recipe: Recipe, seed: int) -> list[Fold]:
        """Split the queries that may judge; the others teach in every fold, but for twins of its.

        A dev split is the only fold: all training queries teach, and it alone judges.

        Args:
            embeddings: Tells how many documents have no training query.
            recipe: Says how many folds.
            seed: Makes another split.
        """
        if self.dev:
            return [Fold(self.train, self.dev)]
        folds = self._folds(recipe.folds, self.unlabelled_share(embeddings), seed)
        if all(self.only_real(fold.train) for fold in folds):
            return folds
        # Of few queries, twins of those held out with their documents may be all the others.
        return self._folds(recipe.folds, 0.0, seed)

    def _folds(self, n_folds: int, unlabelled_share: float, seed: int) -> list[Fold]:
        """Split the queries that may judge, and let the others teach."""
        taught = {query: self.train[query] for query in sorted(set(self.train) - set(self.real))}
        folds = make_folds(
            self.real,
            n_folds=n_folds,
            unlabelled_share=unlabelled_share,
            seed=seed,
            duplicates=self.duplicates,
        )
        return [self._without_twins({**fold.train, **taught}, fold.held_out) for fold in folds]

    def _without_twins(self, train: Qrels, held_out: Qrels) -> Fold:
        """Leave out of a fold's training what is the same as a query that it holds out."""
        return Fold(_without(train, _twins(held_out, train, self.duplicates)), held_out)

    def only_real(self, train: Qrels) -> Qrels:
        """Leave out the queries that only teach."""
        return _without(train, self.synthetic)


def split_queries(
    dataset: Dataset, used: Collection[str] = (), queries: VectorTable | None = None
) -> QuerySplit:
    """Tell the training and dev queries apart by what they are for.

    Args:
        dataset: Labels.
        used: Queries that the start of the fit has seen, or may have.
        queries: Vectors, which tell queries that are the same; without them no two are.

    Raises:
        DataError: Fewer than two different usable training queries, or too few that the start has
            not seen.
    """
    train = answered(dataset.split("train"))
    written = dataset.synthetic
    dev = answered(dataset.splits.get("dev", {}))
    duplicates = {} if queries is None else name_duplicates({**train, **dev}, queries)
    if _count_different(train, duplicates) < MIN_QUERIES:
        alike = ", all with the same vector" if len(train) >= MIN_QUERIES else ""
        raise DataError(
            f"dataset {dataset.name} has {len(train)} training queries with a relevant "
            f"document{alike}; a fit needs at least {MIN_QUERIES} that differ, and pays from a few "
            "hundred"
        )
    used = _twins(used, {**train, **dev}, duplicates)
    dev = _without(dev, used)
    real_dev = _without(dev, written)
    dev = real_dev if real_dev or set(train) - written else dev
    repeated = _twins(train, dev, duplicates)
    n_joined = len(dev) if len(dev) - len(repeated) < MIN_DEV_QUERIES else 0
    if n_joined:
        train, dev = {**train, **dev}, {}
    dev = _without(dev, repeated)
    query_split = _by_kind(train, dev, written, duplicates, n_joined)
    fresh = _without(query_split.real, used)
    n_used = len(query_split.real) - len(fresh)
    if n_used and not dev and len(fresh) < MIN_DEV_QUERIES:
        raise DataError(
            f"{len(fresh)} training queries of {dataset.name} are known to be new to the adapter "
            f"that the fit starts from; at least {MIN_DEV_QUERIES} must be, since scores on the "
            "others flatter it. Leave --from away, give a dev split of at least "
            f"{MIN_DEV_QUERIES} new queries, or say --from-unseen if it has seen none of these"
        )
    return replace(
        query_split,
        real=fresh or query_split.real,
        n_used=n_used,
        n_repeated=len(repeated),
        duplicates=duplicates,
    )


def _by_kind(
    train: Qrels,
    dev: Qrels,
    written: frozenset[str],
    duplicates: Mapping[str, str],
    n_joined: int,
) -> QuerySplit:
    """Let real queries judge where there are any that differ."""
    real = _without(train, written)
    if (
        _count_different(real, duplicates) < MIN_QUERIES
    ):  # nothing to weigh against, and nobody real to hold out
        has_real_dev = bool(dev) and not set(dev) & written
        kind = "real" if has_real_dev else "synthetic" if not real else "mixed"
        return QuerySplit(train, train, dev, frozenset(), kind, n_joined)
    return QuerySplit(train, real, dev, frozenset(train) - frozenset(real), "real", n_joined)


def _without(qrels: Qrels, left_out: Collection[str]) -> Qrels:
    """Leave some queries out."""
    return {query: labels for query, labels in qrels.items() if query not in left_out}


def _twins(
    queries: Collection[str], among: Collection[str], duplicates: Mapping[str, str]
) -> frozenset[str]:
    """Name those among some queries that are, or are the same as, one of others."""
    names = {duplicates.get(query, query) for query in queries}
    return frozenset(query for query in among if duplicates.get(query, query) in names)


def _count_different(queries: Collection[str], duplicates: Mapping[str, str]) -> int:
    """Count queries, those that are the same once."""
    return len({duplicates.get(query, query) for query in queries})


_QUERIES_AT_ONCE = 4096


def name_duplicates(qrels: Qrels, queries: VectorTable) -> dict[str, str]:
    """Name for every query the first one with the very same vector.

    Args:
        qrels: Labels of the queries.
        queries: Their vectors.
    """
    first_with: dict[bytes, str] = {}
    names = list(qrels)
    found: dict[str, str] = {}
    for start in range(0, len(names), _QUERIES_AT_ONCE):
        part = names[start : start + _QUERIES_AT_ONCE]
        for name, vector in zip(part, queries.take_ids(part), strict=True):
            digest = hashlib.sha256(vector.tobytes()).digest()
            found[name] = first_with.setdefault(digest, name)
    return found


def used_by_start(dataset: Dataset, before: TrainedOn | None) -> frozenset[str]:
    """Name the queries that may not judge: a start was trained on them, or may have been.

    Args:
        dataset: The labels.
        before: What the start was trained on; None where that is not known.
    """
    train, dev = list(dataset.split("train")), list(dataset.splits.get("dev", {}))
    if before is None:
        return frozenset(train)
    queries = [*train, *dev]
    is_used = before.has_query(dataset, queries)
    known = frozenset(query for query, used in zip(queries, is_used, strict=True) if used)
    return known if before.is_complete else known.union(train)
