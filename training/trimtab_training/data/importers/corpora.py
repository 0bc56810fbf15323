"""Files of queries and documents with ids: rows of any kind, and TREC's tagged text."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from trimtab_training.data.importers.columns import (
    DOCUMENT_ROLES,
    SUMMARIES,
    TEXT_RIVALS,
    TEXT_ROLES,
    Columns,
    find_columns,
    plain_name,
    require,
    value_of,
)
from trimtab_training.data.importers.json_rows import Row
from trimtab_training.data.importers.lines import read_lines
from trimtab_training.data.importers.readings import refuse_rivals
from trimtab_training.data.importers.settings import ImportSettings
from trimtab_training.data.importers.sources import Sample, kind_of, read_rows, sample_rows
from trimtab_training.data.importers.tagged import has_record, read_tagged
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.texts import (
    Text,
    Unusable,
    as_name,
    as_text,
    refuse_missing,
    text_key,
)
from trimtab_training.data.importers.titles import refuse_longer_summary, refuse_title_for_text
from trimtab_training.data.importers.understood import N_EXAMPLES, SAMPLE_ROWS, Reading, Understood
from trimtab_training.data.importers.writer import DatasetWriter
from trimtab_training.data.json_lines import is_synthetic
from trimtab_training.data.label_lines import explain_unlike
from trimtab_training.errors import ConfigError, DataError

_NAMES = {name for of in TEXT_ROLES.values() for name in of}
_SURE_NAMES = {*TEXT_ROLES["id"], "text", "contents", "query", "question"} - {"topic", "number"}
_METADATA = "metadata"  # of a query, as `trimtab synthesize` writes it
_SNIFFED_LINES = 20


@dataclass
class TextNumbers:
    """Which document of a corpus has a text, with its title or without.

    Attributes:
        numbers: The number of every text, by digest; of equal texts the first.
        repeated: Digests of texts that several documents have.
    """

    numbers: dict[int, int] = field(default_factory=dict)
    repeated: set[int] = field(default_factory=set)

    def add(self, text: str, number: int) -> None:
        """Keep a text's document."""
        key = text_key(text)
        if self.numbers.setdefault(key, number) != number:
            self.repeated.add(key)


def find_file(folder: Path, stem: str) -> Path | None:
    """Find a folder's file of a name, whatever its kind.

    Raises:
        DataError: There are several.
    """
    found = [
        path
        for path in sorted(folder.glob(f"{stem}.*"))
        if kind_of(path) and path.name.lower().removesuffix(".gz").count(".") == 1
    ]
    if len(found) > 1:
        raise DataError(
            f"{folder}: {found[0].name} and {found[1].name} could both hold the {stem}; say which: "
            f"--{stem} FILE"
        )
    return found[0] if found else None


def read_texts(
    path: Path,
    tally: Tally,
    what: str,
    given: Mapping[str, tuple[str, ...]] | None = None,
    *,
    delimiter: str | None = None,
    understood: Understood | None = None,
) -> Iterator[tuple[int, Text]]:
    """Yield every query, or document, of a file with its place.

    Args:
        path: JSON Lines, CSV, TSV or Parquet with columns such as ``_id``, ``title``, ``text``
            (a table may do without names: id, text; or id, url, title, text), or TREC's tagged
            text.
        tally: Counts what can't be used.
        what: ``query`` or ``document``.
        given: Columns, or tags, as the user names them.
        delimiter: What parts the columns of CSV and TSV, where the file does not tell.
        understood: Told how the file is read.

    Raises:
        DataError: The file can't be read, or gives no id with a text.
    """
    if not path.is_file():
        raise DataError(f"no file at {path}; expected {what} texts with ids")
    n_rows, n_dropped, n_texts = tally.n_rows, tally.n_dropped, 0
    columns, unused, texts = _open_texts(path, tally, what, given or {}, delimiter)
    head = list(islice(texts, SAMPLE_ROWS))
    if understood is not None and head:
        examples = [_example(text, what) for _, text in head[:N_EXAMPLES]]
        word = "queries" if what == "query" else "documents"
        understood.file(Reading(path.name, word, columns, unused, len(head), examples))
    for item in chain(head, texts):
        n_texts += 1
        yield item
    if not n_texts:
        n_dropped = tally.n_dropped - n_dropped
        why = (
            tally.mostly() if n_dropped else "expected columns such as _id and text, or TREC's tags"
        )
        raise DataError(
            f"{path} gives no {what}: {tally.n_rows - n_rows} rows or records were found, "
            f"{n_dropped} could not be used; {why}"
        )


