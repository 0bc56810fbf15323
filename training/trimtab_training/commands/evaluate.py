"""`trimtab evaluate MODEL DATASET --embeddings EMB`: raw against adapted queries."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trimtab_training.commands.options import PATH, max_dropped_option

if TYPE_CHECKING:
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.embeddings.missing_labels import Dropped


@click.command()
@click.argument("model", type=click.Path())
@click.argument("dataset", type=PATH)
@click.option("--embeddings", type=PATH, required=True, help="Embeddings folder of the dataset.")
@click.option("--split", help="train, dev or test.  [default: test]")
@click.option(
    "--index", metavar="faiss:PATH", help="Approximate index that is searched: report its recall."
)
@click.option(
    "--report",
    type=PATH,
    metavar="FILE",
    help="Write the proof, an HTML page, to FILE, and what every query found and scored to a "
    "folder beside it, FILE with .runs for its ending.",
)
@max_dropped_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    model: str,
    dataset: Path,
    embeddings: Path,
    report: Path | None,
    split: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare raw and adapted queries on a split of DATASET.

    Searches exactly, through the exported MODEL, and tells the difference from chance.
    """
    from trimtab_training.commands.screen import show_evaluation, show_verdict, talk
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.embeddings.missing_labels import keep_embedded
    from trimtab_training.embeddings.store import Embeddings
    from trimtab_training.evaluation.evaluate import evaluate_model, read_manifest, split_made_for
    from trimtab_training.evaluation.record import encode_record, record_beside
    from trimtab_training.evaluation.verdict import decide

    if report:
        _check_place(report)
    data = Dataset.load(dataset, split_by=split_made_for(model))
    manifest = read_manifest(model)
    split = split or _choose_split(model, manifest, data)
    vectors = Embeddings.open(embeddings)
    data, dropped = keep_embedded(data, vectors, options.pop("max_dropped"), splits=(split,))
    with talk.status("searching with raw and with adapted queries"):
        evaluation = evaluate_model(model, data, vectors, split=split, timed=True, **options)
    record = {**evaluation.as_dict(), **_note(dropped, evaluation.notes)}
    of_the_fit = record_beside(model, manifest["training"])
    record["verdict"] = decide({**record, **of_the_fit})
    if report:
        _write(report, {**record, **of_the_fit}, manifest)
        runs = report.with_suffix(".runs")
        if evaluation.runs:
            evaluation.runs.write(runs)
        talk.print(f"made {report} and {runs}")
    if as_json:
        click.echo(encode_record(record), nl=False)
        return
    show_evaluation(evaluation.summary)
    show_verdict(record["verdict"])
    _show_details(record)


def _choose_split(model: str, manifest: dict[str, Any], data: "Dataset") -> str:
    """Give the test split; the dev split where only that is known to be new to the model."""
    from trimtab_training.commands.screen import talk
    from trimtab_training.data.training_digest import TrainedOn

    if data.made_splits is None or "dev" not in data.splits:
        return "test"
    known = TrainedOn.find(model, manifest["training"], data)
    if known and known.is_complete:
        return "test"
    talk.print(
        f"{data.name} has no test split, and what {model} was trained on is not known: measured on "
        "the dev split instead (--split test makes one of the training queries)"
    )
    return "dev"


def _note(dropped: "Dropped | None", notes: list[str]) -> dict[str, Any]:
    """Say what was left out of the labels, where something was."""
    if dropped is None:
        return {}
    return {"notes": [*notes, dropped.sentence()], "dropped_labels": dropped.as_dict()}


def _check_place(report: Path) -> None:
    """Refuse a place where no file can be, before the work is done."""
    from trimtab_training.errors import ConfigError
    from trimtab_training.evaluation.runs import check_place

    if report.is_dir():
        raise ConfigError(f"{report} is a folder; --report wants a file such as report.html")
    if not report.parent.is_dir():
        raise ConfigError(f"no folder {report.parent} for --report {report.name}; make it first")
    check_place(report.with_suffix(".runs"))


def _write(report: Path, record: dict[str, Any], manifest: dict[str, Any]) -> None:
    """Write the page."""
    from trimtab_training.errors import ConfigError
    from trimtab_training.files import write_whole
    from trimtab_training.report import write_report

    page = write_report(record, manifest)
    try:
        write_whole(report, page.encode())
    except OSError as error:
        raise ConfigError(f"can't write {report}: {error.strerror}") from error


def _show_details(record: dict[str, Any]) -> None:
    """Print what the table does not show."""
    from trimtab_training.commands.screen import results

    for rank, shift in record["score_shift"].items():
        if "base" in shift:
            results.print(
                f"mean score at {rank.replace('_', ' ')}: {shift['base']['mean']:.4f} raw, "
                f"{shift['adapted']['mean']:.4f} adapted"
            )
    latency = record["latency"]
    results.print(
        f"one transform: {latency['transform_us']['p50']:.1f} µs (p99 "
        f"{latency['transform_us']['p99']:.1f}); numpy's matrix-vector product "
        f"{latency['numpy_matvec_us']['p50']:.1f} µs"
    )
    if "approximate" in record:
        _show_sweep(record["approximate"])
    for note in record["notes"]:
        results.print(f"note: {note}")
    for title in ("regressions", "improvements"):
        if record[title]:
            word = "worst" if title == "regressions" else "best"
            results.print(f"\n[bold]{word} {title}[/bold]")
        for example in record[title]:
            _show_example(example)


def _show_sweep(sweep: dict[str, Any]) -> None:
    """Print recall of the approximate index, value by value."""
    from trimtab_training.commands.screen import results

    results.print(f"recall@10 of {sweep['index']} ({sweep['kind']}) against exact search")
    for point in sweep["points"]:
        served = " (as served)" if point["value"] == sweep["served_value"] else ""
        results.print(
            f"  {sweep['parameter']} {point['value']:>5}: {point['raw']['recall@10']:.4f} raw, "
            f"{point['adapted']['recall@10']:.4f} adapted{served}"
        )


def _show_example(example: dict[str, Any]) -> None:
    """Print one query: what was wanted and the first document found, before and after."""
    from trimtab_training.commands.screen import one_line, results

    results.print(
        f"  {example['base']:.2f} -> {example['adapted']:.2f}  {example['query_id']}  "
        f"{one_line(example['query'])}",
        markup=False,
    )
    for label in ("relevant", "found_before", "found_after"):
        found = example[label][:1]
        text = f"{found[0]['doc_id']}  {one_line(found[0]['text'])}" if found else "nothing"
        results.print(f"      {label.replace('_', ' '):<13} {text}", markup=False)
