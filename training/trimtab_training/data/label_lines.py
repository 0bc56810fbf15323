"""Lines of relevance labels, BEIR's and TREC's, and whether their ids are those of the texts."""

from collections.abc import Collection, Container, Sequence

from trimtab_training.errors import DataError

_TREC_FIELDS = 4
_HEADERS = (  # names of the columns of labels: query, document, grade; _ and - are one
    {"query-id", "queryid", "query", "qid", "topic", "topic-id"},
    {"corpus-id", "corpusid", "doc-id", "docid", "document-id", "document", "doc", "docno", "pid",
     "passage-id"},
    {"score", "grade", "relevance", "rel", "label", "relevancy"},
)  # fmt: skip

LabelPlaces = tuple[int, int, int, int]
"""Which columns of a file of labels hold query, document and grade, from 0, and how many it has."""


def is_label_header(line: str) -> bool:
    """Tell a first line that names the columns of labels."""
    cells = _header_cells(line)
    return cells[0] in _HEADERS[0] or label_places(line) is not None


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
    tabbed = [cell.strip() for cell in line.split("\t")]
    if places is not None and len(tabbed) == places[-1]:
        query, document, grade = (tabbed[place] for place in places[:-1])
        return query, document, grade
    if len(tabbed) == _TREC_FIELDS - 1:
        return tabbed[0], tabbed[1], tabbed[2]
    spaced = line.split()
    return (spaced[0], spaced[2], spaced[3]) if len(spaced) == _TREC_FIELDS else None


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
            cause = (
                "pandas writes whole numbers beside a missing one with .0"
                if (one.endswith(".0") or other.endswith(".0"))
                else "zeros, blanks or capitals differ; write both files alike"
            )
            return f"{one!r} against {other!r}: {cause}"
    return f"{min(wanted)!r} against {min(known)!r}"


def _plain_id(name: str) -> str:
    """Write an id without what programs add to ids and take from them."""
    return name.strip().strip('"').removesuffix(".0").lstrip("0").casefold()
