"""Embeddings folders: ids, memory-mapped matrices, and the encoder that made them.

The matrices stay on disk: a million documents cost no more memory than what is looked at.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from trimtab.array_files import ArrayFileError, open_array
from trimtab.parsing import MisfitError, parse, read_json
from trimtab_training.data.label_lines import refuse_swapped
from trimtab_training.data.plain_text import explain_unreadable
from trimtab_training.data.qrels import Qrels, name_some
from trimtab_training.errors import DataError

BLOCK_ROWS = 16384
_FLOATS = (np.dtype(np.float16), np.dtype(np.float32))
_EXPECTED = (
    "expected name, fingerprint, dim and normalised; the fingerprint is any text that changes "
    "whenever the encoder's output would, such as its name and version, or empty where not known"
)
LARGEST_SQUARE = 1e18  # square length from which on the runtime refuses to normalise a query
UNIT_TOLERANCE = 5e-3  # float16 rounding of a unit vector stays below 1e-3


@dataclass(frozen=True)
class EncoderInfo:
    """What ``encoder.json`` says: the frozen text model behind the vectors.

    Attributes:
        name: Name of the model.
        fingerprint: Digest of what decides its output: weights and prefixes.
        dim: Values in a vector.
        normalised: True where the vectors have unit length.
        max_tokens: Longest input in tokens, or None where the provider decides.
        query_prefix: Text put before every query, as e5 and bge need it.
        document_prefix: Text put before every document.
        probe: What it gives for a few texts (:mod:`trimtab.model.encoder_probe`), by which another
            pooling or tokenizer is noticed; empty where it is not known.
    """

    name: str
    fingerprint: str
    dim: Annotated[int, Meta(ge=1)]
    normalised: bool
    max_tokens: int | None = None
    query_prefix: str = ""
    document_prefix: str = ""
    probe: str = field(default="", repr=False)

    @classmethod
    def load(cls, path: Path) -> "EncoderInfo":
        """Read ``encoder.json``.

        Raises:
            DataError: It is missing or malformed.
        """
        try:
            record = read_json(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"can't use {path}: {explain_unreadable(path, error)}; {_EXPECTED}"
            ) from error
        if not isinstance(record, dict):
            raise DataError(f"{path} holds no JSON object; {_EXPECTED}")
        required = ("name", "fingerprint", "dim", "normalised")
        if missing := [key for key in required if key not in record]:
            raise DataError(f"{path} says no {' and no '.join(missing)}; {_EXPECTED}")
        try:
            return parse(record, cls, allow_unknown=True)
        except MisfitError as error:
            raise DataError(f"{path}: {error.path!r} {error.fact}") from error

    def save(self, path: Path, **more: Any) -> None:
        """Write ``encoder.json``, with whatever else is worth recording."""
        record = {**asdict(self), **more}
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class VectorTable:
    """Ids and their vectors, in one order; the vectors stay on disk.

    Attributes:
        ids: One id a row.
        matrix: Shape ``(rows, dim)``, float16 or float32, usually memory-mapped.
        what: ``documents`` or ``queries``, for messages.
    """

    ids: list[str]
    matrix: NDArray[Any]
    what: str

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Values in a vector."""
        return int(self.matrix.shape[1])

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of every id."""
        return {name: row for row, name in enumerate(self.ids)}

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Copy some rows into memory, as float32."""
        return np.array(self.matrix[np.asarray(rows, dtype=np.int64)], dtype=np.float32)

    def take_ids(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Copy the vectors of some ids into memory, as float32."""
        return self.take([self.rows[name] for name in ids])

    def blocks(self, n_rows: int = BLOCK_ROWS) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the matrix in pieces: the first row's number and the piece as float32."""
        for start in range(0, len(self), n_rows):
            yield start, np.array(self.matrix[start : start + n_rows], dtype=np.float32)

    @cached_property
    def digest(self) -> str:
        """Digest of ids and vectors; a large file is read for it once."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for start in range(0, len(self), BLOCK_ROWS):
            digest.update(np.ascontiguousarray(self.matrix[start : start + BLOCK_ROWS]).tobytes())
        return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True)
class Embeddings:
    """Everything a fit knows about vectors.

    Attributes:
        documents: The frozen document vectors.
        queries: The raw query vectors.
        encoder: The encoder of the queries.
        folder: Where they came from.
        unit_documents: True where every document vector has unit length, as measured.
    """

    documents: VectorTable
    queries: VectorTable
    encoder: EncoderInfo
    folder: Path
    unit_documents: bool = field(default=True)

    @classmethod
    def open(cls, folder: str | Path) -> "Embeddings":
        """Open a folder and check every vector in it, block by block.

        Raises:
            DataError: A file is missing or malformed, an id stands twice, rows and ids differ in
                number, widths differ from ``encoder.json``, or a vector is zero, not finite, or
                overlong.
        """
        path = Path(folder)
        if not path.is_dir():
            raise DataError(f"no embeddings folder at {path}; make one with 'trimtab embed'")
        if not (path / "encoder.json").exists() and not (path / "queries.npy").exists():
            inside = path / "embeddings"
            advice = f"did you mean {inside}?" if inside.is_dir() else "'trimtab embed' makes one"
            raise DataError(f"{path} is no embeddings folder; {advice}")
        encoder = EncoderInfo.load(path / "encoder.json")
        documents, unit_documents = _open_table(path, "documents", "document_ids.txt")
        queries, _ = _open_table(path, "queries", "query_ids.txt")
        if queries.dim != encoder.dim:
            raise DataError(
                f"{path}: queries have {queries.dim} values, encoder.json says {encoder.dim}"
            )
        return cls(documents, queries, encoder, path, unit_documents)

    def require(self, splits: dict[str, Qrels]) -> None:
        """Refuse labels that name queries or documents without a vector.

        Raises:
            DataError: With their number and a few examples, or that their columns are swapped.
        """
        queries = {query for qrels in splits.values() for query in qrels}
        documents = {
            doc_id for qrels in splits.values() for labels in qrels.values() for doc_id in labels
        }
        for wanted, table in ((queries, self.queries), (documents, self.documents)):
            missing = wanted - table.rows.keys()
            if missing:
                known = (self.queries.rows, self.documents.rows)
                refuse_swapped((queries, documents), known, f"the labels for {self.folder}")
                raise DataError(
                    f"{name_some(missing)} of {len(wanted)} labelled {table.what} have no vector "
                    f"in {self.folder}; embed again, or drop their labels"
                )

    def content_hash(self) -> str:
        """Digest all ids and vectors."""
        both = self.documents.digest + self.queries.digest
        return f"sha256:{hashlib.sha256(both.encode()).hexdigest()}"


def said_use(folder: Path) -> Literal["migration", "auto"]:
    """Give what `trimtab embed` was told that the queries are for.

    Returns:
        ``migration``, or ``auto`` where nothing of the kind was said.

    Raises:
        DataError: Something else was said.
    """
    path = folder / "encoder.json"
    use = _said(path).get("use")
    if use not in (None, "auto", "relevance", "migration"):
        raise DataError(
            f"{path} says use {use!r}; expected migration, relevance or auto, or no use"
        )
    return "migration" if use == "migration" else "auto"


def said_similarity(embeddings: Embeddings) -> Literal["dot", "euclid"] | None:
    """Give what the index compares by that the documents were copied from, where that matters.

    Returns:
        ``dot`` or ``euclid``; None where it is cosine or not known, or where documents have unit
        length, so that all three order them alike. Compressed vectors may only have lost theirs.
    """
    said = _said(embeddings.folder / "encoder.json").get("documents")
    if not isinstance(said, dict) or embeddings.unit_documents or said.get("lossy"):
        return None
    distance = said.get("distance")
    return distance if distance in ("dot", "euclid") else None


def _said(path: Path) -> dict[str, Any]:
    """Read what ``encoder.json`` says; nothing where vectors were put together in memory."""
    return read_json(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}


def open_documents(folder: str | Path) -> VectorTable:
    """Open the document vectors of a folder that may have no queries yet.

    Raises:
        DataError: A file is missing or malformed, or a vector is zero or not finite.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"no embeddings folder at {path}; make one with 'trimtab embed'")
    return _open_table(path, "documents", "document_ids.txt")[0]


