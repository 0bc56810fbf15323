"""Rows out of tables: CSV as spreadsheets write it, TSV without quoting as retrieval sets have it.

What parts the columns is seen in the first lines; where they can be read in two ways, only the
user can say.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trimtab_training.data.importers.json_rows import Row
from trimtab_training.data.importers.lines import read_lines
from trimtab_training.data.importers.tally import Tally
from trimtab_training.errors import DataError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_FIELD_LIMIT = 1 << 24  # characters; a quote that is never closed ends here
_N_LINES = 200  # looked at for the delimiter
_N_QUOTED = 3  # rows from which a column that is all in quotes shows that a table is quoted
_N_HELD = 50  # lines that a cell in quotes may go on for
_UNLIKE = "a cell in quotes, unlike in the first lines (in a .csv, cells may be quoted)"
_USUAL_SHARE = 0.9  # of rows with as many columns as the first
_RULE = re.compile(r"\s*:?-{2,}[-+:\s]*")
_EXCEL = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # a first line that Excel understands


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        delimiter: What parts the columns.
        quoted: Whether cells may stand in quotes.
        n_skipped: Lines before the first that belongs to the table.
    """

    delimiter: str
    quoted: bool
    n_skipped: int = 0


def read_table(
    path: Path, tally: Tally, kind: str, *, header: bool, delimiter: str | None = None
) -> Iterator[Row]:
    """Yield every row by column, with the line where it begins.

    Args:
        path: The file.
        tally: Counts rows, and those that can't be read.
        kind: ``csv`` or ``tsv``.
        header: Whether the first line names the columns.
        delimiter: What parts them, where the user says so.

    Raises:
        DataError: The file can't be read, two columns have one name, a quote is never closed,
            several delimiters are as likely, or the columns change their order on the way.
    """
    tally.n_tables += 1
    dialect = find_dialect(path, kind, delimiter)
    place, names = tally.open(path), None
    for line, cells in _rows(path, tally, dialect):
        if not any(cells):
            continue
        if names is None:
            names = _name_columns(cells, path, header=header)
            if header:
                continue
        if header and cells[: len(names)] == names and not any(cells[len(names) :]):
            tally.note("the names of the columns again, where files were joined", place + line)
            continue
        if header and set(cells[: len(names)]) == set(names) and not any(cells[len(names) :]):
            raise DataError(
                f"{path}:{line}: the names of the columns again, in another order: "
                f"{', '.join(cells)}; give files of one order each"
            )
        if header and _is_rule(cells):
            tally.note("a line that rules the table off, as in Markdown", place + line)
            continue
        tally.row()
        if len(cells) < len(names) or any(cells[len(names) :]):  # commas may end every row
            tally.drop("another number of columns than the first line", place + line)
        else:
            yield place + line, dict(zip(names, cells, strict=False))


def _is_rule(cells: Sequence[str]) -> bool:
    """Tell a line of dashes alone, as below the names in Markdown and in a terminal's tables."""
    filled = [cell for cell in cells if cell.strip()]
    return bool(filled) and all(map(_RULE.fullmatch, filled))


def find_dialect(path: Path, kind: str, delimiter: str | None = None) -> Dialect:
    """See in the first lines what parts the columns.

    Raises:
        DataError: Several delimiters are as likely, or lines end with carriage returns alone.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    head = list(islice(_texts(path, Tally()), _N_LINES))
    if len(head) == 1 and "\r" in head[0].rstrip("\r\n"):
        raise DataError(f"{path}: lines end with carriage returns alone; convert: tr '\\r' '\\n'")
    n_skipped = 0
    usual = "\t" if kind == "tsv" else ","
    if head and (told := _EXCEL.fullmatch(head[0])):
        head, n_skipped, usual = head[1:], 1, told[1]
    chosen = delimiter or _choose(head, usual, path)
    quoted = kind == "csv" or _is_quoted(head, chosen)
    return Dialect(chosen, quoted, n_skipped)


def _texts(path: Path, tally: Tally) -> Iterator[str]:
    """Yield a table's lines as text."""
    return (line.decode("utf-8", "surrogateescape") for _, line in read_lines(path, tally))


def _choose(head: Sequence[str], usual: str, path: Path) -> str:
    """Choose the delimiter that gives rows as many columns as the first line has, several."""
    if not head or (usual == "\t" and "\t" in head[0]) or _is_even(head, usual):
        return usual
    even = [one for one in DELIMITERS if one != usual and _is_even(head, one)]
    if len(even) > 1 or (even and usual in head[0]):
        named = " or by ".join(DELIMITERS[one] for one in even)
        raise DataError(
            f"{path}: columns may be parted by {DELIMITERS.get(usual, usual)} or by {named}; say "
            "which: --delimiter CHARACTER"
        )
    return even[0] if even else usual


def _is_even(head: Sequence[str], delimiter: str) -> bool:
    """Tell whether nearly all rows have as many columns as the first, and it has several."""
    rows = _read_quoted(head, delimiter)
    width = len(rows[0]) if rows else 0
    return width > 1 and _n_even(rows, width) >= _USUAL_SHARE * len(rows)


