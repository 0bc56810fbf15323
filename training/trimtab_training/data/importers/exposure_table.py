"""What a click log showed and what was clicked, as counts, whatever the number of its rows."""

from array import array

import numpy as np
from numpy.typing import NDArray

from trimtab_training.data.importers.propensity import Exposures, Relevance

_COMPACT_AT = 4_000_000


class ExposureTable:
    """Counts of what was shown and clicked, added up whenever they are many.

    Attributes:
        clicks: Where clicks are counted: here, or beside, where what counts here is comparisons.
    """

    def __init__(self, clicks: "ExposureTable | None" = None) -> None:
        """Begin empty, with a table of the clicks where this one is of comparisons."""
        self.clicks = clicks or self
        self._split, self._rank, self._clicked = array("b"), array("h"), array("d")
        self._query, self._document = array("q"), array("q")
        self._keys = np.empty((4, 0), np.int64)
        self._shown, self._clicks = np.empty(0), np.empty(0)

    def add(self, split: int, query: int, document: int, rank: int, clicks: float) -> None:
        """Count one document shown, and its clicks."""
        self._split.append(split)
        self._query.append(query)
        self._document.append(document)
        self._rank.append(rank)
        self._clicked.append(clicks)
        if len(self._split) >= _COMPACT_AT:
            self._compact()

    def exposures(self, split: int) -> Exposures:
        """Give one split's counts."""
        self._compact()
        rows = self._keys[0] == split
        query, document, rank = self._keys[1:, rows]
        return Exposures(query, document, rank, self._shown[rows], self._clicks[rows])

    def move(self, split: int, other: int) -> None:
        """Count what one split was shown as shown to another."""
        self._compact()
        self._keys[0, self._keys[0] == split] = other
        self._add_up(self._keys, self._shown, self._clicks)
        if self.clicks is not self:
            self.clicks.move(split, other)

    def clicks_of(self, split: int, pairs: Relevance) -> NDArray[np.float64]:
        """Give how often each pair was clicked in a split that counts clicks beside comparisons.

        Args:
            split: Number of the split.
            pairs: Queries and documents, each pair once.

        Returns:
            Clicks, one a pair; 0 where there is none.
        """
        counts = self.clicks.exposures(split)
        width = 1 + max(int(of.document.max(initial=0)) for of in (counts, pairs))
        keys, wanted = (of.query * width + of.document for of in (counts, pairs))
        _, found, place = np.intersect1d(wanted, keys, assume_unique=True, return_indices=True)
        clicks = np.zeros(len(wanted))
        clicks[found] = counts.clicks[place]
        return clicks

    def _compact(self) -> None:
        """Add up rows of one key."""
        new = [np.array(one, np.int64) for one in (self._split, self._query, self._document)]
        new.append(np.array(self._rank, np.int64))
        if not len(new[0]):
            return
        keys = np.concatenate([self._keys, np.stack(new)], axis=1)
        shown = np.concatenate([self._shown, np.ones(len(new[0]))])
        clicks = np.concatenate([self._clicks, np.array(self._clicked, np.float64)])
        self._add_up(keys, shown, clicks)
        for column in (self._split, self._rank, self._clicked, self._query, self._document):
            del column[:]

    def _add_up(
        self, keys: NDArray[np.int64], shown: NDArray[np.float64], clicks: NDArray[np.float64]
    ) -> None:
        """Keep every key once, with its sums."""
        if not keys.shape[1]:
            return
        order = np.lexsort(keys[::-1])
        keys = keys[:, order]
        starts = np.flatnonzero(np.append(True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)))
        self._keys = keys[:, starts]
        self._shown = np.add.reduceat(shown[order], starts)
        self._clicks = np.add.reduceat(clicks[order], starts)
