"""`trimtab export CHECKPOINT -o FILE`: a trained adapter to one ONNX file."""

from pathlib import Path
from typing import Literal

import click

from trimtab_training.commands.options import PATH


@click.command()
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The .onnx file to write.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32"]),
    default="auto",
    show_default=True,
    help="auto: 8-bit products for the adapter of a default fit; float32: none.",
)
def export(checkpoint: Path, output: Path, precision: Literal["auto", "float32"]) -> None:
    """Export a trained CHECKPOINT to ONNX.

    CHECKPOINT is a model folder, or the checkpoint folder in it. Writes nothing unless ONNX
    Runtime gives what the adapter gives.
    """
    from trimtab_training.commands.screen import results, tell_next
    from trimtab_training.errors import ExportError
    from trimtab_training.export.model_folder import (
        check_file,
        load_checkpoint,
        load_second_look,
        write_file,
    )
    from trimtab_training.export.onnx_export import export_adapter
    from trimtab_training.export.second_look import attach_second_look

    if output.suffix != ".onnx":
        raise ExportError(f"{output} does not end in .onnx; expected models/NAME/adapter.onnx")
    check_file(output)
    adapter, manifest = load_checkpoint(checkpoint)
    content = export_adapter(adapter, manifest, precision=precision)
    content = attach_second_look(content, load_second_look(checkpoint))
    write_file(output, content)
    results.print(f"made {output} ({len(content) / 1e6:.2f} MB)")
    tell_next("trimtab", "inspect", output)
