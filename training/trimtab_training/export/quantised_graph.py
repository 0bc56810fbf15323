"""A composed adapter as an ONNX graph of 8-bit products: a quarter of the bytes, and of the time.

All parts that read the query stand side by side in one matrix, so a query is read once. The query
itself stays float32: only what is added to it is rounded. Where the linear part has a rank, its
inner values pass as more hidden units: each is raised by a constant to lie above 0, where a ReLU
leaves it as it is, and what that adds is taken off behind the second product. Bytes end at 0, so
rounding is the ReLU.

Weights lie in [-63, 63], one scale a column. On processors without VNNI, two products of an
unsigned and a signed byte are added in 16 bits, which 255 * 127 * 2 overflows and 255 * 63 * 2 does
not; so all processors give the same.

Source:
    Jacob et al. (2018), CVPR, eq. 1 to 5, arXiv:1712.05877: affine quantisation, integer products.
    The 16-bit sums: Intel 64 manual, VPMADDUBSW.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from trimtab_training.adapters.composed import ComposedAdapter
from trimtab_training.export.graph import Graph

_LARGEST_WEIGHT = 63
_CENTRE = 128
_LARGEST_STEP = 127
_LARGEST_UNSIGNED = 255
Floats = NDArray[np.float32]


def can_quantise(adapter: ComposedAdapter) -> bool:
    """Tell whether an adapter can be a graph of 8-bit products.

    It must know the range of its activations, and add a change to a query of unit length: where
    training starts at a matrix, that matrix is the answer and not a change to it.
    """
    return adapter.normalised and not adapter.has_start and adapter.is_calibrated


def quantised_graph(adapter: ComposedAdapter, input_name: str, output_name: str) -> bytes:
    """Build the graph.

    Args:
        adapter: An adapter of which :func:`can_quantise` holds.
        input_name: Name of the query.
        output_name: Name of the adapted query.

    Returns:
        The bytes of an ONNX model without metadata.
    """
    graph = _QuantisedGraph()
    parts = _Parts.of(adapter)
    query = graph.add("LpNormalization", [input_name], axis=-1, p=2)
    step = np.float32(parts.input_range / _LARGEST_STEP)
    products = graph.product(
        graph.quantise(query, step, _CENTRE), parts.first, step, _CENTRE, parts.first_bias
    )
    names = graph.split(products, parts.widths)
    if "hidden" in names:
        active = graph.quantise(names["hidden"], _UNIT_STEP, 0)
        addend = names.get("linear", parts.second_bias)
        change = graph.product(active, parts.second, _UNIT_STEP, 0, addend)
    else:
        change = names["linear"]
    if "centroids" in names:
        nearest = graph.largest(names["centroids"])
        change = graph.add("Mul", [graph.add("Sigmoid", [nearest]), change])
    graph.add("LpNormalization", [graph.add("Add", [query, change])], output_name, axis=-1, p=2)
    return graph.finish(input_name, adapter.dim_in, output_name, adapter.dim_out)


def quantised_answers(adapter: ComposedAdapter, queries: Floats) -> Floats:
    """Give what the graph should give, computed in float64 from the same rounded numbers.

    Args:
        adapter: An adapter of which :func:`can_quantise` holds.
        queries: Shape ``(n, dim_in)``.
    """
    parts = _Parts.of(adapter)
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    query = queries / np.where(lengths > 0, lengths, 1)
    step = parts.input_range / _LARGEST_STEP
    rounded = np.clip(np.rint(query / step) + _CENTRE, 0, _LARGEST_UNSIGNED) - _CENTRE
    products = step * rounded @ _rounded(parts.first) + parts.first_bias
    ends = np.cumsum(list(parts.widths.values()))[:-1]
    names = dict(zip(parts.widths, np.split(products, ends, axis=1), strict=True))
    change = names.get("linear", parts.second_bias)
    if "hidden" in names:
        active = np.rint(np.maximum(names["hidden"], 0) / _UNIT_STEP)
        change = change + _UNIT_STEP * active.clip(0, _LARGEST_UNSIGNED) @ _rounded(parts.second)
    if "centroids" in names:
        change = change / (1 + np.exp(-names["centroids"].max(axis=1, keepdims=True)))
    adapted = query + change
    lengths = np.linalg.norm(adapted, axis=1, keepdims=True)
    answers: Floats = (adapted / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return answers


def _rounded(weights: Floats) -> NDArray[np.float64]:
    """Give weights as their bytes stand for them."""
    signed, scales = _round(weights)
    return np.multiply(signed, scales, dtype=np.float64)


def _round(weights: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Round weights to signed bytes; give these, and each column's scale."""
    scales = np.abs(weights).max(axis=0, initial=0) / np.float32(_LARGEST_WEIGHT)
    scales[scales == 0] = 1.0
    return np.rint(weights / scales).astype(np.int8), scales


