"""Base run against adapted run: is the exported model better, where, and by how much?

What is measured is the exported file, through the code that serves it, never the torch module.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.model.adapter import Adapter
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels, relevant
from trimtab_training.data.splits import has_seen_document
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DataError
from trimtab_training.evaluation.latency import measure_latency
from trimtab_training.evaluation.per_query import (
    HEADLINE,
    TIE,
    PerQuery,
    Searched,
    count_changes,
    most_changed,
)
from trimtab_training.evaluation.runs import Runs
from trimtab_training.retrieval.exact_search import Ranking, search
from trimtab_training.retrieval.metrics import DEPTH, METRICS, expected_ndcg, measure
from trimtab_training.retrieval.significance import compare_paired

_SCORE_RANKS = (1, 10)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SEED = 0
K = 10


@dataclass(frozen=True)
class Evaluation:
    """What a model does to one split.

    Attributes:
        summary: The object of ``evaluate --json``: metrics with base, adapted, delta, interval
            and p-value; slices by seen and unseen documents; wins, losses, ties.
        score_shift: Quantiles of the scores of the first and tenth document, raw and adapted.
        changes: Counts of queries by how far they moved.
        regressions: The queries that lost most, with texts.
        improvements: The queries that gained most, in the same form.
        notes: What a reader must know to read the numbers right.
        latency: What a transform costs on this machine, or None where it was not timed.
        approximate: Recall of an approximate index with raw and with adapted queries, or None.
        n_synthetic: How many of the queries an LLM wrote.
        is_made: Whether the dataset has no such split, and it was made of its training queries.
        n_used: How many of the queries had a part in the model, told by their texts; None where
            that is not known.
        chance: nDCG@10 of the documents in an order of chance, on average.
        fresh: The same as a slice of the summary on the queries that had none, where others had.
        runs: What every query found, ``raw`` and ``adapted``.
    """

    summary: dict[str, Any]
    score_shift: dict[str, Any]
    changes: dict[str, Any]
    regressions: list[dict[str, Any]] = field(default_factory=list)
    improvements: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    latency: dict[str, Any] | None = None
    approximate: dict[str, Any] | None = None
    n_synthetic: int = 0
    is_made: bool = False
    n_used: int | None = None
    chance: float = 0.0
    fresh: dict[str, Any] | None = None
    runs: Runs | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Give everything as one JSON object, the summary's keys on top.

        What was not measured has no key.
        """
        measured = {
            "latency": self.latency,
            "approximate": self.approximate,
            "fresh_queries": self.fresh,
        }
        return {
            **self.summary,
            "score_shift": self.score_shift,
            "changes": self.changes,
            "regressions": self.regressions,
            "improvements": self.improvements,
            "notes": self.notes,
            "n_synthetic": self.n_synthetic,
            "split_is_made": self.is_made,
            "n_used": self.n_used,
            "chance_ndcg@10": self.chance,
            **{key: value for key, value in measured.items() if value is not None},
        }


