"""A model file that holds more than an adapter needs is refused before anything runs it."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.onnx_models import MANIFEST, graph_model, linear_bytes, linear_model, stamp
from trimtab.errors import IntegrityError, ModelError
from trimtab.model import onnx_file as model_file
from trimtab.model.adapter import Adapter
from trimtab.model.onnx_file import check_model, read_model_file
from trimtab.model.session import make_session

Change = Callable[[onnx.ModelProto], object]


def refused(change: Change, because: str) -> None:
    """Change a good model, and expect its refusal in words."""
    model = linear_model()
    change(model)
    with pytest.raises(IntegrityError, match=because):
        check_model(model.SerializeToString())


def elsewhere(name: str) -> TensorProto:
    """Make a tensor whose numbers are said to stand in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[6, 4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def branch() -> onnx.GraphProto:
    """Make a graph to be nested in another."""
    output = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    return helper.make_graph(
        [helper.make_node("Identity", ["query"], ["x"])], "branch", [], [output]
    )


def test_check_lets_a_plain_adapter_through() -> None:
    assert check_model(linear_bytes()).operators == ("MatMul",)


@pytest.mark.parametrize("operator", ["RandomNormal", "Loop", "StringConcat", "matmul", ""])
def test_load_refuses_an_operator_outside_the_list(operator: str) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = operator

    refused(change, rf"operator '{operator}'.*not on the list")


def test_load_refuses_a_bad_operator_behind_good_ones() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("RandomNormal", [], ["noise"], shape=[1]))

    refused(change, "RandomNormal")


def test_load_refuses_a_node_of_a_custom_domain() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "com.evil"

    refused(change, r"com\.evil\.MatMul, not a standard operator")


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "ai.onnx.training", " "])
def test_load_refuses_an_import_of_another_domain(domain: str) -> None:
    refused(
        lambda model: model.opset_import.append(helper.make_opsetid(domain, 1)),
        "imports operators of domain",
    )


@pytest.mark.parametrize("versions", [[], [18, 18], [18, 1]])
def test_load_refuses_any_but_one_operator_set(versions: list[int]) -> None:
    def change(model: onnx.ModelProto) -> None:
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid("", version) for version in versions)

    refused(change, f"imports {len(versions)} operator sets; expected exactly one")


def test_load_takes_the_long_name_of_the_standard_domain() -> None:
    model = linear_model()
    model.opset_import[0].domain = model.graph.node[0].domain = "ai.onnx"
    assert check_model(model.SerializeToString()).opset == 18


def test_load_refuses_external_data() -> None:
    refused(lambda model: model.graph.initializer.append(elsewhere("far")), "in another file")


def test_load_refuses_a_data_location_without_entries() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].data_location = TensorProto.EXTERNAL

    refused(change, "in another file")


def test_load_refuses_external_entries_without_a_data_location() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].external_data.add(key="location", value="x.bin")

    refused(change, "in another file")


@pytest.mark.parametrize("plural", [False, True])
def test_load_refuses_external_data_inside_an_attribute(plural: bool) -> None:
    def change(model: onnx.ModelProto) -> None:
        attribute = model.graph.node.add(op_type="Constant", output=["far"]).attribute.add()
        attribute.name = "value"
        if plural:
            attribute.tensors.append(elsewhere("far"))
        else:
            attribute.t.CopyFrom(elsewhere("far"))

    refused(change, "in another file")


def with_node(node: bytes) -> bytes:
    """Put the raw bytes of one more node into a good model."""
    model = linear_model()
    graph = model.graph.SerializeToString() + field(1, node)
    model.ClearField("graph")
    return model.SerializeToString() + field(7, graph)


def field(number: int, content: bytes) -> bytes:
    """Write one field as protobuf does; its library would merge what is said twice."""
    assert number < 16
    low, high = len(content) & 0x7F | 0x80, len(content) >> 7
    assert high < 0x80
    return bytes([number << 3 | 2, low, high]) + content


def test_load_refuses_external_data_said_before_harmless_data() -> None:
    """Protobuf merges a singular field that stands twice, so the first counts as well."""
    harmless = numpy_helper.from_array(np.zeros(1)).SerializeToString()
    value = field(1, b"value") + field(5, elsewhere("far").SerializeToString())
    content = with_node(field(4, b"Constant") + field(5, value + field(5, harmless)))
    merged = onnx.load_model_from_string(content).graph.node[-1].attribute[0].t
    assert merged.external_data, "the two are merged, as said above"
    with pytest.raises(IntegrityError, match="in another file"):
        check_model(content)


