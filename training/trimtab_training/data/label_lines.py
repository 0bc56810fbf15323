"""Lines of relevance labels, BEIR's and TREC's, and whether their ids are those of the texts."""

import re
import unicodedata
from collections.abc import Collection, Container, Iterable, Iterator, Sequence

from trimtab_training.errors import DataError

_TREC_FIELDS = 4
_HEADERS = (  # names of the columns of labels: query, document, grade; _ and - are one
    {"query-id", "queryid", "query", "qid", "topic", "topic-id"},
    {"corpus-id", "corpusid", "doc-id", "docid", "document-id", "document", "doc", "docno", "pid",
     "passage-id", "product-id", "item-id"},
    {"score", "grade", "relevance", "rel", "label", "relevancy", "gain"},
)  # fmt: skip
_LIKE = (  # words in such names
    re.compile("quer|topic|question|search"),
    re.compile("doc|corpus|passage|product|item|sku|ur[il]"),
    re.compile("score|grade|rel|label|gain|rating|judg"),
)
_LIKE_RANK = re.compile("rank|position")
_ITERATION_NAMES = {"iteration", "iter", "q0", "0", "unused"}  # of TREC's second column
_ITERATION = re.compile(r"-?\d+(\.\d+)?|[Qq]0")  # what it holds if not one word; rounds are 0.5
_NOT_NAMES = {"true", "false", "nan", "inf", "infinity"}  # where a grade is expected

LabelCells = tuple[str, str, str]
"""Query, document and grade as they are written."""

LabelPlaces = tuple[int, int, int, int]
"""Which columns of a file of labels hold query, document and grade, from 0, and how many it has."""


def label_rows(
    lines: Iterable[tuple[int, str]], where: object
) -> Iterator[tuple[int, LabelCells | None]]:
    """Take the labels out of a file's lines, as its header says; skip empty lines and the header.

    Args:
        lines: Each with its place.
        where: The file, for messages.

    Yields:
        A line's place, and its query, document and grade; None where it has other columns.

    Raises:
        DataError: The header can't be read whole, or lines tell that the columns are others than
            BEIR's or TREC's.
    """
    places: LabelPlaces | None = None
    iteration, is_begun = None, False
    for place, line in lines:
        if not line.strip():
            continue
        if not is_begun and (places := header_places(line, where)) is not None:
            is_begun = True
            continue
        cells = label_cells(line, places)
        if cells is None or _is_word(cells[2]):
            _refuse_other_header(line, cells, where)
        is_begun = is_begun or cells is not None
        if cells is not None and places is None:
            _refuse_letor(cells, where)
            iteration = _check_iteration(line, iteration, where)
        yield place, cells


def header_places(line: str, where: object) -> LabelPlaces | None:
    """Read a first line that names the columns of labels; None where it is a label, or neither.

    Of the columns of BEIR or TREC, in their order, one may have a name that is not known.

    Args:
        line: The line.
        where: Its file, for the message.

    Raises:
        DataError: Its names don't tell query, document and grade, or they name a rank.
    """
    names = _header_cells(line)
    places = label_places(line)
    if places is not None and any(map(_LIKE_RANK.search, names)):
        raise DataError(
            f"{where}: its header names {', '.join(names)}, as that of a run does, and the "
            "scores of a run judge nothing; give labels, or take the rank out if these are"
        )
    cells = label_cells(line)
    if places is not None or cells is None or not _is_word(cells[2]):
        return places
    if len(names) == _TREC_FIELDS and names[1] in _ITERATION_NAMES:
        places = 0, 2, 3, _TREC_FIELDS
    elif len(names) == _TREC_FIELDS - 1:
        places = 0, 1, 2, len(names)
    if places is None or not _are_in_order([names[place] for place in places[:-1]]):
        raise DataError(
            f"{where}: its header names {', '.join(names)}, which is no known order of labels; "
            "call the columns query-id, corpus-id and score (if it is a label, its grade is no "
            "number)"
        )
    return places


