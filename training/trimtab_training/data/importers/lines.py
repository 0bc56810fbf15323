"""Files as a stream of lines or of text, also gzipped; what is not text is refused by its start."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.plain_text import NOT_TEXT
from trimtab_training.errors import DataError

LINE_LIMIT = 1 << 26  # bytes; a longer line is no line of a JSON Lines file
_SHOW_EVERY = 5_000
_MB = 1_000_000
_MARK = b"\xef\xbb\xbf"  # of byte order, in UTF-8
_NOT_TEXT = NOT_TEXT | {  # what an importer reads under its right name
    b"\x1f\x8b": "is gzipped, which its name does not say; let it end with .gz",
    b"PAR1": "is Parquet, which its name does not say; let it end with .parquet",
    b"PK\x03\x04": "is a ZIP archive, such as an Excel file; save it as CSV in UTF-8",
}


def read_lines(path: Path, tally: Tally) -> Iterator[tuple[int, bytes]]:
    """Yield every line of a text file, also gzipped, with its place; tell how far it is.

    Raises:
        DataError: The file can't be read, is no text in UTF-8's family, or a line is longer than
            64 MB.
    """
    place = tally.open(path)
    total = -(-path.stat().st_size // _MB)
    with reading(path), path.open("rb") as raw, _unpacked(raw, path) as file:
        first = _without_mark(file.readline(LINE_LIMIT), path)
        rest = iter(lambda: file.readline(LINE_LIMIT), b"")
        for number, line in enumerate(chain((first,) if first else (), rest), start=1):
            if len(line) == LINE_LIMIT:
                raise DataError(f"{path}:{number}: a line of over 64 MB; expected one row a line")
            if number % _SHOW_EVERY == 0:
                tally.progress("MB read", raw.tell() // _MB, total)
            yield place + number, line.removeprefix(_MARK)  # where files were joined, in between
        tally.progress("MB read", total, total)


@contextmanager
def open_text(path: Path) -> Iterator[TextIOWrapper]:
    """Open a file as text, also gzipped; bytes that are not UTF-8 become lone surrogates.

    Raises:
        DataError: It can't be read, or is no text.
    """
    with reading(path), path.open("rb") as raw, _unpacked(raw, path) as file:
        _without_mark(file.read(4096), path)
        file.seek(0)
        with TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as text:
            yield text


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a damaged or missing file raises into one line."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:  # EOFError: a gzip file that was cut
        raise DataError(f"can't read {path}: {error}") from error


def _unpacked(raw: BinaryIO, path: Path) -> AbstractContextManager[BinaryIO]:
    """Read through gzip where the name says so."""
    if path.suffix.lower() == ".gz":
        return cast("AbstractContextManager[BinaryIO]", gzip.open(raw))
    return nullcontext(raw)


def _without_mark(line: bytes, path: Path) -> bytes:
    """Take the byte order mark off a first line; refuse what is not text."""
    for start, words in _NOT_TEXT.items():
        if line.startswith(start):
            raise DataError(f"{path} {words}")
    if b"\x00" in line:
        raise DataError(f"{path} is not text in UTF-8: it holds zero bytes; UTF-16? convert it")
    return line.removeprefix(_MARK)