def read_ids(path: Path) -> list[str]:
    """Read one id a line; refuse empty lines and repeated ids.

    Raises:
        DataError: With the number of repeated ids and examples.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't read ids from {path}: {explain_unreadable(path, error)}") from error
    ids = text.removesuffix("\n").split("\n") if text else []
    ids = [name.removesuffix("\r") for name in ids]
    if "" in ids:
        raise DataError(f"{path}: line {ids.index('') + 1} is empty; expected one id a line")
    check_unique(ids, str(path))
    return ids


def check_unique(ids: Sequence[str], where: str) -> None:
    """Refuse repeated ids.

    Raises:
        DataError: With their number and examples.
    """
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    repeated = {name for name in ids if name in seen or seen.add(name)}  # type: ignore[func-returns-value]  # set.add gives None, which is false
    raise DataError(f"{where}: {name_some(repeated)} ids stand more than once; ids must be unique")


def write_ids(path: Path, ids: Sequence[str]) -> None:
    """Write one id a line.

    Raises:
        DataError: An id holds a line break or is empty.
    """
    broken = {name for name in ids if not name or "\n" in name or "\r" in name}
    if broken:
        raise DataError(f"{name_some(broken)} ids are empty or hold a line break; rename them")
    path.write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")


def check_vectors(matrix: NDArray[Any], ids: Sequence[str], what: str) -> bool:
    """Refuse vectors that nothing can be searched with; say whether all have unit length.

    Raises:
        DataError: With the number of NaN, infinite, zero or overlong vectors and examples.
    """
    non_finite: set[str] = set()
    too_long: set[str] = set()
    zero: set[str] = set()
    is_unit = True
    for start in range(0, len(matrix), BLOCK_ROWS):
        block = np.asarray(matrix[start : start + BLOCK_ROWS], dtype=np.float32)
        squares = np.einsum("nd,nd->n", block, block, dtype=np.float64)
        bad = ~np.isfinite(squares)
        non_finite.update(ids[start + row] for row in np.flatnonzero(bad).tolist())
        long = ~bad & (squares >= LARGEST_SQUARE)
        too_long.update(ids[start + row] for row in np.flatnonzero(long).tolist())
        zero.update(ids[start + row] for row in np.flatnonzero(squares == 0).tolist())
        is_unit = is_unit and bool(np.all(np.abs(np.sqrt(squares) - 1) < UNIT_TOLERANCE))
    if non_finite:
        raise DataError(f"{name_some(non_finite)} {what} have NaN or infinity; embed them again")
    if too_long:
        raise DataError(
            f"{name_some(too_long)} {what} are longer than {LARGEST_SQUARE**0.5:.0e}, too long to "
            "compare in float32; scale all vectors down"
        )
    if zero:
        raise DataError(f"{name_some(zero)} {what} are zero vectors; embed them again or drop them")
    return is_unit


def _open_table(folder: Path, what: str, ids_name: str) -> tuple[VectorTable, bool]:
    """Open one matrix with its ids and check both."""
    path = folder / f"{what}.npy"
    try:
        matrix = open_array(path)
    except ArrayFileError as error:
        raise DataError(f"can't read {path}: {error}; expected a .npy matrix") from error
    if matrix.ndim != 2 or matrix.dtype not in _FLOATS:
        raise DataError(
            f"{path} has shape {matrix.shape} and type {matrix.dtype}; "
            "expected a float16 or float32 matrix (rows, dim)"
        )
    ids = read_ids(folder / ids_name)
    if len(ids) != len(matrix):
        raise DataError(f"{path} has {len(matrix)} rows, {ids_name} has {len(ids)} ids")
    if not ids:
        raise DataError(f"{path} is empty; expected at least one vector")
    return VectorTable(ids, matrix, what), check_vectors(matrix, ids, what)
