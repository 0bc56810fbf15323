"""The payload of each row of an index, read from its file when it is asked for."""

from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from trimtab.errors import ConfigError, MissingExtraError
from trimtab.faiss_collections.ids import PointIds
from trimtab.faiss_collections.mapped_lines import Lines
from trimtab.faiss_collections.paths import PayloadSelector
from trimtab.faiss_collections.replies import Json

_ID_KEYS = ("_id", "id")
_BATCH_ROWS = 4096


class JsonLinesFile:
    """JSON Lines: mapped, and a line parsed when it is wanted."""

    def __init__(self, path: Path) -> None:
        """Find the lines of a file."""
        self._path = path
        self.lines = Lines(path)

    def __iter__(self) -> Iterator[Json]:
        """Parse every line."""
        return map(self.__getitem__, range(len(self.lines)))

    def __getitem__(self, number: int) -> Json:
        """Parse one line."""
        try:
            found = orjson.loads(self.lines[number])
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"{self._path}: line {number + 1} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{self._path}: line {number + 1} is no JSON object")
        return found


class ParquetFile:
    """Parquet: columns in memory, decoded, and a row made when it is wanted."""

    def __init__(self, path: Path) -> None:
        """Read a file.

        Raises:
            ConfigError: It is no Parquet file, or has a column of bytes.
            MissingExtraError: pyarrow is not installed.
        """
        try:
            import pyarrow as arrow
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtraError(
                "payloads in Parquet need pyarrow: pip install 'trimtab[parquet]'"
            ) from error
        try:
            self._table = parquet.read_table(path, memory_map=True)
        except (OSError, arrow.ArrowException) as error:
            raise ConfigError(f"{path} is not a Parquet file: {error}") from error
        for column in self._table.schema:
            if arrow.types.is_binary(column.type) or arrow.types.is_large_binary(column.type):
                raise ConfigError(f"{path}: column {column.name!r} holds bytes; payloads are JSON")

    def __iter__(self) -> Iterator[Json]:
        """Make every row."""
        for batch in self._table.to_batches(max_chunksize=_BATCH_ROWS):
            yield from map(_plain, batch.to_pylist())

    def __getitem__(self, number: int) -> Json:
        """Make one row."""
        row: Json = _plain(self._table.slice(number, 1).to_pylist()[0])
        return row


def _plain(value: Any) -> Any:
    """Turn what Parquet has and JSON has not into what Qdrant would keep."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


PayloadFile = JsonLinesFile | ParquetFile


class Payloads:
    """The payloads of a collection.

    The payload of a row is the object of the file, whole. Where the row's id is neither a number
    nor a UUID, it carries the original as ``_id``, unless the object has that key.
    """

    def __init__(self, ids: PointIds, path: Path | None = None) -> None:
        """Open a file of payloads and find the row of each.

        Objects with an ``_id`` or else an ``id`` belong to the row of that id; where none has
        either, object i belongs to row i.

        Raises:
            ConfigError: The file can't be read, or does not fit the ids.
            MissingExtraError: A Parquet file, and pyarrow is not installed.
        """
        self._ids = ids
        self._file = None if path is None else _open(path)
        self._rows = np.zeros(0, np.int64)
        if self._file is not None and path is not None:
            self._rows = _match(self._file, ids, str(path))
        self._places = np.full(len(ids), -1)
        self._places[self._rows] = np.arange(len(self._rows))

    def __getitem__(self, row: int) -> Json:
        """Give the payload of a row; empty where it has none."""
        place = int(self._places[row])
        found = self._file[place] if self._file is not None and place >= 0 else {}
        return self._with_text(row, found)

    def scan(self) -> Iterator[tuple[int, Json]]:
        """Give every row that has a payload, in the file's order."""
        if self._file is not None:
            for row, payload in zip(self._rows.tolist(), self._file, strict=True):
                yield row, self._with_text(row, payload)
        if self._ids.has_texts:
            for row in np.flatnonzero(self._places < 0).tolist():
                yield row, self._with_text(row, {})

    def select(self, row: int, selector: PayloadSelector) -> Any:
        """Give what an answer carries of a row's payload, ready to be written."""
        place = int(self._places[row])
        is_whole = selector.is_all and not self._ids.has_texts
        if is_whole and place >= 0 and isinstance(self._file, JsonLinesFile):
            return orjson.Fragment(self._file.lines[place])  # neither parsed nor written again
        return selector.select(self[row])

    def _with_text(self, row: int, payload: Json) -> Json:
        """Add the original of a row's id where Qdrant could not take it."""
        text = self._ids.text(row)
        return payload if text is None or "_id" in payload else {"_id": text, **payload}


def _open(path: Path) -> PayloadFile:
    """Open a file by its kind."""
    if not path.is_file():
        raise ConfigError(f"no payload file at {path}")
    if path.suffix.lower() in {".parquet", ".pq"}:
        return ParquetFile(path)
    return JsonLinesFile(path)


def _match(file: PayloadFile, ids: PointIds, where: str) -> NDArray[np.int64]:
    """Find the row of each object."""
    texts = [_id_text(payload, number, where) for number, payload in enumerate(file, 1)]
    named = [text for text in texts if text is not None]
    if not named:
        if len(texts) != len(ids):
            raise ConfigError(
                f"{where} has {len(texts)} objects without ids, the index {len(ids)} vectors; give "
                "each its `_id`, or one line for each row"
            )
        return np.arange(len(ids))
    if len(named) < len(texts):
        raise ConfigError(
            f"{where}: line {texts.index(None) + 1} has neither `_id` nor `id`; others have"
        )
    rows = ids.rows_of_texts(named)
    if len(unknown := np.flatnonzero(rows < 0)):
        line = int(unknown[0])
        raise ConfigError(f"{where}: line {line + 1}: the index has no id {named[line]!r}")
    _, first = np.unique(rows, return_index=True)
    if len(first) < len(rows):
        line = int(np.setdiff1d(np.arange(len(rows)), first)[0])
        raise ConfigError(f"{where}: line {line + 1}: id {named[line]!r} has a payload already")
    return rows


def _id_text(payload: Json, number: int, where: str) -> str | None:
    """Give the id that an object names, as a file of ids would write it."""
    for key in _ID_KEYS:
        value = payload.get(key)
        if isinstance(value, str):
            return value
        if type(value) is int:
            return str(value)
        if value is not None:
            raise ConfigError(f"{where}: line {number}: `{key}` is neither a number nor a text")
    return None