def add_corpus(
    path: Path, writer: DatasetWriter, settings: ImportSettings, what: str = ""
) -> TextNumbers:
    """Copy a corpus into a dataset.

    Args:
        path: Its file.
        writer: Takes the documents.
        settings: What the user says about columns.
        what: ``document`` where columns that are given for documents are the corpus's.

    Returns:
        The number of every text.

    Raises:
        DataError: More than may be dropped have an id that another text already has.
    """
    by_text, n_read = TextNumbers(), 0
    given = settings.for_texts(what)
    with writer.tally.reading("documents"):
        for place, document in _texts(path, writer, "document", settings, given):
            number, n_read = writer.add_document(document, place), n_read + 1
            by_text.add(document.joined, number)
            if document.title and document.text:
                by_text.add(document.text, number)
    writer.taken.check(path, n_read, "documents", has_option=False)
    return by_text


def add_queries(path: Path, writer: DatasetWriter, settings: ImportSettings) -> None:
    """Copy the texts of the queries that have labels; count the others.

    Raises:
        DataError: None of them has, though there are some; or more than may be dropped have an id
            that another text already has.
    """
    names, n_labelled = set[str](), 0
    given = settings.for_texts("query")
    with writer.tally.reading("queries"):
        for place, query in _texts(path, writer, "query", settings, given):
            name = query.name or ""
            if writer.queries.find(name) is not None:
                writer.add_query(query, place)
                n_labelled += 1
                continue
            writer.leave_query(name, place)
            if len(names) < SAMPLE_ROWS:
                names.add(name)
        writer.tally.check()
    writer.taken.check(path, n_labelled, "queries", has_option=False)
    if names and not writer.queries.n_texts:
        writer.refuse_foreign_labels()
        raise DataError(
            f"none of the queries in {path} has a label: "
            f"{explain_unlike(names, writer.queries.names_seen())}; expected ids as in the labels"
        )


def _texts(
    path: Path,
    writer: DatasetWriter,
    what: str,
    settings: ImportSettings,
    given: Mapping[str, tuple[str, ...]],
) -> Iterator[tuple[int, Text]]:
    """Read a file's texts as the settings say."""
    return read_texts(
        path,
        writer.tally,
        what,
        given,
        delimiter=settings.delimiter,
        understood=writer.understood,
    )


def _open_texts(
    path: Path,
    tally: Tally,
    what: str,
    given: Mapping[str, tuple[str, ...]],
    delimiter: str | None,
) -> tuple[Columns, list[str], Iterator[tuple[int, Text]]]:
    """Find a file's columns, or tags, and begin to read it.

    Returns:
        Columns by role, the names of those that are not used, and the texts with their places.
    """
    kind = kind_of(path) or _sniff_kind(path, what)
    if kind == "tagged":
        tags = {role: of for role, of in given.items() if (what, role) != ("query", "title")}
        return tags, [], read_tagged(path, tally, what, tags)
    header = _has_header(path, given, kind)
    sample = sample_rows(path, header=header, delimiter=delimiter, kind=kind)
    columns = _text_columns(sample, given, path, what) if sample.rows else {}
    used = [name for of in columns.values() for name in of]
    used += [_METADATA] if used and what == "query" and _METADATA in sample.names else []
    rows = read_rows(
        path, tally, header=header, delimiter=delimiter, wanted=used or None, kind=kind
    )
    unused = [name for name in sample.names if name not in used]
    return columns, unused, _read_columns(rows, tally, columns, what)


def _read_columns(
    rows: Iterator[Row], tally: Tally, columns: Columns, what: str
) -> Iterator[tuple[int, Text]]:
    """Take the texts out of rows."""
    for place, record in rows:
        try:
            yield place, _as_text_with_id(record, columns, what)
        except Unusable as reason:
            tally.drop(str(reason), place)


def _example(text: Text, what: str) -> dict[str, str | None]:
    """Write a text as it will be stored."""
    title = {} if what == "query" else {"title": text.title}
    return {"_id": text.name, **title, "text": text.text}


def _as_text_with_id(record: Mapping[str, object], columns: Columns, what: str) -> Text:
    """Take id, title and text of a row."""
    body = as_text(value_of(record, columns, "text"), what)
    body = body or as_text(value_of(record, columns, "summary"), what)
    refuse_missing(body, what)
    text = Text(
        body,
        as_text(value_of(record, columns, "title"), "title"),
        as_name(value_of(record, columns, "id"), f"{what} id"),
    )
    if what == "query":
        text = Text(text.joined, "", text.name, is_synthetic(record))
        if not text.text:
            raise Unusable("empty query")
    return text


