"""Two readings of one file, one answer: ours of the bytes, and that of the onnx package."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.defs
import pytest
import torch
from google.protobuf.descriptor import FieldDescriptor as Field
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.support.onnx_models import (
    DIM_IN,
    GAP,
    MANIFEST,
    graph_model,
    linear_model,
    queries_of,
    weight_of,
)
from trimtab.errors import QueryError
from trimtab.model import graph_check, onnx_fields
from trimtab.model.adapter import Adapter
from trimtab.model.graph_check import MAX_IR_VERSION, MAX_OPSET
from trimtab.model.onnx_fields import Message
from trimtab.model.onnx_file import ALLOWED_OPERATORS, check_model
from trimtab.model.protobuf_fields import FIXED32, FIXED64, LENGTH, VARINT
from trimtab_training.adapters import LinearAdapter
from trimtab_training.export.onnx_export import export_adapter

CHAIN = ["Abs", "Elu", "Exp", "Identity", "Neg", "Relu", "Sigmoid", "Sign", "Softplus", "Tanh"]


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """Build a product behind any chain of operators, in any supported version."""
    operators = draw(st.lists(st.sampled_from(CHAIN), max_size=5))
    names = ["query", *(f"step{number}" for number in range(len(operators)))]
    nodes = [
        helper.make_node(operator, [names[step]], [names[step + 1]], doc_string=draw(st.text()))
        for step, operator in enumerate(operators)
    ]
    nodes.append(helper.make_node("MatMul", [names[-1], "weight"], ["adapted"]))
    model = graph_model(nodes, [numpy_helper.from_array(weight_of(), "weight")])
    model.ir_version = draw(st.integers(3, MAX_IR_VERSION))
    model.opset_import[0].version = draw(st.integers(13, MAX_OPSET))
    model.producer_name, model.graph.name = draw(st.text()), draw(st.text(min_size=1))
    for number in range(draw(st.integers(0, 2))):
        model.metadata_props.add(key=f"other{number}", value=draw(st.text()))
    return model


@given(models())
@settings(max_examples=60, deadline=None)
def test_check_reads_what_the_onnx_package_reads(model: onnx.ModelProto) -> None:
    content = model.SerializeToString()
    read, checked = onnx.load_model_from_string(content), check_model(content)
    assert checked.ir_version == read.ir_version
    assert checked.opset == read.opset_import[0].version
    assert checked.operators == tuple(node.op_type for node in read.graph.node)
    assert checked.manifest == MANIFEST


@pytest.mark.parametrize("normalised", [False, True])
def test_model_is_valid_by_the_checker_of_the_onnx_package(normalised: bool) -> None:
    model = linear_model(normalised=normalised)
    onnx.checker.check_model(model, full_check=True)
    assert check_model(model.SerializeToString())


@pytest.mark.parametrize("normalised", [False, True])
def test_adapter_answers_as_the_reference_of_the_onnx_package(normalised: bool) -> None:
    model, queries = linear_model(normalised=normalised), queries_of(9)
    (wanted,) = ReferenceEvaluator(model).run(None, {"query": queries})
    adapter = Adapter.from_bytes(model.SerializeToString())
    alone = np.stack([adapter.transform(query) for query in queries])
    assert np.abs(adapter.transform(queries) - wanted).max() < GAP
    assert np.abs(alone - wanted).max() < GAP


@pytest.mark.parametrize("operator", sorted(ALLOWED_OPERATORS))
def test_allowed_operator_is_standard_and_only_computes(operator: str) -> None:
    schema = onnx.defs.get_schema(operator, MAX_OPSET)
    assert schema.domain == ""
    assert not schema.deprecated
    kinds = {attribute.type for attribute in schema.attributes.values()}
    assert not kinds & {onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS}


@pytest.fixture(scope="module")
def exported() -> Adapter:
    """Give an adapter as training exports it: a turn, then unit length."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trained = LinearAdapter(DIM_IN)
        for parameter in trained.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    said = replace(MANIFEST, dim_out=DIM_IN, normalised=True, use="relevance")
    return Adapter.from_bytes(export_adapter(trained, said))


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6, 1e8])
def test_exported_adapter_keeps_its_word_on_unit_length(exported: Adapter, size: float) -> None:
    queries = queries_of(4) * np.float32(size)
    for adapted in (exported.transform(queries), exported.transform(queries[0])[None]):
        assert np.abs(np.linalg.norm(adapted, axis=1) - 1).max() < GAP


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("size", [1e20, 1e30])
def test_exported_adapter_refuses_what_it_can_not_normalise(
    exported: Adapter, size: float, n: int
) -> None:
    with pytest.raises(QueryError, match="too long to normalise"):
        exported.transform(queries_of(4)[:n] * np.float32(size))


