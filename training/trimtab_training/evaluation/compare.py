"""Models on the same queries: is the newer one better, for whom, and by how much?

All are measured as exported files, as in :mod:`trimtab_training.evaluation.evaluate`, on the
queries that none was trained on, as far as that is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab_training.data.dataset import Dataset
from trimtab_training.data.qrels import Qrels, refuse_unanswered
from trimtab_training.data.training_digest import TrainedOn
from trimtab_training.embeddings.store import Embeddings
from trimtab_training.errors import ConfigError
from trimtab_training.evaluation.evaluate import (
    check_fit,
    unanswered_note,
)
from trimtab_training.evaluation.gate import Gate, judge
from trimtab_training.evaluation.paired import (
    SEED,
    against_raw,
    compare_metrics,
    compare_slice,
)
from trimtab_training.evaluation.per_query import (
    HEADLINE,
    ComparedExample,
    Example,
    Queries,
    Searched,
    count_wins,
    most_changed,
)
from trimtab_training.evaluation.record import (
    AgainstRaw,
    Compared,
    Comparison,
    LeftOut,
    LowerLimits,
)
from trimtab_training.evaluation.runs import Runs
from trimtab_training.evaluation.searched_models import LETTERS, Searcher, Side
from trimtab_training.retrieval.significance import lower_limit


def compare_models(
    names: Sequence[str],
    dataset: Dataset,
    embeddings: Embeddings,
    gate: Gate | None = None,
    *,
    split: str = "test",
) -> tuple[Comparison, Runs]:
    """Search with every model and with raw queries, exactly, and compare each with the first.

    Queries that any of them was trained on, or chosen by, are left out, unless that leaves none.
    Those without a relevant document count as 0 in the means, and judge nothing.

    Args:
        names: A, B and perhaps more: model files or folders, or ``none`` for the raw query.
        dataset: Labels and texts.
        embeddings: Vectors of every labelled query and document.
        gate: What is asked of B; the defaults where absent.
        split: Which labels to compare on.

    Returns:
        B against A, and under ``more`` the same of every further model against A. And what every
        query found: ``raw``, ``a``, ``b`` and so on.

    Raises:
        ConfigError: Fewer than two, or more than the letters, are named, or a pair has no model.
        DataError: The split is missing or nothing answers its queries, a label has no vector, or a
            model is for other vectors.
        trimtab.errors.ModelError: A model can't be loaded.
    """
    sides = _load_sides(names, dataset, embeddings)
    queries = _Queries.choose(sides, dataset, embeddings, split)
    searcher = Searcher(queries.kept, embeddings, is_comparable=_has_raw(sides, embeddings))
    records: list[Comparison] = []
    runs: dict[str, Searched] = {}
    for place, letter in enumerate(LETTERS[1 : len(sides)], start=1):
        found = searcher.search_with(sides[0], sides[place])
        compared = queries.compare(place, found, searcher.queries)
        verdict = judge(compared, gate or Gate(), letter)
        records.append(Comparison(**msgspec.structs.asdict(compared), verdict=verdict))
        runs = {"raw": found["raw"], "a": found["a"], **runs, letter.lower(): found["b"]}
    return _joined(records), Runs.of(queries.kept, embeddings.documents.ids, runs)


@dataclass(frozen=True)
class _Queries:
    """The queries of a comparison, and which of them had a part in a model.

    Attributes:
        sides: The models.
        dataset: Labels and texts.
        embeddings: Vectors.
        split: The split that they are of.
        kept: Those that are searched with.
        used: For each side and each query of the split, whether it had a part in that model.
        is_open: Whether models may have been trained on them without anything that says so: those
            of a made test split were training queries of whatever was trained on all labels.
    """

    sides: Sequence[Side]
    dataset: Dataset
    embeddings: Embeddings
    split: str
    kept: Qrels
    used: NDArray[np.bool_]
    is_open: bool

    @classmethod
    def choose(
        cls, sides: Sequence[Side], dataset: Dataset, embeddings: Embeddings, split: str
    ) -> "_Queries":
        """Leave out the queries that had a part in a model, unless that leaves none."""
        qrels = dataset.measurable_split(split)
        embeddings.require({split: qrels})
        used = np.array([_was_used(side, dataset, qrels) for side in sides])
        is_used: NDArray[np.bool_] = np.asarray(used.any(axis=0), dtype=bool)
        chosen: NDArray[np.bool_] = ~is_used | is_used.all()
        kept = {
            query: qrels[query] for query, is_kept in zip(qrels, chosen, strict=True) if is_kept
        }
        refuse_unanswered(kept, f"the {split} queries of {dataset.name} that no model has seen")
        is_open = split == "train" or (split == "test" and dataset.made_splits is not None)
        return cls(sides, dataset, embeddings, split, kept, used, is_open)

    def compare(self, place: int, found: dict[str, Searched], queries: Queries) -> Compared:
        """Compare B with A overall, by slice, with the raw query, and by queries won and lost."""
        pair, letters = (self.sides[0], self.sides[place]), "A" + LETTERS[place]
        is_seen, slice_notes = _seen(pair, self.dataset, self.kept)
        is_answered = queries.is_answered
        left_out = self._left_out(place)
        wins, losses, ties = count_wins(found["a"].scores, found["b"].scores)
        largest_losses, largest_wins = _examples(found, queries, self.dataset)
        return Compared(
            dataset=self.dataset.name,
            split=self.split,
            n_queries=len(self.kept),
            a=pair[0].describe(),
            b=pair[1].describe(),
            metrics=compare_metrics(found),
            slices={
                "seen_documents": compare_slice(found, is_seen & is_answered),
                "unseen_documents": compare_slice(found, ~is_seen & is_answered),
            },
            against_raw=AgainstRaw(
                a=against_raw(found, "a", is_answered) if pair[0].adapter else None,
                b=against_raw(found, "b", is_answered) if pair[1].adapter else None,
            ),
            lower_limits=_lower_limits(pair, found, is_answered),
            wins=wins,
            losses=losses,
            ties=ties,
            left_out=left_out,
            notes=[
                *_notes(*pair, self.embeddings, letters),
                *_look_notes(pair, letters),
                *_raw_notes(pair, letters, self.embeddings, has_raw=found["raw"].has_ranking),
                *_use_notes(pair, left_out, letters),
                *slice_notes,
                *([] if is_answered.all() else [unanswered_note(int((~is_answered).sum()))]),
            ],
            largest_losses=largest_losses,
            largest_wins=largest_wins,
            answered_queries=None if is_answered.all() else compare_slice(found, is_answered),
        )

    def _left_out(self, place: int) -> LeftOut:
        """Count the queries that had a part in a model; where that is all, they are kept."""
        is_used = self.used.any(axis=0)
        return LeftOut(
            n_queries=0 if is_used.all() else int(is_used.sum()),
            used_by_a=int(self.used[0].sum()),
            used_by_b=int(self.used[place].sum()),
            kept=bool(is_used.all()),
            may_be_used=self.is_open
            and not (self.sides[0].is_known and self.sides[place].is_known),
        )


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


def _has_raw(sides: Sequence[Side], embeddings: Embeddings) -> bool:
    """Tell whether raw queries can be searched with: some model says that they are of one encoder.

    Whatever a migration model says beside it, the vectors are the same.
    """
    has_same_width = embeddings.queries.dim == embeddings.documents.dim
    return has_same_width and any(side.adapter and not side.is_migration for side in sides)


def _joined(records: list[Comparison]) -> Comparison:
    """Put further comparisons under the first, with what to know of many."""
    first, *more = records
    if not more:
        return first
    note = (
        f"{len(records)} models are held against A: each interval and p-value is of its pair "
        "alone, and the best of several looks better than it is"
    )
    return msgspec.structs.replace(first, notes=[*first.notes, note], more=more)


def _lower_limits(
    sides: Sequence[Side], found: dict[str, Searched], chosen: NDArray[np.bool_]
) -> LowerLimits:
    """Bound B minus A and B minus raw from below; one and the same file can lose nothing."""

    def less(other: str) -> float:
        differences = found["b"].scores[HEADLINE] - found[other].scores[HEADLINE]
        return lower_limit(differences[chosen], np.random.default_rng(SEED))

    a, b = (side.adapter.mark if side.adapter else None for side in sides)
    has_raw = b is not None and found["raw"].has_ranking
    return LowerLimits(a=0.0 if a == b else less("a"), raw=less("raw") if has_raw else None)


def _was_used(side: Side, dataset: Dataset, qrels: Qrels) -> NDArray[np.bool_]:
    """Tell for each query whether a model was trained on it, as far as is known."""
    if side.trained_on is None:
        return np.zeros(len(qrels), dtype=bool)
    return side.trained_on.has_query(dataset, list(qrels))


def _seen(
    sides: Sequence[Side], dataset: Dataset, qrels: Qrels
) -> tuple[NDArray[np.bool_], list[str]]:
    """Tell for each query whether A or B has seen one of its relevant documents."""
    known = [side.trained_on for side in sides if side.trained_on is not None]
    notes = []
    if len(known) < len(sides):
        known.append(TrainedOn.of(dataset))
        if "train" in dataset.splits:
            notes.append(
                "which documents count as seen is taken from the dataset's train split, too"
            )
    return np.any([each.has_document_of(qrels) for each in known], axis=0), notes


def _examples(
    found: dict[str, Searched], queries: Queries, dataset: Dataset
) -> tuple[list[ComparedExample], list[ComparedExample]]:
    """Name the queries that lose and gain most from A to B, with what A and B found."""
    places = {query: place for place, query in enumerate(queries.ids)}
    raw = found["raw"]

    def named(example: Example) -> ComparedExample:
        place = places[example.query_id]
        return ComparedExample(
            query_id=example.query_id,
            query=example.query,
            raw=float(raw.scores[HEADLINE][place]),
            a=example.base,
            b=example.adapted,
            rank_raw=queries.first_relevant(place, raw.ranking),
            rank_a=example.rank_before,
            rank_b=example.rank_after,
            relevant=example.relevant,
            found_a=example.found_before,
            found_b=example.found_after,
        )

    losses, wins = most_changed(queries, dataset, found["a"], found["b"])
    return [*map(named, losses)], [*map(named, wins)]


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
    return notes


def _look_notes(sides: Sequence[Side], letters: str) -> list[str]:
    """Say that second looks are not compared, and where B lacks what A has."""
    looks = [side.adapter is not None and side.adapter.second_look is not None for side in sides]
    if not any(looks):
        return []
    who = " and ".join(letter for letter, has in zip(letters, looks, strict=True) if has)
    note = f"{who} {'have' if all(looks) else 'has'} a second look; adapters alone are compared"
    if looks == [True, False] and sides[1].adapter is not None:
        note += (
            f". {letters[1]} has none: where it takes A's place, a client that asks for one goes "
            "without, and is refused once it starts anew"
        )
    return [note]


def _raw_notes(
    sides: Sequence[Side], letters: str, embeddings: Embeddings, *, has_raw: bool
) -> list[str]:
    """Say why the raw query finds nothing, or that a model doubts what it finds."""
    if embeddings.queries.dim != embeddings.documents.dim:
        return ["raw queries have another width than the documents and find nothing"]
    if not has_raw:
        return ["raw queries are of another encoder than the documents and count as 0"]
    return [
        f"{letter} is for a migration, raw queries being of another encoder than the documents; "
        "another model here is not, so what raw queries find is measured"
        for letter, side in zip(letters, sides, strict=True)
        if side.is_migration
    ]


def _use_notes(sides: Sequence[Side], left_out: LeftOut, letters: str) -> list[str]:
    """Warn of test queries that had a part in a model, and where that can't be told."""
    notes = []
    counts = left_out.used_by_a, left_out.used_by_b
    for letter, side, n_used in zip(letters, sides, counts, strict=True):
        if n_used:
            what = "kept, as there are no others" if left_out.kept else "left out"
            notes.append(f"{letter} was trained on {n_used} of these queries: {what}")
        if not side.is_known:
            what = "its start was" if side.trained_on else "it was"
            so = (
                "the dataset has no test split, so these may all be among them; give labels that "
                "it has not seen, as qrels/test.tsv or qrels/dev.tsv (--split dev)"
                if left_out.may_be_used
                else "if some are among these, that flatters it"
            )
            notes.append(f"{letter} does not say which queries {what} trained on; {so}")
    return notes
