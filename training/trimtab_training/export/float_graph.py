"""Built-in adapters as ONNX graphs of float32, written node by node.

Everything that is constant is folded into the weights: the blend, the start of a linear adapter,
the gate's bounds. A class of the user's own goes through torch's exporter instead, which takes
seconds to import.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_training.adapters import (
    Adapter,
    ComposedAdapter,
    IdentityAdapter,
    LinearAdapter,
    LowRankAdapter,
    TwoLayerAdapter,
)
from trimtab_training.export.graph import Graph

Weights = dict[str, NDArray[np.float32]]
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
}


def float_graph(adapter: Adapter, input_name: str, output_name: str) -> bytes | None:
    """Build the graph of a built-in adapter.

    Args:
        adapter: The adapter.
        input_name: Name of the query.
        output_name: Name of the adapted query.

    Returns:
        The bytes of an ONNX model without metadata; None for a class that is not built in.
    """
    build = _BUILDERS.get(type(adapter))
    if build is None:
        return None
    graph = Graph()
    weights = {name: value.detach().cpu().numpy() for name, value in adapter.state_dict().items()}
    adapted = build(graph, adapter, weights, input_name)
    if adapter.normalised:
        graph.normalise(adapted, output_name)
    else:
        graph.add("Identity", [adapted], output_name)
    return graph.finish(input_name, adapter.dim_in, output_name, adapter.dim_out)


def _identity(_graph: Graph, _adapter: IdentityAdapter, _weights: Weights, query: str) -> str:
    """Give the query."""
    return query


def _linear(graph: Graph, adapter: LinearAdapter, weights: Weights, query: str) -> str:
    """Fold start, difference and blend into one matrix: one pass over it a query."""
    start = weights["start"] if adapter.has_start else np.eye(adapter.dim_in, dtype=np.float32)
    blend = weights["blend"]
    return graph.affine(query, start + blend * weights["difference"], blend * weights["bias"])


def _low_rank(graph: Graph, adapter: LowRankAdapter, weights: Weights, query: str) -> str:
    """Add the product of two narrow matrices."""
    blend = weights["blend"]
    inner = graph.add("MatMul", [query, graph.constant(weights["reduce"])])
    change = graph.affine(inner, blend * weights["expand"], blend * weights["bias"])
    return graph.add("Add", [_started(graph, adapter, weights, query), change])


def _two_layer(graph: Graph, adapter: TwoLayerAdapter, weights: Weights, query: str) -> str:
    """Add a network; where there is no residual, it takes the start's place by the blend."""
    blend = weights["blend"]
    operator, options = _ACTIVATIONS[adapter.activation]
    hidden = graph.affine(query, weights["weight_in"], weights["bias_in"])
    active = graph.add(operator, [hidden], **options)
    change = graph.affine(active, blend * weights["weight_out"], blend * weights["bias_out"])
    if not adapter.residual and blend == 1:
        return change
    start = _started(graph, adapter, weights, query)
    if not adapter.residual:
        start = graph.add("Mul", [start, graph.constant(np.float32(1 - blend))])
    return graph.add("Add", [start, change])


def _composed(graph: Graph, adapter: ComposedAdapter, weights: Weights, query: str) -> str:
    """Add a linear part and a hidden layer, as much of them as the gate lets through."""
    blend = weights["blend"]
    if adapter.normalised:
        query = graph.normalise(query)
    if adapter.rank:
        inner = graph.add("MatMul", [query, graph.constant(weights["difference_in"])])
        change = graph.affine(inner, blend * weights["difference_out"], blend * weights["bias"])
    else:
        change = graph.affine(query, blend * weights["difference"], blend * weights["bias"])
    if adapter.hidden:
        hidden = graph.affine(query, weights["weight_in"], weights["bias_in"])
        outer = graph.constant(blend * weights["weight_out"])
        bent = graph.add("MatMul", [graph.add("Relu", [hidden]), outer])
        change = graph.add("Add", [change, bent])
    if adapter.n_centroids:
        change = graph.add("Mul", [change, _gate(graph, adapter, weights, query)])
    return graph.add("Add", [_started(graph, adapter, weights, query), change])


def _gate(graph: Graph, adapter: ComposedAdapter, weights: Weights, query: str) -> str:
    """Give the share of the change that is applied; the bounds are folded into the centroids."""
    threshold, width = weights["gate_bounds"]
    unit = graph.normalise(query)  # once more: a query shorter than 1e-12 is not of unit length yet
    n_centroids = adapter.n_centroids
    bias = np.full(n_centroids, -threshold / width, dtype=np.float32)
    near = graph.affine(unit, weights["gate_centroids"] / width, bias)
    return graph.add("Sigmoid", [graph.largest(near)])


def _started(graph: Graph, adapter: Adapter, weights: Weights, query: str) -> str:
    """Give what the adapter makes of a query before any training."""
    if not adapter.has_start:
        return query
    return graph.add("MatMul", [query, graph.constant(weights["start"])])


_BUILDERS: dict[type[Adapter], Callable[[Graph, Any, Weights, str], str]] = {
    IdentityAdapter: _identity,
    LinearAdapter: _linear,
    LowRankAdapter: _low_rank,
    TwoLayerAdapter: _two_layer,
    ComposedAdapter: _composed,
}
