"""`trimtab evaluate MODEL DATASET --embeddings EMB`: raw against adapted queries."""

import json
from pathlib import Path

import click

from training.commands.options import PATH


@click.command()
@click.argument("model", type=click.Path())
@click.argument("dataset", type=PATH)
@click.option("--embeddings", type=PATH, required=True, help="Embeddings folder of the dataset.")
@click.option("--split", default="test", show_default=True, help="train, dev or test.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(model: str, dataset: Path, embeddings: Path, split: str, as_json: bool) -> None:
    """Compare raw and adapted queries on a split of DATASET.

    Searches exactly, through the exported MODEL, and tells the difference from chance.
    """
    from training.commands.screen import results, show_evaluation, talk
    from training.dataset import Dataset
    from training.embeddings import Embeddings
    from training.evaluate import evaluate_model, split_made_for

    data = Dataset.load(dataset, split_by=split_made_for(model))
    with talk.status("searching with raw and with adapted queries"):
        evaluation = evaluate_model(model, data, Embeddings.open(embeddings), split=split)
    if as_json:
        click.echo(json.dumps(evaluation.summary, indent=1, ensure_ascii=False))
        return
    show_evaluation(evaluation.summary)
    for rank, shift in evaluation.score_shift.items():
        if "base" in shift:
            results.print(
                f"mean score at {rank.replace('_', ' ')}: {shift['base']['mean']:.4f} raw, "
                f"{shift['adapted']['mean']:.4f} adapted"
            )
    for note in evaluation.notes:
        results.print(f"note: {note}")
    if evaluation.regressions:
        results.print("\n[bold]worst regressions[/bold]")
    for loss in evaluation.regressions:
        results.print(
            f"  {loss['base']:.2f} -> {loss['adapted']:.2f}  {loss['query_id']}  "
            f"{_short(loss['query'])}",
            markup=False,
        )
        for label in ("relevant", "found_before", "found_after"):
            found = loss[label][:1]
            text = f"{found[0]['doc_id']}  {_short(found[0]['text'])}" if found else "nothing"
            results.print(f"      {label.replace('_', ' '):<13} {text}", markup=False)


def _short(text: str, length: int = 90) -> str:
    """Cut a text to one line of the screen."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
