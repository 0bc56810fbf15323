"""Export: the same answers as torch, in a file that the runtime accepts, or nothing."""

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.support.traced_once import read_operators_once
from trimtab.model.adapter import Adapter as ServedAdapter
from trimtab.model.onnx_file import check_model
from trimtab_training.adapters import (
    Adapter,
    IdentityAdapter,
    LinearAdapter,
    LowRankAdapter,
    TwoLayerAdapter,
)
from trimtab_training.embeddings.store import EncoderInfo
from trimtab_training.errors import ExportError
from trimtab_training.export.onnx_export import describe_adapter, export_adapter, stamp_manifest

ENCODER = EncoderInfo("toy", "sha256:toy", 12, normalised=True, query_prefix="query: ")
SAME = 1e-5  # what export itself demands


@pytest.fixture(autouse=True, scope="module")
def _read_operators_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        read_operators_once(patch)
        yield


class Gated(Adapter):
    """A user's own adapter: a bottleneck behind a sigmoid gate."""

    def __init__(self, dim_in: int, dim_out: int | None = None, *, width: int = 5) -> None:
        super().__init__(dim_in, dim_out)
        self.width = width
        self.down = nn.Linear(dim_in, width)
        self.gate = nn.Linear(dim_in, 1)
        self.up = nn.Linear(width, self.dim_out)

    @property
    def options(self) -> dict[str, int]:
        return {"width": self.width}

    def change(self, queries: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(queries)) * self.up(torch.tanh(self.down(queries)))


class Saturating(Adapter):
    """Bounds its output, so that huge queries show how few digits their sums have kept."""

    def __init__(self, dim_in: int, dim_out: int | None = None) -> None:
        super().__init__(dim_in, dim_out)
        self.down, self.up = nn.Linear(dim_in, 7), nn.Linear(7, self.dim_out)

    def forward(self, queries: Tensor) -> Tensor:
        return self.up(torch.tanh(self.down(queries)))


class Sorting(Adapter):
    """Uses an operator that no adapter may use."""

    def change(self, queries: Tensor) -> Tensor:
        return torch.cumsum(queries, dim=1)


class Branching(Adapter):
    """Depends on values in a way that no graph can express."""

    def change(self, queries: Tensor) -> Tensor:
        return queries if float(queries.sum()) > 0 else -queries


def trained(adapter: Adapter) -> Adapter:
    """Give every parameter some value."""
    generator = torch.Generator().manual_seed(0)
    for value in adapter.parameters():
        value.data = torch.randn(value.shape, generator=generator) * 0.3
    return adapter


def exported(adapter: Adapter) -> bytes:
    return export_adapter(
        adapter, describe_adapter(adapter, ENCODER, name="toy", similarity="cosine")
    )


ADAPTERS = [
    LinearAdapter(12),
    LowRankAdapter(12, rank=3),
    TwoLayerAdapter(12, hidden=7),
    IdentityAdapter(12),
    Gated(12),
]
IDS = [type(adapter).__name__ for adapter in ADAPTERS]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=IDS)
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("blend", [1.0, 0.4])
def test_exported_file_answers_as_torch(adapter: Adapter, normalised: bool, blend: float) -> None:
    trained(adapter).normalised = normalised
    adapter.blend.fill_(blend)
    served = ServedAdapter.from_bytes(exported(adapter))
    queries = np.random.default_rng(1).standard_normal((9, 12)).astype(np.float32)
    with torch.no_grad():
        wanted = adapter(torch.from_numpy(queries)).numpy()
    np.testing.assert_allclose(served.transform(queries), wanted, atol=SAME)
    assert served.manifest.normalised is normalised


@pytest.mark.parametrize("adapter", ADAPTERS, ids=IDS)
def test_untrained_adapter_is_the_identity(adapter: Adapter) -> None:
    fresh = type(adapter)(12, **adapter.options)
    if isinstance(fresh, Gated):
        nn.init.zeros_(fresh.up.weight)
        nn.init.zeros_(fresh.up.bias)
    queries = torch.nn.functional.normalize(torch.randn(5, 12), dim=1)
    torch.testing.assert_close(fresh(queries), queries)


