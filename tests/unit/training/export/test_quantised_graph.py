"""8-bit products: what the rounding costs, that rows stand alone, and when there is none."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import Tensor

from trimtab.commands.group import main
from trimtab.model.adapter import Adapter as ServedAdapter
from trimtab.model.onnx_file import check_model
from trimtab_training.adapters import ComposedAdapter, Gate, load_adapter, save_adapter
from trimtab_training.embeddings.store import EncoderInfo
from trimtab_training.errors import DataError, ExportError
from trimtab_training.export import onnx_export as export
from trimtab_training.export.onnx_export import (
    ROUNDING,
    describe_adapter,
    export_adapter,
    rounding_error,
)
from trimtab_training.export.quantised_graph import can_quantise, quantised_answers

DIM = 48
ENCODER = EncoderInfo("toy", "sha256:toy", DIM, normalised=True)
PARTS = [
    {"hidden": 0, "centroids": 0},
    {"hidden": 24, "centroids": 0},
    {"hidden": 0, "centroids": 3},
    {"hidden": 24, "centroids": 3},
    {"hidden": 24, "centroids": 3, "rank": 8},
    {"hidden": 0, "centroids": 0, "rank": 8},
]


def unit(rows: int, seed: int) -> Tensor:
    vectors = torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1)


def trained(**sizes: int) -> ComposedAdapter:
    """An adapter that moves queries by about a third of their length."""
    generator = torch.Generator().manual_seed(1)
    adapter = ComposedAdapter(DIM, **sizes)
    if adapter.n_centroids:
        adapter.set_gate(Gate(unit(adapter.n_centroids, seed=101).T, threshold=0.0, width=0.1))
    with torch.no_grad():
        for value in adapter.parameters():
            value.copy_(0.3 * torch.randn(value.shape, generator=generator) / DIM**0.5)
        adapter.blend.fill_(0.75)
    adapter.calibrate(unit(2000, seed=2))
    return adapter


def exported(adapter: ComposedAdapter, **options: object) -> bytes:
    manifest = describe_adapter(adapter, ENCODER, name="toy", similarity="cosine")
    return export_adapter(adapter, manifest, queries=unit(500, seed=3).numpy(), **options)


@pytest.mark.parametrize("sizes", PARTS, ids=str)
def test_rounding_moves_a_query_by_little_of_what_the_adapter_moves_it(sizes: dict) -> None:
    adapter = trained(**sizes)
    served = ServedAdapter.from_bytes(exported(adapter))
    queries = unit(500, seed=4)
    with torch.no_grad():
        wanted = adapter(queries).numpy()
    moved = np.linalg.norm(wanted - queries.numpy(), axis=1).mean()
    missed = np.linalg.norm(served.transform(queries.numpy()) - wanted, axis=1)
    assert moved > 0.1
    assert missed.mean() < 0.1 * moved
    assert missed.max() < ROUNDING


@pytest.mark.parametrize("sizes", PARTS, ids=str)
def test_graph_and_its_own_numbers_agree_two_ways(sizes: dict) -> None:
    adapter = trained(**sizes)
    served = ServedAdapter.from_bytes(exported(adapter))
    queries = unit(300, seed=5).numpy()
    gaps = np.abs(served.transform(queries) - quantised_answers(adapter, queries)).max(axis=1)
    assert np.median(gaps) < 1e-6  # but for values half way between two bytes
    assert gaps.max() < 5e-3


def test_a_query_stands_alone_in_any_batch() -> None:
    served = ServedAdapter.from_bytes(exported(trained(**PARTS[-1])))
    queries = unit(64, seed=6).numpy()
    queries[7] *= 1e6
    whole = served.transform(queries)
    np.testing.assert_allclose(whole, [served.transform(row) for row in queries], atol=1e-6)
    np.testing.assert_allclose(whole[:5], served.transform(queries[:5]), atol=1e-6)


@pytest.mark.parametrize("length", [1e-6, 1e6])
def test_a_query_s_length_means_nothing(length: float) -> None:
    served = ServedAdapter.from_bytes(exported(trained(**PARTS[-1])))
    queries = unit(64, seed=7).numpy()
    gaps = np.abs(served.transform(queries * np.float32(length)) - served.transform(queries))
    assert np.median(gaps.max(axis=1)) < 1e-6
    assert gaps.max() < 5e-3


def test_a_query_of_zeros_is_answered_as_torch_answers_it() -> None:
    adapter = trained(**PARTS[-1])
    served = ServedAdapter.from_bytes(exported(adapter))
    with torch.no_grad():
        wanted = adapter(torch.zeros(1, DIM)).numpy()[0]
    assert np.linalg.norm(served.transform(np.zeros(DIM)) - wanted) < 0.1


def test_no_sum_of_two_byte_products_leaves_16_bits() -> None:
    """Processors without VNNI add two products of an unsigned and a signed byte in 16 bits."""
    graph = onnx.load_from_string(exported(trained(**PARTS[-1]))).graph
    signed = [
        weights
        for tensor in graph.initializer
        if (weights := numpy_helper.to_array(tensor)).dtype == np.int8 and weights.ndim == 2
    ]
    assert len(signed) == 2
    assert max(255 * 2 * int(np.abs(weights.astype(int)).max()) for weights in signed) < 2**15


def test_file_is_a_quarter_and_answers_without_torch_s_exporter() -> None:
    adapter = trained(hidden=512, centroids=4)
    small, large = exported(adapter), exported(adapter, precision="float32")
    assert "MatMulInteger" in check_model(small).operators
    assert "MatMulInteger" not in check_model(large).operators
    assert len(small) < len(large) / 3


def test_coordinate_beyond_all_training_queries_is_cut_off_and_harms_no_other() -> None:
    adapter = trained(**PARTS[1])
    served = ServedAdapter.from_bytes(exported(adapter))
    strange = torch.zeros(DIM)
    strange[3] = 1.0
    adapted = served.transform(strange.numpy())
    assert np.isfinite(adapted).all()
    assert np.linalg.norm(adapted) == pytest.approx(1, abs=1e-5)
    assert adapted[3] > 0.5


def test_adapter_that_rounding_moves_too_far_stays_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter = trained(**PARTS[-1])
    monkeypatch.setattr(export, "ROUNDING", 1e-4)
    content = exported(adapter)
    assert "MatMulInteger" not in check_model(content).operators
    served = ServedAdapter.from_bytes(content)
    assert rounding_error(adapter, served, unit(50, seed=8).numpy()) < 1e-5


def test_graph_that_gives_other_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = trained(**PARTS[-1])
    monkeypatch.setattr(
        export, "quantised_answers", lambda *given: quantised_answers(*given)[:, ::-1]
    )
    with pytest.raises(ExportError, match="8-bit products and its own numbers differ"):
        exported(adapter)


@pytest.mark.parametrize(("option", "weights"), [((), "8-bit"), (("float32",), "float32")])
def test_export_command_takes_a_precision_and_inspect_says_it(
    tmp_path: Path, option: tuple[str, ...], weights: str
) -> None:
    adapter = trained(**PARTS[-1])
    manifest = describe_adapter(adapter, ENCODER, name="toy", similarity="cosine")
    save_adapter(adapter, tmp_path, manifest=json.loads(manifest.to_json()))
    file = str(tmp_path / "adapter.onnx")
    options = [word for value in option for word in ("--precision", value)]
    done = CliRunner().invoke(main, ["export", str(tmp_path), "-o", file, *options])
    assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(main, ["inspect", file]).stdout
    assert re.search(rf"^weights +{weights}$", shown, re.MULTILINE)


@pytest.mark.parametrize("why", ["not calibrated", "any length", "starts at a matrix"])
def test_what_can_not_be_rounded_is_float32(why: str) -> None:
    adapter = trained(**PARTS[1])
    if why == "not calibrated":
        adapter.input_range.zero_()
    elif why == "any length":
        adapter.normalised = False
    else:
        adapter.start_from(torch.eye(DIM))
    assert not can_quantise(adapter)
    assert "MatMulInteger" not in check_model(exported(adapter)).operators


def test_ranges_are_kept_in_the_checkpoint_and_one_of_before_has_none(tmp_path: Path) -> None:
    adapter = trained(**PARTS[-1])
    save_adapter(adapter, tmp_path / "new")
    again, _ = load_adapter(tmp_path / "new")
    assert isinstance(again, ComposedAdapter)
    assert exported(again) == exported(adapter)
    old = {name: value for name, value in adapter.state_dict().items() if "range" not in name}
    fresh = ComposedAdapter(DIM, **PARTS[-1])
    fresh.load_state_dict(old)
    assert not fresh.is_calibrated


@pytest.mark.parametrize("n_prototypes", [0, 512])
def test_checkpoint_of_version_0_1_opens_unless_it_has_prototypes(
    tmp_path: Path, n_prototypes: int
) -> None:
    adapter = trained(**PARTS[-1])
    save_adapter(adapter, tmp_path)
    record = json.loads((tmp_path / "adapter.json").read_text())
    record["options"]["prototypes"] = n_prototypes
    (tmp_path / "adapter.json").write_text(json.dumps(record))
    old = {name: value for name, value in adapter.state_dict().items() if "range" not in name}
    old |= {"shifts": torch.zeros(n_prototypes, DIM), "temperature": torch.tensor(1.0)}
    old |= {"prototypes": torch.zeros(DIM, n_prototypes)}
    save_file(
        {name: value.contiguous() for name, value in old.items()}, tmp_path / "adapter.safetensors"
    )
    if n_prototypes:
        with pytest.raises(DataError, match=r"has 512 prototypes.* fit anew.*adapter\.onnx"):
            load_adapter(tmp_path)
        return
    again, _ = load_adapter(tmp_path)
    queries = unit(9, seed=9)
    with torch.no_grad():
        assert torch.equal(again(queries), adapter(queries))
