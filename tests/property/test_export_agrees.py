"""The exported model equals the torch module on any input, for every kind of adapter."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trimtab.model.adapter import Adapter as ServedAdapter
from trimtab_training.adapters import Adapter, LinearAdapter, LowRankAdapter, TwoLayerAdapter
from trimtab_training.embeddings.store import EncoderInfo
from trimtab_training.export.onnx_export import describe_adapter, export_adapter

DIM = 8
SAME = 1e-5  # of the longer of 1 and the output's length, as export demands
ENCODER = EncoderInfo("toy", "sha256:toy", DIM, normalised=True)


def _make(kind: type[Adapter], normalised: bool) -> tuple[Adapter, ServedAdapter]:
    torch.manual_seed(1)
    adapter = kind(DIM, rank=3) if kind is LowRankAdapter else kind(DIM)
    for value in adapter.parameters():
        value.data = torch.randn_like(value) * 0.5
    adapter.normalised = normalised
    manifest = describe_adapter(adapter, ENCODER, name="toy", similarity="cosine")
    return adapter, ServedAdapter.from_bytes(export_adapter(adapter, manifest))


PAIRS = {
    (kind.__name__, normalised): _make(kind, normalised)
    for kind in (LinearAdapter, LowRankAdapter, TwoLayerAdapter)
    for normalised in (True, False)
}


@pytest.mark.parametrize("key", PAIRS, ids=str)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    queries=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.just(DIM)),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_exported_model_equals_torch_on_any_input(
    key: tuple[str, bool], queries: np.ndarray
) -> None:
    adapter, served = PAIRS[key]
    with torch.no_grad():
        wanted = adapter(torch.from_numpy(queries)).numpy()
    size = np.maximum(1.0, np.linalg.norm(wanted, axis=1, keepdims=True))
    for found in (served.transform(queries), np.stack([served.transform(q) for q in queries])):
        assert np.all(np.abs(found - wanted) <= SAME * size)
