"""`trimtab search MODEL --index FILE --text "..."`: raw and adapted results side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trimtab_training.commands.options import ENCODER_OPTIONS, PATH, encoder_options, open_encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@click.command()
@click.argument("model", type=click.Path())
@click.option("--index", type=PATH, required=True, help="A FAISS index file.")
@click.option("--text", "texts", multiple=True, help="A query; may be repeated.")
@click.option(
    "--vectors",
    type=PATH,
    metavar="FILE.npy",
    help="Query vectors, one a row, instead of texts; no encoder is needed.",
)
@click.option(
    "--query-ids",
    type=PATH,
    metavar="FILE",
    help="Names for --vectors, one a line.  [default: row]",
)
@click.option("--ids", type=PATH, help="Document ids, one a line.  [default: INDEX's name .ids]")
@click.option("--dataset", type=PATH, help="Dataset folder, to show texts instead of ids.")
@click.option("-k", type=click.IntRange(1), default=5, show_default=True, help="Documents to show.")
@encoder_options
def search(
    model: str, index: Path, ids: Path | None, dataset: Path | None, k: int, **options: Any
) -> None:
    """Search a FAISS index raw and through MODEL, side by side."""
    if bool(options["texts"]) == (options["vectors"] is not None):
        raise click.UsageError("give queries by --text or by --vectors, one of the two")
    if options["query_ids"] is not None and options["vectors"] is None:
        raise click.UsageError("--query-ids names the rows of --vectors, which is not given")
    from trimtab_training.commands.screen import results, side_by_side, talk
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.evaluation.side_by_side import (
        load_for_search,
        search_both,
        search_vectors,
    )

    searched = load_for_search(model, index, ids)
    if options["vectors"] is None:
        with talk.status("loading the encoder"):
            encoder = open_encoder(**{name: options[name] for name in ENCODER_OPTIONS})
        found = search_both(searched, encoder, options["texts"], k)
    else:
        names, vectors = _read_vectors(options["vectors"], options["query_ids"])
        _tell_width(vectors.shape[1], searched.raw.d)
        found = search_vectors(searched, names, vectors, k)
    shown = {doc_id for one in found for doc_id, _ in [*one.before, *one.after]}
    texts = Dataset.load(dataset).document_texts(shown) if dataset else {}
    for one in found:
        results.print(side_by_side(one, texts))


def _read_vectors(path: Path, ids_path: Path | None) -> tuple[list[str], "NDArray[np.float32]"]:
    """Read query vectors and their names."""
    from trimtab_training.commands.screen import talk
    from trimtab_training.embeddings.query_vectors import NamedQueries, QueryVectors

    if ids_path is None:
        vectors = QueryVectors.open(path)
        names = [f"row {row}" for row in range(len(vectors))]
    else:
        named = NamedQueries.open(path, ids_path)
        vectors, names = named.vectors, named.ids
    if vectors.is_cast:
        talk.print(f"{path}: {vectors.matrix.dtype} is cast to float32")
    return names, vectors.read()


def _tell_width(dim: int, index_dim: int) -> None:
    """Say why there is no raw search, where there is none."""
    from trimtab_training.commands.screen import talk

    if dim != index_dim:
        talk.print(
            f"raw queries of {dim} values can't search an index of {index_dim}; only the adapted "
            "ones do"
        )
