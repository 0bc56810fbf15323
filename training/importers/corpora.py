"""Files of queries and documents with ids: rows of any kind, and TREC's tagged text."""

import html
import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path

from training.errors import ConfigError, DataError
from training.importers.columns import (
    TEXT_ROLES,
    Columns,
    find_columns,
    plain_name,
    require,
    value_of,
)
from training.importers.json_rows import Row
from training.importers.lines import read_lines
from training.importers.settings import ImportSettings
from training.importers.sources import Sample, kind_of, read_rows, sample_rows
from training.importers.tally import Tally
from training.importers.texts import Text, Unusable, as_name, as_text, refuse_missing, text_key
from training.importers.understood import N_EXAMPLES, SAMPLE_ROWS, Reading, Understood
from training.importers.writer import DatasetWriter
from training.label_lines import explain_unlike

_TAG = re.compile(r"<[^<>]*>")
_LABEL = re.compile(r"^\s*(number|title|topic|description|narrative)\s*:", re.IGNORECASE)
_ID = re.compile(
    r"<(?:docno|docid|num)>\s*(?:number\s*:)?\s*([^<\s]+)|<topic[^>]*\bnumber\s*=\s*[\"']?([^\"'\s>]+)",
    re.IGNORECASE,
)
_ENDS = re.compile(r"</(?:doc|top|topic)>", re.IGNORECASE)
_STARTS = re.compile(r"<(?:doc|top|topic)(?:\s[^>]*)?>", re.IGNORECASE)
_TITLES = ("title", "head", "headline")
_TOPIC_TEXTS = ("title", "query", "question", "desc")
_DOC_TEXTS = ("text", "body", "abstract")
_TEXT_NAMES = {"text", "contents", "query", "question"}  # no row is only such a word
_RECORD_LIMIT = 1 << 26  # characters between two records' tags


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
            (TSV may do without names: id, text; or id, url, title, text), or TREC's tagged text.
        tally: Counts what can't be used.
        what: ``query`` or ``document``.
        given: Columns, or tags, as the user names them.
        delimiter: What parts the columns of CSV and TSV, where the file does not tell.
        understood: Told how the file is read.

    Raises:
        DataError: The file can't be read, has no ids or texts, or holds something and gives none.
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
    if not n_texts and path.stat().st_size:
        raise DataError(
            f"{path} gives no {what}: {tally.n_rows - n_rows} rows or records were found, "
            f"{tally.n_dropped - n_dropped} could not be used; expected columns such as _id and "
            "text, or TREC's tags"
        )


def add_corpus(
    path: Path, writer: DatasetWriter, settings: ImportSettings, what: str = ""
) -> dict[int, int]:
    """Copy a corpus into a dataset.

    Args:
        path: Its file.
        writer: Takes the documents.
        settings: What the user says about columns.
        what: ``document`` where columns that are given for documents are the corpus's.

    Returns:
        The number of every text, by digest: with its title and without. Of equal texts the first.
    """
    by_text: dict[int, int] = {}
    for place, document in _texts(path, writer, "document", settings, settings.for_texts(what)):
        number = writer.add_document(document, place)
        by_text.setdefault(text_key(document.joined), number)
        if document.title and document.text:
            by_text.setdefault(text_key(document.text), number)
    if not by_text:
        raise DataError(f"{path} holds no document; expected ids and texts")
    return by_text


def add_queries(path: Path, writer: DatasetWriter, settings: ImportSettings) -> None:
    """Copy the texts of the queries that have labels; count the others.

    Raises:
        DataError: None of them has, though there are some.
    """
    names: set[str] = set()
    for place, query in _texts(path, writer, "query", settings, settings.for_texts("query")):
        name = query.name or ""
        if writer.queries.find(name) is not None:
            writer.add_query(query, place)
            continue
        writer.leave_query(name, place)
        if len(names) < SAMPLE_ROWS:
            names.add(name)
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
    if kind_of(path) is None:
        tags = given.get("text")
        return ({"text": tags} if tags else {}), [], _read_tagged(path, tally, what, tags)
    header = _has_header(path, given)
    sample = sample_rows(path, header=header, delimiter=delimiter)
    columns = _text_columns(sample, given, path) if sample.rows else {}
    used = [name for of in columns.values() for name in of]
    rows = read_rows(path, tally, header=header, delimiter=delimiter, wanted=used or None)
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
    refuse_missing(body, what)
    text = Text(
        body,
        as_text(value_of(record, columns, "title"), "title"),
        as_name(value_of(record, columns, "id"), f"{what} id"),
    )
    if what == "query":
        text = Text(text.joined, "", text.name)
        if not text.text:
            raise Unusable("empty query")
    return text


