"""An encoder's weights rounded to 8 bits, also those that one ONNX file can't hold before."""

import logging
from pathlib import Path
from typing import Any

import onnx

from trimtab.model.session import make_session
from trimtab.text.encoder import TextEncoder
from trimtab.text.encoder_file import EncoderFile
from trimtab_training.export.graph import IR_VERSION

_GRAPH, _WEIGHTS, _ROUNDED = "encoder.onnx", "weights", "rounded.onnx"


class WeightsBeside(TextEncoder):
    """An encoder whose weights stand in a file beside its graph: to be held against, not served."""

    def __init__(self, file: EncoderFile, graph: Path) -> None:
        """Take a file that says the same of the encoder, and the graph that stands for its own."""
        self._graph = graph
        super().__init__(file)

    def _make_session(self) -> Any:
        """Make what runs the graph."""
        return make_session(str(self._graph))


def save_apart(model: onnx.ModelProto, folder: Path) -> Path:
    """Write a graph, and its weights in a file beside it; ``model`` is left without them.

    Returns:
        The graph's file.
    """
    graph = folder / _GRAPH
    onnx.save_model(model, graph, save_as_external_data=True, location=_WEIGHTS)
    return graph


def round_weights(graph: Path) -> onnx.ModelProto:
    """Round the weights of products and of token embeddings to 8 bits, by ONNX Runtime's own tool.

    Products are rounded to 7 bits of the 8, column by column: processors without VNNI add two of
    them up in 16 bits, which 8 could overflow.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    after = graph.with_name(_ROUNDED)
    logging.disable(logging.WARNING)  # it advises what a traced graph does not need
    try:
        quantize_dynamic(
            graph, after, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
        )
    finally:
        logging.disable(logging.NOTSET)
    rounded = onnx.load_model(after)
    rounded.ir_version = IR_VERSION
    rounded.producer_name, rounded.producer_version = "trimtab", ""
    return rounded