def test_no_allowed_operator_is_random() -> None:
    assert not [name for name in ALLOWED_OPERATORS if "Random" in name or name == "Bernoulli"]


def test_limits_are_those_of_one_release_of_onnx() -> None:
    """Opset 20 came with IR version 9, in ONNX 1.15, which ONNX Runtime 1.17 reads."""
    assert helper.OP_SET_ID_VERSION_MAP[("ai.onnx", MAX_OPSET)] == MAX_IR_VERSION


@pytest.mark.parametrize(
    ("message", "field", "number"),
    [
        (onnx.ModelProto, "ir_version", 1),
        (onnx.ModelProto, "graph", 7),
        (onnx.ModelProto, "opset_import", 8),
        (onnx.ModelProto, "metadata_props", 14),
        (onnx.ModelProto, "training_info", 20),
        (onnx.ModelProto, "functions", 25),
        (onnx.OperatorSetIdProto, "domain", 1),
        (onnx.OperatorSetIdProto, "version", 2),
        (onnx.StringStringEntryProto, "key", 1),
        (onnx.StringStringEntryProto, "value", 2),
        (onnx.GraphProto, "node", 1),
        (onnx.GraphProto, "initializer", 5),
        (onnx.GraphProto, "input", graph_check._INPUT_FIELD),
        (onnx.GraphProto, "output", graph_check._OUTPUT_FIELD),
        (onnx.GraphProto, "sparse_initializer", 15),
        (onnx.NodeProto, "op_type", 4),
        (onnx.NodeProto, "attribute", 5),
        (onnx.NodeProto, "domain", 7),
        (onnx.AttributeProto, "t", 5),
        (onnx.AttributeProto, "g", 6),
        (onnx.AttributeProto, "tensors", 10),
        (onnx.AttributeProto, "graphs", 11),
        (onnx.AttributeProto, "ref_attr_name", 21),
        (onnx.AttributeProto, "sparse_tensor", 22),
        (onnx.AttributeProto, "sparse_tensors", 23),
        (onnx.TensorProto, "name", 8),
        (onnx.TensorProto, "external_data", 13),
        (onnx.TensorProto, "data_location", 14),
        (onnx.ValueInfoProto, "name", 1),
        (onnx.ValueInfoProto, "type", 2),
        (onnx.TypeProto, "tensor_type", 1),
        (onnx.TypeProto.Tensor, "elem_type", 1),
        (onnx.TypeProto.Tensor, "shape", 2),
        (onnx.TensorShapeProto, "dim", 1),
        (onnx.TensorShapeProto.Dimension, "dim_value", 1),
    ],
)
def test_field_numbers_are_those_of_the_onnx_package(
    message: type, field: str, number: int
) -> None:
    assert message.DESCRIPTOR.fields_by_name[field].number == number


def test_every_place_of_a_graph_or_a_tensor_in_a_node_is_known() -> None:
    """A new version of ONNX that adds one would have to be looked at."""
    holders = {"TensorProto", "GraphProto", "SparseTensorProto"}
    places = {
        field.number
        for field in onnx.AttributeProto.DESCRIPTOR.fields
        if field.message_type is not None and field.message_type.name in holders
    }
    assert places == {5, 6, 10, 11, 22, 23}


WIRE_TYPES = {
    Field.TYPE_INT32: VARINT,
    Field.TYPE_INT64: VARINT,
    Field.TYPE_UINT64: VARINT,
    Field.TYPE_ENUM: VARINT,
    Field.TYPE_FLOAT: FIXED32,
    Field.TYPE_DOUBLE: FIXED64,
    Field.TYPE_STRING: LENGTH,
    Field.TYPE_BYTES: LENGTH,
    Field.TYPE_MESSAGE: LENGTH,
}


@pytest.mark.parametrize(
    "message", [each for each in vars(onnx_fields).values() if isinstance(each, Message)],
    ids=lambda message: message.name,
)  # fmt: skip
def test_fields_are_those_of_the_onnx_package(message: Message) -> None:
    """A new one, which may hold a graph or a tensor, has to be looked at."""
    found: Any = onnx
    for part in message.name.split("."):
        found = getattr(found, part)
    wanted = {}
    for each in found.DESCRIPTOR.fields:
        wire_type = WIRE_TYPES[each.type]
        can_be_packed = each.is_repeated and wire_type != LENGTH
        wanted[each.number] = {wire_type, LENGTH} if can_be_packed else {wire_type}
    new = {"ModelProto": {26}, "NodeProto": {10}}.get(message.name, set())  # since ONNX 1.18
    told = {number: set(types) for number, types in message.wire_types.items()}
    assert {number: types for number, types in told.items() if number not in new} == {
        number: types for number, types in wanted.items() if number not in new
    }
