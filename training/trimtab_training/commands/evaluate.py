"""`trimtab evaluate MODEL DATASET --embeddings EMB`: raw against adapted queries."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trimtab_training.commands.options import PATH, max_dropped_option

if TYPE_CHECKING:
    from trimtab.model.manifest import Manifest
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.evaluation.ann_recall import Sweep
    from trimtab_training.evaluation.per_query import Example
    from trimtab_training.evaluation.record import Evaluation
    from trimtab_training.evaluation.runs import Runs

_PAGE = b"<!doctype html"  # how one begins


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
    from msgspec.structs import asdict, replace

    from trimtab.model.adapter import Adapter
    from trimtab_training.commands.screen import results, show_evaluation, talk
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.embeddings.missing_labels import keep_embedded
    from trimtab_training.embeddings.store import Embeddings
    from trimtab_training.evaluation.evaluate import evaluate_runs, split_made_for
    from trimtab_training.evaluation.record import encode_record, note_dropped, record_beside
    from trimtab_training.evaluation.verdict import decide

    if report:
        _check_place(report)
    data = Dataset.load(dataset, split_by=split_made_for(model))
    manifest = Adapter.load(model).manifest
    split = split or _choose_split(model, manifest, data)
    vectors = Embeddings.open(embeddings)
    data, dropped = keep_embedded(data, vectors, options.pop("max_dropped"), splits=(split,))
    with talk.status("searching with raw and with adapted queries"):
        measured, runs = evaluate_runs(model, data, vectors, split=split, timed=True, **options)
    measured = note_dropped(measured, dropped)
    whole = replace(measured, **asdict(record_beside(model, manifest.training)))
    verdict = decide(whole)
    if report:
        _write(report, replace(whole, verdict=verdict), manifest, runs)
    if as_json:
        click.echo(encode_record(replace(measured, verdict=verdict)), nl=False)
        return
    show_evaluation(measured)
    results.print(verdict.sentence, style="bold")
    _show_details(measured)


def _choose_split(model: str, manifest: "Manifest", data: "Dataset") -> str:
    """Give the test split; the dev split where only that is known to be new to the model."""
    from trimtab_training.commands.screen import talk
    from trimtab_training.data.training_digest import TrainedOn

    if data.made_splits is None or "dev" not in data.splits:
        return "test"
    known = TrainedOn.find(model, manifest.training, data)
    if known and known.is_complete:
        return "test"
    talk.print(
        f"{data.name} has no test split, and what {model} was trained on is not known: measured on "
        "the dev split instead (--split test makes one of the training queries)"
    )
    return "dev"


def _check_place(report: Path) -> None:
    """Refuse a place where no file can be, or another file is, before the work is done."""
    from trimtab_training.errors import ConfigError
    from trimtab_training.evaluation.runs import check_place

    if report.is_dir():
        raise ConfigError(f"{report} is a folder; --report wants a file such as report.html")
    if not report.parent.is_dir():
        raise ConfigError(f"no folder {report.parent} for --report {report.name}; make it first")
    if report.is_file() and not _is_page(report):
        raise ConfigError(
            f"{report} is there and is no report, and would be lost; name another file, such as "
            "report.html"
        )
    check_place(report.with_suffix(".runs"))


def _is_page(path: Path) -> bool:
    """Tell a page, or an empty file, that a report may replace."""
    with path.open("rb") as file:
        start = file.read(len(_PAGE))
    return not start or start.lower() == _PAGE


def _write(report: Path, record: "Evaluation", manifest: "Manifest", runs: "Runs") -> None:
    """Write the page, and beside it what every query found."""
    from trimtab_training.commands.screen import talk
    from trimtab_training.errors import ConfigError
    from trimtab_training.files import write_whole
    from trimtab_training.report import write_report

    page, folder = write_report(record, manifest), report.with_suffix(".runs")
    try:
        runs.write(folder)  # first: a page does not stand without what proves it
        write_whole(report, page.encode())
    except OSError as error:
        raise ConfigError(f"can't write {report}: {error.strerror}") from error
    talk.print(f"made {report} and {folder}")


def _show_details(record: "Evaluation") -> None:
    """Print what the table does not show."""
    from trimtab_training.commands.screen import results

    for rank, shift in record.score_shift.items():
        if shift.base:
            results.print(
                f"mean score at {rank.replace('_', ' ')}: {shift.base.mean:.4f} raw, "
                f"{shift.adapted.mean:.4f} adapted"
            )
    if record.latency:
        ours, theirs = record.latency.transform_us, record.latency.numpy_matvec_us
        results.print(
            f"one transform: {ours.p50:.1f} µs (p99 {ours.p99:.1f}); numpy's matrix-vector product "
            f"{theirs.p50:.1f} µs"
        )
    if record.approximate:
        _show_sweep(record.approximate)
    for note in record.notes:
        results.print(f"note: {note}")
    for word, title, examples in (
        ("worst", "regressions", record.regressions),
        ("best", "improvements", record.improvements),
    ):
        if examples:
            results.print(f"\n{word} {title}", style="bold")
        for example in examples:
            _show_example(example)


def _show_sweep(sweep: "Sweep") -> None:
    """Print recall of the approximate index, value by value."""
    from trimtab_training.commands.screen import results

    results.print(f"recall@10 of {sweep.index} ({sweep.kind}) against exact search")
    for point in sweep.points:
        served = " (as served)" if point.value == sweep.served_value else ""
        results.print(
            f"  {sweep.parameter} {point.value:>5}: {point.raw.recall:.4f} raw, "
            f"{point.adapted.recall:.4f} adapted{served}"
        )


def _show_example(example: "Example") -> None:
    """Print one query: what was wanted and the first document found, before and after."""
    from trimtab_training.commands.screen import one_line, results

    results.print(
        f"  {example.base:.2f} -> {example.adapted:.2f}  {example.query_id}  "
        f"{one_line(example.query)}",
    )
    for label, found in (
        ("relevant", example.relevant),
        ("found before", example.found_before),
        ("found after", example.found_after),
    ):
        text = f"{found[0].doc_id}  {one_line(found[0].text)}" if found else "nothing"
        results.print(f"      {label:<13} {text}")
