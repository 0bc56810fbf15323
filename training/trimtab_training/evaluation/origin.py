"""How a model came about, as evaluation.json has it: what the rooms above write down of a fit.

Fields stand in the order of the JSON; what is None here has no key there, unless the field has no
default. Older versions wrote fewer keys, and some that are gone: their records are read as well.
"""

from msgspec import UNSET, Struct, UnsetType, field


class HeldOutSlice(Struct, frozen=True, kw_only=True):
    """The held-out gain of a part of the training queries; an empty one has none."""

    n_queries: int
    gain: float | None


class Validation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a fit's choice rests on: held-out queries, and what each trial made of them.

    Gains are by composition (``families``, of version 0.1) and by share of the learned change.
    """

    on: str
    n_queries: int
    base: float = field(name="base_ndcg@10")
    adapted: float = field(name="adapted_ndcg@10")
    expected_gain: float | None = None
    standard_error: float | None = None
    seen_documents: HeldOutSlice | None = None
    unseen_documents: HeldOutSlice | None = None
    trials: list[dict[str, object]]
    families: dict[str, float] | None = None
    blends: dict[str, float]


class LossPoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Training loss after a round of steps; records of version 0.1 have epochs and no step."""

    step: float | None = None
    loss: float | None = None


class SizePoint(Struct, frozen=True, kw_only=True):
    """One size of a fitted adapter, by the rank of its linear part; 0 is any.

    The time is the median of one query; the loss is that of held-out gain to the whole adapter.
    """

    rank: int
    size_bytes: int
    transform_us: float
    held_out_gain: float
    loss: float
    loss_standard_error: float
    chosen: bool


class SecondLookTrial(Struct, frozen=True, kw_only=True):
    """One second look that was tried: its gain over the adapter on held-out queries."""

    document_anchor: float
    mix: float
    gain: float


class SecondLookChoice(Struct, frozen=True, kw_only=True):
    """Whether a second look was chosen, and what that rests on."""

    verdict: str
    helps: bool
    depth: int
    document_anchor: float
    mix: float
    n_queries: int
    adapter: float = field(name="adapter_ndcg@10")
    second_look: float = field(name="second_look_ndcg@10")
    expected_gain: float
    standard_error: float
    trials: list[SecondLookTrial]
    seconds: float


class EncoderName(Struct, frozen=True, kw_only=True):
    """The encoder of the queries."""

    name: str
    fingerprint: str


class Fit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a model came about: the choice, what it rests on, and how to make it again.

    Older versions wrote fewer keys, and some that are gone: their records are read as well.
    """

    verdict: str
    helps: bool
    validation: Validation
    curves: list[list[LossPoint]]
    seconds: float
    dataset: str = ""
    labels: str
    vectors: str
    n_dev: int | None = None
    n_test: int | None = None
    n_train: int | None = None
    n_synthetic: dict[str, int] | None = None
    n_documents: int | None = None
    made_splits: str | UnsetType | None = UNSET
    training_splits: tuple[str, ...] = ()
    started_from: str | None = None
    seed: int
    use: str | None = None
    recipe: dict[str, object]
    unlabelled_weight: float
    anchor: float
    temperature: float | None = None
    synthetic_weight: float | None = None
    families: list[str] | None = None
    blend: float
    encoder: EncoderName | None = None
    versions: dict[str, str] = {}
    created: str = ""
    command: str = ""
    sizes: list[SizePoint] | None = None
    second_look: SecondLookChoice | None = None


class CurvePoint(Struct, frozen=True, kw_only=True):
    """nDCG@10 on the test split of a fit with so many training queries."""

    n_train: int
    base: float
    adapted: float
    delta: float
    ci95: tuple[float, float]
    helps: bool


class SizeCurve(Struct, frozen=True, kw_only=True):
    """Fits by their training queries; one that finds no adapter leaves the raw query."""

    sizes: list[int]
    points: list[CurvePoint]


class ModelFile(Struct, frozen=True, kw_only=True):
    """Exactly which file was measured."""

    file: str
    size_bytes: int
    sha256: str


class Origin(Struct, frozen=True, kw_only=True):
    """What evaluation.json says of the fit behind a model; all of it absent where that is none."""

    fit: Fit | None = None
    size_curve: SizeCurve | None = None
    model: ModelFile | None = None
