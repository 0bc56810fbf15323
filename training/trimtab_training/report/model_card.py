"""The model card: what a person should know before they serve a model, as Markdown."""

from typing import Any

from trimtab.model.manifest import Manifest
from trimtab_training.evaluation.evaluate import Evaluation
from trimtab_training.fit.fit import FitResult


def write_card(
    name: str,
    manifest: Manifest | None,
    evaluation: Evaluation,
    fit: FitResult,
    verdict: dict[str, Any],
) -> str:
    """Write the card of a model, or of the finding that none is needed.

    Args:
        name: Name of the model.
        manifest: The manifest of the model, or None where no adapter helps.
        evaluation: What it does to the test split.
        fit: How it came about.
        verdict: Whether to ship it: ``trimtab_training.evaluation.verdict.decide``.
    """
    summary = evaluation.summary
    parts = [
        f"# {name}",
        f"**{verdict['sentence']}** [report.html](report.html) shows why.",
        _opening(manifest, fit),
        "## Does it help?",
        f"Measured on {summary['n_queries']} {summary['split']} queries of "
        f"`{summary['dataset']}`, none of which was used to train or to choose. Exact search.",
        metrics_table(summary["metrics"]),
        f"{summary['wins']} queries got better, {summary['losses']} worse, "
        f"{summary['ties']} stayed as they were (nDCG@10).",
        _slices(summary["slices"]),
        *[f"Note: {note}." for note in evaluation.notes],
        _scores(evaluation.score_shift),
        "## How it was made",
        _making(manifest, fit),
    ]
    if manifest is not None:
        parts += ["## Use it", _USE.format(name=name)]
    return "\n\n".join(part for part in parts if part) + "\n"


def metrics_table(metrics: dict[str, Any]) -> str:
    """Write base, adapted and difference of every metric as a Markdown table."""
    rows = [
        "| metric | base | adapted | difference | 95 % interval | p |",
        "|---|---|---|---|---|---|",
    ]
    for name, metric in metrics.items():
        low, high = metric["ci95"]
        rows.append(
            f"| {name} | {metric['base']:.4f} | {metric['adapted']:.4f} | {metric['delta']:+.4f} "
            f"| {low:+.4f} to {high:+.4f} | {metric['p_value']:.4f} |"
        )
    return "\n".join(rows)


def _opening(manifest: Manifest | None, fit: FitResult) -> str:
    """Say in a few lines what this is."""
    if manifest is None:
        return f"**No adapter.** {fit.verdict}"
    stores = (
        "**This model stores vectors of training queries.**"
        if manifest.stores_queries
        else "It stores no training queries."
    )
    return (
        f"A {manifest.kind} adapter for query vectors of `{manifest.encoder.name}` "
        f"({manifest.dim_in} to {manifest.dim_out} values, for {manifest.use}). Stored document "
        f"vectors stay as they are. {stores}\n\n{fit.verdict}"
    )


def _slices(slices: dict[str, Any]) -> str:
    """Say how seen and unseen documents fare."""
    lines = []
    for key, label in (
        ("seen_documents", "whose documents also had training queries (seen)"),
        ("unseen_documents", "about documents without any training query (unseen)"),
    ):
        part = slices[key]
        if part["n_queries"] == 0:
            lines.append(f"- No test queries {label}.")
            continue
        metric = part["metrics"]["ndcg@10"]
        low, high = metric["ci95"]
        lines.append(
            f"- {part['n_queries']} queries {label}: nDCG@10 {metric['base']:.4f} to "
            f"{metric['adapted']:.4f} ({metric['delta']:+.4f}, {low:+.4f} to {high:+.4f})."
        )
    return "\n".join(lines)


def _scores(shift: dict[str, Any]) -> str:
    """Warn whoever filters by a score threshold."""
    first = shift["rank_1"]
    if "base" not in first:
        return ""
    return (
        f"Scores move: the first document's mean score goes from {first['base']['mean']:.3f} to "
        f"{first['adapted']['mean']:.3f}. Set any score threshold anew; `evaluation.json` has the "
        "quantiles."
    )


def _making(manifest: Manifest | None, fit: FitResult) -> str:
    """Say what a person needs to make it again."""
    validation = fit.validation
    lines = [
        f"- seed {fit.seed}, {fit.seconds:.0f} s, chosen on {validation['on']} "
        f"({validation['n_queries']} queries): nDCG@10 {validation['base_ndcg@10']:.4f} to "
        f"{validation['adapted_ndcg@10']:.4f}",
        f"- chosen: weight of unlabelled documents {fit.weights.unlabelled:g}, document anchor "
        f"{fit.weights.anchor:g}, temperature {fit.weights.temperature:g}, "
        f"{fit.blend:.0%} of the learned change",
    ]
    if manifest is not None:
        record = manifest.training
        if record["n_synthetic"].get("train"):
            lines.append(
                f"- {record['n_synthetic']['train']} of the training queries were written by an "
                f"LLM; each counts {fit.weights.synthetic:g} of a real one"
            )
        lines += [
            f"- {record['n_train']} training queries, {record['n_documents']} documents of "
            f"`{record['dataset']}`",
            f"- labels `{record['labels']}`",
            f"- vectors `{record['vectors']}`",
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

adapter = Adapter.load("models/{name}")
adapted = adapter.transform(query_vector)      # as a function
index = AdaptedIndex(faiss_index, adapter)     # or in front of a FAISS index
```"""
