"""The adapter's file: found, read, and checked before anything may run it.

An adapter is a few matrix products, so :mod:`trimtab.model.graph_check` lets through a short list
of standard operators, and this module one input and one output whose shapes agree with the
manifest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import ManifestError, ModelError
from trimtab.model.graph_check import CheckedGraph, Endpoint, Rules, check_graph, check_size
from trimtab.model.manifest import METADATA_KEY, SECOND_LOOK_KEY, Manifest

MAX_SIZE_BYTES = 256 * 1024 * 1024
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

ADAPTER_RULES = Rules("adapter", ALLOWED_OPERATORS, MAX_SIZE_BYTES, max_fields=4096)
"""Adapters have tens of nodes."""

FLOAT = 1  # TensorProto.DataType.FLOAT


@dataclass(frozen=True)
class ModelFile:
    """A file that has passed every check: its bytes, its manifest, and what its graph says.

    Attributes:
        content: The file's bytes.
        manifest: What the file says about itself.
        opset: ONNX operator set version.
        ir_version: ONNX file format version.
        operators: Operator of every node, in graph order.
        second_look: What it says of a second look, unread (``model.second_look``); or None.
    """

    content: bytes
    manifest: Manifest
    opset: int
    ir_version: int
    operators: tuple[str, ...]
    second_look: str | None = None


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


def read_content(path: Path, rules: Rules | None = None) -> bytes:
    """Read a file from disk, unchecked but for its size; by default an adapter's.

    Raises:
        ModelError: The file can't be read.
        IntegrityError: The file is too large.
    """
    try:
        check_size(path.stat().st_size, rules or ADAPTER_RULES)
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
    graph = check_graph(content, ADAPTER_RULES)
    manifest = read_manifest(graph)
    _check_endpoint(graph.inputs, "input", INPUT_NAME, manifest.dim_in)
    _check_endpoint(graph.outputs, "output", OUTPUT_NAME, manifest.dim_out)
    return ModelFile(
        content,
        manifest,
        graph.opset,
        graph.ir_version,
        graph.operators,
        _find_one(graph, SECOND_LOOK_KEY, "second looks"),
    )


def read_manifest(graph: CheckedGraph) -> Manifest:
    """Find the adapter's manifest among a file's metadata.

    Raises:
        ManifestError: There is none, or it can't be read.
    """
    found = graph.metadata.get(METADATA_KEY, [])
    if len(found) != 1:
        raise ManifestError(
            f"the model has {len(found)} manifests, expected one; "
            "only files written by 'trimtab export' or 'trimtab fit' can be used"
        )
    return Manifest.from_json(found[0])


def _find_one(graph: CheckedGraph, key: str, what: str) -> str | None:
    """Find what may stand among a file's metadata, once at most.

    Raises:
        ManifestError: It stands there several times.
    """
    found = graph.metadata.get(key, [])
    if len(found) > 1:
        raise ManifestError(f"the model has {len(found)} {what}, expected one or none")
    return found[0] if found else None


def _check_endpoint(endpoints: tuple[Endpoint, ...], word: str, name: str, dim: int) -> None:
    """Hold the graph's only input or output against the manifest: float32 ``[n, dim]``."""
    names = [endpoint.name for endpoint in endpoints]
    if names != [name]:
        raise ManifestError(f"the graph's {word}s are {names}, expected exactly [{name!r}]")
    found = endpoints[0]
    if found.element_type != FLOAT or found.widths != (None, dim):
        raise ManifestError(
            f"the graph's {word} has shape {list(found.widths)}, the manifest says float32 "
            f"[n, {dim}]; export the model again"
        )
