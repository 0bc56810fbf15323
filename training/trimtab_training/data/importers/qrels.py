"""Files of labels as a stream: BEIR's three columns, or TREC's four."""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path

from trimtab_training.data.importers.columns import as_number
from trimtab_training.data.importers.lines import read_lines
from trimtab_training.data.importers.settings import grade_from
from trimtab_training.data.importers.sources import files_by_split, left_aside
from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.importers.texts import Unusable, as_name
from trimtab_training.data.importers.understood import SAMPLE_ROWS, Reading
from trimtab_training.data.importers.writer import DatasetWriter
from trimtab_training.data.label_lines import header_places, label_cells, label_rows
from trimtab_training.errors import DataError

Label = tuple[int, str, str, float]
"""Place, query id, document id and grade."""

_SUFFIXES = (".tsv", ".qrels", ".qrel", ".trec", ".txt")
_ITERATIONS = {"0", "Q0"}  # TREC's second column, which nobody uses
_LIKE_A_RUN = 8  # steps from a grade to the next within queries, all of them by one, or down;
# and different grades, more than which are scores where they fall
_MANY_GRADES = 5  # of a query, from which 0, 1, 2, ... are ranks
_ROLES = ("query", "document", "score")


def qrels_by_split(source: Path, split: int) -> list[tuple[int, Path]]:
    """Find files of labels and the split of each.

    Raises:
        DataError: There is none, or one may be a copy of another.
    """
    return files_by_split(source, split, is_known=_is_labels, kinds=_SUFFIXES)


def add_labels(
    source: Path, split: int, writer: DatasetWriter, relevant_from: float | None
) -> None:
    """Read labels by id; the texts may come later.

    Args:
        source: A file, or a folder of files by split.
        split: Split of a single file.
        writer: Takes the labels.
        relevant_from: Grades below are judged non-relevant.

    Raises:
        DataError: A file holds something and gives no label, or its columns are in another order.
    """
    files = qrels_by_split(source, split)
    notes = [f"left aside: {name}" for name in left_aside(source, files)]
    for number, path in files:
        _show(path, writer, notes, is_grade=relevant_from is not None)
        notes, n_read = [], 0
        for place, query, document, grade in read_qrels(path, writer.tally):
            names = writer.queries.number(query), writer.documents.number(document)
            writer.labels.add(number, *names, grade_from(grade, relevant_from), place)
            n_read += 1
        if not n_read and path.stat().st_size:
            writer.tally.check()
            raise DataError(f"{path} gives no label: {writer.tally.explain()}")


def read_qrels(path: Path, tally: Tally) -> Iterator[Label]:
    """Yield place, query id, document id and grade of every line; drop what is none."""
    lines = (
        (place, raw.decode("utf-8", "surrogateescape").rstrip("\r\n"))
        for place, raw in read_lines(path, tally)
    )
    for place, cells in label_rows(lines, path):
        tally.row()
        if cells is None:
            tally.drop("not a label: neither BEIR's three columns nor TREC's four", place)
            continue
        try:
            names = as_name(cells[0], "query id"), as_name(cells[1], "document id")
            yield place, *names, as_number(cells[2], "grade")
        except Unusable as reason:
            tally.drop(str(reason), place)


def _is_labels(path: Path) -> bool:
    """Tell a file of labels by how its name ends."""
    return path.name.lower().removesuffix(".gz").endswith(_SUFFIXES)


def _refuse_run(sample: Sequence[Label], path: Path) -> None:
    """Refuse ranks and scores that stand where grades do, as runs have them: query, document, rank.

    Raises:
        DataError: With both readings.
    """
    by_query: dict[str, list[float]] = {}
    for _, query, _, grade in sample:
        by_query.setdefault(query, []).append(grade)
    ranked = [of for of in by_query.values() if len(of) > 1]
    if sum(len(of) - 1 for of in ranked) < _LIKE_A_RUN:
        return
    n_most = max(map(len, ranked))
    first = 0 if n_most >= _MANY_GRADES and min(map(min, ranked)) == 0 else 1
    counted = [list(range(first, first + len(of))) for of in ranked]
    if ranked == counted:
        raise DataError(
            f"{path}: grades count {first}, {first + 1}, {first + 2}, ... within each query, as "
            "the ranks of a run do; expected labels; if they are grades, say --relevant-from 1"
        )
    n_whole = len(ranked) - (len(sample) == SAMPLE_ROWS)  # the last query may go on
    are_all = list(map(sorted, ranked[:n_whole])) == counted[:n_whole]
    if n_most >= _MANY_GRADES and n_whole and are_all:
        raise DataError(
            f"{path}: each query has every grade from {first} on once, up to "
            f"{first + n_most - 1}, as the ranks of a run are; expected labels; if they are "
            "grades, say --relevant-from 1"
        )
    grades = [grade for of in ranked for grade in of]
    has_fractions = 2 * sum(not grade.is_integer() for grade in grades) > len(grades)
    is_falling = all(one > other for of in ranked for one, other in pairwise(of))
    if is_falling and (has_fractions or len(set(grades)) > _LIKE_A_RUN):
        raise DataError(
            f"{path}: grades such as {', '.join(f'{grade:g}' for grade in ranked[0][:3])} fall "
            "from line to line within each query, as the scores of a run do; expected labels; if "
            "they are grades, say from where one is relevant: --relevant-from GRADE"
        )


def _show(path: Path, writer: DatasetWriter, notes: list[str], *, is_grade: bool) -> None:
    """Tell how a file of labels is understood."""
    sample = list(islice(read_qrels(path, Tally()), SAMPLE_ROWS))
    if not is_grade:
        _refuse_run(sample, path)
    documents = {document for _, _, document, _ in sample}
    if len(sample) > 1 and documents <= _ITERATIONS:
        raise DataError(
            f"{path}: every document is {min(documents)!r}: the columns look like query, document, "
            "0, grade; expected query, 0, document, grade, or query-id, corpus-id, score with tabs"
        )
    writer.understood.file(
        Reading(
            path.name,
            "labels",
            _columns_of(path),
            n_rows=len(sample),
            examples=[
                {"query-id": query, "corpus-id": document, "score": grade}
                for _, query, document, grade in sample
            ],
            grades=[grade for *_, grade in sample],
            notes=notes,
        )
    )


def _columns_of(path: Path) -> dict[str, tuple[str]]:
    """Name the columns in use: as the header does, or by number."""
    for _, raw in read_lines(path, Tally()):
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        places = header_places(line, path)
        if places is not None:
            cells = line.split("\t") if "\t" in line else line.split()
            return {
                role: (cells[place].strip(),) for role, place in zip(_ROLES, places, strict=False)
            }
        if label_cells(line) is None:
            continue
        numbers = "123" if len(line.split("\t")) == 3 else "134"
        return {role: (number,) for role, number in zip(_ROLES, numbers, strict=True)}
    return {}
