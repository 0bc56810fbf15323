"""A tuned encoder of queries as one file: alone, or in the mean with adapted vectors.

The mean needs both encoders in the one graph: the tuned one, and the untouched one with its adapter
behind it. Its raw embedding stays an output; a file of the tuned encoder alone has none, as nothing
else than queries may be embedded by it.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import compose, helper

from trimtab.model.adapter import Adapter
from trimtab.model.manifest import METADATA_KEY, Manifest
from trimtab.model.onnx_file import OUTPUT_NAME
from trimtab.text.encoder_file import EMBEDDING_NAME, IDS_NAME, MASK_NAME
from trimtab_training.embeddings.encoders import with_prefix
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.errors import ExportError
from trimtab_training.export.encoder_export import (
    TOLERANCE,
    check_size,
    describe_encoder_file,
    distances,
    load_exported,
    stamp_encoder,
    tokenizer_of,
    trace_encoder,
)
from trimtab_training.export.fused_encoder import fuse_adapter
from trimtab_training.export.onnx_export import encoder_card
from trimtab_training.export.probe_texts import probe_texts
from trimtab_training.export.text_module import TextModule

_TUNED = "tuned/"


def export_query_model(
    encoder: LocalEncoder, tuned: Any, adapter: bytes | None = None, *, name: str, similarity: str
) -> bytes:
    """Build the file of a tuned encoder in memory, and prove that it gives what its parts give.

    Args:
        encoder: The untouched encoder.
        tuned: The tuned ``SentenceTransformer``: the same modules with other weights.
        adapter: An adapter's file, for the mean of the tuned vector and the adapted vector of the
            untouched encoder, each of unit length; None for the tuned vector alone.
        name: The model's name.
        similarity: How the index compares vectors.

    Returns:
        The bytes of the file.

    Raises:
        ExportError: It can't be exported, or differs from its parts.
    """
    module, untouched = TextModule(tuned).eval(), TextModule(encoder.model).eval()
    check_size(module, *([untouched] if adapter else []))
    texts = probe_texts(encoder.max_tokens or 0, encoder.model.tokenizer.all_special_tokens)
    wanted = _by_parts(encoder, tuned, adapter, texts)
    manifest = describe_encoder_file(encoder, untouched, dim=_width(encoder))
    tokenizer = tokenizer_of(encoder)
    graph = trace_encoder(module)
    if adapter is None:
        model = compose.add_prefix(graph, _TUNED)
        _rename(
            model,
            {
                _TUNED + IDS_NAME: IDS_NAME,
                _TUNED + MASK_NAME: MASK_NAME,
                _TUNED + EMBEDDING_NAME: OUTPUT_NAME,
            },
        )
    else:
        alone = stamp_encoder(trace_encoder(untouched), manifest, tokenizer)
        model = _mean(graph, onnx.load_model_from_string(fuse_adapter(alone, adapter)))
    told = _describe(encoder, untouched, adapter, name, similarity)
    content = stamp_encoder(model, manifest, tokenizer, {METADATA_KEY: told.to_json()})
    _prove(content, texts, wanted)
    return content


def _describe(
    encoder: LocalEncoder, module: TextModule, adapter: bytes | None, name: str, similarity: str
) -> Manifest:
    """Say what stands in the place of an adapter."""
    if adapter is not None:
        behind = Adapter.from_bytes(adapter).manifest
        if not behind.normalised:
            raise ExportError(
                f"adapter {behind.name} gives vectors of any length; the mean with a tuned encoder "
                "is of unit vectors; fit with similarity cosine, or without --tune-encoder"
            )
        kind = f"mean of a tuned encoder and {behind.kind}"
        return replace(behind, name=name, kind=kind, normalised=True, query_region=None)
    dim = _width(encoder)
    return Manifest(
        name=name,
        kind="tuned encoder",
        use="relevance",
        dim_in=dim,
        dim_out=dim,
        similarity=similarity,
        normalised=module.is_normalised,
        encoder=encoder_card(encoder),
    )


def _width(encoder: LocalEncoder) -> int:
    """Give the width of an encoder's embeddings."""
    return int(encoder.encode(["width"]).shape[1])


def _mean(tuned: onnx.ModelProto, fused: onnx.ModelProto) -> onnx.ModelProto:
    """Put the mean of two graphs' queries into one graph that both read the same tokens for."""
    tuned = compose.add_prefix(tuned, _TUNED)
    own, tuned_query = f"{_TUNED}query", f"{_TUNED}unit"
    _rename(tuned, {_TUNED + IDS_NAME: IDS_NAME, _TUNED + MASK_NAME: MASK_NAME})
    _rename(fused, {OUTPUT_NAME: own})
    graph = fused.graph
    graph.node.extend(tuned.graph.node)
    graph.initializer.extend(tuned.graph.initializer)
    for source, target in ((own, f"{_TUNED}adapted"), (_TUNED + EMBEDDING_NAME, tuned_query)):
        graph.node.append(helper.make_node("LpNormalization", [source], [target], p=2, axis=-1))
    graph.node.append(helper.make_node("Add", [f"{_TUNED}adapted", tuned_query], [f"{_TUNED}sum"]))
    graph.node.append(
        helper.make_node("LpNormalization", [f"{_TUNED}sum"], [OUTPUT_NAME], p=2, axis=-1)
    )
    next(output for output in graph.output if output.name == own).name = OUTPUT_NAME
    return fused


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give values of a graph other names."""
    graph = model.graph
    for node in graph.node:
        for places in (node.input, node.output):
            for place, name in enumerate(places):
                places[place] = names.get(name, name)
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)


def _by_parts(
    encoder: LocalEncoder, tuned: Any, adapter: bytes | None, texts: list[str]
) -> NDArray[np.float64]:
    """Embed queries by the torch models, and adapt them by the adapter's own file."""
    prefixed = with_prefix(encoder, "query", texts)
    vectors = tuned.encode(prefixed, show_progress_bar=False).astype(np.float64)
    if adapter is None:
        return np.asarray(vectors)
    adapted = Adapter.from_bytes(adapter).transform(encoder.encode(prefixed)).astype(np.float64)
    return _unit(_unit(vectors) + _unit(adapted))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale rows to unit length; a zero one, of a text without any token, stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float64] = rows / np.where(lengths == 0, 1.0, lengths)
    return scaled


def _prove(content: bytes, texts: list[str], wanted: NDArray[np.float64]) -> None:
    """Hold the file against its parts, in a batch and one by one.

    Raises:
        ExportError: They differ, or the file would be refused.
    """
    served = load_exported(content, "tuned model")
    alone = np.stack([served.encode(text) for text in texts])
    worst = float(distances(wanted, [served.encode(texts), alone]).max())
    if not worst <= TOLERANCE:
        raise ExportError(
            f"queries of the tuned file are up to {worst:.1e} (1 - cosine) from those of its "
            f"parts; at most {TOLERANCE:.0e} is allowed; nothing was written"
        )