def label_places(line: str) -> LabelPlaces | None:
    """Find query, document and grade by the names in a header; None where they don't tell."""
    cells = _header_cells(line)
    found = [[place for place, cell in enumerate(cells) if cell in names] for names in _HEADERS]
    if not all(len(places) == 1 for places in found):
        return None
    (query,), (document,), (grade,) = found
    return query, document, grade, len(cells)


def label_cells(line: str, places: LabelPlaces | None = None) -> LabelCells | None:
    """Take query, document and grade from a line of BEIR's or TREC's labels; None if it is none.

    Ids may hold spaces where tabs part the columns.

    Args:
        line: The line.
        places: What a header says about the columns; lines with another number of them are none.
    """
    cells = _columns(line, places)
    if cells is None:
        return None
    if places is None:
        places = (0, 2, 3, 4) if len(cells) == _TREC_FIELDS else (0, 1, 2, 3)
    query, document, grade = (cells[place] for place in places[:-1])
    return query, document, grade


def _columns(line: str, places: LabelPlaces | None) -> list[str] | None:
    """Part a line by tabs, or TREC's four columns by blanks; None if it has another number."""
    n_columns = (_TREC_FIELDS - 1, _TREC_FIELDS) if places is None else places[-1:]
    tabbed = [_unquoted(cell.strip()) for cell in line.split("\t")]
    if len(tabbed) in n_columns:
        return tabbed
    spaced = line.split()
    return spaced if len(spaced) == _TREC_FIELDS and _TREC_FIELDS in n_columns else None


def _are_in_order(names: Sequence[str]) -> bool:
    """Tell whether names may be those of query, document and grade, all but one of them surely."""
    likes = [
        {role for role in range(3) if name in _HEADERS[role] or _LIKE[role].search(name)}
        for name in names
    ]
    is_any_rank = any(map(_LIKE_RANK.search, names))
    are_theirs = all(role in like or not like for role, like in enumerate(likes))
    return are_theirs and likes.count(set()) < 2 and not is_any_rank


def _is_word(grade: str) -> bool:
    """Tell what stands in a grade's place and is a name, or no grade at all."""
    return grade[:1].isalpha() and grade.lower() not in _NOT_NAMES


def _refuse_other_header(line: str, cells: LabelCells | None, where: object) -> None:
    """Refuse a later line that names columns, unless those are the ones that are read so far."""
    names = _header_cells(line)
    n_known = sum(name in of for name in names for of in _HEADERS)
    if n_known > 1 and (cells is None or not _are_in_order(list(map(_plain_name, cells)))):
        raise DataError(
            f"{where}: a line further down names other columns: {', '.join(names)}; give files of "
            "one order each, or call the columns query-id, corpus-id and score in the first line"
        )


def _refuse_letor(cells: LabelCells, where: object) -> None:
    """Refuse lines of learning to rank, which begin with the grade."""
    if cells[1].startswith("qid:"):
        raise DataError(
            f"{where}: the second column holds {cells[1]!r}, as in LETOR's form (grade, qid:QUERY, "
            "...); expected query-id, corpus-id, score, or TREC's query, 0, document, grade"
        )


def _check_iteration(line: str, word: str | None, where: object) -> str | None:
    """Refuse four columns without names whose second is not TREC's, which says nothing.

    Args:
        line: The line of a label.
        word: What stood there before, if it is neither a number nor Q0.
        where: The file, for the message.

    Returns:
        What stands there, likewise.

    Raises:
        DataError: It is another word than before.
    """
    cells = _columns(line, None) or []
    if len(cells) < _TREC_FIELDS or _ITERATION.fullmatch(cells[1]):
        return word
    if word not in {None, cells[1]}:
        raise DataError(
            f"{where}: the second of four columns holds {word!r} and {cells[1]!r}, where TREC's "
            "query, 0, document, grade have a number or Q0; name all four in a first line, as in "
            "query-id iteration corpus-id score if these are assessors or the like"
        )
    return cells[1]


