"""What a model file says about itself must be there, and agree with its graph."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.onnx_models import (
    MANIFEST,
    linear_bytes,
    linear_model,
    manifest_record,
    stamp,
)
from trimtab.errors import IntegrityError, ManifestError, ModelError
from trimtab.model.manifest import METADATA_KEY
from trimtab.model.onnx_file import check_model, read_model_file, resolve_model_path


def refused(model: onnx.ModelProto, because: str) -> None:
    """Expect a refusal that is the manifest's, in words."""
    with pytest.raises(ManifestError, match=because):
        check_model(model.SerializeToString())


def test_check_gives_what_the_file_says() -> None:
    content = linear_bytes(normalised=True)
    checked = check_model(content)
    assert checked.content == content
    assert (checked.opset, checked.ir_version) == (18, 9)
    assert checked.operators == ("MatMul", "LpNormalization")
    assert checked.manifest.encoder == MANIFEST.encoder
    assert checked.manifest.normalised


def test_load_refuses_a_missing_manifest() -> None:
    model = linear_model()
    del model.metadata_props[:]
    refused(model, "0 manifests, expected one; only files written by 'trimtab export'")


def test_load_refuses_two_manifests() -> None:
    model = linear_model()
    model.metadata_props.append(model.metadata_props[0])
    refused(model, "2 manifests, expected one")


def test_load_keeps_other_metadata_out_of_the_way() -> None:
    model = linear_model()
    model.metadata_props.add(key="author", value="somebody")
    assert check_model(model.SerializeToString()).manifest == MANIFEST


@pytest.mark.parametrize("text", ["", "{", "{'name': 1}", "\ufffd", "{} {}"])
def test_load_refuses_a_manifest_that_is_not_json(text: str) -> None:
    refused(stamp(linear_model(), text), "not JSON")


def test_load_refuses_a_manifest_of_broken_utf8() -> None:
    content = linear_bytes(name="fast").replace(b'"fast"', b"\xff\xfe\xfd\xfc\xfb\xfa")
    with pytest.raises(ManifestError, match="not JSON"):
        check_model(content)


def test_load_refuses_a_manifest_from_a_newer_schema() -> None:
    model = stamp(linear_model(), json.dumps(manifest_record(schema_version=2)))
    refused(model, "schema 2, this version reads up to 1; upgrade trimtab")


def test_load_refuses_a_manifest_without_a_needed_field() -> None:
    record = manifest_record()
    del record["similarity"]
    refused(stamp(linear_model(), json.dumps(record)), "'similarity' is missing")


@pytest.mark.parametrize("changes", [{"dim_in": 7}, {"dim_out": 3}, {"dim_in": 4, "dim_out": 6}])
def test_load_refuses_widths_at_odds_with_the_graph(changes: dict[str, int]) -> None:
    model = stamp(linear_model(), json.dumps(manifest_record(**changes)))
    word, wanted = ("input", changes.get("dim_in")) if "dim_in" in changes else ("output", 3)
    refused(model, rf"graph's {word} has shape \[None, \d\].*float32 \[n, {wanted}\]")


Graph = onnx.GraphProto


def rename_input(graph: Graph) -> None:
    """Call the input something else, in the node too, so that the graph stays sound."""
    graph.input[0].name = graph.node[0].input[0] = "q"


def rename_output(graph: Graph) -> None:
    """Call the output something else, in the node too."""
    graph.output[0].name = graph.node[0].output[0] = "y"


def second_input(graph: Graph) -> None:
    """Ask for a second input."""
    graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n", 6]))


def second_output(graph: Graph) -> None:
    """Give a second output."""
    graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n", 4]))


