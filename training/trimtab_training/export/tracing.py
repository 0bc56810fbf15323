"""A torch module traced into a plain ONNX graph."""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from trimtab_training.errors import ExportError
from trimtab_training.export.graph import IR_VERSION, OPSET


def trace(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    names: tuple[Sequence[str], Sequence[str]],
    dynamic: tuple[dict[int, Any], ...],
    *,
    what: str,
) -> onnx.ModelProto:
    """Trace a module by torch's exporter.

    Args:
        module: In evaluation mode.
        examples: One example of each input.
        names: Of its inputs, and of its outputs.
        dynamic: The free dimensions of each input.
        what: What the module is called in messages, as in ``the adapter``.

    Returns:
        The model, without what torch notes about itself: that names files of this machine.

    Raises:
        ExportError: Standard operators can't express it.
    """
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(names[0]),
                output_names=list(names[1]),
                dynamic_shapes=dynamic,
                verbose=False,
            )
        except Exception as error:  # torch raises many types, without a common base
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ExportError(f"{what} can't be expressed in ONNX: {reason}") from error
    assert program is not None  # noqa: S101 - without a file name, torch gives the program
    model = program.model_proto
    model.ir_version = IR_VERSION
    _strip(model)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Drop what torch notes about itself."""
    model.producer_name, model.producer_version = "trimtab", ""
    graph = model.graph
    graph.name = "graph"
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter from talking, and from printing graphs that it can't express."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
