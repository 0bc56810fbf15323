"""`trimtab export-encoder FOLDER -o FILE`: the query encoder to one ONNX file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from trimtab_training.commands.options import PATH

if TYPE_CHECKING:
    from trimtab_training.embeddings.local_encoder import LocalEncoder
    from trimtab_training.embeddings.store import Embeddings
    from trimtab_training.export.encoder_export import ExportedEncoder
    from trimtab_training.export.encoder_loss import EncoderLoss

_FAR = 0.01
"""Mean distance, as 1 - cosine, from stored vectors beyond which they are another encoder's."""


@click.command(name="export-encoder")
@click.argument("folder")
@click.option("-o", "--output", type=PATH, required=True, help="The .onnx file to write.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    show_default=True,
    help="int8: a quarter of the size and about twice as fast, for a loss that is printed.",
)
@click.option(
    "--adapter",
    type=PATH,
    metavar="MODEL",
    help="Put this adapter behind the encoder, in the same file: text in, adapted query out.",
)
@click.option(
    "--embeddings",
    type=PATH,
    metavar="EMB",
    help="Embeddings folder that it is for: gives name, prefixes and length of texts, and must "
    "have been made by this encoder.",
)
@click.option(
    "--dataset",
    type=PATH,
    help="With --embeddings: what the file finds for this dataset's test queries.",
)
@click.option("--query-prefix", help="Text put before every query.  [default: as the model says]")
@click.option(
    "--document-prefix", help="Text put before every document.  [default: as the model says]"
)
@click.option("--max-tokens", type=click.IntRange(1), help="Tokens to read of a text.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export_encoder(
    folder: str,
    output: Path,
    precision: Literal["float32", "int8"],
    adapter: Path | None,
    dataset: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Export the encoder in FOLDER to ONNX, its tokenizer inside.

    FOLDER is a sentence-transformers folder, or 'minilm' (in the demo extra). The file serves
    texts without torch: trimtab.TextEncoder, or [[encoder]] of the sidecar. Writes nothing unless
    it gives what sentence-transformers gives.
    """
    from trimtab_training.commands.screen import results, talk, tell_next
    from trimtab_training.embeddings.store import Embeddings
    from trimtab_training.errors import ExportError
    from trimtab_training.export import encoder_export
    from trimtab_training.export.model_folder import check_file, write_file

    if output.suffix != ".onnx":
        raise ExportError(f"{output} does not end in .onnx; expected models/NAME/encoder.onnx")
    check_file(output)
    if dataset is not None and options["embeddings"] is None:
        raise click.UsageError("--dataset needs --embeddings: the vectors of its texts")
    known = Embeddings.open(options["embeddings"]) if options["embeddings"] else None
    encoder = _open(folder, known, options)
    talk.print(f"exporting {encoder.name}: about a minute")
    exported = encoder_export.export_encoder(encoder, precision=precision)
    loss = None
    if dataset is not None and known is not None:
        exported, loss = _measure(exported, dataset, known)
    content = exported.content
    if adapter is not None:
        content = _fuse(content, adapter)
    write_file(output, content)
    if as_json:
        click.echo(json.dumps(_record(output, content, exported, loss)))
        return
    results.print(f"made {output} ({len(content) / 1e6:.1f} MB): {_describe(exported)}")
    if loss is not None:
        results.print(_describe_loss(loss), soft_wrap=True)
    tell_next("trimtab", "inspect", output)


def _fuse(encoder: bytes, adapter: Path) -> bytes:
    """Put an adapter behind the encoder."""
    from trimtab.model.onnx_file import read_model_file, resolve_model_path
    from trimtab_training.export.fused_encoder import fuse_adapter

    return fuse_adapter(encoder, read_model_file(resolve_model_path(adapter)).content)


def _record(
    output: Path, content: bytes, exported: "ExportedEncoder", loss: "EncoderLoss | None"
) -> dict[str, Any]:
    """Gather what was made, for machines."""
    return {
        "file": str(output),
        "size_bytes": len(content),
        "manifest": json.loads(exported.manifest.to_json()),
        "cosine_worst": exported.worst,
        "cosine_mean": exported.mean,
        "n_texts": exported.n_texts,
        "on_dataset": None if loss is None else asdict(loss),
    }


def _open(folder: str, known: "Embeddings | None", options: dict[str, Any]) -> "LocalEncoder":
    """Open the encoder, with the prefixes and the length that it is used with.

    Raises:
        ExportError: It is not the one that the embeddings were made by.
    """
    from trimtab.model.encoder_probe import OTHER_VECTORS, probes_agree
    from trimtab_training.embeddings.local_encoder import (
        MINILM,
        LocalEncoder,
        own_prompts,
        packaged_minilm,
    )
    from trimtab_training.errors import ExportError

    info = None if known is None else known.encoder
    if info is not None:
        query_prefix, document_prefix = info.query_prefix, info.document_prefix
    else:
        query_prefix, document_prefix = own_prompts(Path(folder))
    settings: dict[str, Any] = {
        "query_prefix": _first(options["query_prefix"], query_prefix),
        "document_prefix": _first(options["document_prefix"], document_prefix),
        "max_tokens": _first(options["max_tokens"], info and info.max_tokens),
    }
    if folder == MINILM:
        encoder = packaged_minilm(**settings)
    else:
        encoder = LocalEncoder(Path(folder), name=None if info is None else info.name, **settings)
    if info is not None and info.fingerprint and info.fingerprint != encoder.fingerprint:
        raise ExportError(
            f"the encoder in {folder} has fingerprint {encoder.fingerprint[:23]}…, the queries in "
            f"{options['embeddings']} come from {info.name}, {info.fingerprint[:23]}… (prefixes "
            f"{info.query_prefix!r} and {info.document_prefix!r}); expected the same weights and "
            "prefixes"
        )
    if info is not None and not probes_agree(info.probe, encoder.probe):
        raise ExportError(
            f"the encoder in {folder} has {OTHER_VECTORS} than {info.name}, which made "
            f"{options['embeddings']}; expected its modules.json, 1_Pooling and tokenizer.json"
        )
    return encoder


def _first(given: Any, otherwise: Any) -> Any:
    """Give an option, or what stands for it."""
    return otherwise if given is None else given


def _measure(
    exported: "ExportedEncoder", dataset: Path, embeddings: "Embeddings"
) -> "tuple[ExportedEncoder, EncoderLoss]":
    """Measure what the file finds; an int8 file remembers what it costs.

    Raises:
        ExportError: A file without rounding gives other vectors than the stored ones.
    """
    from trimtab.text.encoder import TextEncoder
    from trimtab_training.data.dataset import Dataset
    from trimtab_training.errors import ExportError
    from trimtab_training.export.encoder_loss import measure_file

    served = TextEncoder.from_bytes(exported.content)
    loss = measure_file(served, Dataset.load(dataset), embeddings)
    if exported.manifest.precision == "float32" and not loss.cosine_mean <= _FAR:
        raise ExportError(
            f"the file's vectors of {loss.n_queries} {loss.split} queries of {loss.dataset} are "
            f"{loss.cosine_mean:.1e} (1 - cosine) on average from those in {embeddings.folder}; at "
            f"most {_FAR} is allowed: they were made by another encoder, or are of other texts"
        )
    return exported.remember(ndcg=asdict(loss)) if exported.manifest.loss else exported, loss


def _describe(exported: "ExportedEncoder") -> str:
    """Say how near the file comes."""
    manifest = exported.manifest
    return (
        f"{manifest.dim} values, {manifest.pooling} pooling, {manifest.max_tokens} tokens, "
        f"{manifest.precision}; 1 - cosine to sentence-transformers on {exported.n_texts} texts: "
        f"{exported.mean:.1e} on average, {exported.worst:.1e} at worst"
    )


def _describe_loss(loss: "EncoderLoss") -> str:
    """Say what the file finds."""
    low, high = loss.ci95
    return (
        f"nDCG@10 on {loss.dataset}, {loss.n_queries} {loss.split} queries: {loss.stored:.4f} by "
        f"the stored vectors, {loss.file:.4f} by this file ({loss.delta:+.4f}, 95 % interval "
        f"{low:+.4f} to {high:+.4f}); 1 - cosine {loss.cosine_mean:.1e} on average"
    )
