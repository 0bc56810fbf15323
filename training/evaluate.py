"""Base run against adapted run: is the exported model better, where, and by how much?

What is measured is the exported file, through the code that serves it, never the torch module.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidecar.adapter import Adapter
from training.dataset import Dataset, relevant
from training.embeddings import Embeddings
from training.errors import DataError
from training.folds import has_seen_document
from training.metrics import DEPTH, METRICS, measure
from training.search import Ranking, search
from training.significance import compare_paired

HEADLINE = "ndcg@10"
TIE = 1e-9
_N_REGRESSIONS = 10
_N_SHOWN = 3
_SCORE_RANKS = (1, 10)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SEED = 0


@dataclass(frozen=True)
class Evaluation:
    """What a model does to one split.

    Attributes:
        summary: The object of ``evaluate --json``: metrics with base, adapted, delta, interval
            and p-value; slices by seen and unseen documents; wins, losses, ties.
        score_shift: Quantiles of the scores of the first and tenth document, raw and adapted.
        regressions: The queries that lost most, with texts.
        notes: What a reader must know to read the numbers right.
    """

    summary: dict[str, Any]
    score_shift: dict[str, Any]
    regressions: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Give everything as one JSON object, the summary's keys on top."""
        return {
            **self.summary,
            "score_shift": self.score_shift,
            "regressions": self.regressions,
            "notes": self.notes,
        }


def evaluate_model(
    model: bytes | str | Path, dataset: Dataset, embeddings: Embeddings, *, split: str = "test"
) -> Evaluation:
    """Search with raw and with adapted queries, exactly, and compare.

    Queries whose every judged document is non-relevant count as 0 on both sides, as in trec_eval.

    Args:
        model: An exported model: its bytes, its file, or the folder that holds it.
        dataset: Labels and texts.
        embeddings: Vectors of every labelled query and document.
        split: Which labels to measure on.

    Raises:
        DataError: The split is missing, a label has no vector, or the model does not fit the
            vectors.
        sidecar.errors.ModelError: The model can't be loaded.
    """
    adapter = Adapter.from_bytes(model) if isinstance(model, bytes) else Adapter.load(model)
    qrels = dataset.split(split)
    embeddings.require({split: qrels})
    _check_fit(adapter, embeddings)
    query_ids = list(qrels)
    queries = embeddings.queries.take_ids(query_ids)
    rows_of = embeddings.documents.rows
    relevant_rows = [
        {rows_of[doc_id]: grade for doc_id, grade in relevant(labels).items()}
        for labels in qrels.values()
    ]
    adapted = _search(adapter.transform(queries), embeddings, adapter)
    comparable = adapter.dim_in == adapter.dim_out
    base = _search(queries, embeddings, adapter) if comparable else _found_nothing(len(queries))
    scores = {
        "base": measure(base[0], relevant_rows),
        "adapted": measure(adapted[0], relevant_rows),
    }
    delta = scores["adapted"][HEADLINE] - scores["base"][HEADLINE]
    is_seen = has_seen_document(qrels, dataset.splits.get("train", {}))
    summary = {
        "dataset": dataset.name,
        "split": split,
        "n_queries": len(query_ids),
        "adapter": adapter.manifest.name,
        "metrics": _metrics(scores, np.ones(len(query_ids), dtype=bool)),
        "slices": {
            "seen_documents": _slice(scores, is_seen),
            "unseen_documents": _slice(scores, ~is_seen),
        },
        "wins": int((delta > TIE).sum()),
        "losses": int((delta < -TIE).sum()),
        "ties": int((np.abs(delta) <= TIE).sum()),
    }
    return Evaluation(
        summary,
        _score_shift(base if comparable else None, adapted),
        _regressions(dataset, embeddings, query_ids, relevant_rows, (base, adapted), scores),
        _notes(relevant_rows, comparable=comparable),
    )


