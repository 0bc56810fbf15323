"""What each size of a fitted adapter costs, beside what it gains: from its own model file."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab.model.adapter import Adapter as ServedAdapter
from trimtab.model.manifest import Manifest
from trimtab_training.evaluation.latency import measure_latency
from trimtab_training.evaluation.origin import SizePoint
from trimtab_training.export.onnx_export import export_adapter
from trimtab_training.fit.ranks import Size


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
        latency = measure_latency(served.transform, queries, manifest.dim_out)
        points.append(
            SizePoint(
                rank=size.rank,
                size_bytes=len(content),
                transform_us=latency.transform_us.p50,
                held_out_gain=size.gain,
                loss=size.loss,
                loss_standard_error=size.loss_error,
                chosen=size.rank == chosen,
            )
        )
    return points
