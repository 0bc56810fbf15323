"""The model card: what a person should know before they serve a model, as Markdown."""

from trimtab.model.manifest import Manifest
from trimtab_training.evaluation.origin import Fit
from trimtab_training.evaluation.per_query import HEADLINE
from trimtab_training.evaluation.record import (
    Evaluation,
    Metric,
    ScoreShift,
    SecondLook,
    Slice,
    Tuning,
)
from trimtab_training.evaluation.verdict import decide
from trimtab_training.report.words import metric_cells


def write_card(folder: str, manifest: Manifest | None, record: Evaluation) -> str:
    """Write the card of a model, or of the finding that none is needed.

    Args:
        folder: Name of the model's folder.
        manifest: The manifest of the model, or None where no adapter helps.
        record: What it does to the test split, how it came about, and the verdict.
    """
    verdict = record.verdict or decide(record)
    parts = [
        f"# {record.adapter}",
        f"**{verdict.sentence}** [report.html](report.html) shows why.",
        _opening(manifest, record.fit.verdict if record.fit else ""),
        "## Does it help?",
        f"Measured on {record.n_queries} {record.split} queries of "
        f"`{record.dataset}`, {_used(record.n_used)}. Exact search.",
        _metrics_table(record.metrics),
        f"{record.wins} queries got better, {record.losses} worse, "
        f"{record.ties} stayed as they were (nDCG@10).",
        _slices(record.slices),
        *[f"Note: {note}." for note in record.notes],
        _scores(record.score_shift),
    ]
    if record.second_look:
        parts += ["## A second look at the best documents", _second_look(record.second_look)]
    if record.tuning:
        parts += ["## The encoder of queries, tuned", record.tuning.verdict, _tuned(record.tuning)]
    if record.fit:
        parts += ["## How it was made", _making(manifest, record.fit)]
    if manifest is not None:
        parts += ["## Use it", _USE.format(folder=folder)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _used(n_used: int | None) -> str:
    """Say how many of the queries had a part in the model."""
    if n_used is None:
        return "of which some may have been used to train or to choose: that is not known"
    if n_used == 0:
        return "none of which was used to train or to choose"
    return f"{n_used} of which were used to train or to choose: the verdict is on the others"


def _metrics_table(metrics: dict[str, Metric]) -> str:
    """Write base, adapted and difference of every metric as a Markdown table."""
    rows = [[name, *metric_cells(metric)] for name, metric in metrics.items()]
    return "\n".join(
        [
            "| metric | base | adapted | difference | 95 % interval | p |",
            "|---|---|---|---|---|---|",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    )


def _opening(manifest: Manifest | None, choice: str) -> str:
    """Say in a few lines what this is."""
    if manifest is None:
        return f"**No adapter.** {choice}"
    stores = (
        "**This model stores vectors of training queries.**"
        if manifest.stores_queries
        else "It stores no training queries."
    )
    return (
        f"A {manifest.kind} adapter for query vectors of `{manifest.encoder.name}` "
        f"({manifest.dim_in} to {manifest.dim_out} values, for {manifest.use}). Stored document "
        f"vectors stay as they are. {stores}\n\n{choice}"
    )


def _second_look(look: SecondLook) -> str:
    """Say what a second look does, and how to use it."""
    raw, before, after, delta, interval, _ = metric_cells(look.test.metrics[HEADLINE])
    return (
        f"Where search happens in process, the best {look.depth} documents can be put in a new "
        f"order: nDCG@10 {after} on {look.test.queries}, where raw queries have {raw} and the "
        f"adapter alone {before} ({delta}, {interval}).\n\n{_USE_LOOK}"
    )


def _tuned(tuning: Tuning) -> str:
    """Say what the file of a tuned encoder does, and how to use it."""
    if tuning.test is None:
        return ""
    test = tuning.test
    raw, before, tuned, delta, interval, _ = metric_cells(test.metrics[HEADLINE])
    return (
        f"`query.onnx` takes a query's text: nDCG@10 {tuned} on {test.queries}, "
        f"where raw queries have {raw} and the model above {before} "
        f"({delta}, {interval}).\n\n{_USE_TUNED}"
    )


def _slices(slices: dict[str, Slice[Metric]]) -> str:
    """Say how seen and unseen documents fare."""
    lines = []
    for key, label in (
        ("seen_documents", "whose documents also had training queries (seen)"),
        ("unseen_documents", "about documents without any training query (unseen)"),
    ):
        part = slices[key]
        if part.metrics is None:
            lines.append(f"- No test queries {label}.")
            continue
        base, adapted, delta, interval, _ = metric_cells(part.metrics[HEADLINE])
        gain = f"nDCG@10 {base} to {adapted} ({delta}, {interval})"
        lines.append(f"- {part.n_queries} queries {label}: {gain}.")
    return "\n".join(lines)


def _scores(shift: dict[str, ScoreShift]) -> str:
    """Warn whoever filters by a score threshold."""
    first = shift["rank_1"]
    if first.base is None:
        return ""
    return (
        f"Scores move: the first document's mean score goes from {first.base.mean:.3f} to "
        f"{first.adapted.mean:.3f}. Set any score threshold anew; `evaluation.json` has the "
        "quantiles."
    )


def _making(manifest: Manifest | None, fit: Fit) -> str:
    """Say what a person needs to make it again."""
    validation = fit.validation
    lines = [
        f"- seed {fit.seed}, {fit.seconds:.0f} s, chosen on {validation.on} "
        f"({validation.n_queries} queries): nDCG@10 {validation.base:.4f} to "
        f"{validation.adapted:.4f}",
        f"- chosen: weight of unlabelled documents {fit.unlabelled_weight:g}, document anchor "
        f"{fit.anchor:g}, temperature {fit.temperature:g}, "
        f"{fit.blend:.0%} of the learned change",
    ]
    if manifest is not None:
        if n_synthetic := (fit.n_synthetic or {}).get("train"):
            lines.append(
                f"- {n_synthetic} of the training queries were written by an "
                f"LLM; each counts {fit.synthetic_weight:g} of a real one"
            )
        lines += [
            f"- {fit.n_train} training queries, {fit.n_documents} documents of `{fit.dataset}`",
            f"- labels `{fit.labels}`",
            f"- vectors `{fit.vectors}`",
            f"- encoder `{manifest.encoder.fingerprint}`",
        ]
        if manifest.query_region is not None:
            lines.append(
                f"- holds {manifest.query_region.n_centroids} mean directions of training queries, "
                "by which a server counts queries that are far from all of them"
            )
    return "\n".join(lines)


_USE = """```python
from trimtab import AdaptedIndex, Adapter

adapter = Adapter.load("models/{folder}")
adapted = adapter.transform(query_vector)      # as a function
index = AdaptedIndex(faiss_index, adapter)     # or in front of a FAISS index
```"""

_USE_LOOK = """```python
index = AdaptedIndex(faiss_index, adapter, second_look=True)
client = AdaptedQdrantClient(qdrant_client, {"docs": adapter}, second_look=True)
```"""

_USE_TUNED = """```python
from trimtab import TextEncoder

vectors = TextEncoder.load("query.onnx").encode(["a query"])  # to search with
```"""