def evaluate_model(  # noqa: PLR0913 - what is measured, and how
    model: bytes | str | Path,
    dataset: Dataset,
    embeddings: Embeddings,
    *,
    split: str = "test",
    trained_on: TrainedOn | None = None,
    index: str | None = None,
    timed: bool = False,
) -> Evaluation:
    """Search with raw and with adapted queries, exactly, and compare.

    Queries whose every judged document is non-relevant count as 0 on both sides, as in trec_eval.

    Args:
        model: An exported model: its bytes, its file, or the folder that holds it.
        dataset: Labels and texts.
        embeddings: Vectors of every labelled query and document.
        split: Which labels to measure on.
        trained_on: What the model was trained on; looked up beside its file where absent.
        index: ``faiss:PATH`` of an approximate index over the same documents, to measure its
            recall of exact search with raw and with adapted queries.
        timed: Whether to time the transform, too.

    Raises:
        DataError: The split is missing, a label has no vector, or the model or the index does not
            fit the vectors.
        trimtab.errors.ModelError: The model can't be loaded.
    """
    adapter = Adapter.from_bytes(model) if isinstance(model, bytes) else Adapter.load(model)
    qrels = dataset.split(split)
    embeddings.require({split: qrels})
    check_fit(adapter, embeddings)
    query_ids = list(qrels)
    queries = embeddings.queries.take_ids(query_ids)
    relevant_rows = find_relevant_rows(qrels, embeddings)
    adapted_queries = adapter.transform(queries)
    adapted = _search(adapted_queries, embeddings, adapter)
    comparable = adapter.manifest.use == "relevance"
    base = _search(queries, embeddings, adapter) if comparable else found_nothing(len(queries))
    scores = {
        "base": measure(base[0], relevant_rows),
        "adapted": measure(adapted[0], relevant_rows),
    }
    searched = Searched(query_ids, relevant_rows, embeddings.documents.ids, base, adapted)
    if trained_on is None and not isinstance(model, bytes):
        trained_on = TrainedOn.find(model, adapter.manifest.training, dataset)
    is_used = _find_used(trained_on, dataset, query_ids)
    n_used = None if is_used is None else int(is_used.sum())
    is_seen = has_seen_document(qrels, _trained_labels(adapter, dataset))
    regressions, improvements = most_changed(searched, dataset, scores["base"], scores["adapted"])
    return Evaluation(
        {
            "dataset": dataset.name,
            "split": split,
            "n_queries": len(query_ids),
            "adapter": adapter.manifest.name,
            **_compare(scores, is_seen),
        },
        _score_shift(base if comparable else None, adapted),
        count_changes(scores["base"], scores["adapted"]),
        regressions,
        improvements,
        _notes(relevant_rows, adapter, n_used=n_used),
        measure_latency(adapter.transform, queries, adapter.dim_out) if timed else None,
        _sweep(index, queries, adapted_queries, embeddings, adapter) if index else None,
        len(dataset.synthetic & set(qrels)),
        is_made=dataset.made_splits is not None and split != "dev",
        n_used=n_used,
        chance=float(expected_ndcg(relevant_rows, len(embeddings.documents), K).mean()),
        fresh=_slice(scores, ~is_used) if is_used is not None and n_used else None,
        runs=Runs(
            qrels,
            embeddings.documents.ids,
            {"raw": base, "adapted": adapted},
            {"raw": scores["base"], "adapted": scores["adapted"]},
        ),
    )


def _find_used(
    trained_on: TrainedOn | None, dataset: Dataset, query_ids: Sequence[str]
) -> NDArray[np.bool_] | None:
    """Tell for each query whether it had a part in the model; None where that is not known."""
    if trained_on is None or not trained_on.is_complete:
        return None
    return trained_on.has_query(dataset, query_ids)


def _trained_labels(adapter: Adapter, dataset: Dataset) -> Qrels:
    """Give the labels that count as trained on: a dev split may have been among them."""
    splits = adapter.manifest.training.get("training_splits", ("train",))
    return {query: x for split in splits for query, x in dataset.splits.get(split, {}).items()}


def find_relevant_rows(qrels: Qrels, embeddings: Embeddings) -> list[dict[int, float]]:
    """Give for each query the grade of each relevant document, by its row."""
    rows_of = embeddings.documents.rows
    return [
        {rows_of[doc_id]: grade for doc_id, grade in relevant(labels).items()}
        for labels in qrels.values()
    ]


def split_made_for(model: str | Path) -> str:
    """Say how the test split was made when a model was trained on data without one."""
    record = Adapter.load(model).manifest.training
    return str(record.get("made_splits") or record.get("recipe", {}).get("split_by", "document"))


def read_manifest(model: str | Path) -> dict[str, Any]:
    """Give what a model says about itself, as plain JSON."""
    manifest: dict[str, Any] = json.loads(Adapter.load(model).manifest.to_json())
    return manifest


def check_fit(adapter: Adapter, embeddings: Embeddings, name: str = "the model") -> None:
    """Refuse a model made for other vectors.

    Args:
        adapter: The model.
        embeddings: The vectors that it is to be measured with.
        name: What to call the model.

    Raises:
        DataError: Its widths or its encoder are others.
    """
    manifest = adapter.manifest
    for what, wanted, found in (
        ("queries", manifest.dim_in, embeddings.queries.dim),
        ("documents", manifest.dim_out, embeddings.documents.dim),
    ):
        if wanted != found:
            raise DataError(
                f"{name} wants {what} of {wanted} values, {embeddings.folder} has {found}; "
                "use the embeddings that it was fitted for"
            )
    if manifest.encoder.fingerprint not in {"", embeddings.encoder.fingerprint}:
        raise DataError(
            f"{name} was fitted on queries of {manifest.encoder.name} "
            f"({manifest.encoder.fingerprint[:23]}), {embeddings.folder} holds those of "
            f"{embeddings.encoder.name} ({embeddings.encoder.fingerprint[:23]}); "
            "embed the queries with the model's encoder"
        )


