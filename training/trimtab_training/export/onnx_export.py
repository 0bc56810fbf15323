"""Adapter to ONNX: one self-contained file that says what it is, or nothing at all."""

import copy
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from trimtab.errors import ModelError
from trimtab.model.adapter import Adapter as ServedAdapter
from trimtab.model.manifest import METADATA_KEY, SECOND_LOOK_KEY, EncoderCard, Manifest
from trimtab.model.onnx_file import INPUT_NAME, OUTPUT_NAME
from trimtab_training.adapters import Adapter, ComposedAdapter, kind_of
from trimtab_training.embeddings.local_encoder import LocalEncoder
from trimtab_training.embeddings.store import EncoderInfo
from trimtab_training.errors import ExportError
from trimtab_training.export.float_graph import float_graph
from trimtab_training.export.quantised_graph import can_quantise, quantised_answers, quantised_graph
from trimtab_training.export.tracing import trace

TOLERANCE = 1e-5
"""Largest difference between torch and ONNX Runtime, absolute for outputs up to length 1 and
relative beyond: float32 keeps seven digits, and another order of summing costs one or two."""

ROUNDING = 0.03
"""How far 8-bit products may move an adapted query, as a share of its length; what they do to real
ones: docs/decisions/0011-eight-bit-products.md."""

Precision = Literal["auto", "float32"]

_HALVES = 5e-3
"""A value half way between two bytes may be rounded either way, by another order of summing."""
_BATCH = 33
_FACTOR_OF_ROUNDING = 4.0  # two errors of one size may point apart, and the largest vary


def export_adapter(
    adapter: Adapter,
    manifest: Manifest,
    *,
    queries: NDArray[np.float32] | None = None,
    precision: Precision = "auto",
) -> bytes:
    """Build a model file in memory, and prove that it gives what the adapter gives.

    The adapter of a default fit becomes a graph of 8-bit products, unless these move one of the
    real queries by more than :data:`ROUNDING`; all others are float32.

    Args:
        adapter: The adapter; built-in or a user's own.
        manifest: What the file will say about itself.
        queries: Real query vectors for the proof, shape ``(n, dim_in)``.
        precision: ``auto``, or ``float32`` for no rounding in any case.

    Returns:
        The bytes of the ``.onnx`` file.

    Raises:
        ExportError: The adapter uses what standard operators can't express, or torch and ONNX
            Runtime differ by more than 1e-5 where float32 can tell.
    """
    adapter = adapter.cpu().eval()
    if precision == "auto" and isinstance(adapter, ComposedAdapter) and can_quantise(adapter):
        content = stamp_manifest(quantised_graph(adapter, INPUT_NAME, OUTPUT_NAME), manifest)
        served = _load(content)
        _prove_rounded(adapter, served, queries)
        if rounding_error(adapter, served, queries) <= ROUNDING:
            return content
    graph = float_graph(adapter, INPUT_NAME, OUTPUT_NAME) or _trace(adapter)
    content = stamp_manifest(graph, manifest)
    _prove(adapter, _load(content), queries)
    return content


def rounding_error(
    adapter: Adapter, served: ServedAdapter, queries: NDArray[np.float32] | None
) -> float:
    """Tell how far an exported adapter moves real queries from where the trained one puts them.

    Args:
        adapter: The trained adapter.
        served: The exported one.
        queries: Real query vectors, shape ``(n, dim_in)``; None gives 0.

    Returns:
        The largest distance between two adapted queries, which have unit length.
    """
    if queries is None or not len(queries):
        return 0.0
    with torch.no_grad():
        wanted = adapter(torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))).numpy()
    return float(np.linalg.norm(served.transform(queries) - wanted, axis=1).max())


def _load(content: bytes) -> ServedAdapter:
    """Load what was exported, as whoever serves it will.

    Raises:
        ExportError: It would be refused.
    """
    try:
        return ServedAdapter.from_bytes(content)
    except ModelError as error:
        raise ExportError(f"the exported adapter would be refused when loaded: {error}") from error


def describe_adapter(
    adapter: Adapter,
    encoder: EncoderInfo,
    *,
    name: str,
    similarity: str,
    use: str | None = None,
    **more: Any,
) -> Manifest:
    """Fill in a manifest from an adapter and the encoder of its queries.

    Args:
        adapter: The adapter.
        encoder: The encoder of its queries.
        name: The model's name.
        similarity: How the index compares.
        use: What it is for; where absent, a migration if the widths differ.
        **more: What else the manifest says.
    """
    by_widths = "relevance" if adapter.dim_in == adapter.dim_out else "migration"
    return Manifest(
        name=name,
        kind=kind_of(adapter),
        use=use or by_widths,
        dim_in=adapter.dim_in,
        dim_out=adapter.dim_out,
        similarity=similarity,
        normalised=adapter.normalised,
        encoder=encoder_card(encoder),
        **more,
    )


