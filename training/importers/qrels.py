"""Files of labels as a stream: BEIR's three columns, or TREC's four."""

from collections.abc import Iterator
from pathlib import Path

from training.errors import DataError
from training.importers.columns import as_number
from training.importers.settings import grade_from
from training.importers.sources import SPLIT_OF_STEM, read_lines
from training.importers.tally import Tally
from training.importers.texts import Unusable, as_name
from training.importers.writer import DatasetWriter

_SUFFIXES = {".tsv", ".qrels", ".qrel", ".trec", ".txt"}
_HEADERS = {"query-id", "query_id", "queryid", "query", "qid"}
_TREC_FIELDS = 4


def qrels_by_split(source: Path, split: int) -> list[tuple[int, Path]]:
    """Find files of labels and the split of each.

    Raises:
        DataError: There is none.
    """
    if source.is_file():
        return [(split, source)]
    if not source.is_dir():
        raise DataError(f"no labels at {source}; expected a file, or a folder of train, dev, test")
    found = [
        (number, path)
        for path in sorted(source.iterdir())
        for stem, number in SPLIT_OF_STEM.items()
        if path.name.lower().startswith(stem) and _SUFFIXES & set(path.suffixes)
    ]
    if not found:
        raise DataError(
            f"no labels in {source}; expected files that begin with train, dev or test and end "
            f"with {', '.join(sorted(_SUFFIXES))} (also .gz)"
        )
    return sorted(found, key=lambda item: item[0])


def add_labels(
    files: list[tuple[int, Path]], writer: DatasetWriter, relevant_from: float | None
) -> None:
    """Read labels by id; the texts may come later."""
    for split, path in files:
        for place, query, document, grade in read_qrels(path, writer.tally):
            names = writer.queries.number(query), writer.documents.number(document)
            writer.labels.add(split, *names, grade_from(grade, relevant_from), place)


def read_qrels(path: Path, tally: Tally) -> Iterator[tuple[int, str, str, float]]:
    """Yield place, query id, document id and grade of every line; drop what is none."""
    is_first = True
    for place, raw in read_lines(path, tally):
        line = raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not line.strip():
            continue
        cells = _cells(line)
        if is_first and cells and cells[0].lower() in _HEADERS:
            is_first = False
            continue
        is_first = False
        tally.row()
        if cells is None:
            tally.drop("not a label: neither BEIR's three columns nor TREC's four", place)
            continue
        try:
            names = as_name(cells[0], "query id"), as_name(cells[1], "document id")
            yield place, *names, as_number(cells[2], "grade")
        except Unusable as reason:
            tally.drop(str(reason), place)


def _cells(line: str) -> tuple[str, str, str] | None:
    """Take query, document and grade; ids may hold spaces where tabs part the columns."""
    tabbed = line.split("\t")
    if len(tabbed) == _TREC_FIELDS - 1:
        return tabbed[0].strip(), tabbed[1].strip(), tabbed[2].strip()
    spaced = line.split()
    return (spaced[0], spaced[2], spaced[3]) if len(spaced) == _TREC_FIELDS else None
