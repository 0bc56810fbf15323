"""A read adapter as a model: one ONNX file, proved, and in a folder what can be trained on."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trimtab.model.manifest import SIMILARITIES, Manifest
from trimtab_training.conversion.source import Source
from trimtab_training.embeddings.store import Embeddings, EncoderInfo
from trimtab_training.errors import ConfigError, DataError
from trimtab_training.export.model_folder import (
    check_file,
    check_target,
    write_file,
    write_model,
)
from trimtab_training.export.onnx_export import describe_adapter, export_adapter
from trimtab_training.export.provenance import versions
from trimtab_training.files import beside, empty, keep_others, swap_folder, write_whole
from trimtab_training.lock import locked
from trimtab_training.model_files import CARD, CHECKPOINT, MODEL, OURS

UNKNOWN = "unknown"
_PROVED_QUERIES = 33
_SHORTEST, _LONGEST = 1e-18, 1e18
"""Lengths of adapted queries: float32 holds their squares, and sums of them."""


@dataclass(frozen=True)
class Target:
    """Where a model goes and what its file says beside the weights.

    Attributes:
        path: A file that ends in ``.onnx``, or a model folder.
        encoder: Name of the encoder of the queries; empty where it is not known.
        similarity: How the index compares: ``cosine``, ``dot`` or ``euclid``.
        normalised: Whether to scale adapted queries to unit length, which the source does not.
        use: ``relevance`` or ``migration``; None tells by the widths.
        embeddings: Vectors that the adapter is for: dims are held against them, the encoder is
            theirs, and the proof is made on their queries.
    """

    path: Path
    encoder: str = ""
    similarity: str = "cosine"
    normalised: bool = False
    use: str | None = None
    embeddings: Embeddings | None = None

    @property
    def is_file(self) -> bool:
        """Tell a file from a folder."""
        return self.path.suffix == ".onnx"

    @property
    def name(self) -> str:
        """Name of the model: the folder's, or the file's where it has one of its own."""
        if self.is_file and self.path.name != MODEL:
            return self.path.stem
        folder = self.path.parent if self.is_file else self.path
        return folder.resolve().name or self.path.stem


@dataclass(frozen=True)
class ConvertedModel:
    """A converted adapter as bytes, proved to give what the source gives.

    Attributes:
        source: What it was read from.
        content: The bytes of the ONNX file.
        manifest: What they say about themselves.
    """

    source: Source
    content: bytes
    manifest: Manifest


def convert_adapter(source: Source, target: Target) -> ConvertedModel:
    """Export a read adapter through the same proof as a fitted one.

    Raises:
        ConfigError: The target contradicts itself.
        DataError: The adapter's widths are not those of the embeddings, or it gives queries of a
            length that float32 can't square.
        ExportError: torch and ONNX Runtime differ.
    """
    if target.similarity not in SIMILARITIES:
        raise ConfigError(f"similarity is {target.similarity!r}; expected one of {SIMILARITIES}")
    if target.use == "relevance" and source.adapter.dim_in != source.adapter.dim_out:
        raise ConfigError(
            f"--use relevance, but the adapter maps {source.adapter.dim_in} values to "
            f"{source.adapter.dim_out}: its queries are of another encoder; leave --use away"
        )
    if target.encoder and target.embeddings:
        raise ConfigError("--encoder and --embeddings both name the encoder; give one of them")
    adapter, queries = source.adapter, None
    if target.embeddings:
        _check_widths(source, target.embeddings)
        rows = np.arange(min(_PROVED_QUERIES, len(target.embeddings.queries)))
        queries = target.embeddings.queries.take(rows)
    _check_lengths(source, queries)
    adapter.normalised = target.normalised
    manifest = describe_adapter(
        adapter,
        _encoder_of(target, adapter.dim_in),
        name=target.name,
        similarity=target.similarity,
        use=target.use,
        training={"converted_from": source.as_dict(), "trained_on": UNKNOWN},
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return ConvertedModel(source, export_adapter(adapter, manifest, queries=queries), manifest)


def write_converted(model: ConvertedModel, target: Target) -> Path:
    """Write the model file, and in a folder its checkpoint and card, too; give the file.

    A folder appears at its place only once it is complete, replacing an older model.

    Raises:
        ConfigError: There can be no such file or folder.
    """
    try:
        return _write_file(model, target.path) if target.is_file else _write_folder(model, target)
    except OSError as error:
        raise ConfigError(f"can't write {target.path}: {error.strerror or error}") from error


def _check_widths(source: Source, embeddings: Embeddings) -> None:
    """Refuse an adapter for other vectors; a matrix may only lie the other way."""
    dims = source.adapter.dim_in, source.adapter.dim_out
    wanted = embeddings.queries.dim, embeddings.documents.dim
    if dims == wanted:
        return
    is_turned = source.form == "matrix" and dims == wanted[::-1]
    raise DataError(
        f"{source.file} maps {dims[0]} values to {dims[1]}, {embeddings.folder} has queries of "
        f"{wanted[0]} and documents of {wanted[1]}; "
        + ("turn the matrix with --transpose" if is_turned else "use the vectors it was made for")
    )


def _check_lengths(source: Source, queries: NDArray[np.float32] | None) -> None:
    """Refuse an adapter whose queries nobody can compare: lengths are squared in float32."""
    dim = source.adapter.dim_in
    if queries is None:
        queries = np.random.default_rng(0).standard_normal((_PROVED_QUERIES, dim), np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    source.adapter.normalised = False
    with torch.no_grad():
        adapted = source.adapter(torch.from_numpy(queries)).double()
    longest = float(torch.linalg.vector_norm(adapted, dim=1).max())
    if not _SHORTEST < longest < _LONGEST:
        raise DataError(
            f"{source.file} gives queries of length {longest:.1e}, which float32 can't compare; "
            "scale it (where an index compares by cosine, that changes no order)"
        )


def _encoder_of(target: Target, dim: int) -> EncoderInfo:
    """Say whose queries it takes, as far as that is known; an empty fingerprint is not known."""
    if target.embeddings:
        return target.embeddings.encoder
    return EncoderInfo(target.encoder or UNKNOWN, "", dim, normalised=False)


def _write_file(model: ConvertedModel, path: Path) -> Path:
    """Write one file."""
    check_file(path)
    if path.name == MODEL and (path.parent / CHECKPOINT).exists():
        raise ConfigError(
            f"{path.parent} holds another model's checkpoint; -o {path.parent} replaces all of it"
        )
    write_file(path, model.content)
    return path


def _write_folder(model: ConvertedModel, target: Target) -> Path:
    """Write a model folder beside its place, and swap it in."""
    folder = target.path
    check_target(folder)
    with locked(folder):
        return _swap_in(model, folder)


def _swap_in(model: ConvertedModel, folder: Path) -> Path:
    """Write into a place that is held for this run alone."""
    work = beside(folder, "partial")  # where a fit may have been interrupted: that stays
    new = empty(work / "model")
    try:
        write_model(new, model.source.adapter, model.content, model.manifest)
        write_whole(new / CARD, write_card(model.manifest).encode())
        keep_others(folder, new, OURS)
        swap_folder(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):
            work.rmdir()
    return folder / MODEL


def write_card(manifest: Manifest) -> str:
    """Write the card of a converted model: what is known, and what is not."""
    origin = manifest.training["converted_from"]
    length = (
        "Adapted queries have unit length; the source's own have any."
        if manifest.normalised
        else "Adapted queries have any length, as the source's own have."
    )
    parts = [
        f"# {manifest.name}",
        "**Converted, not measured here.** `trimtab evaluate` measures it on your data.",
        f"A {manifest.kind} adapter, {manifest.dim_in} to {manifest.dim_out} values, converted "
        f"from `{origin['form']}`. {length}",
        f"- weights `{origin['file']}`, `{origin['sha256']}`\n"
        f"- queries of `{manifest.encoder.name}`, compared by {manifest.similarity}\n"
        f"- trained on: {manifest.training['trained_on']}",
    ]
    return "\n\n".join(parts) + "\n"
