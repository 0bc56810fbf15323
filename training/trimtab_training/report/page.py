"""The page: what each section shows, from the record of an evaluation."""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from trimtab.model.manifest import Manifest
from trimtab_training.evaluation.origin import Fit, SizePoint
from trimtab_training.evaluation.per_query import HEADLINE, Example, FoundDocument
from trimtab_training.evaluation.record import Evaluation, RivalTest
from trimtab_training.evaluation.verdict import decide, metric_name, slice_name
from trimtab_training.report import words
from trimtab_training.report.drawing import Plot
from trimtab_training.report.key_numbers import key_numbers
from trimtab_training.report.plots import (
    plot_changes,
    plot_curves,
    plot_differences,
    plot_frontier,
    plot_recall,
    plot_sizes,
)
from trimtab_training.report.reproduce import as_toml, check_command, one_option_a_line

if TYPE_CHECKING:
    from jinja2 import Template

_FOLDER = files("trimtab_training.report")
_N_LOSSES = 5
_N_GAINS = 3
_PACKAGES = ("jinja2", "matplotlib")
_TRAINING_FACTS = {
    "dataset": "dataset",
    "n_train": "training queries",
    "n_dev": "validation queries",
    "n_test": "test queries",
    "n_documents": "documents",
    "made_splits": "test split made by",
    "unlabelled_weight": "weight of unlabelled documents",
    "anchor": "weight of the document anchor",
    "families": "composed of",
    "blend": "share of the learned change",
    "seed": "seed",
}


def require_packages() -> None:
    """Make sure that a report can be written, before hours are spent on what it would show.

    Raises:
        ModuleNotFoundError: A package of the ``training`` extra is missing.
    """
    for name in _PACKAGES:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def write_report(record: Evaluation, manifest: Manifest | None) -> str:
    """Write a report.

    Args:
        record: An evaluation. ``fit``, ``latency``, ``approximate`` and ``size_curve`` each add a
            section where they are there.
        manifest: The model's, or None where no adapter helps.

    Returns:
        One HTML file without scripts, which loads nothing.
    """
    page = _template().render(
        style=(_FOLDER / "page.css").read_text(encoding="utf-8"),
        **_content(record, manifest),
    )
    return words.clean(page)


