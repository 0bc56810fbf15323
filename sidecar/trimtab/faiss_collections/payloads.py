"""The payload of each row of an index, read from its file when it is asked for."""

from collections.abc import Iterator
from datetime import datetime
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
        self._where = str(path)
        self._lines = Lines(b"") if path is None else _open(path)
        self._rows = np.zeros(0, np.int64) if path is None else self._match()
        self._places = np.full(len(ids), -1)
        self._places[self._rows] = np.arange(len(self._rows))

    def __getitem__(self, row: int) -> Json:
        """Give the payload of a row; empty where it has none."""
        place = int(self._places[row])
        return self._with_text(row, self._parse(place) if place >= 0 else {})

    def scan(self) -> Iterator[tuple[int, Json]]:
        """Give every row that has a payload, in the file's order."""
        for place, row in enumerate(self._rows.tolist()):
            yield row, self._with_text(row, self._parse(place))
        if self._ids.has_texts:
            for row in np.flatnonzero(self._places < 0).tolist():
                yield row, self._with_text(row, {})

    def select(self, row: int, selector: PayloadSelector) -> Any:
        """Give what an answer carries of a row's payload, ready to be written."""
        place = int(self._places[row])
        if selector.is_all and place >= 0 and not self._ids.has_texts:
            return orjson.Fragment(self._lines[place])  # neither parsed nor written again
        return selector.select(self[row])

    def _with_text(self, row: int, payload: Json) -> Json:
        """Add the original of a row's id where Qdrant could not take it."""
        text = self._ids.text(row)
        return payload if text is None or "_id" in payload else {"_id": text, **payload}

    def _parse(self, place: int) -> Json:
        """Parse one object of the file."""
        try:
            found = orjson.loads(self._lines[place])
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"{self._where}: line {place + 1} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{self._where}: line {place + 1} is no JSON object")
        return found

    def _match(self) -> NDArray[np.int64]:
        """Find the row of each object."""
        ids, where = self._ids, self._where
        texts = [_id_text(self._parse(place), place, where) for place in range(len(self._lines))]
        named = [text for text in texts if text is not None]
        if not named:
            if len(texts) != len(ids):
                raise ConfigError(
                    f"{where} has {len(texts)} objects without ids, the index {len(ids)} vectors; "
                    "give each its `_id`, or one line for each row"
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


def _id_text(payload: Json, place: int, where: str) -> str | None:
    """Give the id that an object names, as a file of ids would write it."""
    for key in _ID_KEYS:
        value = payload.get(key)
        if isinstance(value, str):
            return value
        if type(value) is int:
            return str(value)
        if value is not None:
            raise ConfigError(f"{where}: line {place + 1}: `{key}` is neither a number nor a text")
    return None


def _open(path: Path) -> Lines:
    """Map JSON Lines, or read Parquet into such lines."""
    if not path.is_file():
        raise ConfigError(f"no payload file at {path}")
    if path.suffix.lower() in {".parquet", ".pq"}:
        return Lines(_read_parquet(path))
    return Lines.map(path)


def _read_parquet(path: Path) -> bytes:
    """Write a Parquet file as JSON Lines."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(
            "payloads in Parquet need pyarrow: pip install 'trimtab[parquet]'"
        ) from error
    text = bytearray()
    try:
        with parquet.ParquetFile(path, memory_map=True) as file:
            for column in file.schema_arrow:
                if arrow.types.is_binary(column.type) or arrow.types.is_large_binary(column.type):
                    raise ConfigError(
                        f"{path}: column {column.name!r} holds bytes; payloads are JSON"
                    )
            for batch in file.iter_batches(_BATCH_ROWS):
                for row in batch.to_pylist():
                    text += orjson.dumps(row, _write_other, orjson.OPT_APPEND_NEWLINE)
    except (OSError, arrow.ArrowException) as error:
        raise ConfigError(f"{path} is not a Parquet file: {error}") from error
    return bytes(text)


def _write_other(value: Any) -> float | str:
    """Turn what Parquet has and JSON has not into what Qdrant would keep."""
    if isinstance(value, datetime):  # a kind that orjson does not know, such as pandas'
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else str(value)