def _search(queries: NDArray[np.float32], embeddings: Embeddings, adapter: Adapter) -> Ranking:
    """Rank documents as the index would."""
    similarity = adapter.manifest.similarity
    return search(queries, embeddings.documents, depth=DEPTH, similarity=similarity)


def found_nothing(n_queries: int) -> Ranking:
    """Give the ranking of queries that can't be searched with at all."""
    return np.full((n_queries, 1), -1), np.zeros((n_queries, 1), dtype=np.float32)


def _sweep(
    index: str,
    queries: NDArray[np.float32],
    adapted: NDArray[np.float32],
    embeddings: Embeddings,
    adapter: Adapter,
) -> dict[str, Any]:
    """Measure the index as it is served; FAISS is loaded only for whoever asks."""
    from trimtab_training.evaluation.ann_recall import sweep_index

    return sweep_index(index, queries, adapted, embeddings.documents, adapter.manifest.similarity)


def _compare(scores: dict[str, PerQuery], is_seen: NDArray[np.bool_]) -> dict[str, Any]:
    """Compare overall, by slice, and by the count of queries better and worse."""
    delta = scores["adapted"][HEADLINE] - scores["base"][HEADLINE]
    return {
        "metrics": _metrics(scores, np.ones(len(delta), dtype=bool)),
        "slices": {
            "seen_documents": _slice(scores, is_seen),
            "unseen_documents": _slice(scores, ~is_seen),
        },
        "wins": int((delta > TIE).sum()),
        "losses": int((delta < -TIE).sum()),
        "ties": int((np.abs(delta) <= TIE).sum()),
    }


def _metrics(scores: dict[str, PerQuery], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Compare base and adapted on every metric over some queries."""
    table = {}
    for name in METRICS:
        base, adapted = scores["base"][name][chosen], scores["adapted"][name][chosen]
        difference = compare_paired(adapted - base, np.random.default_rng(_SEED))
        table[name] = {
            "base": float(base.mean()),
            "adapted": float(adapted.mean()),
            "delta": difference.mean,
            "ci95": [difference.low, difference.high],
            "p_value": difference.p_value,
        }
    return table


def _slice(scores: dict[str, PerQuery], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Compare on a part of the queries; an empty part has no metrics."""
    n_queries = int(chosen.sum())
    return {"n_queries": n_queries, "metrics": _metrics(scores, chosen) if n_queries else None}


def _score_shift(base: Ranking | None, adapted: Ranking) -> dict[str, Any]:
    """Show where scores moved, for whoever filters by a score threshold."""
    shift: dict[str, Any] = {}
    for rank in _SCORE_RANKS:
        if rank > adapted[1].shape[1]:
            continue
        columns = {"base": base, "adapted": adapted}
        shift[f"rank_{rank}"] = {
            name: {
                "mean": float(ranking[1][:, rank - 1].mean()),
                "quantiles": {
                    f"{level:g}": float(np.quantile(ranking[1][:, rank - 1], level))
                    for level in _QUANTILES
                },
            }
            for name, ranking in columns.items()
            if ranking is not None
        }
    return shift


def _notes(
    relevant_rows: Sequence[dict[int, float]],
    adapter: Adapter,
    *,
    n_used: int | None,
) -> list[str]:
    """Say what a reader must know to read the numbers right."""
    notes = []
    without = sum(not rows for rows in relevant_rows)
    if without:
        notes.append(f"{without} queries have no relevant document and count as 0 on both sides")
    if adapter.dim_in != adapter.dim_out:
        notes.append("raw queries have another width than the documents: base counts as 0")
    elif adapter.manifest.use == "migration":
        notes.append("raw queries are of another encoder than the documents: base counts as 0")
    if n_used:
        notes.append(
            f"{n_used} of the {len(relevant_rows)} queries have the text of one that the model was "
            "trained on or chosen by; the verdict judges the others"
        )
    if not adapter.manifest.encoder.fingerprint:
        notes.append(
            "the model does not say which encoder its queries come from; that it is the one of "
            "these vectors is taken on trust"
        )
    return notes
