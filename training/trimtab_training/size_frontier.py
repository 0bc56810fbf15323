"""What each size of a fitted adapter costs, beside what it gains: from its own model file."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trimtab.model.adapter import Adapter as ServedAdapter
from trimtab.model.manifest import Manifest
from trimtab.model.onnx_file import check_model
from trimtab_training.adapters import Adapter, ComposedAdapter
from trimtab_training.embeddings.store import EncoderInfo
from trimtab_training.evaluation.latency import measure_calls
from trimtab_training.evaluation.origin import SizePoint
from trimtab_training.export.onnx_export import ROUNDING, describe_adapter, export_adapter
from trimtab_training.export.quantised_graph import can_quantise
from trimtab_training.fit.checkpoint import Tell
from trimtab_training.fit.fit import FitResult
from trimtab_training.fit.ranks import Size, choose_size, weight_bytes, within_budget
from trimtab_training.report.words import size_name


def settle_size(
    fit: FitResult, encoder: EncoderInfo, queries: NDArray[np.float32], tell: Tell
) -> FitResult:
    """Choose the size anew where its file is larger than a fit could know.

    A fit counts on 8-bit weights. Where rounding moves real queries too far, a file has float32
    ones, four times the bytes: then another size may be the smaller one, or within the budget.

    Args:
        fit: What came out of a fit.
        encoder: The encoder of its queries.
        queries: Real queries, for the proof of each file.
        tell: Told where another size is chosen, or none is within the budget.
    """
    if fit.adapter is None or len(fit.sizes) < 2:
        return fit
    similarity = fit.recipe.compares_by
    manifest = describe_adapter(fit.adapter, encoder, name="size", similarity=similarity)
    chosen = export_adapter(fit.adapter, manifest, queries=queries)
    is_rounded = {fit.rank: _is_rounded(fit.adapter, chosen)}
    if is_rounded[fit.rank]:
        return fit
    for size in fit.sizes:
        if size.rank != fit.rank:
            content = export_adapter(size.adapter, manifest, queries=queries)
            is_rounded[size.rank] = _is_rounded(size.adapter, content)
    n_bytes = {
        size.rank: weight_bytes(size.adapter, size.rank, may_round=is_rounded[size.rank])
        for size in fit.sizes
    }
    best = choose_size(fit.sizes, n_bytes, fit.recipe)
    if best.rank != fit.rank:
        tell(
            f"8 bits are too few for the weights of rank {fit.rank}: {size_name(best.rank)} is the "
            "smaller file"
        )
    if not within_budget(n_bytes[best.rank], fit.recipe):
        tell(
            f"no size is within max_megabytes of {fit.recipe.max_megabytes:g}, since 8 bits are "
            f"too few for the weights: the smallest has {n_bytes[best.rank] / 1e6:.3g}"
        )
    return replace(fit, adapter=best.adapter, rank=best.rank)


def tell_precision(adapter: Adapter, content: bytes, tell: Tell) -> None:
    """Say where a model's file has float32 weights though a fit counts on 8-bit ones.

    Args:
        adapter: The adapter.
        content: Its file.
        tell: Told of it.
    """
    if not _is_rounded(adapter, content):
        tell(
            f"8-bit products would move a real query by more than {ROUNDING:g} of its length: the "
            "file has float32 weights, four times the bytes"
        )


def _is_rounded(adapter: Adapter, content: bytes) -> bool:
    """Tell whether an adapter's file has 8-bit weights, or could never have."""
    can_be = isinstance(adapter, ComposedAdapter) and can_quantise(adapter)
    return not can_be or "MatMulInteger" in check_model(content).operators


def measure_sizes(
    sizes: Sequence[Size], chosen: int, manifest: Manifest, queries: NDArray[np.float32]
) -> list[SizePoint]:
    """Export every size and time it; nothing is written.

    Args:
        sizes: The sizes that a fit has tried.
        chosen: The rank of the one that it has chosen.
        manifest: Manifest of the model.
        queries: Real queries, for the proof of each file and to time it.

    Returns:
        One point a size; nothing for one size alone.
    """
    if len(sizes) < 2:
        return []
    points = []
    for size in sizes:
        content = export_adapter(size.adapter, manifest, queries=queries)
        served = ServedAdapter.from_bytes(content)
        points.append(
            SizePoint(
                rank=size.rank,
                size_bytes=len(content),
                transform_us=measure_calls(served.transform, queries, manifest.dim_out).p50,
                held_out_gain=size.gain,
                loss=size.loss,
                loss_standard_error=size.loss_error,
                chosen=size.rank == chosen,
            )
        )
    return points
