"""The composed adapter: what it starts as, and what its gate and its dropout do."""

import numpy as np
import pytest
import torch
from torch import Tensor

from trimtab.model.adapter import Adapter as ServedAdapter
from trimtab_training.adapters import ComposedAdapter, Gate
from trimtab_training.embeddings.store import EncoderInfo
from trimtab_training.errors import ConfigError
from trimtab_training.export.onnx_export import describe_adapter, export_adapter

DIM, SAME = 6, 1e-5
ENCODER = EncoderInfo("toy", "sha256:toy", DIM, normalised=True)


def unit(rows: int, seed: int) -> Tensor:
    vectors = torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=1, keepdim=True)


def trained(seed: int, *, hidden: int = 0) -> ComposedAdapter:
    """An adapter with parameters of chance."""
    torch.manual_seed(seed)
    adapter = ComposedAdapter(DIM, hidden=hidden, centroids=2)
    adapter.set_gate(Gate(unit(2, seed=101).T, threshold=0.3, width=0.1))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return adapter


def test_that_it_starts_as_the_identity() -> None:
    adapter = ComposedAdapter(DIM, hidden=4, centroids=2)
    queries = unit(7, seed=0)
    assert torch.allclose(adapter(queries), queries, atol=SAME)


def test_that_a_far_query_is_left_alone_and_a_near_one_is_not() -> None:
    adapter = trained(0, hidden=4)
    near = adapter.gate_centroids[:, 0]
    far = -adapter.gate_centroids.sum(dim=1)
    far = far / far.norm()
    with torch.no_grad():
        changes = adapter.change(torch.stack([near, far])).norm(dim=1)
    assert changes[0] > 1.0
    assert changes[1] < 0.05


def test_that_half_of_the_change_is_left_at_the_threshold() -> None:
    gated = ComposedAdapter(2, centroids=1)
    gated.set_gate(Gate(torch.tensor([[1.0], [0.0]]), threshold=0.6, width=0.1))
    with torch.no_grad():
        gated.bias.fill_(1.0)
        change = gated.change(torch.tensor([[0.6, 0.8], [0.7, 0.51**0.5]]))
    assert change[0].tolist() == pytest.approx([0.5, 0.5])
    assert change[1].tolist() == pytest.approx([1 / (1 + np.exp(-1))] * 2)


@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_that_the_gate_does_not_ask_for_length(length: float) -> None:
    adapter = trained(3)
    with torch.no_grad():
        adapter.difference.zero_()
        queries = unit(4, seed=1)
        assert torch.allclose(adapter.change(length * queries), adapter.change(queries), atol=SAME)


def test_that_dropout_leaves_hidden_units_out_while_training_and_never_else() -> None:
    adapter = trained(4, hidden=400)
    adapter.dropout = 0.5
    queries = unit(9, seed=2)
    with torch.no_grad():
        whole = adapter.eval()(queries)
        assert torch.equal(adapter(queries), whole)
        draws = torch.stack([adapter.train().change(queries) for _ in range(400)])
        wanted = adapter.eval().change(queries)
    assert draws.std(dim=0).min() > 0.1
    errors = draws.std(dim=0) / 400**0.5
    assert ((draws.mean(dim=0) - wanted).abs() / errors).max() < 5


@pytest.mark.parametrize("length", [1e-6, 1e6])
def test_that_a_query_s_length_means_nothing_to_a_cosine_index(length: float) -> None:
    adapter = trained(7, hidden=3)
    queries = unit(9, seed=5)
    with torch.no_grad():
        assert torch.allclose(adapter(length * queries), adapter(queries), atol=SAME)


def test_that_a_query_s_length_counts_where_the_index_looks_at_it() -> None:
    adapter = trained(7, hidden=3)
    adapter.normalised = False
    queries = unit(9, seed=5)
    with torch.no_grad():
        assert not torch.allclose(adapter(3 * queries), adapter(queries), atol=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_that_the_export_gives_the_same_far_from_the_gate_and_for_any_length(seed: int) -> None:
    adapter = trained(seed, hidden=3)
    manifest = describe_adapter(adapter, ENCODER, name="docs", similarity="cosine")
    served = ServedAdapter.from_bytes(export_adapter(adapter, manifest))
    queries = np.concatenate([unit(20, seed=6).numpy() * size for size in (1e-6, 1.0, 1e6)])
    with torch.no_grad():
        wanted = adapter(torch.from_numpy(queries)).numpy()
    np.testing.assert_allclose(served.transform(queries), wanted, atol=SAME)


def test_that_sizes_below_zero_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be 0 or more"):
        ComposedAdapter(DIM, hidden=-1)
