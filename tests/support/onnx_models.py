"""Model files made by hand with onnx.helper: good ones, and ones that are wrong in one place."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from trimtab.model.adapter import Adapter
from trimtab.model.manifest import METADATA_KEY, EncoderCard, Manifest

DIM_IN, DIM_OUT = 6, 4
OPSET, IR_VERSION = 18, 9
GAP = 1e-5
"""Two ways of summing a few float32 products of size 1 differ by less."""

CARD = EncoderCard(
    name="toy-encoder",
    fingerprint="sha256:toy",
    max_tokens=256,
    query_prefix="query: ",
    document_prefix="passage: ",
)
MANIFEST = Manifest(
    name="toy",
    kind="linear",
    use="migration",
    dim_in=DIM_IN,
    dim_out=DIM_OUT,
    similarity="cosine",
    normalised=False,
    encoder=CARD,
    created="2026-01-02T03:04:05Z",
)


def weight_of(dim_in: int = DIM_IN, dim_out: int = DIM_OUT, seed: int = 0) -> NDArray[np.float32]:
    """Give the matrix of the linear model with the same arguments."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((dim_in, dim_out)) / dim_in**0.5).astype(np.float32)


def linear_model(
    *,
    dim_in: int = DIM_IN,
    dim_out: int = DIM_OUT,
    normalised: bool = False,
    seed: int = 0,
    **manifest: Any,
) -> onnx.ModelProto:
    """Build ``adapted = query @ weight``, of unit length where ``normalised``."""
    weight = numpy_helper.from_array(weight_of(dim_in, dim_out, seed), "weight")
    nodes = [helper.make_node("MatMul", ["query", "weight"], ["adapted"])]
    if normalised:
        nodes = [
            helper.make_node("MatMul", ["query", "weight"], ["raw"]),
            helper.make_node("LpNormalization", ["raw"], ["adapted"], axis=-1, p=2),
        ]
    said = replace(MANIFEST, dim_in=dim_in, dim_out=dim_out, normalised=normalised, **manifest)
    return graph_model(nodes, [weight], said)


def matrix_bytes(weight: NDArray[np.float32], **manifest: Any) -> bytes:
    """Give the bytes of ``adapted = query @ weight`` with a weight of the caller's."""
    dim_in, dim_out = weight.shape
    node = helper.make_node("MatMul", ["query", "weight"], ["adapted"])
    use = "relevance" if dim_in == dim_out else "migration"
    said = replace(MANIFEST, **{"dim_in": dim_in, "dim_out": dim_out, "use": use, **manifest})
    given = numpy_helper.from_array(weight.astype(np.float32), "weight")
    return graph_model([node], [given], said).SerializeToString()


def linear_bytes(**settings: Any) -> bytes:
    """Give the bytes of :func:`linear_model`."""
    return linear_model(**settings).SerializeToString()


def linear_adapter(**settings: Any) -> Adapter:
    """Load :func:`linear_model`."""
    return Adapter.from_bytes(linear_bytes(**settings))


def graph_model(
    nodes: Sequence[NodeProto],
    weights: Sequence[TensorProto] = (),
    manifest: Manifest = MANIFEST,
) -> onnx.ModelProto:
    """Put any nodes between ``query`` and ``adapted``, of the manifest's widths."""
    graph = helper.make_graph(
        list(nodes),
        "adapter",
        [helper.make_tensor_value_info("query", TensorProto.FLOAT, ["n", manifest.dim_in])],
        [helper.make_tensor_value_info("adapted", TensorProto.FLOAT, ["n", manifest.dim_out])],
        list(weights),
    )
    model = helper.make_model(
        graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    stamp(model, manifest.to_json())
    return model


def stamp(model: onnx.ModelProto, text: str) -> onnx.ModelProto:
    """Put any text in the manifest's place."""
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=text)
    return model


def manifest_record(**changes: Any) -> dict[str, Any]:
    """Give a valid manifest as a dict, with changes on top."""
    record: dict[str, Any] = json.loads(MANIFEST.to_json())
    return record | changes


def queries_of(n: int, dim: int = DIM_IN, seed: int = 1) -> NDArray[np.float32]:
    """Draw query vectors of unit length."""
    drawn = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    unit: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit
