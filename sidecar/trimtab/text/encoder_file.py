"""The encoder's file: found, read, and checked before anything may run it.

One ONNX file: token ids and their mask in, one embedding a text out, the tokenizer and the manifest
among its metadata. A file may hold an adapter behind the encoder, in the same graph: it has the
adapted query as an output of its own, first, and the adapter's manifest beside the encoder's. One
whose encoder was itself tuned for queries has that output alone: it embeds no document.
"""

from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import ManifestError, ModelError
from trimtab.model.graph_check import CheckedGraph, Endpoint, Rules, check_graph
from trimtab.model.manifest import METADATA_KEY, Manifest
from trimtab.model.onnx_file import (
    ALLOWED_OPERATORS,
    FLOAT,
    OUTPUT_NAME,
    naming_file,
    read_content,
    read_manifest,
)
from trimtab.text.encoder_manifest import ENCODER_KEY, TOKENIZER_KEY, EncoderManifest

IDS_NAME, MASK_NAME, EMBEDDING_NAME = "input_ids", "attention_mask", "sentence_embedding"
FILE_NAME = "encoder.onnx"

_INT64 = 7  # TensorProto.DataType.INT64
_LOGIC = "And Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Not Or Xor"
_POSITIONS = (
    "ArgMax ConstantOfShape Cos CumSum GatherElements GatherND OneHot Pad Range ScatterElements "
    "ScatterND Sin Tile Trilu"
)
_NUMBERS = "Ceil Einsum Flatten Floor Mod ReduceMin ReduceProd Round"
_ROUNDING = "DequantizeLinear DynamicQuantizeLinear"
ENCODER_RULES = Rules(
    "encoder",
    ALLOWED_OPERATORS | frozenset(" ".join((_LOGIC, _POSITIONS, _NUMBERS, _ROUNDING)).split()),
    max_size_bytes=2**31 - 1,  # protobuf reads no larger message
    max_fields=65_536,
)
"""A transformer has some forty nodes a layer. Nothing that branches, loops or touches a file."""


@dataclass(frozen=True)
class EncoderFile:
    """A file that has passed every check.

    Attributes:
        content: The file's bytes.
        manifest: What the file says about the encoder.
        tokenizer: The tokenizer, as the ``tokenizers`` library writes it.
        adapter: What it says about the adapter behind the encoder; None without one.
        graph: What its graph says.
    """

    content: bytes
    manifest: EncoderManifest
    tokenizer: str
    adapter: Manifest | None
    graph: CheckedGraph

    @property
    def has_raw(self) -> bool:
        """Tell whether the file gives the untouched encoder's embeddings, too."""
        return any(output.name == EMBEDDING_NAME for output in self.graph.outputs)


def resolve_encoder_path(model: str | Path) -> Path:
    """Find the file that a user means by a file or by the folder that holds ``encoder.onnx``.

    Raises:
        ModelError: There is no such file.
    """
    path = Path(model)
    try:
        file = path / FILE_NAME if path.is_dir() else path
        is_there = file.is_file()
    except OSError as error:
        raise ModelError(f"can't look for an encoder at {path}: {error.strerror}") from error
    if not is_there:
        raise ModelError(
            f"no encoder at {file}; expected an encoder.onnx or the folder that holds one; "
            "trimtab export-encoder makes it"
        )
    return file


def holds_encoder(content: bytes) -> bool:
    """Tell whether a file's bytes are an encoder's rather than an adapter's; neither is checked."""
    return ENCODER_KEY.encode() in content


def read_encoder_file(path: Path) -> EncoderFile:
    """Read a file from disk and check it as :func:`check_encoder` does.

    Raises:
        ModelError: The file can't be read or used; the message names it.
    """
    with naming_file(path):
        return check_encoder(read_content(path, ENCODER_RULES))


def check_encoder(content: bytes) -> EncoderFile:
    """Check an encoder's bytes; give them back with what they say.

    Raises:
        IntegrityError: Too large, damaged, or holding what an encoder never needs.
        ManifestError: A manifest or the tokenizer is missing, or at odds with the graph.
    """
    graph = check_graph(content, ENCODER_RULES)
    if ENCODER_KEY not in graph.metadata and METADATA_KEY in graph.metadata:
        raise ManifestError(
            "this is an adapter: it takes vectors, not texts; make an encoder's file with trimtab "
            "export-encoder"
        )
    manifest = EncoderManifest.from_json(_only(graph, ENCODER_KEY, "encoder manifests"))
    tokenizer = _only(graph, TOKENIZER_KEY, "tokenizers")
    adapter = read_manifest(graph) if METADATA_KEY in graph.metadata else None
    _check_inputs(graph.inputs)
    _check_outputs(graph.outputs, manifest, adapter)
    return EncoderFile(content, manifest, tokenizer, adapter, graph)


def _only(graph: CheckedGraph, key: str, what: str) -> str:
    """Give what stands exactly once among the metadata."""
    found = graph.metadata.get(key, [])
    if len(found) != 1:
        raise ManifestError(
            f"the model has {len(found)} {what}, expected one; only files written by 'trimtab "
            "export-encoder' can be used"
        )
    return found[0]


def _check_inputs(inputs: tuple[Endpoint, ...]) -> None:
    """Expect token ids and their mask, int64 ``[n, tokens]`` each."""
    expected = tuple(Endpoint(name, _INT64, (None, None)) for name in (IDS_NAME, MASK_NAME))
    if inputs != expected:
        raise ManifestError(
            f"the graph's inputs are {[each.name for each in inputs]}, expected "
            f"{[IDS_NAME, MASK_NAME]}, int64 [n, tokens]; export the encoder again"
        )


def _check_outputs(
    outputs: tuple[Endpoint, ...], manifest: EncoderManifest, adapter: Manifest | None
) -> None:
    """Expect one embedding a text, behind the adapted query where there is an adapter, or none."""
    expected = [Endpoint(EMBEDDING_NAME, FLOAT, (None, manifest.dim))]
    if adapter is not None:
        expected.insert(0, Endpoint(OUTPUT_NAME, FLOAT, (None, adapter.dim_out)))
        if len(outputs) == 1:
            del expected[1]
        if adapter.dim_in != manifest.dim:
            raise ManifestError(
                f"the adapter takes {adapter.dim_in} values, the encoder before it gives "
                f"{manifest.dim}; export the encoder again"
            )
    if list(outputs) != expected:
        found = [f"{each.name} {list(each.widths)}" for each in outputs]
        wanted = [f"{each.name} {list(each.widths)}" for each in expected]
        raise ManifestError(
            f"the graph's outputs are {found}, the manifest says float32 {wanted}; export the "
            "encoder again"
        )