_UNIT_STEP = np.float32(1 / _LARGEST_UNSIGNED)
"""Of hidden units, each scaled to end at 1."""
_MIDDLE = 127 / _LARGEST_UNSIGNED
"""Where 0 lies of a linear part's inner value: on a byte, so that 0 stays 0."""


@dataclass(frozen=True)
class _Parts:
    """The weights of an adapter, in the order in which the graph reads them.

    Attributes:
        input_range: Largest coordinate of a query that is told from larger ones.
        first: What the query is multiplied with, shape ``(dim_in, sum of widths)``.
        first_bias: What is added to that product.
        widths: Columns of each part of the first product, in order.
        second: What hidden units are multiplied with, shape ``(hidden, dim_out)``; those of a
            linear part of a rank come first.
        second_bias: What is added to that product, where there is no linear part of full rank.
    """

    input_range: float
    first: Floats
    first_bias: Floats
    widths: dict[str, int]
    second: Floats
    second_bias: Floats

    @classmethod
    def of(cls, adapter: ComposedAdapter) -> "_Parts":
        """Take an adapter apart; the blend and the gate's bounds go into the weights."""
        values = {
            name: value.detach().cpu().numpy().astype(np.float64)
            for name, value in adapter.state_dict().items()
        }
        blend = float(values["blend"])
        columns, bias, widths = [], [], {}
        # A ReLU gives twice as much for twice as much.
        inner = [values["weight_in"] / values["hidden_range"]]
        inner_bias = [values["bias_in"] / values["hidden_range"]]
        outer = [values["hidden_range"][:, None] * values["weight_out"]]
        if adapter.rank:
            reach = values["linear_range"] / _MIDDLE
            inner.insert(0, values["difference_in"] / reach)
            inner_bias.insert(0, np.full(adapter.rank, _MIDDLE))
            outer.insert(0, reach[:, None] * values["difference_out"])
        else:
            columns, bias = [blend * values["difference"]], [blend * values["bias"]]
            widths["linear"] = adapter.dim_out
        if adapter.rank + adapter.hidden:
            columns += inner
            bias += inner_bias
            widths["hidden"] = adapter.rank + adapter.hidden
        if adapter.n_centroids:
            threshold, width = values["gate_bounds"]
            columns.append(values["gate_centroids"] / width)
            bias.append(np.full(adapter.n_centroids, -threshold / width))
            widths["centroids"] = adapter.n_centroids
        second = (blend * np.concatenate(outer)).astype(np.float32)
        raised = _MIDDLE * _rounded(second)[: adapter.rank].sum(axis=0)
        return cls(
            float(values["input_range"]),
            np.concatenate(columns, axis=1).astype(np.float32),
            np.concatenate(bias).astype(np.float32),
            widths,
            second,
            (blend * values["bias"] - raised).astype(np.float32),
        )


class _QuantisedGraph(Graph):
    """A graph with products of bytes."""

    def quantise(self, values: str, step: np.float32, zero: int) -> str:
        """Round values to unsigned bytes, of which ``zero`` stands for 0."""
        return self.add(
            "QuantizeLinear", [values, self.constant(step), self.constant(np.uint8(zero))]
        )

    def product(
        self, rounded: str, weights: Floats, step: np.float32, zero: int, addend: Floats | str
    ) -> str:
        """Multiply unsigned bytes with weights that are rounded here; add a bias or a value."""
        signed, scales = _round(weights)
        zeros = [self.constant(np.uint8(zero)), self.constant(np.int8(0))]
        found = self.add("MatMulInteger", [rounded, self.constant(signed), *zeros])
        found = self.add("Cast", [found], to=TensorProto.FLOAT)
        found = self.add("Mul", [found, self.constant((scales * step).astype(np.float32))])
        addend = addend if isinstance(addend, str) else self.constant(addend)
        return self.add("Add", [found, addend])
