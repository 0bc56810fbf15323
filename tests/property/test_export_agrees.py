"""The exported model equals the torch module on any input, for every kind of adapter."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trimtab.model.adapter import Adapter as ServedAdapter
from trimtab_training.adapters import (
    Adapter,
    ComposedAdapter,
    Gate,
    LinearAdapter,
    LowRankAdapter,
    TwoLayerAdapter,
)
from trimtab_training.embeddings.store import EncoderInfo
from trimtab_training.export.onnx_export import describe_adapter, export_adapter

DIM = 8
Pair = tuple[Adapter, ServedAdapter]
SAME = 1e-5  # of the longer of 1 and the output's length, as export demands
FACTOR_OF_ROUNDING = 4  # before a tanh, huge sums cancel: float32 itself is that far off there
ENCODER = EncoderInfo("toy", "sha256:toy", DIM, normalised=True)


BUILT_IN: dict[str, tuple[type[Adapter], dict[str, Any]]] = {
    "linear": (LinearAdapter, {}),
    "low rank": (LowRankAdapter, {"rank": 3}),
    "two layers": (TwoLayerAdapter, {"hidden": 6}),
    "sigmoid": (TwoLayerAdapter, {"hidden": 6, "activation": "sigmoid"}),
    "tanh alone": (TwoLayerAdapter, {"hidden": 6, "activation": "tanh", "residual": False}),
    "leaky": (TwoLayerAdapter, {"hidden": 6, "activation": "leaky_relu", "residual": False}),
    "composed": (ComposedAdapter, {"hidden": 5, "centroids": 2}),
    "composed of a rank": (ComposedAdapter, {"hidden": 5, "rank": 3}),
    "composed, linear": (ComposedAdapter, {}),
}


def _make(name: str, *, normalised: bool, blend: float, dim_out: int) -> Pair:
    torch.manual_seed(1)
    kind, options = BUILT_IN[name]
    adapter = kind(DIM, dim_out, **options)
    for value in adapter.parameters():
        value.data = torch.randn_like(value) * 0.5
    adapter.normalised = normalised
    adapter.blend.fill_(blend)
    if isinstance(adapter, ComposedAdapter) and adapter.n_centroids:
        centroids = torch.nn.functional.normalize(torch.randn(DIM, 2), dim=0)
        adapter.set_gate(Gate(centroids, threshold=0.3, width=0.2))
    manifest = describe_adapter(adapter, ENCODER, name="toy", similarity="cosine")
    content = export_adapter(adapter, manifest, precision="float32")
    return adapter, ServedAdapter.from_bytes(content)


PAIRS = {
    (name, normalised, blend, dim_out): _make(
        name, normalised=normalised, blend=blend, dim_out=dim_out
    )
    for name in BUILT_IN
    for normalised in (True, False)
    for blend, dim_out in ((1.0, DIM), (0.5, DIM), (0.75, DIM - 2))
}


@pytest.mark.parametrize("key", PAIRS, ids=str)
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(
    queries=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.just(DIM)),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
@example(np.full((1, DIM), 2.2e-16, dtype=np.float32))  # shorter than what counts as a length
def test_exported_model_equals_torch_on_any_input(
    key: tuple[str, bool, float, int], queries: np.ndarray
) -> None:
    adapter, served = PAIRS[key]
    with torch.no_grad():
        wanted = adapter(torch.from_numpy(queries)).numpy()
        exact = copy.deepcopy(adapter).double()(torch.from_numpy(queries).double()).numpy()
    size = np.maximum(1.0, np.linalg.norm(wanted, axis=1, keepdims=True))
    for found in (served.transform(queries), np.stack([served.transform(q) for q in queries])):
        rounding = FACTOR_OF_ROUNDING * np.abs(exact - wanted).max()
        assert np.all(np.abs(found - wanted) <= SAME * size + rounding)
