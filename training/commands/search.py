"""`trimtab search MODEL --index FILE --text "..."`: raw and adapted results side by side."""

from pathlib import Path
from typing import Any

import click

from training.commands.options import PATH, encoder_options, open_encoder


@click.command()
@click.argument("model", type=click.Path())
@click.option("--index", type=PATH, required=True, help="A FAISS index file.")
@click.option("--text", "texts", multiple=True, required=True, help="A query; may be repeated.")
@click.option("--ids", type=PATH, help="Document ids, one a line.  [default: INDEX's name .ids]")
@click.option("--dataset", type=PATH, help="Dataset folder, to show texts instead of ids.")
@click.option("-k", type=click.IntRange(1), default=5, show_default=True, help="Documents to show.")
@encoder_options
def search(
    model: str,
    index: Path,
    texts: tuple[str, ...],
    ids: Path | None,
    dataset: Path | None,
    k: int,
    **encoder: Any,
) -> None:
    """Search a FAISS index raw and through MODEL, side by side."""
    from training.both_ways import load_for_search, search_both
    from training.commands.screen import results, side_by_side, talk
    from training.dataset import Dataset

    with talk.status("loading the encoder"):
        opened = open_encoder(**encoder)
    searched = load_for_search(model, index, ids, opened)
    found = search_both(searched, opened, texts, k)
    shown = {doc_id for one in found for doc_id, _ in [*one.before, *one.after]}
    names = Dataset.load(dataset).document_texts(shown) if dataset else {}
    for one in found:
        results.print(side_by_side(one, names))
