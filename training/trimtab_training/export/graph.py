"""An ONNX graph as it is built: nodes and constants, named as they come."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 9

_ROWS = np.array([-1], dtype=np.int64)
_SHORTEST = np.float32(1e-12)
"""A zero vector stays zero."""


class Graph:
    """A graph of one input and one output."""

    def __init__(self) -> None:
        """Begin without nodes."""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Add a node of one output; give the output's name."""
        name = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        """Add a constant; give its name."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def affine(self, rows: str, weights: Any, bias: Any) -> str:
        """Multiply rows with a matrix, and add a bias."""
        product = self.add("MatMul", [rows, self.constant(weights)])
        return self.add("Add", [product, self.constant(bias)])

    def normalise(self, rows: str, output: str = "") -> str:
        """Scale rows to unit length."""
        length = self.add("ReduceL2", [rows, self.constant(_ROWS)], keepdims=1)
        length = self.add("Clip", [length, self.constant(_SHORTEST)])
        return self.add("Div", [rows, length], output)

    def largest(self, rows: str) -> str:
        """Give each row's largest value."""
        return self.add("ReduceMax", [rows, self.constant(_ROWS)], keepdims=1)

    def split(self, values: str, widths: dict[str, int]) -> dict[str, str]:
        """Part the columns of a product; give the name of each part."""
        if len(widths) == 1:
            return dict.fromkeys(widths, values)
        sizes = self.constant(np.array(list(widths.values()), dtype=np.int64))
        self._nodes.append(helper.make_node("Split", [values, sizes], list(widths), axis=-1))
        return {name: name for name in widths}

    def finish(self, input_name: str, dim_in: int, output_name: str, dim_out: int) -> bytes:
        """Give the model's bytes."""
        graph = helper.make_graph(
            self._nodes,
            "adapter",
            [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["n", dim_in])],
            [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["n", dim_out])],
            self._constants,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        model.producer_name, model.producer_version = "trimtab", ""
        encoded: bytes = model.SerializeToString(deterministic=True)
        return encoded
