"""Look into an ONNX file before anything may run it, and refuse what its kind never needs.

ONNX Runtime would load custom operators, read external files and accept any graph. This module
reads the file's own bytes and lets through standard operators from a list, weights inside the file,
and no graph within the graph. What the graph is for, its metadata, inputs and outputs, is judged by
whoever asks.
"""

from collections import defaultdict
from dataclasses import dataclass

from trimtab.errors import IntegrityError
from trimtab.model.onnx_fields import (
    ATTRIBUTE,
    DIMENSION,
    GRAPH,
    METADATA,
    MODEL,
    NODE,
    OPERATOR_SET,
    SHAPE,
    TENSOR,
    TENSOR_TYPE,
    TYPE,
    VALUE,
    Message,
)
from trimtab.model.protobuf_fields import Value, read_fields

MAX_OPSET = 20
MAX_IR_VERSION = 9

_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_INPUT_FIELD, _OUTPUT_FIELD = 11, 12  # GraphProto.input, GraphProto.output

_OF_NO_PLAIN_NODE = {
    6: "a nested graph",
    11: "nested graphs",
    21: "references to function attributes",
    22: "sparse weights",
    23: "sparse weights",
}
"""Fields of an attribute."""

_Fields = dict[int, list[Value]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a kind of model file may hold.

    Attributes:
        kind: What such a file is called in messages, as in ``adapter``.
        operators: Standard operators that its graph may use.
        max_size_bytes: Largest file.
        max_fields: Most fields of one message in it: each costs memory to look at.
    """

    kind: str
    operators: frozenset[str]
    max_size_bytes: int
    max_fields: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An input or output of a graph.

    Attributes:
        name: Its name.
        element_type: Of ``TensorProto.DataType``: 1 is float32, 7 is int64.
        widths: One number for each dimension; None where it is free.
    """

    name: str
    element_type: int
    widths: tuple[int | None, ...]


@dataclass(frozen=True)
class CheckedGraph:
    """What a file that has passed says.

    Attributes:
        metadata: Its metadata; a key may stand there several times.
        inputs: The graph's inputs, in order, weights left out.
        outputs: Its outputs.
        opset: ONNX operator set version.
        ir_version: ONNX file format version.
        operators: Operator of every node, in graph order.
    """

    metadata: dict[str, list[str]]
    inputs: tuple[Endpoint, ...]
    outputs: tuple[Endpoint, ...]
    opset: int
    ir_version: int
    operators: tuple[str, ...]


def check_size(size_bytes: int, rules: Rules) -> None:
    """Refuse a file that is too large.

    Raises:
        IntegrityError: With both numbers.
    """
    if size_bytes > rules.max_size_bytes:
        raise IntegrityError(
            f"the model has {size_bytes} bytes; at most {rules.max_size_bytes} are accepted"
        )


def check_graph(content: bytes, rules: Rules) -> CheckedGraph:
    """Check a file's bytes, and say what its graph is.

    Raises:
        IntegrityError: Too large, damaged, or holding what its kind never needs.
    """
    check_size(len(content), rules)
    if not content:
        raise IntegrityError("the model file is empty; copy or export it again")
    return _Check(rules).run(memoryview(content))


class _Check:
    """One look through a file."""

    def __init__(self, rules: Rules) -> None:
        """Take what is allowed."""
        self._rules = rules

    def run(self, content: memoryview) -> CheckedGraph:
        """Check everything."""
        model = self._collect(content, MODEL)
        self._refuse(model, {20: "training information", 25: "functions of its own"})
        ir_version = _integer(model, 1, "IR version")
        if ir_version > MAX_IR_VERSION:
            raise IntegrityError(
                f"the model has ONNX IR version {ir_version}; {self._rules.kind}s use "
                f"{MAX_IR_VERSION} or lower"
            )
        opset = self._check_opsets(model)
        graph = self._collect(_message(model, 7, "graph"), GRAPH)
        self._refuse(graph, {15: "sparse weights"})
        operators = tuple(self._check_node(_bytes(node)) for node in graph[1])
        for tensor in graph[5]:
            self._check_weights(_bytes(tensor))
        return CheckedGraph(
            metadata=self._metadata(model),
            inputs=self._endpoints(graph, _INPUT_FIELD),
            outputs=self._endpoints(graph, _OUTPUT_FIELD),
            opset=opset,
            ir_version=ir_version,
            operators=operators,
        )

    def _collect(self, message: memoryview, kind: Message) -> _Fields:
        """Group one message's fields by number; refuse those that its kind does not have."""
        found: _Fields = defaultdict(list)
        most = self._rules.max_fields
        for count, (number, wire_type, value) in enumerate(read_fields(message), start=1):
            if count > most:
                raise IntegrityError(f"the model has a part of over {most} fields; refused")
            if wire_type not in kind.wire_types.get(number, ()):
                raise IntegrityError(
                    f"the file is not a valid ONNX model (field {number} of wire type {wire_type} "
                    f"in a {kind.name})"
                )
            found[number].append(value)
        return found

    def _refuse(self, fields: _Fields, unwanted: dict[int, str]) -> None:
        """Refuse fields that this kind of file never needs."""
        for number, name in unwanted.items():
            if fields[number]:
                raise IntegrityError(
                    f"the model holds {name}, which an {self._rules.kind} never needs; refused"
                )

    def _check_opsets(self, model: _Fields) -> int:
        """Give the version of the standard operator set; refuse any other set."""
        versions = []
        for entry in model[8]:
            opset = self._collect(_bytes(entry), OPERATOR_SET)
            domain = _text(opset, 1)
            if domain not in _STANDARD_DOMAINS:
                raise IntegrityError(f"the model imports operators of domain {domain!r}; refused")
            versions.append(_integer(opset, 2, "opset version"))
        if len(versions) != 1:
            raise IntegrityError(
                f"the model imports {len(versions)} operator sets; expected exactly one"
            )
        if versions[0] > MAX_OPSET:
            raise IntegrityError(
                f"the model uses opset {versions[0]}; {self._rules.kind}s use {MAX_OPSET} or lower"
            )
        return versions[0]

    def _check_node(self, message: memoryview) -> str:
        """Give a node's operator; refuse unlisted ones, other domains and nested graphs."""
        node = self._collect(message, NODE)
        operator, domain = _text(node, 4), _text(node, 7)
        if domain not in _STANDARD_DOMAINS:
            raise IntegrityError(
                f"the model uses {domain}.{operator}, not a standard operator; refused"
            )
        if operator not in self._rules.operators:
            raise IntegrityError(
                f"the model uses operator {operator!r}, which is not on the list for "
                f"{self._rules.kind}s; refused"
            )
        for entry in node[5]:
            attribute = self._collect(_bytes(entry), ATTRIBUTE)
            self._refuse(attribute, _OF_NO_PLAIN_NODE)
            for tensor in attribute[5] + attribute[10]:
                self._check_weights(_bytes(tensor))
        return operator

    def _check_weights(self, message: memoryview) -> None:
        """Refuse weights that are not inside the file."""
        tensor = self._collect(message, TENSOR)
        if tensor[13] or any(location != 0 for location in tensor[14]):
            raise IntegrityError(
                f"the model keeps weights in another file; {self._rules.kind}s are one file; "
                "refused"
            )

    def _metadata(self, model: _Fields) -> dict[str, list[str]]:
        """Read the file's metadata."""
        found: dict[str, list[str]] = {}
        for entry in model[14]:
            pair = self._collect(_bytes(entry), METADATA)
            found.setdefault(_text(pair, 1), []).append(_text(pair, 2))
        return found

    def _endpoints(self, graph: _Fields, number: int) -> tuple[Endpoint, ...]:
        """Read the graph's inputs or outputs."""
        weights = {_text(self._collect(_bytes(tensor), TENSOR), 8) for tensor in graph[5]}
        values = [self._collect(_bytes(value), VALUE) for value in graph[number]]
        if number == _INPUT_FIELD:  # files of IR versions below 4 list weights as inputs, too
            values = [value for value in values if _text(value, 1) not in weights]
        return tuple(self._endpoint(value) for value in values)

    def _endpoint(self, value: _Fields) -> Endpoint:
        """Read one input or output."""
        kind = self._collect(_message(value, 2, "type"), TYPE)
        tensor = self._collect(_message(kind, 1, "tensor type"), TENSOR_TYPE)
        dims = self._collect(_message(tensor, 2, "shape"), SHAPE)[1]
        shape = [self._collect(_bytes(item), DIMENSION) for item in dims]
        widths = tuple(_integer(item, 1, "width") if item[1] else None for item in shape)
        return Endpoint(_text(value, 1), _integer(tensor, 1, "element type"), widths)


def _bytes(value: Value) -> memoryview:
    """Take a field that must hold bytes."""
    if isinstance(value, int):
        raise IntegrityError("the file is not a valid ONNX model (a field has the wrong type)")
    return value


def _text(fields: _Fields, number: int) -> str:
    """Take a text field, empty where it is absent; the last one counts, as in protobuf."""
    return bytes(_bytes(fields[number][-1])).decode("utf-8", "replace") if fields[number] else ""


def _integer(fields: _Fields, number: int, name: str) -> int:
    """Take a required integer field."""
    if not fields[number] or not isinstance(fields[number][-1], int):
        raise IntegrityError(f"the file is not a valid ONNX model (no {name})")
    return int(fields[number][-1])


def _message(fields: _Fields, number: int, name: str) -> memoryview:
    """Take a message that must stand exactly once; protobuf would merge several into one."""
    if len(fields[number]) != 1:
        raise IntegrityError(f"the model has {len(fields[number])} of {name}; expected exactly one")
    return _bytes(fields[number][0])
