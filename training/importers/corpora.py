"""Files of queries and documents with ids: rows of any kind, and TREC's tagged text."""

import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from training.errors import DataError
from training.importers.columns import TEXT_ROLES, Columns, find_columns, require, value_of
from training.importers.sources import kind_of, read_lines, read_rows
from training.importers.tally import Tally
from training.importers.texts import Text, Unusable, as_name, as_text, text_key
from training.importers.writer import DatasetWriter

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
_RECORD_LIMIT = 1 << 26  # characters between two records' tags


def find_file(folder: Path, stem: str) -> Path | None:
    """Find a folder's file of a name, whatever its kind."""
    found = [path for path in sorted(folder.glob(f"{stem}.*")) if kind_of(path)]
    return found[0] if found else None


def read_texts(
    path: Path, tally: Tally, what: str, given: Mapping[str, tuple[str, ...]] | None = None
) -> Iterator[tuple[int, Text]]:
    """Yield every query, or document, of a file with its place.

    Args:
        path: JSON Lines, CSV, TSV or Parquet with columns such as ``_id``, ``title``, ``text``
            (TSV may do without names: id, text; or id, url, title, text), or TREC's tagged text.
        tally: Counts what can't be used.
        what: ``query`` or ``document``.
        given: Columns, or tags, as the user names them.

    Raises:
        DataError: The file can't be read, or has no ids or texts.
    """
    if not path.is_file():
        raise DataError(f"no file at {path}; expected {what} texts with ids")
    if kind_of(path) is None:
        yield from _read_tagged(path, tally, what, (given or {}).get("text"))
        return
    columns: Columns | None = None
    for place, record in read_rows(path, tally, header=_has_header(path)):
        if columns is None:
            columns = _text_columns(list(record), given or {}, path)
        try:
            yield place, _as_text_with_id(record, columns, what)
        except Unusable as reason:
            tally.drop(str(reason), place)


def add_corpus(path: Path, writer: DatasetWriter) -> dict[int, int]:
    """Copy a corpus into a dataset.

    Returns:
        The number of every text, by digest: with its title and without. Of equal texts the first.
    """
    by_text: dict[int, int] = {}
    for place, document in read_texts(path, writer.tally, "document"):
        number = writer.add_document(document, place)
        by_text.setdefault(text_key(document.joined), number)
        if document.title and document.text:
            by_text.setdefault(text_key(document.text), number)
    if not by_text:
        raise DataError(f"{path} holds no document; expected ids and texts")
    return by_text


def add_queries(
    path: Path, writer: DatasetWriter, given: Mapping[str, tuple[str, ...]] | None = None
) -> None:
    """Copy the texts of the queries that have labels; count the others."""
    for place, query in read_texts(path, writer.tally, "query", given):
        if query.name is None or writer.queries.find(query.name) is None:
            writer.tally.leave_out("a query without labels", place)
        else:
            writer.add_query(query, place)


def _as_text_with_id(record: Mapping[str, object], columns: Columns, what: str) -> Text:
    """Take id, title and text of a row."""
    text = Text(
        as_text(value_of(record, columns, "text"), what),
        as_text(value_of(record, columns, "title"), "title"),
        as_name(value_of(record, columns, "id"), f"{what} id"),
    )
    if what == "query":
        text = Text(text.joined, "", text.name)
        if not text.text:
            raise Unusable("empty query")
    return text


def _text_columns(names: list[str], given: Mapping[str, tuple[str, ...]], path: Path) -> Columns:
    """Find the columns of a file of texts; without names, by their number."""
    if all(name.isdigit() for name in names):
        columns: Columns = {"id": ("1",), "text": (str(len(names)),)}
        if len(names) == 4:  # MS MARCO's documents: id, url, title, body
            columns["title"] = ("3",)
    else:
        columns = find_columns(names, TEXT_ROLES, given)
    require(columns, ("id", "text"), names, str(path))
    if columns.get("title") == columns["text"]:
        del columns["title"]
    return columns


def _has_header(path: Path) -> bool:
    """Tell whether a table's first line names its columns: one of them must be an id's."""
    if kind_of(path) not in {"csv", "tsv"}:
        return True
    for _, line in read_lines(path, Tally()):
        cells = re.split(r"[\t,]", line.decode("utf-8", "replace").strip().lower())
        return any(cell.strip('" ').replace("-", "_") in TEXT_ROLES["id"] for cell in cells)
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
