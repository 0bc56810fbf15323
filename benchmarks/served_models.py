"""Model files of the sizes that fits make; their values are random, which no time depends on."""

import numpy as np
import torch

from trimtab_training.adapters import Adapter as TrainedAdapter
from trimtab_training.adapters import ComposedAdapter, Gate, LinearAdapter
from trimtab_training.embeddings.store import EncoderInfo
from trimtab_training.export.onnx_export import Precision, describe_adapter, export_adapter

_HIDDEN, _CENTROIDS = 192, 16
_NARROW_UP_TO, _LOW, _HIGH = 384, 128, 256


def low_rank(dim: int) -> int:
    """The lower rank that a fit without knobs tries: it saves bytes at 384 dims, 256 above."""
    return _LOW if dim <= _NARROW_UP_TO else _HIGH


def exported(adapter: TrainedAdapter, precision: Precision = "auto") -> bytes:
    """A model file."""
    encoder = EncoderInfo("bench", "sha256:bench", adapter.dim_in, normalised=True)
    manifest = describe_adapter(adapter, encoder, name="bench", similarity="cosine")
    return export_adapter(adapter, manifest, precision=precision)


def default_adapter(dim: int, rank: int = 0) -> ComposedAdapter:
    """What a fit without knobs makes: its linear part whole, or of a rank."""
    generator = torch.Generator().manual_seed(dim)

    def unit(rows: int) -> torch.Tensor:
        drawn = torch.randn(rows, dim, generator=generator)
        return torch.nn.functional.normalize(drawn, dim=1)

    adapter = ComposedAdapter(dim, hidden=_HIDDEN, centroids=_CENTROIDS, rank=rank)
    adapter.set_gate(Gate(unit(_CENTROIDS).T, threshold=0.0, width=0.1))
    with torch.no_grad():
        for value in adapter.parameters():
            value.copy_(0.3 * torch.randn(value.shape, generator=generator) / dim**0.5)
    adapter.calibrate(unit(1000))
    return adapter


def linear_adapter(dim: int) -> LinearAdapter:
    """``W q + b``."""
    adapter = LinearAdapter(dim)
    rng = np.random.default_rng(dim)
    adapter.difference.data = torch.from_numpy(
        (rng.standard_normal((dim, dim)) / dim).astype(np.float32)
    )
    return adapter
