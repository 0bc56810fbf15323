"""Look into an ONNX file before anything may run it, and refuse what an adapter never needs.

ONNX Runtime would load custom operators, read external files and accept any graph. An adapter is
a few matrix products, so this module reads the file's own bytes (field numbers from onnx.proto,
ONNX 1.23, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) and lets through exactly that:
standard operators from a short list, weights inside the file, one input and one output whose
shapes agree with the manifest.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import IntegrityError, ManifestError, ModelError
from trimtab.model.manifest import METADATA_KEY, Manifest
from trimtab.model.protobuf_fields import Value, read_fields

MAX_SIZE_BYTES = 256 * 1024 * 1024
_MAX_FIELDS = 4096  # adapters have tens of nodes; each field costs memory to look at
MAX_OPSET = 20
MAX_IR_VERSION = 9
INPUT_NAME, OUTPUT_NAME = "query", "adapted"

_ARITHMETIC = "Abs Add Div Erf Exp Log Max Mean Min Mul Neg Pow Reciprocal Sign Sqrt Sub Sum Where"
_ACTIVATIONS = (
    "Clip Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Sigmoid Softmax Softplus Tanh"
)
_PRODUCTS = "Gemm MatMul MatMulInteger"
_NORMS = (
    "LayerNormalization LpNormalization ReduceL2 ReduceMax ReduceMean ReduceSum ReduceSumSquare"
)
_SHAPES = (
    "Cast Concat Constant Expand Gather Identity QuantizeLinear Reshape Shape Slice Split Squeeze "
    "TopK Transpose Unsqueeze"
)
ALLOWED_OPERATORS = frozenset(
    " ".join((_ARITHMETIC, _ACTIVATIONS, _PRODUCTS, _NORMS, _SHAPES)).split()
)
_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_FLOAT = 1  # TensorProto.DataType.FLOAT
_INPUT_FIELD, _OUTPUT_FIELD = 11, 12  # GraphProto.input, GraphProto.output

_Fields = dict[int, list[Value]]


@dataclass(frozen=True)
class ModelFile:
    """A file that has passed every check: its bytes, its manifest, and what its graph says.

    Attributes:
        content: The file's bytes.
        manifest: What the file says about itself.
        opset: ONNX operator set version.
        ir_version: ONNX file format version.
        operators: Operator of every node, in graph order.
    """

    content: bytes
    manifest: Manifest
    opset: int
    ir_version: int
    operators: tuple[str, ...]


def resolve_model_path(model: str | Path) -> Path:
    """Find the ONNX file that a user means by a file or by the folder that holds it.

    Raises:
        ModelError: There is no such file.
    """
    path = Path(model)
    try:
        file = path / "adapter.onnx" if path.is_dir() else path
        is_there = file.is_file()
    except OSError as error:
        raise ModelError(f"can't look for a model at {path}: {error.strerror}") from error
    if not is_there:
        raise ModelError(
            f"no model at {file}; expected an adapter.onnx or the folder that holds one"
        )
    return file


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Name the file in the errors of whoever looks at its bytes.

    Raises:
        ModelError: Of the type that was raised.
    """
    try:
        yield
    except ModelError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def read_content(path: Path) -> bytes:
    """Read a file from disk, unchecked but for its size.

    Raises:
        ModelError: The file can't be read.
        IntegrityError: The file is too large.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_SIZE_BYTES:
            raise IntegrityError(_oversize(size_bytes))
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"can't read {path}: {error.strerror}") from error


def read_model_file(path: Path) -> ModelFile:
    """Read a file from disk and check it as :func:`check_model` does.

    Raises:
        ModelError: The file can't be read.
        IntegrityError: The file is too large, damaged, or holds what an adapter never needs.
        ManifestError: The manifest is missing, from a newer schema, or at odds with the graph.
    """
    with naming_file(path):
        return check_model(read_content(path))


def check_model(content: bytes) -> ModelFile:
    """Check a model's bytes; give them back with what they say.

    Raises:
        IntegrityError: Too large, damaged, or holding what an adapter never needs.
        ManifestError: The manifest is missing, from a newer schema, or at odds with the graph.
    """
    if len(content) > MAX_SIZE_BYTES:
        raise IntegrityError(_oversize(len(content)))
    if not content:
        raise IntegrityError("the model file is empty; copy or export it again")
    model = _collect(memoryview(content))
    _refuse(model, {20: "training information", 25: "functions of its own"})
    ir_version = _integer(model, 1, "IR version")
    if ir_version > MAX_IR_VERSION:
        raise IntegrityError(
            f"the model has ONNX IR version {ir_version}; adapters use {MAX_IR_VERSION} or lower"
        )
    opset = _check_opsets(model)
    graph = _collect(_message(model, 7, "graph"))
    _refuse(graph, {15: "sparse weights"})
    operators = tuple(_check_node(_bytes(node)) for node in graph[1])
    for tensor in graph[5]:
        _check_weights(_bytes(tensor))
    manifest = _read_manifest(model)
    _check_endpoint(graph, _INPUT_FIELD, INPUT_NAME, manifest.dim_in)
    _check_endpoint(graph, _OUTPUT_FIELD, OUTPUT_NAME, manifest.dim_out)
    return ModelFile(content, manifest, opset, ir_version, operators)


def _oversize(size_bytes: int) -> str:
    """Say that a file is too large, with both numbers."""
    return f"the model has {size_bytes} bytes; at most {MAX_SIZE_BYTES} are accepted"


def _collect(message: memoryview) -> _Fields:
    """Group one message's fields by number."""
    found: _Fields = defaultdict(list)
    for count, (number, value) in enumerate(read_fields(message), start=1):
        if count > _MAX_FIELDS:
            raise IntegrityError(f"the model has a part of over {_MAX_FIELDS} fields; refused")
        found[number].append(value)
    return found


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


