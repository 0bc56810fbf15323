"""Two searches of one FAISS index: with the raw query, and through an exported adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.clients.faiss import AdaptedIndex
from trimtab.model.adapter import Adapter
from trimtab.model.encoder_probe import OTHER_VECTORS, probes_agree
from trimtab_training.embeddings.encoders import Encoder, with_prefix
from trimtab_training.embeddings.faiss_source import open_file, read_row_ids, require_numbers
from trimtab_training.errors import DataError

Found = list[tuple[str, float]]
"""Ids of documents and their scores, best first."""


@dataclass(frozen=True)
class BothWays:
    """What one query found before and after.

    Attributes:
        query: Its text.
        before: What the raw query found.
        after: What the adapted query found.
    """

    query: str
    before: Found
    after: Found


@dataclass(frozen=True)
class SearchedIndex:
    """An index with the adapter in front, and the names of its rows.

    Attributes:
        raw: The index itself.
        adapted: The same index behind the adapter.
        names: Document id of every number that the index answers with; None shows the numbers.
    """

    raw: Any
    adapted: AdaptedIndex
    names: dict[int, str] | None


def load_for_search(
    model: str | Path, index: Path, ids: Path | None, encoder: Encoder | None = None
) -> SearchedIndex:
    """Load a model and an index, and check that they belong together, and the encoder if given.

    Raises:
        DataError: The ids don't fit the index, or the encoder is not the model's.
    """
    adapter = Adapter.load(model)
    if encoder is not None:
        _require_encoder(adapter, encoder)
    file = open_file(index)
    beside = index.with_suffix(".ids")
    path = ids or (beside if beside.exists() else None)
    adapted = AdaptedIndex(file.owner, adapter)
    if path is None:
        return SearchedIndex(file.owner, adapted, None)
    names = read_row_ids(path, index, file)
    numbers = require_numbers(index, file).tolist()
    return SearchedIndex(file.owner, adapted, dict(zip(numbers, names, strict=True)))


def search_both(
    searched: SearchedIndex, encoder: Encoder, texts: Sequence[str], k: int
) -> list[BothWays]:
    """Embed texts and search both ways.

    Raises:
        DataError: The encoder is not the model's, or this kind of index can't be searched.
    """
    _require_encoder(searched.adapted.adapter, encoder)
    return search_vectors(searched, texts, encoder.encode(with_prefix(encoder, "query", texts)), k)


def search_vectors(
    searched: SearchedIndex, texts: Sequence[str], queries: NDArray[np.float32], k: int
) -> list[BothWays]:
    """Search both ways with query vectors that are there already.

    Raises:
        DataError: This kind of index can't be searched.
    """
    k = min(k, searched.raw.ntotal)
    before: list[Found] = [[] for _ in texts]  # raw queries of another width find nothing
    try:
        after = _found(searched, searched.adapted.search(queries, k))
        if queries.shape[1] == searched.raw.d:
            before = _found(searched, searched.raw.search(queries, k))
    except RuntimeError as error:
        kind, line = type(searched.raw).__name__, str(error).splitlines()[0]
        raise DataError(f"this {kind} can't be searched: {line}") from error
    return [BothWays(*one) for one in zip(texts, before, after, strict=True)]


def _require_encoder(adapter: Adapter, encoder: Encoder) -> None:
    """Refuse an encoder that the model was not fitted for."""
    manifest = adapter.manifest.encoder
    if manifest.fingerprint not in {"", encoder.fingerprint}:
        raise DataError(
            f"the model was fitted on queries of {manifest.name} ({manifest.fingerprint[:23]}), "
            f"this encoder is {encoder.name} ({encoder.fingerprint[:23]}); pass --encoder"
        )
    if not probes_agree(manifest.probe, encoder.probe):
        raise DataError(
            f"the model was fitted on queries of {manifest.name}; {encoder.name} has "
            f"{OTHER_VECTORS}; pass --encoder"
        )


def _found(
    searched: SearchedIndex, answer: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> list[Found]:
    """Name what FAISS found; it marks missing results with -1."""
    return [
        [
            (searched.names[int(row)] if searched.names else str(row), float(score))
            for score, row in zip(scores, rows, strict=True)
            if row != -1
        ]
        for scores, rows in zip(*answer, strict=True)
    ]