def test_linear_export_reads_its_weights_once() -> None:
    content = exported(trained(LinearAdapter(12)))
    assert check_model(content).operators == ("MatMul", "Add", "ReduceL2", "Clip", "Div")
    weights = onnx.load_from_string(content).graph.initializer
    assert sorted(tuple(tensor.dims) for tensor in weights)[-1] == (12, 12)


class OwnLinear(LinearAdapter):
    """A user's class, whatever it changes, is expressed by torch's exporter."""

    def change(self, queries: torch.Tensor) -> torch.Tensor:
        return 2 * super().change(queries)


def test_a_subclass_of_a_built_in_adapter_is_exported_as_what_it_is() -> None:
    adapter = trained(OwnLinear(12))
    served = ServedAdapter.from_bytes(exported(adapter))
    query = np.linspace(-1, 1, 12, dtype=np.float32)
    with torch.no_grad():
        wanted = adapter(torch.from_numpy(query[None])).numpy()[0]
    np.testing.assert_allclose(served.transform(query), wanted, atol=SAME)


@pytest.mark.parametrize("kind", [TwoLayerAdapter, Gated])
def test_export_suits_old_runtimes_and_names_no_machine(kind: type[Adapter]) -> None:
    content = exported(trained(kind(12)))
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 9
    assert model.opset_import[0].version <= 20
    assert b".py" not in content
    assert [output.name for output in onnxruntime.InferenceSession(content).get_outputs()] == [
        "adapted"
    ]


def test_widths_may_differ() -> None:
    adapter = LinearAdapter(12, 8)
    adapter.start_from(torch.randn(12, 8))
    served = ServedAdapter.from_bytes(exported(trained(adapter)))
    assert (served.dim_in, served.dim_out) == (12, 8)
    assert served.manifest.use == "migration"


def test_manifest_carries_encoder_and_kind() -> None:
    manifest = check_model(exported(trained(Gated(12)))).manifest
    assert manifest.kind.endswith(":Gated")
    assert manifest.encoder.query_prefix == "query: "
    assert manifest.use == "relevance"


def test_stamping_replaces_the_manifest_only() -> None:
    content = exported(trained(LinearAdapter(12)))
    before = check_model(content).manifest
    adapter = LinearAdapter(12)
    other = describe_adapter(adapter, ENCODER, name="renamed", similarity="dot")
    stamped = stamp_manifest(content, other)
    assert check_model(stamped).manifest == other
    assert check_model(stamp_manifest(stamped, before)).manifest == before
    assert onnx.load_from_string(stamped).graph == onnx.load_from_string(content).graph


def test_operator_outside_the_list_is_refused_by_name() -> None:
    with pytest.raises(ExportError, match="CumSum"):
        exported(Sorting(12))


def test_adapter_that_no_graph_can_express_is_refused() -> None:
    with pytest.raises(ExportError, match="can't be expressed in ONNX"):
        exported(Branching(12))


class Drifting(LinearAdapter):
    """Exports something else than it computes."""

    def for_export(self) -> nn.Module:
        changed = LinearAdapter(self.dim_in)
        changed.load_state_dict(self.state_dict())
        changed.bias.data += 1e-3
        return changed


class DriftingSaturating(Saturating):
    """Exports something else than it computes, and bounds it."""

    def for_export(self) -> nn.Module:
        changed = Saturating(self.dim_in)
        changed.load_state_dict(self.state_dict())
        changed.up.bias.data += 1e-3
        return changed


def test_rounding_of_huge_sums_is_no_difference() -> None:
    adapter = trained(Saturating(12))
    adapter.normalised = False
    assert check_model(exported(adapter)).operators == ("Gemm", "Tanh", "Gemm")


def test_difference_of_a_bounded_adapter_is_refused() -> None:
    adapter = trained(DriftingSaturating(12))
    adapter.normalised = False
    with pytest.raises(ExportError, match="on random queries"):
        exported(adapter)


def test_difference_from_torch_is_refused_with_its_size() -> None:
    adapter = trained(Drifting(12))
    with pytest.raises(ExportError, match=r"differ by \d"):
        exported(adapter)
