"""Files of any usual kind as a stream of rows: JSON Lines, JSON, CSV, TSV, Parquet; also gzipped.

A row that can't be read is dropped and counted, and the next one is read. Nothing is held but the
row at hand (and a file that is one JSON array, which can't be cut).
"""

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from training.errors import ConfigError, DataError
from training.importers.tally import Tally

Row = tuple[int, dict[str, Any]]
"""Where a row stands, and its values by column. Columns without names are called 1, 2, 3, ..."""

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
SPLIT_OF_STEM = {"train": 0, "dev": 1, "val": 1, "test": 2}  # validation and valid begin with val
_LINE_LIMIT = 1 << 26  # bytes; a longer line is no line of a JSON Lines file
_FIELD_LIMIT = 1 << 24  # characters; a quote that is never closed ends here
_ROWS_AT_ONCE = 1024
_SHOW_EVERY = 5_000
_MB = 1_000_000


def kind_of(path: Path) -> str | None:
    """Tell a file's kind by its name, or None."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return SUFFIXES.get(suffixes[-1]) if suffixes else None


def files_by_split(source: Path, split: int) -> list[tuple[int, Path]]:
    """Find the files to read and the split of each.

    Args:
        source: A file, or a folder whose files' names begin with train, dev, val(idation) or test.
        split: Split of a single file.

    Raises:
        DataError: Nothing is there, or the folder has no such file.
    """
    if source.is_file():
        return [(split, source)]
    if not source.is_dir():
        raise DataError(f"nothing to read at {source}; expected a file or a folder")
    found = [
        (number, path)
        for path in sorted(source.iterdir())
        for stem, number in SPLIT_OF_STEM.items()
        if path.name.lower().startswith(stem) and kind_of(path)
    ]
    if not found:
        raise DataError(
            f"{source} has no file that begins with train, dev, validation or test and ends with "
            f"{', '.join(SUFFIXES)}; name a file instead"
        )
    return sorted(found, key=lambda item: item[0])


def read_rows(
    path: Path, tally: Tally, *, header: bool = True, kind: str | None = None
) -> Iterator[Row]:
    """Yield every row of a file with its place.

    Args:
        path: A file.
        tally: Counts rows, and those that can't be read.
        header: Whether the first line of CSV and TSV names the columns.
        kind: One of the kinds of ``SUFFIXES``; None: the file's name tells.

    Raises:
        ConfigError: A Parquet file, and pyarrow is not installed.
        DataError: The file can't be read, or is of another kind.
    """
    kind = kind or kind_of(path)
    if kind is None:
        raise DataError(
            f"can't tell the format of {path.name}; expected a name ending with "
            f"{', '.join(SUFFIXES)} (also with .gz)"
        )
    if kind == "parquet":
        yield from _read_parquet(path, tally)
    elif kind in {"csv", "tsv"}:
        yield from _read_table(path, tally, kind, header=header)
    elif kind == "json" and not _is_lines(path):
        yield from _read_array(path, tally)
    else:
        yield from _read_json_lines(path, tally)


def read_lines(path: Path, tally: Tally) -> Iterator[tuple[int, bytes]]:
    """Yield every line of a text file, also gzipped, with its place; tell how far it is.

    Raises:
        DataError: The file can't be read, is UTF-16, or a line is longer than 64 MB.
    """
    place = tally.open(path)
    total = -(-path.stat().st_size // _MB)
    with _reading(path), path.open("rb") as raw, _unpacked(raw, path) as file:
        first = _without_mark(file.readline(_LINE_LIMIT), path)
        rest = iter(lambda: file.readline(_LINE_LIMIT), b"")
        for number, line in enumerate(chain((first,) if first else (), rest), start=1):
            if len(line) == _LINE_LIMIT:
                raise DataError(f"{path}:{number}: a line of over 64 MB; expected one row a line")
            if number % _SHOW_EVERY == 0:
                tally.progress("MB read", raw.tell() // _MB, total)
            yield place + number, line
        tally.progress("MB read", total, total)


def _unpacked(raw: BinaryIO, path: Path) -> AbstractContextManager[BinaryIO]:
    """Read through gzip where the name says so."""
    if path.suffix.lower() == ".gz":
        return cast("AbstractContextManager[BinaryIO]", gzip.open(raw))
    return nullcontext(raw)


def _without_mark(line: bytes, path: Path) -> bytes:
    """Take the byte order mark off a first line; refuse UTF-16, whose lines are not lines."""
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
    return line.removeprefix(b"\xef\xbb\xbf")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what a damaged or missing file raises into one line."""
    try:
        yield
    except (OSError, EOFError) as error:  # EOFError: a gzip file that was cut
        raise DataError(f"can't read {path}: {error}") from error