@cache
def _template() -> "Template":
    """Compile the page's template, which takes longer than to fill it in."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "clean": words.clean,
        "clip": words.clip,
        "number": words.number,
        "cell": words.cell,
        "signed": words.signed,
        "interval": words.interval,
        "metric_cells": words.metric_cells,
        "signs": words.signs,
        "after_colon": words.after_colon,
        "broken": one_option_a_line,
        "metric_name": metric_name,
        "slice_name": slice_name,
        "size_name": words.size_name,
        "way_name": words.way_name,
    }
    return environment.from_string((_FOLDER / "page.html.j2").read_text(encoding="utf-8"))


def _content(record: Evaluation, manifest: Manifest | None) -> dict[str, object]:
    """Gather what the template shows."""
    fit, tuning = record.fit, record.tuning
    made = manifest or fit
    command = fit.command if fit else ""
    return {
        "record": record,
        "name": manifest.name if manifest else record.adapter,
        "verdict": record.verdict or decide(record),
        "tiles": list(key_numbers(record)),
        "fitted_on": _known(record, manifest).get("dataset"),
        "plots": {plot.name: plot for plot in _plots(record)},
        "groups": list(_groups(record)),
        "tuning": tuning,
        "tuned_groups": list(_groups(tuning.test)) if tuning and tuning.test else [],
        "look": record.second_look,
        "look_groups": list(_groups(record.second_look.test)) if record.second_look else [],
        "tuned_over": "adapter" if manifest else "no adapter",
        "losses": (record.regressions[:_N_LOSSES], record.regressions[_N_LOSSES:]),
        "gains": (record.improvements[:_N_GAINS], record.improvements[_N_GAINS:]),
        "missed": _missed,
        "fit": fit,
        "comparisons": list(_comparisons(fit)) if fit else [],
        "sizes": _sizes(record),
        "facts": list(_facts(record, manifest)),
        "hashes": list(_hashes(record, manifest)),
        "versions": made.versions if made else {},
        "created": made.created if made else "",
        "recipe": as_toml(fit.recipe) if fit else None,
        "command": command,
        "check": check_command(command) if command else None,
    }


def _plots(record: Evaluation) -> Iterator[Plot]:
    """Draw what there is to draw."""
    if record.is_comparable:
        rows = [(metric_name(name), metric) for name, metric in record.metrics.items()]
        rows += [
            (f"{metric_name(HEADLINE)}, {slice_name(key)}", part.metrics[HEADLINE])
            for key, part in record.slices.items()
            if part.metrics and part.n_queries < record.n_queries
        ]
        yield plot_differences(rows)
    if record.wins + record.losses:
        yield plot_changes(record.changes)
    if record.fit and (curves := [curve for curve in record.fit.curves if curve]):
        yield plot_curves(curves)
    if sizes := _sizes(record):
        yield plot_frontier(sizes)
    if record.size_curve:
        yield plot_sizes(record.size_curve)
    if record.approximate:
        yield plot_recall(record.approximate)


def _sizes(record: Evaluation) -> list[SizePoint]:
    """List the sizes that a fit chose between, where something came of it."""
    return (record.fit.sizes or []) if record.fit and record.has_model else []


def _groups(record: Evaluation | RivalTest) -> Iterator[dict[str, object]]:
    """List the groups of queries in the table of metrics; one that holds all has no rows."""
    n_queries = record.n_queries
    yield {"label": f"all {n_queries:,} queries", "metrics": record.metrics}
    if isinstance(record, Evaluation) and (answered := record.answered_queries):
        judge = "" if record.fresh_queries else ": these judge it"
        label = f"{answered.n_queries:,} queries with a relevant document{judge}"
        yield {"label": label, "metrics": answered.metrics}
    if isinstance(record, Evaluation) and (fresh := record.fresh_queries):
        label = f"{fresh.n_queries:,} queries that had no part in the model: these judge it"
        yield {"label": label, "metrics": fresh.metrics}
    for key, part in record.slices.items():
        label = f"{part.n_queries:,} queries about {slice_name(key)}"
        if part.n_queries == n_queries:
            yield {"label": f"{label}: all of them", "metrics": None}
        else:
            yield {"label": label, "metrics": part.metrics}


def _missed(example: Example) -> list[FoundDocument]:
    """List the documents that were wanted and found neither way."""
    found = {document.doc_id for document in example.found_before + example.found_after}
    return [document for document in example.relevant if document.doc_id not in found]


def _comparisons(fit: Fit) -> Iterator[dict[str, object]]:
    """List what the fit compared: a title, names of columns, and rows, which may lack some."""
    trials = [
        {key.replace("_", " "): value for key, value in trial.items() if _is_plain(value)}
        for trial in fit.validation.trials
    ]
    if trials:
        columns = list(dict.fromkeys(key for trial in trials for key in trial))
        yield {"title": "Trials", "columns": columns, "rows": trials}
    for gains, title, label in (
        (
            fit.validation.families or {},
            "Gain in nDCG@10 by what the adapter is composed of",
            "composed of",
        ),
        (
            fit.validation.blends,
            "Gain in nDCG@10 by the share of the learned change that is kept",
            "share",
        ),
    ):
        rows = [{label: name, "gain": gain} for name, gain in gains.items()]
        if len(rows) > 1:
            yield {"title": title, "columns": [label, "gain"], "rows": rows}


def _is_plain(value: object) -> bool:
    """Tell whether a value has its place in a cell."""
    return isinstance(value, int | float | str)


def _facts(record: Evaluation, manifest: Manifest | None) -> Iterator[tuple[str, str]]:
    """Say what was trained, on what."""
    if manifest:
        yield "adapter", manifest.kind
        yield "query vectors of", manifest.encoder.name
        yield "values of a query vector", f"{manifest.dim_in} to {manifest.dim_out}"
        yield "similarity", manifest.similarity
        yield "stores training queries", "yes" if manifest.stores_queries else "no"
    known = _known(record, manifest)
    for key, label in _TRAINING_FACTS.items():
        value = known.get(key)
        if isinstance(value, float):
            yield label, f"{value:.0%}" if key == "blend" else f"{value:g}"
        elif isinstance(value, list):
            yield label, ", ".join(map(str, value))
        elif value is not None:
            yield label, f"{value:,}" if isinstance(value, int) and key != "seed" else str(value)
    if record.fit:
        yield "time taken", f"{record.fit.seconds:,.0f} s"


def _hashes(record: Evaluation, manifest: Manifest | None) -> Iterator[tuple[str, str]]:
    """Name the exact data and the exact file."""
    if record.model:
        yield f"model file ({record.model.size_bytes / 1e6:.2f} MB)", record.model.sha256
    known = _known(record, manifest)
    for key in ("labels", "vectors"):
        if known.get(key):
            yield key, str(known[key])
    encoder = manifest.encoder if manifest else record.fit and record.fit.encoder
    if encoder:
        yield "encoder", encoder.fingerprint


def _known(record: Evaluation, manifest: Manifest | None) -> dict[str, object]:
    """Join what model and fit say about training."""
    fit = msgspec.to_builtins(record.fit) if record.fit else {}
    return {**(manifest.training if manifest else {}), **fit}