def _text_columns(
    sample: Sample, given: Mapping[str, tuple[str, ...]], path: Path, what: str
) -> Columns:
    """Find the columns of a file of texts; without names, by their number.

    A column that is given and that this file lacks may be meant for another one.
    """
    names = list(sample.names)
    here = {role: of for role, of in given.items() if set(of) <= set(names)}
    if all(name.isdigit() for name in names):
        columns = _by_number(sample, here, path)
    else:
        roles = TEXT_ROLES if what == "query" else DOCUMENT_ROLES
        columns = _filled_columns(sample, roles, here)
        # Who names the id has looked at the columns: of several texts the usual one, as is shown.
        rivals = {role: of for role, of in TEXT_RIVALS.items() if role == "id" or "id" not in here}
        if "text" in rivals and plain_name(columns.get("text", ("",))[0]) in SUMMARIES:
            rivals["text"] = SUMMARIES
        refuse_rivals(sample, rivals, here, str(path), only_alike=True)
        if what == "document" and "text" not in here:
            refuse_title_for_text(sample, columns, str(path))
            refuse_longer_summary(sample, columns, str(path))
        if columns.get("title") == columns.get("text", ()):
            columns |= {"text": find_columns(names, roles, here)["text"]}  # empty beside titles
    if lacking := [role for role in ("id", "text") if role in given and role not in columns]:
        have = ", ".join(map(repr, names[:12]))
        raise ConfigError(
            f"--column {lacking[0]}={given[lacking[0]][0]}: no such column; {path} has {have}"
        )
    require(columns, ("id", "text"), names, str(path))
    if columns.get("title") == columns["text"]:
        del columns["title"]
    if "text" in here or columns.get("summary") == columns["text"]:
        columns.pop("summary", None)
    return columns


def _filled_columns(
    sample: Sample, roles: Mapping[str, tuple[str, ...]], given: Mapping[str, tuple[str, ...]]
) -> Columns:
    """Find the columns of every role among those that hold something, or else among all."""
    filled = [name for name in sample.names if sample.has_values(name)]
    filled += [name for of in given.values() for name in of]
    return find_columns(sample.names, roles, given) | find_columns(
        dict.fromkeys(filled), roles, given
    )


def _by_number(sample: Sample, given: Mapping[str, tuple[str, ...]], path: Path) -> Columns:
    """Tell the columns of a file without names by their number.

    Raises:
        DataError: There are others than id and text, or MS MARCO's id, url, title and body.
    """
    is_marco = len(sample.names) == 4 and all(
        "://" in str(record.get("2") or "://") for _, record in sample.rows
    )
    if len(sample.names) != 2 and not is_marco and not {"id", "text"} <= given.keys():
        raise DataError(
            f"{path} has {len(sample.names)} columns without names that are known; expected id and "
            "text, or id, url, title and text: say which is which, such as --column id=1 --column "
            "text=2"
        )
    columns: Columns = {"id": ("1",), "text": ("2",)}
    if is_marco:
        columns |= {"title": ("3",), "text": ("4",)}
    taken = {name for of in given.values() for name in of}
    return {role: of for role, of in columns.items() if not taken.intersection(of)} | dict(given)


def _has_header(path: Path, given: Mapping[str, tuple[str, ...]], kind: str) -> bool:
    """Tell whether a table's first line names its columns, as usual or as the user does.

    A cell that is one word, such as ``title``, could be a row's own where columns are said by
    number, or where an address stands beside it.
    """
    if kind not in {"csv", "tsv"}:
        return True
    given_names = {name for of in given.values() for name in of}
    numbered = any(name.isdigit() for name in given_names)
    known = {plain_name(name) for name in given_names if not name.isdigit()}
    lines = [line.decode("utf-8", "replace") for line in _first_lines(path, 1)]
    return all(
        bool(_cells(line) & (known | (_SURE_NAMES if numbered or "://" in line else _NAMES)))
        for line in lines
    )


def _cells(line: str) -> set[str]:
    """Give the cells of a table's line as names of columns are compared."""
    cells = re.split(r"[\t,;|]", line.strip())
    return {plain_name(cell.strip('" ')).replace("-", "_") for cell in cells}


def _first_lines(path: Path, count: int) -> list[bytes]:
    """Read a file's first lines that hold anything."""
    lines = (line for _, line in read_lines(path, Tally()) if line.strip())
    return list(islice(lines, count))


def _sniff_kind(path: Path, what: str) -> str:
    """Tell the kind of a file whose name does not, such as ``topics.txt``, by its first lines.

    Raises:
        DataError: It is empty, or of no known kind.
    """
    lines = [line.decode("utf-8", "replace") for line in _first_lines(path, _SNIFFED_LINES)]
    if not lines:
        raise DataError(f"{path} is empty; expected {what} texts with ids")
    first = lines[0].lstrip()[0]
    if first in "[{<":
        return "tagged" if first == "<" else "json"
    if all("\t" in line for line in lines):
        return "tsv"
    if has_record(lines):
        return "tagged"
    if "," in lines[0] and _cells(lines[0]) & set(TEXT_ROLES["id"]):
        return "csv"
    raise DataError(
        f"can't tell what {path} holds: {lines[0].strip()[:60]!r}; expected {what} ids and texts "
        "parted by tabs, JSON Lines, CSV with names of columns, or TREC's tagged text (<top>, "
        "<topic>, <DOC>)"
    )