@pytest.mark.parametrize(("number", "texts"), [(4, [b"Relu", b"Loop"]), (7, [b"", b"com.evil"])])
def test_load_believes_the_last_of_two_texts(number: int, texts: list[bytes]) -> None:
    """As protobuf does: the operator or domain that is read last is the one that runs."""
    said = b"".join(field(number, text) for text in texts)
    content = with_node(said if number == 4 else field(4, b"Relu") + said)
    node = onnx.load_model_from_string(content).graph.node[-1]
    assert texts[1].decode() in {node.op_type, node.domain}
    with pytest.raises(IntegrityError, match=texts[1].decode()):
        check_model(content)


@pytest.mark.parametrize("operator", ["If", "Loop", "Scan"])
def test_load_refuses_control_flow(operator: str) -> None:
    node = helper.make_node(operator, ["query"], ["x"], then_branch=branch())
    refused(lambda model: model.graph.node.append(node), operator)


def test_load_refuses_a_graph_nested_in_an_allowed_operator() -> None:
    node = helper.make_node("Identity", ["query"], ["x"], body=branch())
    refused(lambda model: model.graph.node.append(node), "a nested graph")


def test_load_refuses_several_graphs_nested_in_an_allowed_operator() -> None:
    node = helper.make_node("Identity", ["query"], ["x"], bodies=[branch(), branch()])
    refused(lambda model: model.graph.node.append(node), "nested graphs")


def test_load_refuses_functions() -> None:
    function = helper.make_function(
        "com.evil", "F", ["a"], ["b"], [], [helper.make_opsetid("", 18)]
    )
    refused(lambda model: model.functions.append(function), "functions of its own")


def test_load_refuses_references_to_function_attributes() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].attribute.add(name="alpha", ref_attr_name="beta")

    refused(change, "references to function attributes")


def test_load_refuses_training_info() -> None:
    refused(lambda model: model.training_info.add(), "training information")


def test_load_refuses_sparse_weights() -> None:
    refused(lambda model: model.graph.sparse_initializer.add(), "sparse weights")


@pytest.mark.parametrize("plural", [False, True])
def test_load_refuses_sparse_weights_inside_an_attribute(plural: bool) -> None:
    def change(model: onnx.ModelProto) -> None:
        attribute = model.graph.node[0].attribute.add(name="sparse_value")
        if plural:
            attribute.sparse_tensors.add()
        else:
            attribute.sparse_tensor.SetInParent()

    refused(change, "sparse weights")


def test_load_refuses_an_opset_too_new() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 21

    refused(change, "uses opset 21; adapters use 20 or lower")


def test_load_takes_the_newest_opset_and_ir_version() -> None:
    model = linear_model()
    model.opset_import[0].version, model.ir_version = 20, 9
    adapter = Adapter.from_bytes(model.SerializeToString())
    assert adapter.dim_out == 4


@pytest.mark.parametrize("version", [10, -1])
def test_load_refuses_an_ir_version_too_new(version: int) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.ir_version = version

    refused(change, r"IR version \d+; adapters use 9 or lower")


@pytest.mark.parametrize("version", [21, -1])
def test_load_refuses_an_opset_out_of_range(version: int) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    refused(change, "uses opset")


def test_load_refuses_a_missing_ir_version() -> None:
    refused(lambda model: model.ClearField("ir_version"), "no IR version")


def test_load_refuses_a_missing_opset_version() -> None:
    refused(lambda model: model.opset_import[0].ClearField("version"), "no opset version")


def test_load_refuses_a_missing_graph() -> None:
    refused(lambda model: model.ClearField("graph"), "0 of graph; expected exactly one")


def test_load_refuses_two_graphs() -> None:
    """Protobuf would merge them, so what was checked would not be what runs."""
    second = onnx.ModelProto()
    second.graph.node.add(op_type="RandomNormal")
    with pytest.raises(IntegrityError, match="2 of graph; expected exactly one"):
        check_model(linear_bytes() + second.SerializeToString())


def test_load_refuses_two_models_in_one_file() -> None:
    with pytest.raises(ModelError, match="expected exactly one"):
        check_model(linear_bytes() * 2)


