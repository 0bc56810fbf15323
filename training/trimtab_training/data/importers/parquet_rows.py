"""Rows out of Parquet, a batch at a time: only columns in use, and no value that stops the file."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from trimtab_training.data.importers.json_rows import Row
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.texts import Unreadable
from trimtab_training.errors import ConfigError, DataError

_ROWS_AT_ONCE = 1024
_FOREIGN = ("decimal", "duration", "uuid")  # in names of types: Snowflake's numbers, DuckDB's ids


def read_parquet(path: Path, tally: Tally, wanted: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield every row with its number.

    Args:
        path: The file.
        tally: Counts rows.
        wanted: Columns to read; the others are not even decoded. None: all.

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: The file can't be read.
    """
    parquet = _import_parquet(path)
    start, done = tally.open(path), 0
    try:
        with parquet.ParquetFile(path) as file:
            total = file.metadata.num_rows
            for columns in _batches(file, wanted):
                for values in zip(*columns.values(), strict=True):
                    done += 1
                    tally.row()
                    yield start + done, dict(zip(columns, values, strict=True))
                tally.progress("rows read", done, total)
    except DataError:
        raise
    except Exception as error:  # a reader of others: whatever it raises is about the file
        words = " ".join(str(error).split())
        raise DataError(f"can't read {path}, after row {done}: {words}") from error


def parquet_classes(path: Path) -> dict[str, list[str]]:
    """Give the names of the classes that columns hold as numbers, where the file says so.

    Source:
        huggingface/datasets, ``Features.arrow_schema``: JSON under ``huggingface`` in the schema's
        metadata, a ``ClassLabel`` with ``names``.
    """
    parquet = _import_parquet(path)
    try:
        with parquet.ParquetFile(path) as file:
            metadata = file.schema_arrow.metadata or {}
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            name: list(map(str, one["names"]))
            for name, one in features.items()
            if isinstance(one, dict) and one.get("_type") == "ClassLabel" and one.get("names")
        }
    except Exception:  # no metadata, or in another form: nothing is known then
        return {}


def _import_parquet(path: Path) -> Any:
    """Import the reader."""
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{path.name} is Parquet, which needs pyarrow: pip install 'trimtab[parquet]'"
        ) from error
    return parquet


def _batches(file: Any, wanted: Sequence[str] | None) -> Iterator[dict[str, list[Any]]]:
    """Yield columns of some rows at a time; without a choice, those that can be decoded."""
    names = file.schema_arrow.names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"two columns are called {repeated[0]!r}; rename one")
    chosen = names if wanted is None else [name for name in names if name in wanted]
    if wanted is None:
        chosen = [name for name in chosen if _is_decoded(file, name)]
    for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=chosen):
        yield {
            name: _values(column)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }


def _is_decoded(file: Any, name: str) -> bool:
    """Tell whether a column's first rows can be decoded at all."""
    try:
        next(iter(file.iter_batches(batch_size=1, columns=[name])), None)
    except Exception:  # whatever is wrong with a column that perhaps nobody needs
        return False
    return True


def _values(column: Any) -> list[Any]:
    """Give a column's values; one that Python can't hold is marked, and the others stay."""
    column = _to_microseconds(column)
    try:
        values = column.to_pylist()
    except Exception:  # bytes that are not UTF-8, times beyond the year 9999, ...
        values = [_value(one) for one in column]
    if any(word in str(column.type) for word in _FOREIGN):
        values = [_as_plain(one) for one in values]
    return [_decoded(one) if isinstance(one, bytes) else one for one in values]


def _as_plain(value: Any) -> Any:
    """Write numbers, ids and times that databases have types of their own for as usual."""
    if isinstance(value, list):
        return [_as_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _as_plain(one) for name, one in value.items()}
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, UUID) else value


def _to_microseconds(column: Any) -> Any:
    """Leave out the nanoseconds, which Python's times do not have."""
    import pyarrow as arrow

    kind = column.type
    if getattr(kind, "unit", None) != "ns":
        return column
    if arrow.types.is_timestamp(kind):
        return column.cast(arrow.timestamp("us", kind.tz), safe=False)
    coarse = arrow.duration("us") if arrow.types.is_duration(kind) else arrow.time64("us")
    return column.cast(coarse, safe=False)


def _value(scalar: Any) -> Any:
    """Give one value, or say why there is none."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return Unreadable("holds bytes that are not UTF-8")
    except Exception as error:  # as above
        return Unreadable(f"can't be read: {error}")


def _decoded(content: bytes) -> Any:
    """Take bytes for text, which older writers leave them as."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return Unreadable("holds bytes that are not UTF-8")
