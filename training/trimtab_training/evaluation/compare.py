"""Models on the same queries: is the newer one better, for whom, and by how much?

All are measured as exported files, as in :mod:`trimtab_training.evaluation.evaluate`, on the
queries that none was trained on, as far as that is known.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels, relevant
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import ConfigError
from trimtab_training.evaluation.evaluate import check_fit
from trimtab_training.evaluation.gate import Gate, judge
from trimtab_training.evaluation.per_query import (
    HEADLINE,
    TIE,
    PerQuery,
    Searched,
    first_relevant,
    most_changed,
)
from trimtab_training.evaluation.runs import Runs
from trimtab_training.evaluation.searched_models import LETTERS, Measured, Searcher, Side
from trimtab_training.retrieval.metrics import METRICS
from trimtab_training.retrieval.significance import compare_paired

_SEED = 0


def compare_models(
    names: Sequence[str],
    dataset: Dataset,
    embeddings: Embeddings,
    gate: Gate | None = None,
    *,
    split: str = "test",
) -> dict[str, Any]:
    """Compare models as `compare_runs` does; give its record alone."""
    return compare_runs(names, dataset, embeddings, gate, split=split)[0]


def compare_runs(
    names: Sequence[str],
    dataset: Dataset,
    embeddings: Embeddings,
    gate: Gate | None = None,
    *,
    split: str = "test",
) -> tuple[dict[str, Any], Runs]:
    """Search with every model and with raw queries, exactly, and compare each with the first.

    Queries that any of them was trained on, or chosen by, are left out, unless that leaves none.

    Args:
        names: A, B and perhaps more: model files or folders, or ``none`` for the raw query.
        dataset: Labels and texts.
        embeddings: Vectors of every labelled query and document.
        gate: What is asked of B; the defaults where absent.
        split: Which labels to compare on.

    Returns:
        The object of ``compare --json``, which docs/retraining.md describes: B against A, and under
        ``more`` the same of every further model against A. And what every query found: ``raw``,
        ``a``, ``b`` and so on.

    Raises:
        ConfigError: Fewer than two, or more than the letters, are named, or a pair has no model.
        DataError: The split is missing, a label has no vector, or a model is for other vectors.
        trimtab.errors.ModelError: A model can't be loaded.
    """
    sides = _load_sides(names, dataset, embeddings)
    qrels = dataset.split(split)
    embeddings.require({split: qrels})
    used = np.array([_was_used(side, dataset, qrels) for side in sides])
    is_used: NDArray[np.bool_] = np.asarray(used.any(axis=0), dtype=bool)
    chosen: NDArray[np.bool_] = ~is_used | is_used.all()
    kept = {
        query: labels
        for (query, labels), is_chosen in zip(qrels.items(), chosen, strict=True)
        if is_chosen
    }
    is_migration = any(side.is_migration for side in sides)
    has_same_width = embeddings.queries.dim == embeddings.documents.dim
    searcher = Searcher(kept, embeddings, is_comparable=has_same_width and not is_migration)
    # Queries of a made test split were training queries of whatever was trained on all labels.
    is_open = split == "train" or (split == "test" and dataset.made_splits is not None)
    about = {"dataset": dataset.name, "split": split, "n_queries": len(kept)}
    records: list[dict[str, Any]] = []
    runs: dict[str, Measured] = {}
    for place in range(1, len(sides)):
        pair = sides[0], sides[place]
        letters = "A" + LETTERS[place]
        measured = searcher.measure(*pair)
        seen, slice_notes = _seen(pair, dataset, kept)
        left_out = _left_out(used[[0, place]], is_used)
        if is_open and not all(side.is_known for side in pair):
            left_out["may_be_used"] = True
        record = {
            **about,
            "a": pair[0].as_dict(),
            "b": pair[1].as_dict(),
            **summarise(measured, seen, is_raw=(not pair[0].adapter, not pair[1].adapter)),
            "left_out": left_out,
            "notes": [
                *_notes(*pair, embeddings, letters),
                *_use_notes(pair, left_out, letters),
                *slice_notes,
            ],
            **_examples(measured, dataset, embeddings),
        }
        record["verdict"] = judge(record, gate or Gate(), LETTERS[place])
        records.append(record)
        runs = {"raw": measured, "a": measured, **runs, LETTERS[place].lower(): measured}
    return _joined(records), _as_runs(runs, kept, embeddings)


def _load_sides(names: Sequence[str], dataset: Dataset, embeddings: Embeddings) -> list[Side]:
    """Load all models, and hold each against the vectors."""
    if not 2 <= len(names) <= len(LETTERS):
        raise ConfigError(f"{len(names)} models are named; a comparison takes 2 to {len(LETTERS)}")
    sides = [Side.load(name, dataset) for name in names]
    for letter, side in zip(LETTERS[1:], sides[1:], strict=False):
        if sides[0].adapter is None and side.adapter is None:
            raise ConfigError(
                f"A and {letter} are both the raw query; name a model for one of them"
            )
    for side in sides:
        if side.adapter:
            check_fit(side.adapter, embeddings, side.name)
    return sides


def _joined(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Put further comparisons under the first, with what to know of many."""
    first, *more = records
    if not more:
        return first
    note = (
        f"{len(records)} models are held against A: each interval and p-value is of its pair "
        "alone, and the best of several looks better than it is"
    )
    return {**first, "notes": [*first["notes"], note], "more": more}