def test_load_refuses_an_oversize_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = linear_bytes()
    file = tmp_path / "adapter.onnx"
    file.write_bytes(content)
    limit = partial(replace, model_file.ADAPTER_RULES)
    monkeypatch.setattr(model_file, "ADAPTER_RULES", limit(max_size_bytes=len(content)))
    assert read_model_file(file).content == content
    monkeypatch.setattr(model_file, "ADAPTER_RULES", limit(max_size_bytes=len(content) - 1))
    wanted = f"has {len(content)} bytes; at most {len(content) - 1}"
    with pytest.raises(IntegrityError, match=wanted):
        check_model(content)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(IntegrityError, match=wanted):
        read_model_file(file)


def test_load_never_reads_an_oversize_file(tmp_path: Path) -> None:
    file = tmp_path / "adapter.onnx"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)  # a hole: a terabyte that takes no room
    with pytest.raises(IntegrityError, match=str(1 << 40)):
        read_model_file(file)


def test_load_refuses_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "adapter.onnx"
    file.touch()
    with pytest.raises(IntegrityError, match="is empty; copy or export it again"):
        read_model_file(file)


@pytest.mark.parametrize("content", [b"\x80\x04}.", b"PK\x03\x04", b"{}", b"<html>", b"\0" * 64])
def test_load_refuses_other_kinds_of_files(content: bytes) -> None:
    with pytest.raises(ModelError):
        Adapter.from_bytes(content)


def test_load_refuses_a_field_of_the_wrong_wire_type() -> None:
    with pytest.raises(IntegrityError, match="field 14 of wire type 0 in a ModelProto"):
        check_model(linear_bytes() + b"\x70\x01")  # metadata_props as a number


def test_load_refuses_an_operator_hidden_behind_one_of_another_wire_type() -> None:
    """Protobuf skips a text that stands on the wire type of a number: "Relu" is not what runs."""
    content = with_node(field(4, b"RandomNormalLike") + b"\x25Relu")
    assert onnx.load_model_from_string(content).graph.node[-1].op_type == "RandomNormalLike"
    with pytest.raises(IntegrityError, match="field 4 of wire type 5 in a NodeProto"):
        check_model(content)


@pytest.mark.parametrize("number", [4, 5, 7])
def test_load_refuses_a_field_hidden_behind_a_key_of_over_32_bits(number: int) -> None:
    """ONNX Runtime's reader drops a key's upper bits, and would find an operator, or a graph."""
    key = bytes([number << 3 | 2 | 0x80, 0x80, 0x80, 0x80, 0x10])
    with pytest.raises(IntegrityError, match="number too long"):
        check_model(with_node(field(4, b"Relu") + key + b"\x04Loop"))


@pytest.mark.parametrize("ending", [b"\x78\x00", b"\x7a\x04ORTM", b"\x82\x06\x01x"])
def test_load_refuses_a_field_that_no_model_has(ending: bytes) -> None:
    onnx.load_model_from_string(linear_bytes() + ending)  # skipped there
    with pytest.raises(IntegrityError, match="in a ModelProto"):
        check_model(linear_bytes() + ending)


def test_a_session_never_takes_a_model_for_the_runtimes_own_format(tmp_path: Path) -> None:
    """Bytes that are a model to the check could be another one in that format, which it skips."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(linear_bytes(), options)
    content = (tmp_path / "model.ort").read_bytes()
    assert content[4:8] == b"ORTM"
    assert onnxruntime.InferenceSession(content), "it is one, if left alone"
    for given in (content, str(tmp_path / "model.ort")):
        with pytest.raises(IntegrityError, match="ONNX Runtime refuses"):
            make_session(given)


def test_load_refuses_a_manifest_nested_too_deeply() -> None:
    with pytest.raises(ModelError):
        check_model(stamp(linear_model(), "[" * 100_000).SerializeToString())


@pytest.mark.parametrize("dim", [1 << 50, 1 << 61])
def test_load_refuses_a_width_that_fits_no_memory(dim: int) -> None:
    said = replace(MANIFEST, dim_in=dim, dim_out=dim)
    model = graph_model([helper.make_node("Identity", ["query"], ["adapted"])], (), said)
    with pytest.raises(ModelError):
        Adapter.from_bytes(model.SerializeToString())


def test_hostile_file_costs_little_more_memory_than_its_own_bytes() -> None:
    content = b"\x72\x00" * 500_000  # as many empty fields as go into 1 MB
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            check_model(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(content)
