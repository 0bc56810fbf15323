"""Two models on the same queries: is the newer one better, for whom, and by how much?

Both are measured as exported files, as in ``training.evaluate``, on the queries that neither was
trained on, as far as that is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidecar.adapter import Adapter
from training.changes import HEADLINE, TIE, PerQuery, Searched, first_relevant, most_changed
from training.dataset import Dataset, Qrels, relevant
from training.embeddings import Embeddings
from training.errors import ConfigError
from training.evaluate import check_fit, find_relevant_rows, found_nothing
from training.gate import Gate, judge
from training.metrics import DEPTH, METRICS, measure
from training.search import Ranking, search
from training.significance import compare_paired
from training.trained_on import TrainedOn

NO_ADAPTER = ("none", "raw")
"""Words for the raw query in place of a model."""

_SEED = 0


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
            sidecar.errors.ModelError: The model can't be loaded.
        """
        if name in NO_ADAPTER:
            return cls(name, None, TrainedOn.nothing())
        adapter = Adapter.load(name)
        return cls(name, adapter, TrainedOn.find(name, adapter.manifest.training, dataset))

    @property
    def similarity(self) -> str | None:
        """How its index compares; None for the raw query, which takes the other's."""
        return self.adapter.manifest.similarity if self.adapter else None

    def as_dict(self) -> dict[str, Any]:
        """Say what it is."""
        if self.adapter is None:
            return {"name": self.name, "model": None, "kind": "raw query"}
        return {
            "name": self.name,
            "model": self.adapter.mark,
            "kind": self.adapter.manifest.kind,
        }


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


def compare_models(
    names: tuple[str, str],
    dataset: Dataset,
    embeddings: Embeddings,
    gate: Gate | None = None,
    *,
    split: str = "test",
) -> dict[str, Any]:
    """Search with A, with B and with raw queries, exactly, and compare B with A.

    Queries that A or B was trained on, or chosen by, are left out, unless that leaves none.

    Args:
        names: A and B: model files or folders, or ``none`` for the raw query.
        dataset: Labels and texts.
        embeddings: Vectors of every labelled query and document.
        gate: What is asked of B; the defaults where absent.
        split: Which labels to compare on.

    Returns:
        The object of ``compare --json``; docs/retraining.md describes it.

    Raises:
        ConfigError: Neither is a model.
        DataError: The split is missing, a label has no vector, or a model is for other vectors.
        sidecar.errors.ModelError: A model can't be loaded.
    """
    a, b = (Side.load(name, dataset) for name in names)
    if a.adapter is None and b.adapter is None:
        raise ConfigError("A and B are both the raw query; name a model for one of them")
    for side in (a, b):
        if side.adapter:
            check_fit(side.adapter, embeddings, side.name)
    qrels = dataset.split(split)
    embeddings.require({split: qrels})
    used = [_was_used(side, dataset, qrels) for side in (a, b)]
    left_out = _left_out(used)
    chosen = np.ones(len(qrels), dtype=bool) if left_out["kept"] else ~(used[0] | used[1])
    kept = {
        query: labels
        for (query, labels), is_chosen in zip(qrels.items(), chosen, strict=True)
        if is_chosen
    }
    measured = measure_sides(a, b, kept, embeddings)
    seen, slice_notes = _seen((a, b), dataset, kept)
    record = {
        "dataset": dataset.name,
        "split": split,
        "n_queries": len(kept),
        "a": a.as_dict(),
        "b": b.as_dict(),
        **summarise(measured, seen, is_raw=(a.adapter is None, b.adapter is None)),
        "left_out": left_out,
        "notes": [*_notes(a, b, embeddings), *_use_notes((a, b), left_out), *slice_notes],
        **_examples(measured, dataset, embeddings),
    }
    record["verdict"] = judge(record, gate or Gate())
    return record


def measure_sides(a: Side, b: Side, qrels: Qrels, embeddings: Embeddings) -> Measured:
    """Rank documents for every query three times, and measure each ranking."""
    query_ids = list(qrels)
    queries = embeddings.queries.take_ids(query_ids)
    relevant_rows = find_relevant_rows(qrels, embeddings)
    usual = b.similarity or a.similarity or "cosine"

    def rank(side: Side | None) -> Ranking:
        adapter = side.adapter if side else None
        if adapter is None and embeddings.queries.dim != embeddings.documents.dim:
            return found_nothing(len(queries))
        vectors = adapter.transform(queries) if adapter else queries
        similarity = adapter.manifest.similarity if adapter else usual
        return search(vectors, embeddings.documents, depth=DEPTH, similarity=similarity)

    rankings = {"raw": rank(None)}
    for key, side in (("a", a), ("b", b)):
        rankings[key] = rank(side) if side.adapter else rankings["raw"]
    scores = {key: measure(ranking[0], relevant_rows) for key, ranking in rankings.items()}
    return Measured(query_ids, relevant_rows, rankings, scores)


def summarise(
    measured: Measured, is_seen: NDArray[np.bool_], *, is_raw: tuple[bool, bool]
) -> dict[str, Any]:
    """Compare B with A overall, by slice, with the raw query, and by queries won and lost.

    Args:
        measured: What was found.
        is_seen: For each query, whether a model has seen one of its relevant documents.
        is_raw: Whether A, and B, is the raw query itself.
    """
    scores = measured.scores
    delta = scores["b"][HEADLINE] - scores["a"][HEADLINE]
    everyone = np.ones(len(delta), dtype=bool)
    parts = {"seen_documents": is_seen, "unseen_documents": ~is_seen}
    return {
        "metrics": _metrics(scores, everyone),
        "slices": {
            name: {
                "n_queries": int(part.sum()),
                "metrics": _metrics(scores, part) if part.any() else None,
            }
            for name, part in parts.items()
        },
        "against_raw": {
            key: None if raw or _is_lost(measured) else _difference(scores, "raw", key, everyone)
            for key, raw in zip("ab", is_raw, strict=True)
        },
        "wins": int((delta > TIE).sum()),
        "losses": int((delta < -TIE).sum()),
        "ties": int((np.abs(delta) <= TIE).sum()),
    }


