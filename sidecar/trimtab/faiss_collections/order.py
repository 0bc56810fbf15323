"""Points in the order of a payload's numbers or dates: ``order_by``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_collections.columns import Mask
from trimtab.faiss_collections.datetimes import read_moment
from trimtab.faiss_collections.points import Points
from trimtab.faiss_collections.replies import bad_format, unknown_variant, wrong_input


class Order:
    """An order over the points of a collection.

    A point with several values stands once for each, as in Qdrant.
    """

    def __init__(self, points: Points, data: Any) -> None:
        """Read a path, or an object with one, a direction and a value to start from.

        Raises:
            RequestError: It is malformed, or no payload has a number or a date there.
        """
        given = {"key": data} if isinstance(data, str) else data
        if not isinstance(given, dict):
            raise bad_format("missing field `key`")
        direction = given.get("direction") or "asc"
        if direction not in {"asc", "desc"}:
            raise unknown_variant(direction, ["asc", "desc"])
        column = points.column(given.get("key"))
        self._is_date = bool(np.isnan(column.numbers).all())
        values = column.moments if self._is_date else column.numbers
        if points.index.size and np.isnan(values).all():
            raise wrong_input(
                f"no payload has a number or a date under `{given.get('key')}`; order by another "
                "field"
            )
        self._exact = column.distinct
        self._sign = -1 if direction == "desc" else 1
        is_usable = ~np.isnan(values)
        start = self._read_start(given.get("start_from"))
        if start is not None:
            is_usable &= self._sign * values >= self._sign * start
        chosen = is_usable[column.codes]
        rows, codes = column.rows[chosen], column.codes[chosen]
        order = np.lexsort((rows, self._sign * values[codes]))
        self._rows, self._codes, self._values = rows[order], codes[order], values

    def _read_start(self, value: Any) -> float | None:
        """Read the value to start from."""
        if isinstance(value, str):
            moment = read_moment(value)
            if moment is None:
                raise bad_format(f"failed to parse date-time: {value}")
            return moment
        if value is not None and type(value) not in {int, float}:
            raise bad_format("data did not match any variant of untagged enum StartFrom")
        start: float | None = value
        return start

    def first(
        self, limit: int, allowed: Mask | None
    ) -> tuple[NDArray[np.int64], list[int | float]]:
        """Give the first rows that are allowed, and what each stands there by."""
        chosen = slice(None) if allowed is None else allowed[self._rows]
        rows, codes = self._rows[chosen][:limit], self._codes[chosen][:limit]
        if self._is_date:
            return rows, [int(moment) for moment in self._values[codes]]
        return rows, [self._exact[code] for code in codes]
