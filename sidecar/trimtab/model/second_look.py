"""A second look at the best documents: an adapter of its own, and a map of documents beside it.

The first search finds candidates by the adapted query ``a``. Their stored vectors ``d``, of unit
length, are then scored anew, and they alone::

    (1 - mix) a . d  +  mix b . B(d),    B(d) = normalise(d + (d reduce) expand)

``b`` is what a second adapter, trained together with ``B``, makes of the same query. A hundred
documents cost some hundred microseconds. A search that gets no stored vectors goes without.

The record travels in the model file's metadata, the second adapter in it as a model file of its
own: who knows nothing of it serves the first adapter as ever.
"""

import base64
import json
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

from trimtab.errors import DimensionError, ManifestError, QueryError
from trimtab.model.adapter import Adapter
from trimtab.model.manifest import MAX_DIM
from trimtab.model.packed_matrix import pack_matrix, unpack_matrix
from trimtab.parsing import MisfitError, parse, read_json
from trimtab.vectors import as_floats, check_finite, to_float32

MAX_DEPTH = 10_000
_SHORTEST = 1e-12


@dataclass(frozen=True)
class SecondLookRecord:
    """What a model file says of its second look.

    Attributes:
        depth: Documents that are looked at again.
        mix: Share of the second score.
        rank: Rank of the map of documents.
        reduce: Its first matrix, ``(dim_out, rank)``, packed (``model.packed_matrix``).
        expand: Its second one, ``(rank, dim_out)``, likewise.
        model: The second adapter's file in base64.
    """

    depth: Annotated[int, Meta(ge=1, le=MAX_DEPTH)]
    mix: Annotated[float, Meta(gt=0, le=1)]
    rank: Annotated[int, Meta(ge=1, le=MAX_DIM)]
    reduce: str
    expand: str
    model: str

    @classmethod
    def pack(
        cls,
        model: bytes,
        reduce: NDArray[np.float32],
        expand: NDArray[np.float32],
        *,
        depth: int,
        mix: float,
    ) -> "SecondLookRecord":
        """Write a second look down.

        Args:
            model: The second adapter's file.
            reduce: First matrix of the map of documents, ``(dim_out, rank)``; stored as float16.
            expand: Its second matrix, ``(rank, dim_out)``; stored as float16.
            depth: Documents to look at again.
            mix: Share of the second score, above 0, to 1.
        """
        second_adapter = base64.b64encode(model).decode("ascii")
        maps = pack_matrix(reduce), pack_matrix(expand)
        return cls(depth, mix, len(expand), *maps, second_adapter)

    def to_json(self) -> str:
        """Write it as JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "SecondLookRecord":
        """Read it.

        Raises:
            ManifestError: Not JSON, or a value is missing, of another type, or out of its range.
        """
        try:
            return parse(
                read_json(text), cls, allow_unknown=True, show=lambda value: type(value).__name__
            )
        except MisfitError as error:
            raise ManifestError(f"the model's second look {error}; export it again") from error
        except ValueError as error:
            raise ManifestError(f"the model's second look is not JSON: {error}") from error


class SecondLook:
    """Scores documents anew that a first search has found; safe to share between threads.

    Attributes:
        depth: Documents that are looked at again, the best first.
        mix: Share of the second score.
        adapter: The second adapter.
    """

    def __init__(self, record: SecondLookRecord, first: Adapter) -> None:
        """Unpack what a model file holds.

        Args:
            record: What the file says of it.
            first: The adapter that the file is of.

        Raises:
            ModelError: The second adapter can't be used, or not beside the first.
            ManifestError: The map of documents is damaged.
        """
        self.depth, self.mix = record.depth, record.mix
        self.adapter = Adapter.from_bytes(_decode(record.model, "model"))
        own, other = self.adapter.manifest, first.manifest
        if (own.dim_in, own.dim_out) != (other.dim_in, other.dim_out):
            raise ManifestError(
                f"the model's second look is from {own.dim_in} to {own.dim_out} values, the model "
                f"from {other.dim_in} to {other.dim_out}; export the model again"
            )
        if not (own.normalised and other.normalised):
            raise ManifestError(
                "the model has a second look, which wants adapted queries of unit length, but gives"
                " any length; export the model again"
            )
        self._reduce = _unpack(record.reduce, (other.dim_out, record.rank), "reduce")
        self._expand = _unpack(record.expand, (record.rank, other.dim_out), "expand")

    @property
    def rank(self) -> int:
        """Rank of the map of documents."""
        return len(self._expand)

    def rescore(
        self, query: ArrayLike, adapted: ArrayLike, documents: ArrayLike
    ) -> NDArray[np.float32]:
        """Score documents for one query, or for several, each with documents of its own.

        Args:
            query: The raw query, shape ``(dim_in,)`` or ``(n, dim_in)``.
            adapted: What the first adapter made of it, ``(dim_out,)`` or ``(n, dim_out)``.
            documents: Stored vectors of any length, ``(k, dim_out)`` or ``(n, k, dim_out)``.

        Returns:
            Scores from -1 to 1, the best highest: ``(k,)`` or ``(n, k)``.

        Raises:
            QueryError: Something is not numbers, not finite, or of another shape.
        """
        queries = np.atleast_2d(as_floats(query))
        second, first = self.adapter.transform(queries), np.atleast_2d(as_floats(adapted))
        found = self._check_documents(documents, len(queries))
        if first.shape != second.shape:
            raise DimensionError(
                f"adapted queries have shape {first.shape}, expected {second.shape}"
            )
        unit = _normalise(found)
        scores = (1 - self.mix) * _products(unit, _normalise(first))
        scores += self.mix * _products(self._map(unit), second)
        return scores if np.ndim(documents) == 3 else scores[0]

    def _map(self, unit: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply the map to documents of unit length, which they stay."""
        moved: NDArray[np.float32] = np.matmul(np.matmul(unit, self._reduce), self._expand)
        moved += unit
        return _normalise(moved)

    def _check_documents(self, documents: ArrayLike, n_queries: int) -> NDArray[np.float32]:
        """Take stored vectors in, ``(n, k, dim_out)``."""
        try:
            found = to_float32(documents)
        except (TypeError, ValueError) as error:
            raise QueryError("documents are no array of numbers") from error
        found = found[np.newaxis] if found.ndim == 2 else found
        if found.ndim != 3 or found.shape[::2] != (n_queries, self.adapter.dim_out):
            raise DimensionError(
                f"documents have shape {np.shape(documents)}; expected (k, "
                f"{self.adapter.dim_out}), or ({n_queries}, k, {self.adapter.dim_out})"
            )
        check_finite(found)
        return found


def _normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale to unit length along the last axis; what has none stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, _SHORTEST).astype(np.float32)
    return unit


def _products(unit: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply each query with its own documents: ``(n, k)``."""
    products: NDArray[np.float32] = np.matmul(unit, queries[:, :, np.newaxis])[:, :, 0]
    return products


def _unpack(text: str, shape: tuple[int, int], name: str) -> NDArray[np.float32]:
    """Read a matrix."""
    try:
        values = unpack_matrix(text, shape)
    except ValueError as error:
        raise _damaged(name, str(error)) from error
    if not np.isfinite(values).all():
        raise _damaged(name, "holds what is no finite number")
    return values


def _decode(text: str, name: str) -> bytes:
    """Read a file that stands within the record."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise _damaged(name, f"is not base64 ({error})") from error


def _damaged(name: str, problem: str) -> ManifestError:
    return ManifestError(
        f"the model's second look has a field '{name}' that {problem}; copy or export it again"
    )
