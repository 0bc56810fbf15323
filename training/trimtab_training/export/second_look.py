"""A second look into a model's file: its adapter exported, its map of documents beside it."""

from dataclasses import replace

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from trimtab.errors import ModelError
from trimtab.model.adapter import Adapter as ServedAdapter
from trimtab.model.manifest import SECOND_LOOK_KEY, Manifest
from trimtab.model.second_look import SecondLookRecord
from trimtab_training.errors import ExportError
from trimtab_training.export.onnx_export import ROUNDING, export_adapter
from trimtab_training.fit.second_look.choose import SecondLookFit
from trimtab_training.fit.second_look.two_sided import TwoSided

_N_DOCUMENTS = 64
_HALF_PRECISION = 2e-3
"""How far rounding a map of documents to float16 may move a score."""


def add_second_look(
    content: bytes, fitted: SecondLookFit | None, manifest: Manifest, queries: NDArray[np.float32]
) -> tuple[bytes, str | None]:
    """Put what a fit has chosen into a model's bytes, and prove that it gives what was trained.

    Args:
        content: The model's bytes.
        fitted: What the fit made of a second look; None, or without maps, adds nothing.
        manifest: The model's.
        queries: Real query vectors for the proof, ``(n, dim_in)``.

    Returns:
        The model's bytes; and the second look alone, as :func:`attach_second_look` takes it.

    Raises:
        ExportError: It can't be exported, or file and training differ by more than rounding can.
    """
    if fitted is None or fitted.maps is None:
        return content, None
    packed = _pack(fitted, fitted.maps, manifest, queries)
    content = attach_second_look(content, packed)
    _prove(content, fitted.maps, fitted.mix, queries)
    return content, packed


def _pack(
    fitted: SecondLookFit, maps: TwoSided, manifest: Manifest, queries: NDArray[np.float32]
) -> str:
    """Write down a second look."""
    own = replace(manifest, name=f"{manifest.name}-second-look", query_region=None, metrics={})
    return SecondLookRecord.pack(
        export_adapter(maps.queries, own, queries=queries),
        maps.reduce.detach().cpu().numpy(),
        maps.expand.detach().cpu().numpy(),
        depth=fitted.depth,
        mix=fitted.mix,
    ).to_json()


def attach_second_look(content: bytes, packed: str | None) -> bytes:
    """Put a second look into a model's bytes, in place of any that stands there.

    Raises:
        ExportError: It would be refused when it is used.
    """
    if packed is None:
        return content
    model = onnx.load_model_from_string(content)
    kept = [entry for entry in model.metadata_props if entry.key != SECOND_LOOK_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    entry = model.metadata_props.add()
    entry.key, entry.value = SECOND_LOOK_KEY, packed
    attached: bytes = model.SerializeToString(deterministic=True)
    try:
        ServedAdapter.from_bytes(attached).second_look  # noqa: B018 - reading it checks it
    except ModelError as error:
        raise ExportError(f"the second look would be refused when loaded: {error}") from error
    return attached


def _prove(content: bytes, maps: TwoSided, mix: float, queries: NDArray[np.float32]) -> None:
    """Compare scores of documents drawn by chance, by the file and by what was trained."""
    served = ServedAdapter.from_bytes(content)
    assert served.second_look is not None  # noqa: S101 - it was attached
    rng = np.random.default_rng(0)
    documents = rng.standard_normal((_N_DOCUMENTS, served.dim_out)).astype(np.float32)
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    adapted = served.transform(queries)
    with torch.no_grad():
        again = maps(torch.from_numpy(queries)).numpy()
        mapped = maps.map_documents(torch.from_numpy(documents)).numpy()
    wanted = (1 - mix) * adapted @ documents.T + mix * again @ mapped.T
    each = np.repeat(documents[np.newaxis], len(queries), axis=0)
    gap = float(np.abs(served.second_look.rescore(queries, adapted, each) - wanted).max())
    if not gap <= ROUNDING + _HALF_PRECISION:
        raise ExportError(
            f"the file's second look and the trained one differ by {gap:.1e}; nothing was written"
        )