def split_made_for(model: str | Path) -> str:
    """Say how the test split was made when a model was trained on data without one."""
    record = Adapter.load(model).manifest.training
    return str(record.get("made_splits") or record.get("recipe", {}).get("split_by", "document"))


def _check_fit(adapter: Adapter, embeddings: Embeddings) -> None:
    """Refuse a model made for other vectors."""
    manifest = adapter.manifest
    for what, wanted, found in (
        ("queries", manifest.dim_in, embeddings.queries.dim),
        ("documents", manifest.dim_out, embeddings.documents.dim),
    ):
        if wanted != found:
            raise DataError(
                f"the model wants {what} of {wanted} values, {embeddings.folder} has {found}; "
                "use the embeddings that it was fitted for"
            )
    if manifest.encoder.fingerprint != embeddings.encoder.fingerprint:
        raise DataError(
            f"the model was fitted on queries of {manifest.encoder.name} "
            f"({manifest.encoder.fingerprint[:23]}), {embeddings.folder} holds those of "
            f"{embeddings.encoder.name} ({embeddings.encoder.fingerprint[:23]}); "
            "embed the queries with the model's encoder"
        )


def _search(queries: NDArray[np.float32], embeddings: Embeddings, adapter: Adapter) -> Ranking:
    """Rank documents as the index would."""
    similarity = adapter.manifest.similarity
    return search(queries, embeddings.documents, depth=DEPTH, similarity=similarity)


def _found_nothing(n_queries: int) -> Ranking:
    """Give the ranking of queries that can't be searched with at all."""
    return np.full((n_queries, 1), -1), np.zeros((n_queries, 1), dtype=np.float32)


def _metrics(
    scores: dict[str, dict[str, NDArray[np.float64]]], chosen: NDArray[np.bool_]
) -> dict[str, Any]:
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


def _slice(
    scores: dict[str, dict[str, NDArray[np.float64]]], chosen: NDArray[np.bool_]
) -> dict[str, Any]:
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


def _regressions(
    dataset: Dataset,
    embeddings: Embeddings,
    query_ids: Sequence[str],
    relevant_rows: Sequence[dict[int, float]],
    rankings: tuple[Ranking, Ranking],
    scores: dict[str, dict[str, NDArray[np.float64]]],
) -> list[dict[str, Any]]:
    """Name the queries that lost most, with what was wanted and what was found."""
    delta = scores["adapted"][HEADLINE] - scores["base"][HEADLINE]
    worst = [
        place for place in np.argsort(delta, kind="stable")[:_N_REGRESSIONS] if delta[place] < -TIE
    ]
    ids = embeddings.documents.ids
    shown = {
        place: {
            "relevant": [ids[row] for row in list(relevant_rows[place])[:_N_SHOWN]],
            "found_before": [ids[row] for row in rankings[0][0][place][:_N_SHOWN]],
            "found_after": [ids[row] for row in rankings[1][0][place][:_N_SHOWN]],
        }
        for place in worst
    }
    wanted = {doc_id for lists in shown.values() for found in lists.values() for doc_id in found}
    texts = dataset.document_texts(wanted)
    queries = dataset.query_texts([query_ids[place] for place in worst])
    return [
        {
            "query_id": query_ids[place],
            "query": queries.get(query_ids[place], ""),
            "base": float(scores["base"][HEADLINE][place]),
            "adapted": float(scores["adapted"][HEADLINE][place]),
            **{
                name: [{"doc_id": doc_id, "text": texts.get(doc_id, "")} for doc_id in found]
                for name, found in lists.items()
            },
        }
        for place, lists in shown.items()
    ]


def _notes(relevant_rows: Sequence[dict[int, float]], *, comparable: bool) -> list[str]:
    """Say what a reader must know to read the numbers right."""
    notes = []
    without = sum(not rows for rows in relevant_rows)
    if without:
        notes.append(f"{without} queries have no relevant document and count as 0 on both sides")
    if not comparable:
        notes.append("raw queries have another width than the documents: base counts as 0")
    return notes
