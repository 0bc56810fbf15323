"""The best points of each value of a payload field: ``points/query/groups``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_collections.arguments import as_list, read_count, read_limit
from trimtab.faiss_collections.index import Found
from trimtab.faiss_collections.query import Query
from trimtab.faiss_collections.replies import Json, bad_format

_GROWTH = 4
Rows = NDArray[np.int64]


def rank_groups(query: Query, data: Json) -> list[tuple[Any, Found]]:
    """Search, more and more points, until the groups are full or there is no more.

    A point joins one group for each of its values. One that has a value which is neither a whole
    number nor a text joins none: GroupId in lib/collection/src/grouping (1.19).

    Returns:
        Each group's value and points, the group with the best point first.
    """
    key = data.get("group_by")
    if key is None:
        raise bad_format("missing field `group_by`")
    size = min(read_count(data, "group_size", 3), query.points.table.n_rows)
    limit = read_limit(data)
    if not isinstance(key, str):
        raise bad_format("invalid type: expected a string as path into the payload")
    column = query.points.table.column(key)
    fits = column.choose(lambda value: type(value) in {int, str})
    can_join = column.where(fits) & ~column.where(~fits)
    allowed = query.points.filter(data.get("filter"))
    if allowed is not None:
        can_join &= allowed
    joining = can_join[column.rows]
    rows, codes = column.rows[joining], column.codes[joining]
    sizes = np.minimum(np.bincount(codes, minlength=len(column.distinct)), size)
    n_groups = min(limit, np.count_nonzero(sizes))
    # Prefetch more, as the server does: lib/collection/src/grouping/group_by.rs.
    prefetch = [
        {**each, "limit": read_limit(each) * size} for each in as_list(data.get("prefetch"))
    ]
    request = {**data, "filter": None, "prefetch": prefetch}
    wanted = limit * size
    while True:
        found = query.rank(request, wanted, can_join)
        groups = _group(found.rows, rows, codes, sizes, limit)
        are_full = len(groups) == n_groups and all(
            len(places) == sizes[code] for code, places in groups.items()
        )
        if are_full or len(found.rows) < wanted:
            return [
                (column.distinct[code], Found(found.rows[places], found.scores[places]))
                for code, places in groups.items()
            ]
        wanted *= _GROWTH


def _group(found: Rows, rows: Rows, codes: Rows, sizes: Rows, limit: int) -> dict[int, list[int]]:
    """Give the places of found rows by group, the group with the best first.

    Args:
        found: Rows, best first.
        rows: Row of each occurrence of a value, ascending.
        codes: The value of each.
        sizes: Places that the group of each value has.
        limit: Groups.
    """
    groups: dict[int, list[int]] = {}
    for place, row in enumerate(found.tolist()):
        start, stop = np.searchsorted(rows, [row, row + 1])
        for code in codes[start:stop].tolist():
            if code in groups or len(groups) < limit:
                places = groups.setdefault(code, [])
                if len(places) < sizes[code]:
                    places.append(place)
    return groups
