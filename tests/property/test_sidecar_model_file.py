"""Whatever bytes come, a model file is accepted or refused: nothing else, and soon."""

import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.onnx_models import linear_bytes
from trimtab.errors import IntegrityError, ModelError
from trimtab.model.adapter import Adapter
from trimtab.model.onnx_file import ModelFile, check_model
from trimtab.model.protobuf_fields import FIXED32, FIXED64, LENGTH, VARINT, read_fields

MODELS = (linear_bytes(), linear_bytes(normalised=True))
MANY = settings(max_examples=400, deadline=None)
LARGEST = 2**64 - 1


def accepted(content: bytes) -> ModelFile | None:
    """Check bytes; let any error through but those that stand for a refusal."""
    try:
        return check_model(content)
    except ModelError:
        return None


@pytest.mark.parametrize("content", MODELS)
def test_no_part_of_a_file_is_a_file(content: bytes) -> None:
    assert accepted(content) is not None
    taken = [length for length in range(len(content)) if accepted(content[:length])]
    assert not taken


@pytest.mark.parametrize("content", MODELS)
def test_loading_refuses_every_truncated_file(content: bytes) -> None:
    for length in range(0, len(content), 7):
        with pytest.raises(ModelError):
            Adapter.from_bytes(content[:length])


@given(st.binary(max_size=200))
@example(b"\x08\x09")
@MANY
def test_arbitrary_bytes_are_refused(content: bytes) -> None:
    assert accepted(content) is None


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Damage a good file: bytes changed, dropped, doubled or put in."""
    content = bytearray(draw(st.sampled_from(MODELS)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content) - 1))
        match draw(st.sampled_from(["change", "drop", "insert", "double"])):
            case "change":
                content[place] = draw(st.integers(0, 255))
            case "drop":
                del content[place : place + draw(st.integers(1, 20))]
            case "insert":
                content[place:place] = draw(st.binary(min_size=1, max_size=8))
            case "double":
                content[place:place] = content[place : place + draw(st.integers(1, 60))]
        content = content or bytearray(b"\0")
    return bytes(content)


@given(damaged())
@MANY
def test_damaged_file_is_refused_or_is_what_the_onnx_package_reads(content: bytes) -> None:
    """What was checked is what runs: no second reading of the same bytes hides anything."""
    checked = accepted(content)
    if checked is None:
        return
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        return  # ONNX Runtime reads as the onnx package does, and refuses
    assert checked.operators == tuple(node.op_type for node in model.graph.node)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [entry.version for entry in model.opset_import] == [checked.opset]
    assert not model.functions
    for tensor in model.graph.initializer:
        assert tensor.data_location == onnx.TensorProto.DEFAULT
        assert not tensor.external_data


varints = st.integers(0, LARGEST)
fields = st.one_of(
    st.tuples(st.just(VARINT), varints),
    st.tuples(st.just(LENGTH), st.binary(max_size=20)),
    st.tuples(st.just(FIXED32), st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(FIXED64), st.binary(min_size=8, max_size=8)),
)


def write_varint(number: int) -> bytes:
    """Write a number as protobuf does."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + write_varint(rest) if rest else bytes([low])


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), fields), max_size=8))
@MANY
def test_fields_written_are_fields_read(
    message: list[tuple[int, tuple[int, int | bytes]]],
) -> None:
    encoded = b""
    for number, (wire_type, value) in message:
        encoded += write_varint(number << 3 | wire_type)
        if wire_type == VARINT:
            encoded += write_varint(value)
        else:
            encoded += (write_varint(len(value)) if wire_type == LENGTH else b"") + value
    found = [
        (number, (wire_type, value if isinstance(value, int) else bytes(value)))
        for number, wire_type, value in read_fields(memoryview(encoded))
    ]
    assert found == message


@given(st.binary(max_size=100))
@MANY
def test_reading_fields_ends_with_the_bytes_or_with_one_error(content: bytes) -> None:
    try:
        found = list(read_fields(memoryview(content)))
    except IntegrityError:
        return
    assert len(found) <= len(content) // 2 + 1
