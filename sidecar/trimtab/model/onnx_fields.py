"""The messages of an ONNX file: which fields each may hold, and how these stand in the bytes.

Field numbers and types from onnx.proto, ONNX 1.23,
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. A reader of protobuf skips what it does not
know and what stands on another wire type than its own, and two readers need not skip the same: so
nothing of either kind is let through.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from trimtab.model.protobuf_fields import FIXED32, FIXED64, LENGTH, VARINT

_NUMBER, _BYTES, _FLOAT = (VARINT,), (LENGTH,), (FIXED32,)
_NUMBERS, _FLOATS, _DOUBLES = (VARINT, LENGTH), (FIXED32, LENGTH), (FIXED64, LENGTH)
"""Repeated numbers stand one by one or packed."""


@dataclass(frozen=True, slots=True)
class Message:
    """A kind of message.

    Attributes:
        name: Its name in onnx.proto.
        wire_types: Wire types on which each of its fields may stand, by number.
    """

    name: str
    wire_types: Mapping[int, tuple[int, ...]]


MODEL = Message(
    "ModelProto",
    {1: _NUMBER, 5: _NUMBER, **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), _BYTES)},
)
OPERATOR_SET = Message("OperatorSetIdProto", {1: _BYTES, 2: _NUMBER})
METADATA = Message("StringStringEntryProto", {1: _BYTES, 2: _BYTES})
GRAPH = Message("GraphProto", dict.fromkeys((1, 2, 5, 10, 11, 12, 13, 14, 15, 16), _BYTES))
NODE = Message("NodeProto", dict.fromkeys(range(1, 11), _BYTES))
ATTRIBUTE = Message(
    "AttributeProto",
    {
        **dict.fromkeys((1, 4, 5, 6, 9, 10, 11, 13, 14, 15, 21, 22, 23), _BYTES),
        **{2: _FLOAT, 3: _NUMBER, 7: _FLOATS, 8: _NUMBERS, 20: _NUMBER},
    },
)
TENSOR = Message(
    "TensorProto",
    {
        **dict.fromkeys((3, 6, 8, 9, 12, 13, 16), _BYTES),
        **dict.fromkeys((1, 5, 7, 11), _NUMBERS),
        **{2: _NUMBER, 4: _FLOATS, 10: _DOUBLES, 14: _NUMBER},
    },
)
VALUE = Message("ValueInfoProto", dict.fromkeys(range(1, 5), _BYTES))
TYPE = Message("TypeProto", dict.fromkeys((1, 4, 5, 6, 7, 8, 9), _BYTES))
TENSOR_TYPE = Message("TypeProto.Tensor", {1: _NUMBER, 2: _BYTES})
SHAPE = Message("TensorShapeProto", {1: _BYTES})
DIMENSION = Message("TensorShapeProto.Dimension", {1: _NUMBER, 2: _BYTES, 3: _BYTES})