def input_is_a_weight(graph: Graph) -> None:
    """Let the only input have a fixed value."""
    graph.initializer.append(numpy_helper.from_array(np.zeros((1, 6), np.float32), "query"))


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (rename_input, r"inputs are \['q'\], expected exactly \['query'\]"),
        (rename_output, r"outputs are \['y'\], expected exactly \['adapted'\]"),
        (second_input, r"inputs are \['query', 'more'\]"),
        (second_output, r"outputs are \['adapted', 'more'\]"),
        (input_is_a_weight, r"inputs are \[\]"),
        (lambda graph: graph.ClearField("input"), r"inputs are \[\]"),
        (lambda graph: graph.ClearField("output"), r"outputs are \[\]"),
    ],
)
def test_load_refuses_other_inputs_or_outputs(
    change: Callable[[Graph], None], because: str
) -> None:
    model = linear_model()
    change(model.graph)
    refused(model, because)


def test_load_takes_weights_that_are_listed_as_inputs() -> None:
    """As files of IR versions below 4 do."""
    model = linear_model()
    model.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [6, 4]))
    assert check_model(model.SerializeToString()).manifest == MANIFEST


def test_load_refuses_a_second_output_that_gives_a_weight_away() -> None:
    model = linear_model()
    model.graph.output.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [6, 4]))
    refused(model, "outputs are")


@pytest.mark.parametrize("field", ["input", "output"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64])
def test_load_refuses_another_element_type(field: str, kind: int) -> None:
    model = linear_model()
    getattr(model.graph, field)[0].type.tensor_type.elem_type = kind
    refused(model, f"graph's {field} has shape .*manifest says float32")


@pytest.mark.parametrize("field", ["input", "output"])
@pytest.mark.parametrize(
    "shape", [[1, None], [2, None], [], [None], ["n", "width"], ["n", 1, None], [None, None, None]]
)
def test_load_refuses_another_shape(field: str, shape: list[int | str | None]) -> None:
    model = linear_model()
    value = getattr(model.graph, field)[0]
    width = value.type.tensor_type.shape.dim[1].dim_value
    shape = [width if item is None else item for item in shape]
    value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
    refused(model, f"graph's {field} has shape")


@pytest.mark.parametrize("field", ["input", "output"])
def test_load_takes_a_batch_size_without_a_name(field: str) -> None:
    model = linear_model()
    getattr(model.graph, field)[0].type.tensor_type.shape.dim[0].Clear()
    assert check_model(model.SerializeToString()).manifest == MANIFEST


@pytest.mark.parametrize("part", ["type", "tensor_type", "shape"])
def test_load_refuses_an_input_without_a_shape(part: str) -> None:
    model = linear_model()
    value = model.graph.input[0]
    {
        "type": lambda: value.ClearField("type"),
        "tensor_type": lambda: value.type.ClearField("tensor_type"),
        "shape": lambda: value.type.tensor_type.ClearField("shape"),
    }[part]()
    with pytest.raises(IntegrityError, match=r"0 of .*expected exactly one"):
        check_model(model.SerializeToString())


def test_load_refuses_an_input_that_is_no_tensor() -> None:
    model = linear_model()
    value = helper.make_tensor_sequence_value_info("query", TensorProto.FLOAT, ["n", 6])
    model.graph.input[0].CopyFrom(value)
    with pytest.raises(ModelError, match="tensor type"):
        check_model(model.SerializeToString())


def test_metadata_key_is_ours() -> None:
    """Files that are out in the world bear it; it never changes."""
    assert METADATA_KEY == "trimtab.manifest"


def test_resolve_finds_the_model_of_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "adapter.onnx"
    file.write_bytes(linear_bytes())
    assert resolve_model_path(tmp_path) == resolve_model_path(str(file)) == file
    assert read_model_file(file).manifest == MANIFEST


@pytest.mark.parametrize("name", ["absent", "absent.onnx", "nul\0byte", ""])
def test_resolve_says_where_it_looked(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"no model at .*expected an adapter\.onnx or the folder"):
        resolve_model_path(tmp_path / name)


def test_resolve_refuses_a_name_too_long_for_any_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        resolve_model_path(tmp_path / ("a" * 300))


def test_read_says_why_a_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"can't read .*adapter\.onnx: No such file"):
        read_model_file(tmp_path / "adapter.onnx")
    with pytest.raises(ModelError, match=r"can't read .*: Is a directory"):
        read_model_file(tmp_path)