def _read_quoted(head: Sequence[str], delimiter: str, *, strict: bool = False) -> list[list[str]]:
    """Read lines as CSV; a row that is none is empty."""
    rows = []
    reader = csv.reader(head, delimiter=delimiter, strict=strict)
    while True:
        try:
            rows.append(next(reader))
        except StopIteration:
            break
        except csv.Error:
            rows.append([])
    return rows


def _n_even(rows: Sequence[Sequence[str]], width: int) -> int:
    """Count the rows that have so many columns; commas may end every row."""
    return sum(len(row) >= width and not any(row[width:]) for row in rows)


def _is_quoted(head: Sequence[str], delimiter: str) -> bool:
    """Tell whether TSV is quoted.

    It is where all names are, or all cells of a column, or a cell has doubled quotes between
    quotes, or where rows have one number of columns only if tabs and ends of lines stand in quotes.
    """
    rows = [line.rstrip("\r\n").split(delimiter) for line in head if line.strip()]
    if rows and all(_is_in_quotes(cell) for cell in rows[0]):
        return True
    if any(_is_escaped(cell) for row in rows for cell in row):
        return True
    columns = list(zip(*rows[1:], strict=False)) if len(rows) > _N_QUOTED else []
    if any(all(map(_is_in_quotes, cells)) for cells in columns):
        return True
    return _is_even_in_quotes([line for line in head if line.strip()], rows, delimiter)


def _is_even_in_quotes(head: Sequence[str], rows: list[list[str]], delimiter: str) -> bool:
    """Tell whether all rows have as many columns as the first only if quotes are taken off."""
    width, end = len(rows[0]) if rows else 0, None if len(head) < _N_LINES - 1 else -1
    plain = rows[:end]  # where there are more lines, the last row may go on
    if _n_even(plain, width) == len(plain):
        return False
    n_open = sum(cell.count("\n") for cell in _read_quoted(head, delimiter)[-1])
    quoted = _read_quoted(head, delimiter, strict=True)[:end]
    return _n_even(quoted, width) == len(quoted) and n_open < _N_HELD


def _is_in_quotes(cell: str) -> bool:
    """Tell a cell that begins and ends with a quote, and has none between."""
    return len(cell) > 2 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1]


def _is_escaped(cell: str) -> bool:
    """Tell a cell that must have been quoted by a writer of CSV: its quotes are doubled."""
    if len(cell) < 4 or not cell[0] == cell[-1] == '"':
        return False
    return '""' in cell[1:-1] and '"' not in cell[1:-1].replace('""', "")


def _rows(path: Path, tally: Tally, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield cells, with the line where they begin."""
    lines = islice(_texts(path, tally), dialect.n_skipped, None)
    if dialect.quoted:
        yield from _quoted_rows(lines, path, tally, dialect)
        return
    place = tally.open(path)
    for rows in _blocks(lines, dialect):
        is_torn = len({len(cells) for _, cells in rows}) > 1
        for number, cells in rows:
            if is_torn or any(map(_is_escaped, cells)):
                tally.row()
                tally.drop(_UNLIKE, place + number)
            else:
                yield number, cells


def _blocks(lines: Iterator[str], dialect: Dialect) -> Iterator[list[tuple[int, list[str]]]]:
    """Yield row by row, but together those that are one if a quote goes on over lines."""
    held: list[tuple[int, list[str]]] = []
    for number, line in enumerate(lines, start=1 + dialect.n_skipped):
        cells = line.rstrip("\r\n").split(dialect.delimiter)
        is_open = cells[-1].startswith('"') and cells[-1].count('"') % 2 == 1
        if not held and not is_open:
            yield [(number, cells)]
            continue
        held.append((number, cells))
        if len(held) == 1:
            continue
        if cells[0].endswith('"') and cells[0].count('"') % 2 == 1:
            yield held
            held = []
        elif len(held) > _N_HELD:
            yield from ([row] for row in held)
            held = []
    yield from ([row] for row in held)


def _quoted_rows(
    lines: Iterator[str], path: Path, tally: Tally, dialect: Dialect
) -> Iterator[tuple[int, list[str]]]:
    """Take quotes off; a row that is broken is dropped with all lines that it took."""
    reader = csv.reader(lines, delimiter=dialect.delimiter, strict=True)
    place = tally.open(path)
    while True:
        start = reader.line_num + 1 + dialect.n_skipped
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error) or "field larger" in str(error):
                raise DataError(
                    f"{path}:{start}: not CSV: {error}; a quote that is not closed?"
                ) from error
            n_lines = reader.line_num + 1 + dialect.n_skipped - start
            for _ in range(n_lines):
                tally.row()
            tally.drop(f"not CSV: {_plain_words(error)}", place + start, n_lines)
            continue
        yield start, cells


def _plain_words(error: csv.Error) -> str:
    """Say what is wrong with a row of CSV in a user's words."""
    if "new-line" in str(error):
        return "a carriage return outside of quotes"
    return "text after a closing quote" if "expected after" in str(error) else str(error)


def _name_columns(cells: list[str], path: Path, *, header: bool) -> list[str]:
    """Give the columns' names, or their numbers; names that are empty at the end are none."""
    if not header:
        return [str(number + 1) for number in range(len(cells))]
    while not cells[-1]:
        cells = cells[:-1]
    seen: set[str] = set()
    for name in cells:
        if name in seen:
            raise DataError(f"{path}: two columns are called {name!r}; rename one")
        seen.add(name)
    return cells
