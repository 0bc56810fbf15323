"""The page: what each section shows, from the record of an evaluation."""

from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from trimtab_training.evaluation.verdict import (
    HEADLINE,
    decide,
    is_comparable,
    metric_name,
    slice_name,
)
from trimtab_training.report import words
from trimtab_training.report.drawing import Plot
from trimtab_training.report.key_numbers import has_model, key_numbers
from trimtab_training.report.plots import (
    plot_changes,
    plot_curves,
    plot_differences,
    plot_frontier,
    plot_recall,
    plot_sizes,
)
from trimtab_training.report.reproduce import as_toml, check_command, one_option_a_line

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


def write_report(record: dict[str, Any], manifest: dict[str, Any] | None) -> str:
    """Write a report.

    Args:
        record: What stands in ``evaluation.json``, or ``Evaluation.as_dict``. ``fit``,
            ``latency``, ``approximate`` and ``size_curve`` each add a section where they are there.
        manifest: The model's, as plain JSON, or None where no adapter helps.

    Returns:
        One HTML file without scripts, which loads nothing.
    """
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
        "p_value": words.p_value,
        "signs": words.signs,
        "after_colon": words.after_colon,
        "broken": one_option_a_line,
        "metric_name": metric_name,
        "slice_name": slice_name,
        "size_name": words.size_name,
    }
    folder = files("trimtab_training.report")
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        style=(folder / "page.css").read_text(encoding="utf-8"),
        **_content(record, manifest),
    )
    return words.clean(page)


def _content(record: dict[str, Any], manifest: dict[str, Any] | None) -> dict[str, Any]:
    """Gather what the template shows."""
    fit = record.get("fit")
    command = (fit or {}).get("command")
    return {
        "record": record,
        "name": manifest["name"] if manifest else record["adapter"],
        "verdict": record.get("verdict") or decide(record),
        "tiles": list(key_numbers(record)),
        "fitted_on": _known(record, manifest).get("dataset"),
        "plots": {plot.name: plot for plot in _plots(record)},
        "groups": list(_groups(record)),
        "losses": _shown(record["regressions"], _N_LOSSES),
        "gains": _shown(record["improvements"], _N_GAINS),
        "fit": fit,
        "comparisons": list(_comparisons(fit)),
        "has_model": has_model(record),
        "latency": record.get("latency"),
        "approximate": record.get("approximate"),
        "size_curve": record.get("size_curve"),
        "sizes": _sizes(record),
        "facts": list(_facts(record, manifest)),
        "hashes": list(_hashes(record, manifest)),
        "versions": (manifest or fit or {}).get("versions", {}),
        "created": (manifest or fit or {}).get("created"),
        "recipe": as_toml(fit["recipe"]) if fit else None,
        "command": command,
        "check": check_command(command) if command else None,
    }


def _plots(record: dict[str, Any]) -> Iterator[Plot]:
    """Draw what there is to draw."""
    if is_comparable(record):
        rows = [(metric_name(name), metric) for name, metric in record["metrics"].items()]
        rows += [
            (f"{metric_name(HEADLINE)}, {slice_name(key)}", part["metrics"][HEADLINE])
            for key, part in record["slices"].items()
            if part["metrics"] and part["n_queries"] < record["n_queries"]
        ]
        yield plot_differences(rows)
    if record["wins"] + record["losses"]:
        yield plot_changes(record["changes"])
    curves = [curve for curve in (record.get("fit") or {}).get("curves", []) if curve]
    if curves:
        yield plot_curves(curves)
    if sizes := _sizes(record):
        yield plot_frontier(sizes)
    if record.get("size_curve"):
        yield plot_sizes(record["size_curve"])
    if record.get("approximate"):
        yield plot_recall(record["approximate"])


def _sizes(record: dict[str, Any]) -> list[dict[str, Any]]:
    """List the sizes that a fit chose between, where something came of it."""
    sizes: list[dict[str, Any]] = (record.get("fit") or {}).get("sizes", [])
    return sizes if has_model(record) else []


def _groups(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """List the groups of queries in the table of metrics."""
    n_queries = record["n_queries"]
    yield {"label": f"all {n_queries:,} queries", "metrics": record["metrics"]}
    for key, part in record["slices"].items():
        label = f"{part['n_queries']:,} queries about {slice_name(key)}"
        if part["n_queries"] == n_queries:
            label += ": all of them"
        repeats = part["n_queries"] == n_queries
        yield {"label": label, "metrics": None if repeats else part["metrics"]}


def _shown(examples: list[dict[str, Any]], n_open: int) -> tuple[list[Any], list[Any]]:
    """Part the queries that are shown at once from those behind a click."""
    prepared = []
    for example in examples:
        found = example["found_before"] + example["found_after"]
        ids = {document["doc_id"] for document in found}
        missed = [one for one in example["relevant"] if one["doc_id"] not in ids]
        prepared.append({**example, "missed": missed})
    return prepared[:n_open], prepared[n_open:]


def _comparisons(fit: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """List what the fit compared: a title, names of columns, and rows, which may lack some."""
    validation = (fit or {}).get("validation", {})
    trials = [
        {key.replace("_", " "): value for key, value in trial.items() if _is_plain(value)}
        for trial in validation.get("trials", [])
    ]
    if trials:
        columns = list(dict.fromkeys(key for trial in trials for key in trial))
        yield {"title": "Trials", "columns": columns, "rows": trials}
    for key, title, label in (
        ("families", "Gain in nDCG@10 by what the adapter is composed of", "composed of"),
        ("blends", "Gain in nDCG@10 by the share of the learned change that is kept", "share"),
    ):
        rows = [{label: name, "gain": gain} for name, gain in validation.get(key, {}).items()]
        if len(rows) > 1:
            yield {"title": title, "columns": [label, "gain"], "rows": rows}


def _is_plain(value: Any) -> bool:
    """Tell whether a value has its place in a cell."""
    return isinstance(value, int | float | str)


def _facts(record: dict[str, Any], manifest: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Say what was trained, on what."""
    if manifest:
        yield "adapter", manifest["kind"]
        yield "query vectors of", manifest["encoder"]["name"]
        yield "values of a query vector", f"{manifest['dim_in']} to {manifest['dim_out']}"
        yield "similarity", manifest["similarity"]
        yield "stores training queries", "yes" if manifest["stores_queries"] else "no"
    known = _known(record, manifest)
    for key, label in _TRAINING_FACTS.items():
        value = known.get(key)
        if isinstance(value, float):
            yield label, f"{value:.0%}" if key == "blend" else f"{value:g}"
        elif isinstance(value, list):
            yield label, ", ".join(map(str, value))
        elif value is not None:
            yield label, f"{value:,}" if isinstance(value, int) and key != "seed" else str(value)
    if "seconds" in known:
        yield "time taken", f"{known['seconds']:,.0f} s"


def _hashes(record: dict[str, Any], manifest: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Name the exact data and the exact file."""
    model = record.get("model")
    if model:
        yield f"model file ({model['size_bytes'] / 1e6:.2f} MB)", model["sha256"]
    known = _known(record, manifest)
    for key, label in (("labels", "labels"), ("vectors", "vectors")):
        if known.get(key):
            yield label, known[key]
    encoder = manifest["encoder"] if manifest else known.get("encoder")
    if encoder:
        yield "encoder", encoder["fingerprint"]


def _known(record: dict[str, Any], manifest: dict[str, Any] | None) -> dict[str, Any]:
    """Join what model and fit say about training."""
    return {**(manifest["training"] if manifest else {}), **(record.get("fit") or {})}