def _refuse(fields: _Fields, unwanted: dict[int, str]) -> None:
    """Refuse fields that an adapter never needs."""
    for number, name in unwanted.items():
        if fields[number]:
            raise IntegrityError(f"the model holds {name}, which an adapter never needs; refused")


def _check_opsets(model: _Fields) -> int:
    """Give the version of the standard operator set; refuse any other set."""
    versions = []
    for entry in model[8]:
        opset = _collect(_bytes(entry))
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
            f"the model uses opset {versions[0]}; adapters use {MAX_OPSET} or lower"
        )
    return versions[0]


def _check_node(message: memoryview) -> str:
    """Give a node's operator; refuse unlisted ones, other domains and nested graphs."""
    node = _collect(message)
    operator, domain = _text(node, 4), _text(node, 7)
    if domain not in _STANDARD_DOMAINS:
        raise IntegrityError(
            f"the model uses {domain}.{operator}, not a standard operator; refused"
        )
    if operator not in ALLOWED_OPERATORS:
        raise IntegrityError(
            f"the model uses operator {operator!r}, which is not on the list for adapters; refused"
        )
    for entry in node[5]:
        attribute = _collect(_bytes(entry))
        _refuse(attribute, {6: "a nested graph", 11: "nested graphs", 22: "sparse weights"})
        _refuse(attribute, {21: "references to function attributes", 23: "sparse weights"})
        for tensor in attribute[5] + attribute[10]:
            _check_weights(_bytes(tensor))
    return operator


def _check_weights(message: memoryview) -> None:
    """Refuse weights that are not inside the file."""
    tensor = _collect(message)
    if tensor[13] or any(location != 0 for location in tensor[14]):
        raise IntegrityError(
            "the model keeps weights in another file; adapters are one file; refused"
        )


def _read_manifest(model: _Fields) -> Manifest:
    """Find the manifest among the file's metadata."""
    found = []
    for entry in model[14]:
        pair = _collect(_bytes(entry))
        if _text(pair, 1) == METADATA_KEY:
            found.append(_text(pair, 2))
    if len(found) != 1:
        raise ManifestError(
            f"the model has {len(found)} manifests, expected one; "
            "only files written by 'trimtab export' or 'trimtab fit' can be used"
        )
    return Manifest.from_json(found[0])


def _check_endpoint(graph: _Fields, number: int, name: str, dim: int) -> None:
    """Hold the graph's only input or output against the manifest: float32 ``[n, dim]``."""
    word = "input" if number == _INPUT_FIELD else "output"
    weights = {_text(_collect(_bytes(tensor)), 8) for tensor in graph[5]}
    values = [_collect(_bytes(value)) for value in graph[number]]
    if number == _INPUT_FIELD:  # files of IR versions below 4 list weights as inputs, too
        values = [value for value in values if _text(value, 1) not in weights]
    names = [_text(value, 1) for value in values]
    if names != [name]:
        raise ManifestError(f"the graph's {word}s are {names}, expected exactly [{name!r}]")
    tensor = _collect(_message(_collect(_message(values[0], 2, "type")), 1, "tensor type"))
    dims = _collect(_message(tensor, 2, "shape"))[1]
    shape = [_collect(_bytes(item)) for item in dims]
    widths = [_integer(item, 1, "width") if item[1] else None for item in shape]
    if _integer(tensor, 1, "element type") != _FLOAT or widths != [None, dim]:
        raise ManifestError(
            f"the graph's {word} has shape {widths}, the manifest says float32 [n, {dim}]; "
            "export the model again"
        )