def _unquoted(cell: str) -> str:
    """Take off the quotes that spreadsheets and R put around whole cells."""
    is_quoted = len(cell) > 2 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1]
    return cell[1:-1] if is_quoted else cell


def read_number(text: str) -> float:
    """Read a number as files have it: only Python takes 1_0 for 10, or digits of other scripts.

    Raises:
        ValueError: It is none.
    """
    if "_" in text or not text.strip().isascii():
        raise ValueError(f"not a number: {text!r}")
    return float(text)


def _header_cells(line: str) -> list[str]:
    """Take the names of a header apart."""
    cells = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
    return list(map(_plain_name, cells)) or [""]


def _plain_name(cell: str) -> str:
    """Write a column's name in lower case with dashes."""
    return re.sub("[_ ]", "-", cell.strip().strip('"').lower())


def refuse_swapped(
    named: tuple[Collection[str], Collection[str]],
    known: tuple[Container[str] | None, Container[str] | None],
    where: object,
) -> None:
    """Refuse labels that name documents where queries are expected, and the other way round.

    Args:
        named: Ids that labels have for queries, and for documents.
        known: Ids of the queries and documents that exist; None where that is not known.
        where: The labels' place, for the message.

    Raises:
        DataError: Of the ids, over twice the share exists the other way round.
    """
    sides = [(one, here) for one, here in zip(named, known, strict=True) if here is not None]
    other_sides = zip(reversed(named), known, strict=True)
    crossed = [(one, here) for one, here in other_sides if here is not None]
    misplaced = {name for one, here in crossed for name in one if name in here}
    if _share_known(crossed) > 2 * _share_known(sides):
        raise DataError(
            f"{where}: the columns of queries and documents are swapped: {len(misplaced)} "
            f"ids, such as {min(misplaced)!r}, stand in the other's column; expected query-id, "
            "corpus-id, score (in TREC's form query, 0, document, grade)"
        )


def _share_known(sides: Sequence[tuple[Collection[str], Container[str]]]) -> float:
    """Give the share of ids that exist."""
    n_known = sum(name in known for names, known in sides for name in names)
    return n_known / max(sum(len(names) for names, _ in sides), 1)


def explain_unlike(wanted: Collection[str], known: Collection[str]) -> str:
    """Say how ids differ from those that they should be among: an example of each, and the cause.

    Returns:
        Such as ``'7.0' against '7': pandas writes ...``; empty where one side has none.
    """
    if not wanted or not known:
        return ""
    plain = {_plain_id(one): one for one in known}
    for one in sorted(wanted):
        other = plain.get(_plain_id(one))
        if other is not None and other != one:
            return f"{one!r} against {other!r}: {_why_unlike(one, other)}"
    return f"{min(wanted)!r} against {min(known)!r}"


def _why_unlike(one: str, other: str) -> str:
    """Say what two ids of one thing differ by; forms of Unicode look the same to the eye."""
    if one.endswith(".0") or other.endswith(".0"):
        return "pandas writes whole numbers beside a missing one with .0"
    if _visible(one) == _visible(other):
        return (
            f"{one!a} and {other!a} are two spellings of one text in Unicode; write "
            "both files in one form, such as NFC, and without invisible marks"
        )
    return "zeros, blanks or capitals differ; write both files alike"


def _visible(name: str) -> str:
    """Write a text in one of Unicode's forms, and without marks that nobody sees."""
    if name.isascii():
        return name
    plain = unicodedata.normalize("NFC", name)
    return "".join(mark for mark in plain if unicodedata.category(mark) != "Cf")


def _plain_id(name: str) -> str:
    """Write an id without what programs add to ids and take from them."""
    return _visible(name).strip().strip('"').removesuffix(".0").lstrip("0").casefold()