def _is_lines(path: Path) -> bool:
    """Tell JSON Lines under the name .json from one JSON value."""
    for _, line in read_lines(path, Tally()):
        if line.strip():
            return _parse(line) is not None
    return True


def _parse(line: bytes) -> Any:
    """Parse JSON; None where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _as_record(value: Any) -> dict[str, Any] | None:
    """Give an object's values by name, an array's by number."""
    if isinstance(value, list):
        return {str(number): item for number, item in enumerate(value, start=1)}
    return value if isinstance(value, dict) else None


def _read_json_lines(path: Path, tally: Tally) -> Iterator[Row]:
    """Read one JSON object, or array, a line."""
    for place, line in read_lines(path, tally):
        if not line.strip():
            continue
        tally.row()
        record = _as_record(_parse(line))
        if record is None:
            tally.drop("not a JSON object", place)
        else:
            yield place, record


def _read_array(path: Path, tally: Tally) -> Iterator[Row]:
    """Read a file that is one JSON array of objects; a row's line is its number in the array."""
    values = load_json(path)
    if not isinstance(values, list):
        raise DataError(f"{path} holds one JSON object; expected an array of them, or JSON Lines")
    start = tally.open(path)
    for number, value in enumerate(values, start=1):
        tally.row()
        record = _as_record(value)
        if record is None:
            tally.drop("not a JSON object", start + number)
        else:
            yield start + number, record


def load_json(path: Path) -> Any:
    """Read a file that is one JSON value.

    Raises:
        DataError: It can't be read or is no JSON.
    """
    try:
        with _reading(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error


def _read_table(path: Path, tally: Tally, kind: str, *, header: bool) -> Iterator[Row]:
    """Read CSV as spreadsheets write it, and TSV without quoting, as retrieval sets are written."""
    place = tally.open(path)
    lines = (line.decode("utf-8", "surrogateescape") for _, line in read_lines(path, tally))
    csv.field_size_limit(_FIELD_LIMIT)
    if kind == "tsv":
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines)
    names: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not any(cells):
                continue
            if names is None:
                names = cells if header else [str(number + 1) for number in range(len(cells))]
                _refuse_repeated(names, path)
                if header:
                    continue
            tally.row()
            if len(cells) != len(names):
                tally.drop("another number of columns than the first line", place + line)
            else:
                yield place + line, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{start}: not CSV: {error}; a quote that is not closed?") from error


def _refuse_repeated(names: Iterable[str], path: Path) -> None:
    """Refuse two columns of one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path}: two columns are called {name!r}; rename one")
        seen.add(name)


def _read_parquet(path: Path, tally: Tally) -> Iterator[Row]:
    """Read a Parquet file a batch at a time; a row's line is its number."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{path.name} is Parquet, which needs pyarrow: pip install 'trimtab[parquet]'"
        ) from error
    number = tally.open(path)
    done = 0
    try:
        with parquet.ParquetFile(path) as file:
            total = file.metadata.num_rows
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                for record in batch.to_pylist():
                    done += 1
                    tally.row()
                    yield number + done, record
                tally.progress("rows read", done, total)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"can't read {path}: {error}") from error
