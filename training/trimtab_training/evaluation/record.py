"""What is written of an evaluation and of a comparison, as types, and both as JSON.

Fields stand in the order of the JSON. What was not measured is None here and has no key there,
unless the field has no default: then its key is always there. Records are made by the modules
around this one, and read by the verdict, the gate, the report and the commands.
"""

import json
from pathlib import Path
from typing import Generic, Literal, TypeVar

import msgspec
from msgspec import Struct, field

from trimtab_training.embeddings.missing_labels import Dropped
from trimtab_training.errors import DataError
from trimtab_training.evaluation.ann_recall import Sweep
from trimtab_training.evaluation.latency import Latency
from trimtab_training.evaluation.origin import Fit, ModelFile, Origin, SizeCurve
from trimtab_training.evaluation.per_query import Changes, ComparedExample, Example
from trimtab_training.model_files import EVALUATION, folder_of

Interval = tuple[float, float]
Weight = Literal["stop", "blind", "care", "good", "note"]
Decision = Literal["ship", "ship with care", "do not ship", "can't tell"]

_MADE_FROM = ("labels", "vectors", "seed", "recipe")

T = TypeVar("T")
M = TypeVar("M")


class Metric(Struct, frozen=True, kw_only=True):
    """One metric of raw and of adapted queries, and adapted minus base."""

    base: float
    adapted: float
    delta: float
    ci95: Interval
    p_value: float


class Difference(Struct, frozen=True, kw_only=True):
    """A difference of one metric."""

    delta: float
    ci95: Interval
    p_value: float


class ComparedMetric(Struct, frozen=True, kw_only=True):
    """One metric of raw queries, of A and of B, and B minus A."""

    raw: float
    a: float
    b: float
    delta: float
    ci95: Interval
    p_value: float


class Slice(Struct, Generic[M], frozen=True, kw_only=True):
    """A part of the queries; an empty one has no metrics.

    Queries without a relevant document are in no part: they are evidence of nothing.
    """

    n_queries: int
    metrics: dict[str, M] | None


class FreshQueries(Slice[Metric], frozen=True, kw_only=True):
    """The answered queries that had no part in a model, and the slices of them."""

    slices: dict[str, Slice[Metric]] = {}


class Scores(Struct, frozen=True, kw_only=True):
    """Scores of the documents at one rank: mean, and quantiles by level."""

    mean: float
    quantiles: dict[str, float]


