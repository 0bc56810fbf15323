"""An encoder and the adapter behind it in one graph: text in, adapted query out."""

import numpy as np
import onnx
from onnx import compose

from trimtab.errors import ModelError
from trimtab.model.adapter import Adapter
from trimtab.model.encoder_probe import OTHER_VECTORS, probes_agree
from trimtab.model.manifest import METADATA_KEY, Manifest
from trimtab.model.onnx_file import INPUT_NAME, OUTPUT_NAME
from trimtab.text.encoder import TextEncoder
from trimtab.text.encoder_file import EMBEDDING_NAME
from trimtab.text.encoder_manifest import EncoderManifest
from trimtab_training.errors import ExportError
from trimtab_training.export.encoder_export import load_exported
from trimtab_training.export.probe_texts import probe_texts

_TOLERANCE = 1e-4
_PREFIX = "adapter/"


def fuse_adapter(encoder: bytes, adapter: bytes) -> bytes:
    """Put an adapter behind an encoder, and prove that both together give what each gives in turn.

    The raw embedding stays an output of the graph, behind the adapted query: documents, and whoever
    asks for it, get that.

    Args:
        encoder: An encoder's file, as :func:`export_encoder` makes it.
        adapter: An adapter's file, trained on queries of that encoder.

    Returns:
        The bytes of the one file.

    Raises:
        ExportError: They do not fit together, or differ in the one graph.
    """
    first, second = _open(encoder, adapter)
    check_pair(first.manifest, second.manifest)
    model = onnx.load_model_from_string(encoder)
    behind = compose.add_prefix(onnx.load_model_from_string(adapter), _PREFIX)
    del behind.metadata_props[:]
    opsets = [found.opset_import[0].version for found in (model, behind)]
    if opsets[0] != opsets[1]:
        raise ExportError(
            f"the encoder uses opset {opsets[0]}, the adapter {opsets[1]}; export both by this "
            "version of trimtab"
        )
    behind.ir_version = model.ir_version
    merged = compose.merge_models(
        model,
        behind,
        io_map=[(EMBEDDING_NAME, _PREFIX + INPUT_NAME)],
        outputs=[EMBEDDING_NAME, _PREFIX + OUTPUT_NAME],
        producer_name="trimtab",
        producer_version="",
    )
    del merged.opset_import[1:]  # merge_models keeps both
    _name_outputs(merged)
    entry = merged.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, second.manifest.to_json()
    content: bytes = merged.SerializeToString(deterministic=True)
    _prove(content, first, second)
    return content


def check_pair(encoder: EncoderManifest, adapter: Manifest) -> None:
    """Refuse an adapter that was trained on another encoder's queries.

    Raises:
        ExportError: With what differs.
    """
    if adapter.dim_in != encoder.dim:
        raise ExportError(
            f"adapter {adapter.name} takes {adapter.dim_in} values, encoder {encoder.name} gives "
            f"{encoder.dim}; use the encoder that its queries came from ({adapter.encoder.name})"
        )
    known = adapter.encoder.fingerprint
    if known and known != encoder.fingerprint:
        raise ExportError(
            f"adapter {adapter.name} was trained on queries of {adapter.encoder.name} "
            f"({known[:23]}…, query prefix {adapter.encoder.query_prefix!r}), this encoder is "
            f"{encoder.name} ({encoder.fingerprint[:23]}…, query prefix "
            f"{encoder.query_prefix!r}); expected the same weights and prefixes"
        )
    if not probes_agree(adapter.encoder.probe, encoder.probe):
        raise ExportError(
            f"adapter {adapter.name} was trained on queries of {adapter.encoder.name}; this "
            f"encoder, {encoder.name}, has {OTHER_VECTORS}"
        )


def _open(encoder: bytes, adapter: bytes) -> tuple[TextEncoder, Adapter]:
    """Load both.

    Raises:
        ExportError: One of them can't be used, or the encoder has an adapter already.
    """
    try:
        first, second = TextEncoder.from_bytes(encoder), Adapter.from_bytes(adapter)
    except ModelError as error:
        raise ExportError(str(error)) from error
    if first.adapter is not None:
        raise ExportError(
            f"the encoder's file holds adapter {first.adapter.name} already; give the encoder alone"
        )
    return first, second


def _name_outputs(model: onnx.ModelProto) -> None:
    """Give the adapted query its own name, and the first place: some readers take that one."""
    graph, old = model.graph, _PREFIX + OUTPUT_NAME
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = OUTPUT_NAME
    outputs = {output.name: output for output in graph.output}
    adapted, raw = outputs[old], outputs[EMBEDDING_NAME]
    adapted.name = OUTPUT_NAME
    kept = [onnx.ValueInfoProto.FromString(each.SerializeToString()) for each in (adapted, raw)]
    del graph.output[:]
    graph.output.extend(kept)


def _prove(content: bytes, encoder: TextEncoder, adapter: Adapter) -> None:
    """Hold the one graph against the two in turn, alone and in a batch.

    Raises:
        ExportError: They differ, or the file would be refused.
    """
    fused = load_exported(content, "fused model")
    texts = probe_texts(encoder.manifest.max_tokens)
    raw = encoder.encode(texts)
    alone = np.stack([fused.encode(text) for text in texts])
    wanted = np.stack([adapter.transform(encoder.encode(text)) for text in texts])
    for what, found, expected in (
        ("raw embeddings", fused.encode(texts, raw=True), raw),
        ("adapted queries", fused.encode(texts), adapter.transform(raw)),
        ("adapted queries", alone, wanted),
    ):
        gap = float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
        if not gap <= _TOLERANCE:
            raise ExportError(
                f"{what} of the fused model differ from the two in turn by {gap:.1e}; nothing was "
                "written"
            )