def encoder_card(encoder: EncoderInfo | LocalEncoder) -> EncoderCard:
    """Write what a manifest says about an encoder of queries."""
    return EncoderCard(
        name=encoder.name,
        fingerprint=encoder.fingerprint,
        max_tokens=encoder.max_tokens,
        query_prefix=encoder.query_prefix,
        document_prefix=encoder.document_prefix,
        probe=encoder.probe,
    )


def stamp_manifest(content: bytes, manifest: Manifest) -> bytes:
    """Put a manifest into a model's bytes, in place of any that stands there.

    Of other metadata, a second look alone stays.
    """
    model = onnx.load_model_from_string(content)
    kept = [entry for entry in model.metadata_props if entry.key == SECOND_LOOK_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, manifest.to_json()
    encoded: bytes = model.SerializeToString(deterministic=True)
    return encoded


def _trace(adapter: Adapter) -> bytes:
    """Trace a class of the user's own into a plain ONNX graph with a free batch size."""
    module = adapter.for_export().eval()
    example = torch.randn(2, adapter.dim_in, generator=torch.Generator().manual_seed(0))
    model = trace(
        module,
        (example,),
        ([INPUT_NAME], [OUTPUT_NAME]),
        ({0: torch.export.Dim("n")},),
        what="the adapter",
    )
    encoded: bytes = model.SerializeToString(deterministic=True)
    return encoded


def _probes(dim: int, queries: NDArray[np.float32] | None) -> dict[str, NDArray[np.float32]]:
    """Make random, tiny and huge queries, and take some real ones."""
    rng = np.random.default_rng(0)
    random = rng.standard_normal((_BATCH, dim)).astype(np.float32)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    probes = {"random": random, "tiny": random * 1e-6, "huge": random * 1e6}
    if queries is not None and len(queries):
        probes["real"] = np.ascontiguousarray(queries[:_BATCH], dtype=np.float32)
    return probes


def _prove_rounded(
    adapter: ComposedAdapter, served: ServedAdapter, queries: NDArray[np.float32] | None
) -> None:
    """Compare a graph of 8-bit products with the same rounded numbers, alone and in a batch."""
    probes = _probes(adapter.dim_in, queries)
    answers = quantised_answers(adapter, np.concatenate(list(probes.values())))
    ends = np.cumsum([len(probe) for probe in probes.values()])[:-1]
    for (name, probe), wanted in zip(probes.items(), np.split(answers, ends), strict=True):
        single = np.stack([served.transform(row) for row in probe])
        for found in (served.transform(probe), single):
            gap = float(np.abs(found - wanted).max())
            if not gap <= _HALVES:
                raise ExportError(
                    f"the graph of 8-bit products and its own numbers differ by {gap:.1e} on "
                    f"{name} queries, at most {_HALVES:.0e} is allowed; nothing was written"
                )


def _prove(adapter: Adapter, served: ServedAdapter, queries: NDArray[np.float32] | None) -> None:
    """Compare both on random, real, tiny and huge queries, alone and in a batch."""
    for name, probe in _probes(adapter.dim_in, queries).items():
        with torch.no_grad():
            wanted = adapter(torch.from_numpy(np.ascontiguousarray(probe))).numpy()
        single = np.stack([served.transform(row) for row in probe])
        for found in (served.transform(probe), single):
            size = np.maximum(1.0, np.linalg.norm(wanted, axis=1, keepdims=True))
            gap = float(np.max(np.abs(found - wanted) / size))
            if not gap <= TOLERANCE and not gap <= _rounding(adapter, probe, wanted / size, size):
                raise ExportError(
                    f"torch and ONNX Runtime differ by {gap:.1e} on {name} queries, at most "
                    f"{TOLERANCE:.0e} is allowed; nothing was written"
                )


def _rounding(
    adapter: Adapter,
    probe: NDArray[np.float32],
    wanted: NDArray[np.float32],
    size: NDArray[np.float32],
) -> float:
    """Tell how far apart two float32 computations may be where float32 itself is far off.

    Before a tanh or sigmoid, sums of huge products that nearly cancel keep few digits, and the
    output, which such a function bounds, no longer shows how large they were. There torch's own
    float32 is as far from float64 as ONNX Runtime is.
    """
    try:
        with torch.no_grad():
            exact = copy.deepcopy(adapter).double()(torch.from_numpy(probe).double()).numpy()
    except Exception:  # a user's own class may know float32 alone
        return 0.0
    return _FACTOR_OF_ROUNDING * float(np.max(np.abs(exact / size - wanted)))
