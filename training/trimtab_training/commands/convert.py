"""`trimtab convert llama-index FOLDER -o OUT`, `trimtab convert matrix FILE -o OUT`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trimtab_training.commands.options import PATH

if TYPE_CHECKING:
    from trimtab_training.conversion import Source

_TARGET_OPTIONS = (
    click.option(
        "-o",
        "--output",
        type=PATH,
        required=True,
        help="models/NAME, for trimtab fit --from as well, or a file that ends in .onnx.",
    ),
    click.option(
        "--encoder", default="", help="Name of the encoder of the queries.  [default: unknown]"
    ),
    click.option(
        "--embeddings",
        type=PATH,
        help="Embeddings folder that it is for: names the encoder, checks the widths, and gives "
        "real queries for the proof.",
    ),
    click.option(
        "--similarity",
        type=click.Choice(["cosine", "dot", "euclid"]),
        default="cosine",
        show_default=True,
        help="How the index compares vectors.",
    ),
    click.option(
        "--use",
        type=click.Choice(["relevance", "migration"]),
        help="migration: its queries are of another encoder than the documents.  [default: by the "
        "widths]",
    ),
    click.option(
        "--normalise",
        is_flag=True,
        help="Scale adapted queries to unit length, which the source does not.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
)


def _target_options(command: Any) -> Any:
    """Add the options that say what is made."""
    for option in reversed(_TARGET_OPTIONS):
        command = option(command)
    return command


@click.group()
def convert() -> None:
    """Make a model of an adapter that exists already."""


@convert.command(name="llama-index")
@click.argument("folder", type=PATH)
@_target_options
def llama_index(folder: Path, **options: Any) -> None:
    """Convert the adapter in FOLDER, as LlamaIndex saves it.

    FOLDER holds config.json and pytorch_model.bin, of a LinearLayer or a TwoLayerNN. The model
    gives what LlamaIndex gives; a file that would run code when it is read is refused.
    """
    from trimtab_training.conversion import read_llama_index

    _convert(read_llama_index(folder), **options)


@convert.command()
@click.argument("file", type=PATH)
@click.option(
    "--weight",
    default="",
    help="Name of the matrix in a .safetensors FILE.  [default: weight, W, or the only matrix]",
)
@click.option(
    "--bias",
    default="",
    help="Name of the bias in a .safetensors FILE, or a .npy file with it.  [default: bias, b, the "
    "only vector, or none]",
)
@click.option(
    "--transpose",
    is_flag=True,
    help="The matrix has shape (dim_in, dim_out): adapted = q W + b.  [default: (dim_out, dim_in), "
    "adapted = W q + b]",
)
@_target_options
def matrix(file: Path, weight: str, bias: str, transpose: bool, **options: Any) -> None:
    """Convert the matrix in FILE, .npy or .safetensors, perhaps with a bias.

    A square matrix fits both ways round: say --transpose where queries stand on its left.
    """
    from trimtab_training.conversion import MatrixNames, read_matrix

    _convert(read_matrix(file, MatrixNames(weight, bias, transpose)), **options)


def _convert(
    source: "Source",
    output: Path,
    embeddings: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Make the model; say what was made and what to run next."""
    from trimtab_training.commands.screen import results, tell_next
    from trimtab_training.conversion import Target, convert_adapter, write_converted
    from trimtab_training.embeddings.store import Embeddings

    target = Target(
        output,
        embeddings=Embeddings.open(embeddings) if embeddings else None,
        encoder=options["encoder"],
        similarity=options["similarity"],
        normalised=options["normalise"],
        use=options["use"],
    )
    model = convert_adapter(source, target)
    file = write_converted(model, target)
    manifest = model.manifest
    if as_json:
        record = {"file": str(file), "size_bytes": len(model.content)}
        click.echo(json.dumps({**record, "manifest": json.loads(manifest.to_json())}))
        return
    results.print(
        f"made {file} ({len(model.content) / 1e6:.2f} MB): {manifest.kind}, {manifest.dim_in} -> "
        f"{manifest.dim_out} values, output of {'unit' if manifest.normalised else 'any'} length"
    )
    if not target.is_file:
        results.print(f"made {output}/checkpoint: where trimtab fit --from {output} starts")
    tell_next("trimtab", "inspect", output)
    measure = ("evaluate", output, "DATASET", "--embeddings", embeddings or "EMB")
    tell_next("trimtab", *measure, before="      ")
