"""The best points of each value of a payload field: ``points/query/groups``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_collections.arguments import as_list, read_count, read_limit
from trimtab.faiss_collections.columns import Column
from trimtab.faiss_collections.index import Found
from trimtab.faiss_collections.points import Points
from trimtab.faiss_collections.query import Query
from trimtab.faiss_collections.replies import Json, bad_format

GROUP_SIZE = 3
_GROWTH = 4
_TYPES = (int, str)


class Grouping:
    """Groups the points of one collection by one field.

    A point joins one group for each of its values. One that has a value which is neither a whole
    number nor a text joins none: GroupId in lib/collection/src/grouping (1.19).
    """

    def __init__(self, points: Points, data: Json) -> None:
        """Read what is grouped by.

        Raises:
            RequestError: The field is missing or no path.
        """
        if data.get("group_by") is None:
            raise bad_format("missing field `group_by`")
        self._points = points
        self._data = data
        self._size = read_count(data, "group_size", GROUP_SIZE)
        self._limit = read_limit(data)
        self._column: Column = points.column(data["group_by"])
        fits = self._column.choose(lambda value: type(value) in _TYPES)
        self._can_join = self._column.where(fits) & ~self._column.where(~fits)
        allowed = points.filter(data.get("filter"))
        if allowed is not None:
            self._can_join &= allowed
        joining = self._can_join[self._column.rows]
        self._rows, self._codes = self._column.rows[joining], self._column.codes[joining]
        self._sizes = np.bincount(self._codes, minlength=len(self._column.distinct))

    def rank(self, query: Query) -> list[tuple[Any, Found]]:
        """Search, more and more points, until the groups are full or there is no more.

        Returns:
            Each group's value and points, the group with the best point first.

        Raises:
            RequestError: The query can't be answered.
        """
        wanted = self._limit * self._size
        data = {**self._data, "prefetch": _widen(self._data.get("prefetch"), self._size)}
        while True:
            found = query.rank(data, wanted, self._can_join).found
            groups = self._sort(found)
            if len(found.rows) < wanted or self._are_full(groups):
                return self._fill(groups, found)
            wanted *= _GROWTH

    def _sort(self, found: Found) -> dict[int, list[int]]:
        """Give the places of the found points by group; groups in the order of their best."""
        groups: dict[int, list[int]] = {}
        for place, row in enumerate(found.rows.tolist()):
            for code in self._codes_of(row):
                if code in groups or len(groups) < self._limit:
                    places = groups.setdefault(code, [])
                    if len(places) < self._size:
                        places.append(place)
        return groups

    def _codes_of(self, row: int) -> list[int]:
        """Give the groups of a row."""
        start, stop = np.searchsorted(self._rows, [row, row + 1])
        codes: list[int] = self._codes[start:stop].tolist()
        return codes

    def _are_full(self, groups: dict[int, list[int]]) -> bool:
        """Tell whether no further point could join a group."""
        n_possible = min(self._limit, int(np.count_nonzero(self._sizes)))
        return len(groups) == n_possible and all(
            len(places) == min(self._size, int(self._sizes[code]))
            for code, places in groups.items()
        )

    def _fill(self, groups: dict[int, list[int]], found: Found) -> list[tuple[Any, Found]]:
        """Give each group its value and points."""
        answer: list[tuple[Any, Found]] = []
        for code, places in groups.items():
            at: NDArray[np.int64] = np.array(places)
            answer.append((self._column.distinct[code], Found(found.rows[at], found.scores[at])))
        return answer


def _widen(prefetch: Any, times: int) -> Any:
    """Prefetch more, as the server does: lib/collection/src/grouping/group_by.rs."""
    if prefetch is None:
        return None
    return [
        {
            **each,
            "limit": read_limit(each) * times,
            "prefetch": _widen(each.get("prefetch"), times),
        }
        for each in as_list(prefetch)
    ]