def _text_columns(sample: Sample, given: Mapping[str, tuple[str, ...]], path: Path) -> Columns:
    """Find the columns of a file of texts; without names, by their number.

    A column that is given and that this file lacks may be meant for another one.
    """
    names = list(sample.names)
    here = {role: of for role, of in given.items() if set(of) <= set(names)}
    if all(name.isdigit() for name in names):
        columns: Columns = {"id": ("1",), "text": (str(len(names)),)}
        if len(names) == 4:  # MS MARCO's documents: id, url, title, body
            columns["title"] = ("3",)
        columns |= here
    else:
        columns = find_columns(names, TEXT_ROLES, here)
    if lacking := [role for role in ("id", "text") if role in given and role not in columns]:
        have = ", ".join(map(repr, names[:12]))
        raise ConfigError(
            f"--column {lacking[0]}={given[lacking[0]][0]}: no such column; {path} has {have}"
        )
    require(columns, ("id", "text"), names, str(path))
    if columns.get("title") == columns["text"]:
        del columns["title"]
    return columns


def _has_header(path: Path, given: Mapping[str, tuple[str, ...]]) -> bool:
    """Tell whether a table's first line names its columns, as usual or as the user does."""
    if kind_of(path) not in {"csv", "tsv"}:
        return True
    named = {plain_name(name) for of in given.values() for name in of if not name.isdigit()}
    for _, line in read_lines(path, Tally()):
        cells = re.split(r"[\t,;|]", line.decode("utf-8", "replace").strip())
        plain = {plain_name(cell.strip('" ')).replace("-", "_") for cell in cells}
        return bool(plain & (named | set(TEXT_ROLES["id"]) | _TEXT_NAMES))
    return True


def _read_tagged(
    path: Path, tally: Tally, what: str, wanted: tuple[str, ...] | None
) -> Iterator[tuple[int, Text]]:
    """Read documents (<DOC>) or topics (<top>, <topic>) out of tagged text.

    Source:
        TREC's ad hoc topics and collections, https://trec.nist.gov/data/topics_eng/ (tags are not
        always closed: what follows a tag up to the next one is its text).
    """
    held: list[str] = []
    size, start = 0, -1
    for place, line in read_lines(path, tally):
        text = line.decode("utf-8", "surrogateescape")
        if start < 0 and _STARTS.search(text):
            held, size, start = [], 0, place
        if start < 0:
            continue
        held.append(text)
        size += len(text)
        if size > _RECORD_LIMIT:
            raise DataError(f"{path}: {tally.where(start)}: no closing tag within 64 MB")
        if _ENDS.search(text):
            tally.row()
            try:
                yield start, _parse_tagged("".join(held), what, wanted)
            except Unusable as reason:
                tally.drop(str(reason), start)
            start = -1


def _parse_tagged(record: str, what: str, wanted: tuple[str, ...] | None) -> Text:
    """Take id, title and text of one tagged record."""
    found = _ID.search(record)
    if found is None:
        raise Unusable(f"{what} id is missing")
    name = as_name(found[1] or found[2], f"{what} id")
    if what == "query":
        text = _first_tag(record, wanted or _TOPIC_TEXTS)
        if not text:
            raise Unusable("empty query")
        return Text(text, "", name)
    title = _first_tag(record, _TITLES)
    return Text(_first_tag(record, wanted or _DOC_TEXTS), title, name)


def _first_tag(record: str, tags: tuple[str, ...]) -> str:
    """Give the text under the first of some tags that has any."""
    for tag in tags:
        parts = re.findall(
            rf"<{re.escape(tag)}(?:\s[^>]*)?>(.*?)(?=</{re.escape(tag)}>|<(?:num|title|desc|narr|smry|con|/top)\b|\Z)",
            record,
            re.IGNORECASE | re.DOTALL,
        )
        text = " ".join(html.unescape(_TAG.sub(" ", _LABEL.sub("", part))) for part in parts)
        text = as_text(" ".join(text.split()), "text")
        if text:
            return text
    return ""
