"""Lines of relevance labels, BEIR's and TREC's, and whether their ids are those of the texts."""

import re
import unicodedata
from collections.abc import Collection, Container, Sequence

from trimtab_training.errors import DataError

_TREC_FIELDS = 4
_HEADERS = (  # names of the columns of labels: query, document, grade; _ and - are one
    {"query-id", "queryid", "query", "qid", "topic", "topic-id"},
    {"corpus-id", "corpusid", "doc-id", "docid", "document-id", "document", "doc", "docno", "pid",
     "passage-id", "product-id", "item-id"},
    {"score", "grade", "relevance", "rel", "label", "relevancy", "gain"},
)  # fmt: skip
_LIKE_DOCUMENT = re.compile("doc|corpus|passage|product|item|ur[il]")
_LIKE_GRADE = re.compile("score|grade|rel|label|gain|rating|judg")
_LIKE_RANK = re.compile("rank|position")

LabelPlaces = tuple[int, int, int, int]
"""Which columns of a file of labels hold query, document and grade, from 0, and how many it has."""


def is_label_header(line: str, where: object) -> bool:
    """Tell a first line that names the columns of labels.

    Args:
        line: The line.
        where: Its place, for the message.

    Raises:
        DataError: It begins with the query, and names the others in another order than they are
            read in, or a rank.
    """
    cells = _header_cells(line)
    if label_places(line) is not None:
        if any(map(_LIKE_RANK.search, cells)):
            raise DataError(
                f"{where}: its header names {', '.join(cells)}, as that of a run does, and the "
                "scores of a run judge nothing; give labels, or take the rank out if these are"
            )
        return True
    if cells[0] not in _HEADERS[0]:
        return False
    document, last = cells[-2:] if len(cells) > 2 else ("", "")
    is_other = _LIKE_GRADE.search(document) or _LIKE_DOCUMENT.search(last)
    if is_other or _LIKE_RANK.search(last):
        raise DataError(
            f"{where}: its header names {', '.join(cells)}, which is no known order of labels; "
            "call the columns query-id, corpus-id and score"
        )
    return True


def label_places(line: str) -> LabelPlaces | None:
    """Find query, document and grade by the names in a header; None where they don't tell."""
    cells = _header_cells(line)
    found = [[place for place, cell in enumerate(cells) if cell in names] for names in _HEADERS]
    if not all(len(places) == 1 for places in found):
        return None
    (query,), (document,), (grade,) = found
    return query, document, grade, len(cells)


def label_cells(line: str, places: LabelPlaces | None = None) -> tuple[str, str, str] | None:
    """Take query, document and grade from a line of BEIR's or TREC's labels; None if it is none.

    Ids may hold spaces where tabs part the columns.

    Args:
        line: The line.
        places: What a header says about the columns.
    """
    tabbed = [_unquoted(cell.strip()) for cell in line.split("\t")]
    if places is not None and len(tabbed) == places[-1]:
        query, document, grade = (tabbed[place] for place in places[:-1])
        return query, document, grade
    if len(tabbed) == _TREC_FIELDS - 1:
        return tabbed[0], tabbed[1], tabbed[2]
    spaced = line.split()
    return (spaced[0], spaced[2], spaced[3]) if len(spaced) == _TREC_FIELDS else None


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
    return [cell.strip().strip('"').lower().replace("_", "-") for cell in cells] or [""]


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