def _is_lost(measured: Measured) -> bool:
    """Tell whether raw queries could not be searched with at all."""
    return bool((measured.rankings["raw"][0] < 0).all())


def _metrics(scores: dict[str, PerQuery], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Compare B with A on every metric over some queries, the raw query beside them."""
    return {
        name: {
            "raw": float(scores["raw"][name][chosen].mean()),
            "a": float(scores["a"][name][chosen].mean()),
            "b": float(scores["b"][name][chosen].mean()),
            **_difference(scores, "a", "b", chosen, name),
        }
        for name in METRICS
    }


def _difference(
    scores: dict[str, PerQuery],
    one: str,
    other: str,
    chosen: NDArray[np.bool_],
    metric: str = HEADLINE,
) -> dict[str, Any]:
    """Compare two rankings on one metric."""
    deltas = scores[other][metric][chosen] - scores[one][metric][chosen]
    found = compare_paired(deltas, np.random.default_rng(_SEED))
    return {"delta": found.mean, "ci95": [found.low, found.high], "p_value": found.p_value}


def _was_used(side: Side, dataset: Dataset, qrels: Qrels) -> NDArray[np.bool_]:
    """Tell for each query whether a model was trained on it, as far as is known."""
    if side.trained_on is None:
        return np.zeros(len(qrels), dtype=bool)
    return side.trained_on.has_query(dataset, list(qrels))


def _left_out(used: list[NDArray[np.bool_]]) -> dict[str, Any]:
    """Count the queries that had a part in a model; where that is all of them, they are kept."""
    either = used[0] | used[1]
    return {
        "n_queries": 0 if either.all() else int(either.sum()),
        "used_by_a": int(used[0].sum()),
        "used_by_b": int(used[1].sum()),
        "kept": bool(either.all()),
    }


def _seen(
    sides: Sequence[Side], dataset: Dataset, qrels: Qrels
) -> tuple[NDArray[np.bool_], list[str]]:
    """Tell for each query whether A or B has seen one of its relevant documents."""
    known = [side.trained_on for side in sides if side.trained_on is not None]
    notes = []
    if len(known) < len(sides):
        known.append(TrainedOn.of(dataset))
        notes.append("which documents count as seen is taken from the dataset's train split, too")
    seen = [
        any(bool(each.has_document(relevant(labels)).any()) for each in known)
        for labels in qrels.values()
    ]
    return np.array(seen, dtype=bool), notes


def _examples(measured: Measured, dataset: Dataset, embeddings: Embeddings) -> dict[str, Any]:
    """Name the queries that lose and gain most from A to B, with what A and B found."""
    searched = Searched(
        measured.query_ids,
        measured.relevant_rows,
        embeddings.documents.ids,
        measured.rankings["a"],
        measured.rankings["b"],
    )
    places = {query: place for place, query in enumerate(measured.query_ids)}
    both = most_changed(searched, dataset, measured.scores["a"], measured.scores["b"])
    named = [[_named(example, searched, measured, places) for example in one] for one in both]
    return {"largest_losses": named[0], "largest_wins": named[1]}


def _named(
    example: dict[str, Any], searched: Searched, measured: Measured, places: dict[str, int]
) -> dict[str, Any]:
    """Write one query's change with A and B in place of before and after."""
    place = places[example["query_id"]]
    return {
        "query_id": example["query_id"],
        "query": example["query"],
        "raw": float(measured.scores["raw"][HEADLINE][place]),
        "a": example["base"],
        "b": example["adapted"],
        "rank_raw": first_relevant(searched, place, measured.rankings["raw"]),
        "rank_a": example["rank_before"],
        "rank_b": example["rank_after"],
        "relevant": example["relevant"],
        "found_a": example["found_before"],
        "found_b": example["found_after"],
    }


def _notes(a: Side, b: Side, embeddings: Embeddings) -> list[str]:
    """Say in what A and B are not alike, and what is taken on trust."""
    notes = []
    if a.similarity and b.similarity and a.similarity != b.similarity:
        notes.append(
            f"A is for an index that compares by {a.similarity}, B by {b.similarity}: each is "
            "measured on its own; one index can't serve both"
        )
    for letter, side in (("A", a), ("B", b)):
        if side.adapter and not side.adapter.manifest.encoder.fingerprint:
            notes.append(
                f"{letter} does not say which encoder its queries come from; that it is "
                f"{embeddings.encoder.name} is taken on trust"
            )
    if embeddings.queries.dim != embeddings.documents.dim:
        notes.append("raw queries have another width than the documents and find nothing")
    return notes


def _use_notes(sides: Sequence[Side], left_out: dict[str, Any]) -> list[str]:
    """Warn of test queries that had a part in a model, and where that can't be told."""
    notes = []
    counts = left_out["used_by_a"], left_out["used_by_b"]
    for letter, side, n_used in zip("AB", sides, counts, strict=True):
        if n_used:
            what = "kept, as there are no others" if left_out["kept"] else "left out"
            notes.append(f"{letter} was trained on {n_used} of these queries: {what}")
        if side.trained_on is None or not side.trained_on.is_complete:
            what = "its start was" if side.trained_on else "it was"
            notes.append(
                f"{letter} does not say which queries {what} trained on; if some are among these, "
                "that flatters it"
            )
    return notes