class ScoreShift(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Scores at one rank; raw queries have none where they can't be searched with."""

    base: Scores | None = None
    adapted: Scores


class DroppedLabels(Struct, frozen=True, kw_only=True):
    """What was left out of the labels: by split, of as many."""

    labels: dict[str, tuple[int, int]]
    queries: dict[str, tuple[int, int]]
    share: float
    documents_without_vector: int
    queries_without_vector: int
    examples: list[str]


class Reason(Struct, frozen=True, kw_only=True):
    """What speaks for a model or against it, and how much."""

    weight: Weight
    text: str


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether to ship a model, in one sentence, with the reasons, the heaviest first."""

    decision: Decision
    sentence: str
    reasons: list[Reason]


class TuningRival(Struct, frozen=True, kw_only=True):
    """What a way to embed queries gains over raw vectors on held-out training queries."""

    n_queries: int
    gain: float
    standard_error: float


class RivalTest(Struct, frozen=True, kw_only=True):
    """What query.onnx, or a second look, B, does to one split, beside the adapter, A, or raw.

    Queries that had a part in it are left out, unless that leaves none.
    """

    split: str
    n_queries: int
    n_left_out: int = 0
    metrics: dict[str, ComparedMetric]
    slices: dict[str, Slice[ComparedMetric]]
    against_raw: Difference | None

    @property
    def queries(self) -> str:
        """Name the queries that it was measured on."""
        name = f"{self.n_queries:,} {self.split} queries"
        return f"{name} that had no part in it" if self.n_left_out else name


class Tuning(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The encoder of queries, tuned: what was chosen, on what grounds, and what became of it.

    Without a test, nothing tuned was chosen, and there is no file.
    """

    choice: Literal["nothing", "adapter", "tuned", "mean"]
    verdict: str
    settings: dict[str, object]
    rivals: dict[str, TuningRival]
    seconds: float
    test: RivalTest | None = None
    model: ModelFile | None = None


class SecondLook(Struct, frozen=True, kw_only=True):
    """A second look at the best documents: its sizes, and what it does beside the adapter alone."""

    depth: int
    mix: float
    rank: int
    test: RivalTest


class Evaluation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model does to one split: the object of ``evaluate --json``, and evaluation.json.

    Attributes:
        labels: Hash of the labels that were measured against; empty in older records.
        score_shift: Scores of the first and tenth document, for whoever filters by a threshold.
        notes: What a reader must know to read the numbers right.
        n_synthetic: How many of the queries an LLM wrote.
        split_is_made: Whether the dataset has no such split, and it was made of its training
            queries.
        n_used: How many of the queries had a part in the model, told by their texts; None where
            that is not known.
        chance: nDCG@10 of the documents in an order of chance, on average over answered queries.
        answered_queries: The queries that have a relevant document, where others have none.
        fresh_queries: Those of them that had no part in the model, where others had.
    """

    dataset: str
    split: str
    n_queries: int
    adapter: str
    metrics: dict[str, Metric]
    slices: dict[str, Slice[Metric]]
    wins: int
    losses: int
    ties: int
    score_shift: dict[str, ScoreShift]
    changes: Changes
    regressions: list[Example]
    improvements: list[Example]
    notes: list[str]
    n_synthetic: int
    split_is_made: bool
    n_used: int | None
    chance: float = field(name="chance_ndcg@10")
    labels: str = ""
    latency: Latency | None = None
    approximate: Sweep | None = None
    answered_queries: Slice[Metric] | None = None
    fresh_queries: FreshQueries | None = None
    fit: Fit | None = None
    dropped_labels: DroppedLabels | None = None
    size_curve: SizeCurve | None = None
    model: ModelFile | None = None
    verdict: Verdict | None = None
    tuning: Tuning | None = None
    second_look: SecondLook | None = None

    @property
    def is_comparable(self) -> bool:
        """Whether raw queries can be searched with at all: not where widths differ."""
        first = self.score_shift.get("rank_1")
        return first is None or first.base is not None

    @property
    def is_own(self) -> bool:
        """Whether these are the labels of the fit behind the model, as far as is known."""
        return self.fit is not None and self.labels in {"", self.fit.labels}

    @property
    def has_model(self) -> bool:
        """Whether there is a model to serve: not where a fit found no adapter that helps."""
        return self.model is not None or self.fit is None or self.fit.helps


class ComparedModel(Struct, frozen=True, kw_only=True):
    """One side of a comparison; the raw query is no model."""

    name: str
    model: str | None
    kind: str


class AgainstRaw(Struct, frozen=True, kw_only=True):
    """A and B less the raw query in nDCG@10, over answered queries.

    None for the raw query, and where it finds nothing.
    """

    a: Difference | None
    b: Difference | None


class LowerLimits(Struct, frozen=True, kw_only=True):
    """Lower limits of B minus A and of B minus the raw query in nDCG@10, over answered queries.

    At 97.5 %, with losses allowed for that are too rare for the queries to show
    (:func:`trimtab_training.retrieval.significance.lower_limit`). None as in :class:`AgainstRaw`.
    """

    a: float
    raw: float | None


class LeftOut(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The queries that had a part in a model: left out, or kept where there are no others.

    Those that are left ``may_be_used``, too, where that can't be told.
    """

    n_queries: int
    used_by_a: int
    used_by_b: int
    kept: bool
    may_be_used: bool = False

    @property
    def is_tainted(self) -> bool:
        """Whether the queries had a part in a model, or may have had."""
        return self.kept or self.may_be_used


class GateVerdict(Struct, frozen=True, kw_only=True):
    """Whether B may replace A, with whatever stands against it in words."""

    decision: Literal["better", "no worse", "worse", "can't tell"]
    sentence: str
    requirement: str
    margin: float
    passes: bool
    exit_code: int
    reasons: list[str]


class Compared(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was measured of A, the older model, and B on the same queries.

    Attributes:
        metrics: Of all queries; those without a relevant document count as 0.
        answered_queries: The queries that have a relevant document, where others have none.
    """

    dataset: str
    split: str
    n_queries: int
    a: ComparedModel
    b: ComparedModel
    metrics: dict[str, ComparedMetric]
    slices: dict[str, Slice[ComparedMetric]]
    against_raw: AgainstRaw
    lower_limits: LowerLimits
    wins: int
    losses: int
    ties: int
    left_out: LeftOut
    notes: list[str]
    largest_losses: list[ComparedExample]
    largest_wins: list[ComparedExample]
    answered_queries: Slice[ComparedMetric] | None = None


class Comparison(Compared, frozen=True, kw_only=True, omit_defaults=True):
    """The object of ``compare --json``: B against A, judged, and ``more`` models against A."""

    verdict: GateVerdict
    more: "list[Comparison] | None" = None
    dropped_labels: DroppedLabels | None = None


Record = TypeVar("Record", Evaluation, Comparison)


def note_dropped(record: Record, dropped: Dropped | None) -> Record:
    """Say in a record what was left out of the labels, where something was."""
    if dropped is None:
        return record
    counts = msgspec.convert(dropped.as_dict(), DroppedLabels)
    notes = [*record.notes, dropped.sentence()]
    return msgspec.structs.replace(record, notes=notes, dropped_labels=counts)


def encode_record(record: Struct) -> bytes:
    """Write a record as JSON.

    Half of a surrogate pair, which a JSON text may hold and UTF-8 may not, is escaped again.
    """
    text = json.dumps(msgspec.to_builtins(record), indent=1, ensure_ascii=False)
    return f"{text}\n".encode(errors="backslashreplace")


def decode_record(content: bytes, kind: type[T], place: str | Path) -> T:
    """Read a record; keys that are not known, as those of another version, are passed over.

    Raises:
        DataError: It is no such record; says where in it, and in which file.
    """
    try:
        return msgspec.convert(json.loads(content), kind)
    except (ValueError, RecursionError) as error:  # msgspec's own is a ValueError
        raise DataError(f"{place} is no record of an evaluation: {error}") from error


def record_beside(model: str | Path, made_from: dict[str, object]) -> Origin:
    """Read what the record beside a model says about its fit.

    Args:
        model: The model file or its folder.
        made_from: Labels, vectors, seed and recipe of the model, as its manifest has them.

    Returns:
        Nothing where there is no record, or where it is that of another fit.
    """
    file = folder_of(model) / EVALUATION
    try:
        found = decode_record(file.read_bytes(), Origin, file)
    except (OSError, DataError):
        return Origin()
    known = {key: getattr(found.fit, key, None) for key in _MADE_FROM}
    is_same = found.fit is not None and known == {key: made_from.get(key) for key in _MADE_FROM}
    return found if is_same else Origin()