def _as_runs(found: dict[str, Measured], qrels: Qrels, embeddings: Embeddings) -> Runs:
    """Name the rankings ``raw``, ``a``, ``b`` and so on."""
    keys = {name: name if name in {"raw", "a"} else "b" for name in found}
    return Runs(
        qrels,
        embeddings.documents.ids,
        {name: measured.rankings[keys[name]] for name, measured in found.items()},
        {name: measured.scores[keys[name]] for name, measured in found.items()},
    )


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


def _left_out(used: NDArray[np.bool_], is_used: NDArray[np.bool_]) -> dict[str, Any]:
    """Count the queries that had a part in a model; where that is all of them, they are kept."""
    return {
        "n_queries": 0 if is_used.all() else int(is_used.sum()),
        "used_by_a": int(used[0].sum()),
        "used_by_b": int(used[1].sum()),
        "kept": bool(is_used.all()),
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


def _notes(a: Side, b: Side, embeddings: Embeddings, letters: str) -> list[str]:
    """Say in what A and B are not alike, and what is taken on trust."""
    notes = []
    if a.similarity and b.similarity and a.similarity != b.similarity:
        notes.append(
            f"A is for an index that compares by {a.similarity}, {letters[1]} by {b.similarity}: "
            "each is measured on its own; one index can't serve both"
        )
    for letter, side in zip(letters, (a, b), strict=True):
        if side.adapter and not side.adapter.manifest.encoder.fingerprint:
            notes.append(
                f"{letter} does not say which encoder its queries come from; that it is "
                f"{embeddings.encoder.name} is taken on trust"
            )
    if embeddings.queries.dim != embeddings.documents.dim:
        notes.append("raw queries have another width than the documents and find nothing")
    return notes


def _use_notes(sides: Sequence[Side], left_out: dict[str, Any], letters: str) -> list[str]:
    """Warn of test queries that had a part in a model, and where that can't be told."""
    notes = []
    counts = left_out["used_by_a"], left_out["used_by_b"]
    for letter, side, n_used in zip(letters, sides, counts, strict=True):
        if n_used:
            what = "kept, as there are no others" if left_out["kept"] else "left out"
            notes.append(f"{letter} was trained on {n_used} of these queries: {what}")
        if not side.is_known:
            what = "its start was" if side.trained_on else "it was"
            so = (
                "the dataset has no test split, so these may all be among them; give labels that "
                "it has not seen, as qrels/test.tsv or qrels/dev.tsv (--split dev)"
                if "may_be_used" in left_out
                else "if some are among these, that flatters it"
            )
            notes.append(f"{letter} does not say which queries {what} trained on; {so}")
    return notes
