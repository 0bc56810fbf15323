"""Files of queries and documents with ids: rows of any kind, and TREC's tagged text."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from training.errors import ConfigError, DataError
from training.importers.columns import TEXT_ROLES, Columns, find_columns, require, value_of
from training.importers.settings import ImportSettings
from training.importers.sources import kind_of, read_lines, read_rows
from training.importers.tagged import has_record, read_tagged
from training.importers.tally import Tally
from training.importers.texts import Text, Unusable, as_name, as_text, text_key
from training.importers.writer import DatasetWriter

_SNIFFED_LINES = 20
_OF_QUERIES = {"query_id": "id", "query": "text"}
_OF_DOCUMENTS = {
    "id": "id", "document_id": "id", "title": "title", "text": "text", "document": "text",
}  # fmt: skip


def find_file(folder: Path, stem: str) -> Path | None:
    """Find a folder's file of a name, whatever its kind."""
    found = [path for path in sorted(folder.glob(f"{stem}.*")) if kind_of(path)]
    return found[0] if found else None


def add_texts(settings: ImportSettings, writer: DatasetWriter) -> None:
    """Copy the texts of queries, then of documents, as far as files of them are given.

    Raises:
        ConfigError: A column was named that neither file has.
        DataError: A file can't be read, or holds nothing of use.
    """
    of_queries, of_documents = _OF_QUERIES, _OF_DOCUMENTS
    if settings.corpus is None:  # one file: its id needs no other word
        of_queries, of_documents = {**_OF_QUERIES, "id": "id", "text": "text"}, {}
    for role in settings.columns:
        is_used = role in of_documents or (role in of_queries and settings.queries is not None)
        if not is_used:
            raise ConfigError(
                f"--column {role}=... says nothing: of a file of queries the roles are "
                f"{', '.join(_OF_QUERIES)}, of one of documents {', '.join(_OF_DOCUMENTS)}"
            )
    if settings.queries is not None:
        add_queries(settings.queries, writer, _given(settings.columns, of_queries))
    if settings.corpus is not None:
        add_corpus(settings.corpus, writer, _given(settings.columns, of_documents))


def _given(
    columns: Mapping[str, tuple[str, ...]], roles: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Take the columns, or tags, that the user named for one file."""
    return {roles[role]: names for role, names in columns.items() if role in roles}


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
    kind = kind_of(path) or _sniff_kind(path, what)
    if kind == "tagged":
        yield from read_tagged(path, tally, what, given or {})
        return
    columns: Columns | None = None
    for place, record in read_rows(path, tally, header=_has_header(path, kind), kind=kind):
        if columns is None:
            columns = _text_columns(list(record), given or {}, path, what)
        try:
            yield place, _as_text_with_id(record, columns, what)
        except Unusable as reason:
            tally.drop(str(reason), place)


def add_corpus(
    path: Path, writer: DatasetWriter, given: Mapping[str, tuple[str, ...]] | None = None
) -> dict[int, int]:
    """Copy a corpus into a dataset.

    Args:
        path: Its file.
        writer: The dataset.
        given: Columns, or tags, of ``id``, ``title`` and ``text``, as the user names them.

    Returns:
        The number of every text, by digest: with its title and without. Of equal texts the first.
    """
    by_text: dict[int, int] = {}
    with writer.tally.reading("documents"):
        for place, document in read_texts(path, writer.tally, "document", given):
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
    """Copy the texts of the queries that have labels; count the others.

    Raises:
        DataError: The file holds no query, or none that has a label.
    """
    n_queries = 0
    example: str | None = None
    with writer.tally.reading("queries"):
        for place, query in read_texts(path, writer.tally, "query", given):
            n_queries += 1
            example = example or query.name
            if query.name is None or writer.queries.find(query.name) is None:
                writer.tally.leave_out("a query without labels", place)
            else:
                writer.add_query(query, place)
        writer.tally.check()
    if not n_queries:
        raise DataError(f"{path} holds no query; expected ids and texts")
    if not writer.queries.n_texts:
        raise DataError(
            f"none of the {n_queries} queries in {path} (such as {example!r}) has a label; are "
            "they of the same set?"
        )


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


def _text_columns(
    names: list[str], given: Mapping[str, tuple[str, ...]], path: Path, what: str
) -> Columns:
    """Find the columns of a file of texts; without names, by their number."""
    if all(name.isdigit() for name in names):
        columns: Columns = {"id": ("1",), "text": (str(len(names)),)}
        if len(names) == 4:  # MS MARCO's documents: id, url, title, body
            columns["title"] = ("3",)
    else:
        columns = find_columns(names, TEXT_ROLES, given)
    said = {"id": "query_id", "text": "query"} if what == "query" else {}
    found = {said.get(role, role): of for role, of in columns.items()}
    require(found, (said.get("id", "id"), said.get("text", "text")), names, str(path))
    if columns.get("title") == columns["text"]:
        del columns["title"]
    return columns


def _has_header(path: Path, kind: str) -> bool:
    """Tell whether a table's first line names its columns: one of them must be an id's."""
    if kind not in {"csv", "tsv"}:
        return True
    return any(_names_columns(line.decode("utf-8", "replace")) for line in _first_lines(path, 1))


def _names_columns(line: str) -> bool:
    """Tell a line that names an id's column."""
    cells = re.split(r"[\t,]", line.strip().lower())
    return any(cell.strip('" ').replace("-", "_") in TEXT_ROLES["id"] for cell in cells)


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
    if "," in lines[0] and _names_columns(lines[0]):
        return "csv"
    raise DataError(
        f"can't tell what {path} holds: {lines[0].strip()[:60]!r}; expected {what} ids and texts "
        "parted by tabs, JSON Lines, CSV with names of columns, or TREC's tagged text (<top>, "
        "<topic>, <DOC>)"
    )
