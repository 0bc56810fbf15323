"""Labels by the million: five numbers each, and what must hold of them once all are there."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab_training.data.importers.tally import Tally
from trimtab_training.data.qrels import SPLITS
from trimtab_training.data.splits import unit_hash

Flags = NDArray[np.bool_]
Names = Callable[[int], str]


@dataclass(frozen=True)
class Labels:
    """Columns of labels, one row a label.

    Attributes:
        split: 0 train, 1 dev, 2 test.
        query: Number of the query.
        document: Number of the document.
        grade: Grade; 0 or less is a judged non-relevant document.
        place: Where the label was read.
    """

    split: NDArray[np.int8]
    query: NDArray[np.int64]
    document: NDArray[np.int64]
    grade: NDArray[np.float64]
    place: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the labels."""
        return len(self.query)

    def take(self, rows: NDArray[np.int64] | Flags) -> "Labels":
        """Keep some labels."""
        return Labels(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


class LabelTable:
    """Labels as they are read: 33 bytes each."""

    def __init__(self) -> None:
        """Begin empty."""
        self._split, self._grade = array("b"), array("d")
        self._query, self._document, self._place = array("q"), array("q"), array("q")

    def add(self, split: int, query: int, document: int, grade: float, place: int) -> None:
        """Append one label."""
        self._split.append(split)
        self._query.append(query)
        self._document.append(document)
        self._grade.append(grade)
        self._place.append(place)

    def columns(self) -> Labels:
        """Look at all labels; nothing can be added while somebody does."""
        return Labels(
            np.frombuffer(self._split, np.int8),
            np.frombuffer(self._query, np.int64),
            np.frombuffer(self._document, np.int64),
            np.frombuffer(self._grade, np.float64),
            np.frombuffer(self._place, np.int64),
        )


def keep_known(labels: Labels, known: Flags, what: str, tally: Tally) -> Labels:
    """Drop the labels of queries, or documents, that have no text.

    Args:
        labels: All labels.
        known: Whether each number has a text.
        what: ``query`` or ``document``.
        tally: Counts what is dropped.
    """
    numbers = labels.query if what == "query" else labels.document
    is_known = known[numbers]
    if is_known.all():
        return labels
    first = int(labels.place[~is_known].min())
    tally.drop(f"the label's {what} has no text", first, int((~is_known).sum()))
    return labels.take(is_known)


def merge_repeated(labels: Labels, tally: Tally) -> Labels:
    """Keep each pair of a split once, with its highest grade; count the others.

    The result is ordered by query, then document, as they were first seen.
    """
    if not len(labels):
        return labels
    order = np.lexsort((labels.place, -labels.grade, labels.document, labels.query, labels.split))
    rows = labels.take(order)
    is_first = np.ones(len(rows), dtype=bool)
    for column in (rows.split, rows.query, rows.document):
        is_first[1:] &= column[1:] == column[:-1]
    is_first[1:] = ~is_first[1:]
    best = rows.grade[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    for reason, chosen in (
        ("the same label again", ~is_first & (rows.grade == best)),
        ("the same pair with a lower grade", ~is_first & (rows.grade != best)),
    ):
        if chosen.any():
            tally.leave_out(reason, int(rows.place[chosen].min()), int(chosen.sum()))
    return rows.take(is_first)


def home_splits(
    labels: Labels, names: Names, shares: Sequence[float] | None = None
) -> NDArray[np.int64]:
    """Say of every query number the one split that it is to be in; as ``keep_one_split`` has it."""
    stands = np.zeros((int(labels.query.max()) + 1, len(SPLITS)), dtype=bool)
    stands[labels.query, labels.split] = True
    home: NDArray[np.int64] = len(SPLITS) - 1 - stands[:, ::-1].argmax(axis=1).astype(np.int64)
    if shares is not None:
        for query in np.flatnonzero(stands.sum(axis=1) > 1).tolist():
            reach = np.cumsum(np.asarray(shares) * stands[query])
            home[query] = np.searchsorted(reach, unit_hash(names(query), "split") * reach[-1])
    return home


def keep_one_split(
    labels: Labels, tally: Tally, names: Names, shares: Sequence[float] | None = None
) -> Labels:
    """Leave every query in one split, so that none is trained on and tested.

    Args:
        labels: All labels.
        tally: Counts what is left out.
        names: Gives a query's id for its number.
        shares: Draw the split of a query that stands in several by a hash of its id, with these
            shares for train, dev and test. Without, it stays where it is tested: in test, else
            in dev.
    """
    if not len(labels):
        return labels
    home = home_splits(labels, names, shares)
    stays = labels.split == home[labels.query]
    if stays.all():
        return labels
    first = int(labels.place[~stays].min())
    tally.leave_out("query has labels in another split", first, int((~stays).sum()))
    return labels.take(stays)
