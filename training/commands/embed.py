"""`trimtab embed DATASET -o EMB`: texts to vectors, or stored vectors copied."""

import os
from pathlib import Path
from typing import Any

import click

from training.commands.options import PATH, encoder_options, open_encoder


@click.command()
@click.argument("dataset", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The embeddings folder to make.")
@click.option(
    "--documents",
    metavar="SOURCE",
    help="Copy stored document vectors instead of embedding the corpus: faiss:PATH?ids=FILE, or "
    "qdrant://HOST:PORT/COLLECTION?vector=NAME&id=FIELD&filter=FILE (qdrant+https:// for TLS; the "
    "key from QDRANT_API_KEY).",
)
@click.option(
    "--upstream-path",
    type=PATH,
    help="Folder of Qdrant's local mode, for --documents qdrant:///COLLECTION.",
)
@encoder_options
def embed(
    dataset: Path,
    output: Path,
    documents: str | None,
    upstream_path: Path | None,
    **encoder: Any,
) -> None:
    """Embed the queries and documents of DATASET.

    Interrupted, it continues when the same command is run again; nothing is embedded twice.
    """
    from training.commands.screen import progress_bar, results, talk
    from training.dataset import Dataset
    from training.embed import embed_dataset
    from training.qdrant_source import QdrantAccess

    data = Dataset.load(dataset)
    qdrant = QdrantAccess(os.environ.get("QDRANT_API_KEY") or None, upstream_path)
    with talk.status("loading the encoder"):
        opened = open_encoder(**encoder)
    with progress_bar() as show:
        info = embed_dataset(
            data, opened, output, documents=documents, qdrant=qdrant, progress=show
        )
    talk.print(f"{info.name}, {info.dim} values a vector, fingerprint {info.fingerprint[:23]}…")
    results.print(f"made {output}")
    talk.print(
        f"next: trimtab fit {dataset} --embeddings {output} -o models/{data.name}", style="bold"
    )
