"""`trimtab embed DATASET -o EMB`: texts to vectors, or stored vectors copied."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trimtab_training.commands.options import (
    ENCODER_OPTIONS,
    PATH,
    encoder_options,
    is_given,
    open_encoder,
)

if TYPE_CHECKING:
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.embeddings.encoders import Encoder
    from trimtab_training.embeddings.qdrant_source import QdrantAccess
    from trimtab_training.embeddings.store import EncoderInfo


@click.command()
@click.argument("dataset", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The embeddings folder to make.")
@click.option(
    "--documents",
    metavar="SOURCE",
    help="Copy stored document vectors instead of embedding the corpus: faiss:PATH?ids=FILE, or "
    "qdrant://HOST:PORT/COLLECTION?vector=NAME&id=FIELD&filter=FILE (qdrant+https:// for TLS; the "
    "key from QDRANT_API_KEY). Queries must come from the encoder that made them: see --encoder.",
)
@click.option(
    "--use",
    type=click.Choice(["relevance", "migration"]),
    default="relevance",
    show_default=True,
    help="migration: --encoder is another one than the documents', on purpose; only then may the "
    "widths differ.",
)
@click.option(
    "--queries",
    type=PATH,
    metavar="FILE.npy",
    help="Take query vectors that exist already, one a row, instead of embedding the queries; with "
    "--documents. An --encoder is then only written down.",
)
@click.option("--query-ids", type=PATH, metavar="FILE", help="Ids for --queries, one a line.")
@click.option(
    "--upstream-path",
    type=PATH,
    help="Folder of Qdrant's local mode, for --documents qdrant:///COLLECTION.",
)
@encoder_options
def embed(dataset: Path, output: Path, **options: Any) -> None:
    """Embed the queries and documents of DATASET.

    Interrupted, it continues when the same command is run again; nothing is embedded twice but
    one text of each kind, by which an endpoint shows that the same model answers.
    """
    _check_options(options)
    from trimtab_training.commands.screen import results, talk, tell_next
    from trimtab_training.data.dataset import Dataset

    data = Dataset.load(dataset)
    info = (_embed if options["queries"] is None else _join)(data, output, options)
    known = f"fingerprint {info.fingerprint[:23]}…" if info.fingerprint else "no fingerprint"
    talk.print(f"{info.name}, {info.dim} values a vector, {known}")
    results.print(f"made {output}")
    more = ("--use", "migration") if options["use"] == "migration" else ()
    model = f"models/{data.name}"
    tell_next("trimtab", "fit", dataset, "--embeddings", output, "-o", model, *more)


def _check_options(options: dict[str, Any]) -> None:
    """Refuse options that do not go together."""
    own, documents = options["queries"] is not None, options["documents"] is not None
    if own != (options["query_ids"] is not None):
        raise click.UsageError("--queries and --query-ids go together: vectors, and whose they are")
    if own and not documents:
        raise click.UsageError(
            "--queries needs --documents: the stored vectors of the same encoder"
        )
    if own and not is_given("encoder") and any(map(is_given, ENCODER_OPTIONS)):
        raise click.UsageError("with --queries, other options of an encoder need --encoder")
    if options["use"] == "migration" and not documents:
        raise click.UsageError("--use migration needs --documents: the index that stays")
    if options["use"] == "migration" and not own and not is_given("encoder"):
        raise click.UsageError("--use migration needs --encoder: the new one, by name")


def _embed(data: "Dataset", output: Path, options: dict[str, Any]) -> "EncoderInfo":
    """Embed the queries, and the corpus unless its vectors are stored elsewhere."""
    from trimtab_training.commands.screen import progress_bar, talk
    from trimtab_training.embeddings.embed import embed_dataset
    from trimtab_training.embeddings.stored_documents import Stored

    encoder = _open_encoder(options)
    _say_prompts(options)
    source = options["documents"]
    if source is not None and not is_given("encoder"):
        talk.print(f"no --encoder given: queries are embedded by {encoder.name}, the default")
    documents = None if source is None else Stored(source, options["use"])
    with progress_bar() as show:
        return embed_dataset(
            data,
            encoder,
            output,
            documents=documents,
            qdrant=_access(options),
            progress=show,
            tell=_tell,
        )


def _join(data: "Dataset", output: Path, options: dict[str, Any]) -> "EncoderInfo":
    """Put query vectors that exist already beside stored document vectors."""
    from trimtab_training.commands.screen import progress_bar, talk
    from trimtab_training.embeddings.embed import join_vectors
    from trimtab_training.embeddings.query_vectors import NamedQueries
    from trimtab_training.embeddings.stored_documents import Stored

    encoder = _open_encoder(options) if is_given("encoder") else None
    queries = NamedQueries.open(options["queries"], options["query_ids"], encoder)
    lacking, foreign = queries.match([query_id for query_id, _ in data.iter_queries()])
    if queries.vectors.is_cast:
        talk.print(f"{options['queries']}: {queries.vectors.matrix.dtype} is cast to float32")
    if lacking or foreign:
        talk.print(
            f"{lacking} queries of {data.name} have no vector; {foreign} vectors are of no query "
            "in it"
        )
    if encoder is None:
        talk.print(
            "the encoder of these vectors is not known, so no command can tell whether later "
            "queries come from it; name it by --encoder if it is one of these"
        )
    documents = Stored(options["documents"], options["use"])
    with progress_bar() as show:
        return join_vectors(
            data,
            queries,
            output,
            documents=documents,
            qdrant=_access(options),
            progress=show,
            tell=_tell,
        )


def _say_prompts(options: dict[str, Any]) -> None:
    """Say which prompts the model's folder names, where nobody has said what to put there."""
    from trimtab_training.commands.screen import talk
    from trimtab_training.embeddings.local_encoder import own_prompts

    folder = Path(options["encoder"])
    if not folder.is_dir():  # minilm, or a model behind an endpoint
        return
    for role, prompt in zip(("query", "document"), own_prompts(folder), strict=True):
        if prompt and not is_given(f"{role}_prefix"):
            talk.print(
                f"{folder} names {prompt!r} as its prompt before each {role}; nothing is put "
                f"there, unless you give --{role}-prefix {shlex.quote(prompt)}",
            )


def _tell(text: str) -> None:
    """Say a sentence that may hold ids."""
    from trimtab_training.commands.screen import talk

    talk.print(text)


def _open_encoder(options: dict[str, Any]) -> "Encoder":
    """Open the encoder that the options name."""
    from trimtab_training.commands.screen import talk

    with talk.status("loading the encoder"):
        return open_encoder(**{name: options[name] for name in ENCODER_OPTIONS})


def _access(options: dict[str, Any]) -> "QdrantAccess":
    """Say what a Qdrant source's name does not."""
    from trimtab_training.embeddings.qdrant_source import QdrantAccess

    return QdrantAccess(os.environ.get("QDRANT_API_KEY") or None, options["upstream_path"])
