"""Base run against adapted run: is the exported model better, where, and by how much?

What is measured is the exported file, through the code that serves it, never the torch module.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from trimtab.model.adapter import Adapter
from trimtab.model.encoder_probe import OTHER_VECTORS, probes_agree
from trimtab_training.data.dataset import Dataset
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import DataError
from trimtab_training.evaluation.ann_recall import sweep_index
from trimtab_training.evaluation.latency import measure_latency
from trimtab_training.evaluation.paired import compare_scores
from trimtab_training.evaluation.per_query import (
    Searched,
    count_changes,
    count_wins,
    most_changed,
)
from trimtab_training.evaluation.record import (
    Evaluation,
    FreshQueries,
    Metric,
    Scores,
    ScoreShift,
    Slice,
)
from trimtab_training.evaluation.rival import measure_second_look
from trimtab_training.evaluation.runs import Runs
from trimtab_training.evaluation.searched_models import Searcher
from trimtab_training.retrieval.metrics import HEADLINE_CUTOFF, expected_ndcg

_SCORE_RANKS = (1, 10)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


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
    """Search with raw and with adapted queries, exactly, and compare; as :func:`evaluate_runs`."""
    return evaluate_runs(
        model,
        dataset,
        embeddings,
        split=split,
        trained_on=trained_on,
        index=index,
        timed=timed,
    )[0]


def evaluate_runs(  # noqa: PLR0913 - what is measured, and how
    model: bytes | str | Path,
    dataset: Dataset,
    embeddings: Embeddings,
    *,
    split: str = "test",
    trained_on: TrainedOn | None = None,
    index: str | None = None,
    timed: bool = False,
) -> tuple[Evaluation, Runs]:
    """Search with raw and with adapted queries, exactly, and compare.

    Queries whose every judged document is non-relevant count as 0 on both sides, as in trec_eval,
    in what is measured of all queries. They are in no slice, and the verdict judges the others.

    Args:
        model: An exported model: its bytes, its file, or the folder that holds it.
        dataset: Labels and texts.
        embeddings: Vectors of every labelled query and document.
        split: Which labels to measure on.
        trained_on: What the model was trained on; looked up beside its file where absent.
        index: ``faiss:PATH`` of an approximate index over the same documents, to measure its
            recall of exact search with raw and with adapted queries.
        timed: Whether to time the transform, too.

    Returns:
        What the model does to the split, its second look beside it where it has one; and what
        every query found: ``raw``, ``adapted`` and, from a second look, ``second_look``.

    Raises:
        DataError: The split is missing or nothing answers its queries, a label has no vector, or
            the model or the index does not fit the vectors.
        trimtab.errors.ModelError: The model can't be loaded.
    """
    adapter = Adapter.from_bytes(model) if isinstance(model, bytes) else Adapter.load(model)
    qrels = dataset.measurable_split(split)
    embeddings.require({split: qrels})
    check_fit(adapter, embeddings)
    manifest = adapter.manifest
    searcher = Searcher(qrels, embeddings, is_comparable=manifest.use == "relevance")
    if trained_on is None and not isinstance(model, bytes):
        trained_on = TrainedOn.find(model, manifest.training, dataset)
    evaluation = _compare(adapter, dataset, split, searcher, trained_on)
    if timed:
        latency = measure_latency(adapter.transform, searcher.vectors, adapter.dim_out)
        evaluation = replace(evaluation, latency=latency)
    if index:
        both = searcher.vectors, adapter.transform(searcher.vectors)
        sweep = sweep_index(index, *both, embeddings.documents, manifest.similarity)
        evaluation = replace(evaluation, approximate=sweep)
    found = {
        "raw": searcher.search(None, manifest.similarity),
        "adapted": searcher.search(adapter, manifest.similarity),
    }
    if adapter.second_look is not None:
        look = measure_second_look(adapter, dataset, split, searcher, trained_on)
        evaluation = replace(evaluation, second_look=look)
        found["second_look"] = searcher.look_again(adapter)
    return evaluation, Runs.of(qrels, embeddings.documents.ids, found)


def _compare(
    adapter: Adapter,
    dataset: Dataset,
    split: str,
    searcher: Searcher,
    trained_on: TrainedOn | None,
) -> Evaluation:
    """Compare overall, by slice, and by the queries that changed most."""
    manifest, queries, qrels = adapter.manifest, searcher.queries, dataset.split(split)
    before = searcher.search(None, manifest.similarity)
    after = searcher.search(adapter, manifest.similarity)
    is_seen = (trained_on or TrainedOn.of(dataset)).has_document_of(qrels)
    is_answered = queries.is_answered
    is_used = _find_used(trained_on, dataset, list(qrels))
    n_used = None if is_used is None else int(is_used.sum())
    wins, losses, ties = count_wins(before.scores, after.scores)
    regressions, improvements = most_changed(queries, dataset, before, after)
    return Evaluation(
        dataset=dataset.name,
        split=split,
        n_queries=len(qrels),
        adapter=manifest.name,
        metrics=compare_scores(before.scores, after.scores),
        slices=_slices(before, after, is_seen, is_answered),
        wins=wins,
        losses=losses,
        ties=ties,
        score_shift=_score_shift(before if manifest.use == "relevance" else None, after),
        changes=count_changes(before.scores, after.scores),
        regressions=regressions,
        improvements=improvements,
        notes=_notes(
            queries.relevant_rows,
            adapter,
            trained_on,
            n_used=n_used,
            has_train="train" in dataset.splits,
        ),
        n_synthetic=len(dataset.synthetic & set(qrels)),
        split_is_made=dataset.made_splits is not None and split != "dev",
        n_used=n_used,
        labels=dataset.content_hash(),
        chance=_chance(queries.relevant_rows, len(queries.document_ids)),
        answered_queries=None if is_answered.all() else _slice(before, after, is_answered),
        fresh_queries=_fresh(before, after, is_seen, is_used, is_answered),
    )


def _chance(relevant_rows: Sequence[Mapping[int, float]], n_documents: int) -> float:
    """Expect nDCG@10 of the documents in an order of chance, over answered queries."""
    answered = [wanted for wanted in relevant_rows if wanted]
    return float(expected_ndcg(answered, n_documents, HEADLINE_CUTOFF).mean())


def _find_used(
    trained_on: TrainedOn | None, dataset: Dataset, query_ids: Sequence[str]
) -> NDArray[np.bool_] | None:
    """Tell for each query whether it had a part in the model; None where that is not known."""
    if trained_on is None or not trained_on.is_complete:
        return None
    return trained_on.has_query(dataset, query_ids)


def split_made_for(model: str | Path) -> str:
    """Say how the test split was made when a model was trained on data without one."""
    record = Adapter.load(model).manifest.training
    return str(record.get("made_splits") or record.get("recipe", {}).get("split_by", "document"))


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
    if not probes_agree(manifest.encoder.probe, embeddings.encoder.probe):
        raise DataError(
            f"{name} was fitted on queries of {manifest.encoder.name}; the encoder of those in "
            f"{embeddings.folder} has {OTHER_VECTORS}; embed the queries with the model's encoder"
        )


def _slice(before: Searched, after: Searched, chosen: NDArray[np.bool_]) -> Slice[Metric]:
    """Compare on a part of the queries."""
    n_queries = int(chosen.sum())
    metrics = compare_scores(before.scores, after.scores, chosen) if n_queries else None
    return Slice(n_queries=n_queries, metrics=metrics)


def _slices(
    before: Searched, after: Searched, is_seen: NDArray[np.bool_], chosen: NDArray[np.bool_]
) -> dict[str, Slice[Metric]]:
    """Compare on the chosen queries about seen documents, and on those about unseen ones."""
    return {
        "seen_documents": _slice(before, after, is_seen & chosen),
        "unseen_documents": _slice(before, after, ~is_seen & chosen),
    }


def _fresh(
    before: Searched,
    after: Searched,
    is_seen: NDArray[np.bool_],
    is_used: NDArray[np.bool_] | None,
    is_answered: NDArray[np.bool_],
) -> FreshQueries | None:
    """Compare on answered queries that had no part in the model, where others are known to have."""
    if is_used is None or not is_used.any():
        return None
    whole = _slice(before, after, is_answered & ~is_used)
    slices = _slices(before, after, is_seen, is_answered & ~is_used)
    return FreshQueries(n_queries=whole.n_queries, metrics=whole.metrics, slices=slices)


def _score_shift(before: Searched | None, after: Searched) -> dict[str, ScoreShift]:
    """Show where scores moved, for whoever filters by a score threshold."""
    return {
        f"rank_{rank}": ScoreShift(
            base=_scores_at(rank, before) if before else None, adapted=_scores_at(rank, after)
        )
        for rank in _SCORE_RANKS
        if rank <= after.ranking[1].shape[1]
    }


def _scores_at(rank: int, searched: Searched) -> Scores:
    """Describe the scores of the documents at one rank."""
    scores = searched.ranking[1][:, rank - 1]
    quantiles = {f"{level:g}": float(np.quantile(scores, level)) for level in _QUANTILES}
    return Scores(mean=float(scores.mean()), quantiles=quantiles)


def unanswered_note(n_queries: int) -> str:
    """Say what becomes of queries that nothing answers."""
    return (
        f"{n_queries} queries have no relevant document and count as 0 on both sides; "
        "the verdict and the slices are of the others"
    )


def _notes(
    relevant_rows: Sequence[dict[int, float]],
    adapter: Adapter,
    trained_on: TrainedOn | None,
    *,
    n_used: int | None,
    has_train: bool,
) -> list[str]:
    """Say what a reader must know to read the numbers right."""
    notes = []
    without = sum(not rows for rows in relevant_rows)
    if without:
        notes.append(unanswered_note(without))
    if adapter.dim_in != adapter.dim_out:
        notes.append("raw queries have another width than the documents: base counts as 0")
    elif adapter.manifest.use == "migration":
        notes.append("raw queries are of another encoder than the documents: base counts as 0")
    if n_used:
        others = "the verdict judges the others" if n_used < len(relevant_rows) else "none is left"
        notes.append(
            f"{n_used} of the {len(relevant_rows)} queries have the text of one that the model was "
            f"trained on or chosen by; {others}"
        )
    if trained_on is None and has_train:
        notes.append("which documents count as seen is taken from the dataset's train split")
    elif trained_on is None:
        notes.append("what the model was trained on is not known: no document counts as seen")
    if not adapter.manifest.encoder.fingerprint:
        notes.append(
            "the model does not say which encoder its queries come from; that it is the one of "
            "these vectors is taken on trust"
        )
    return notes
