"""How many points have each value of a payload field."""

import numpy as np

from trimtab.faiss_collections.columns import Column, Mask
from trimtab.faiss_collections.replies import Json

_TYPES = (bool, int, str)


def count_values(column: Column, allowed: Mask | None, limit: int) -> list[Json]:
    """Count points by value, the most frequent first, equals by value.

    Args:
        column: The field.
        allowed: Rows that count; None for all.
        limit: Values to give.

    Returns:
        Qdrant's ``hits``. Values other than texts, whole numbers and booleans are not counted.
    """
    codes = column.codes if allowed is None else column.codes[allowed[column.rows]]
    counts = np.bincount(codes, minlength=len(column.distinct)).tolist()
    hits = [
        (-count, _TYPES.index(type(value)), value)
        for value, count in zip(column.distinct, counts, strict=True)
        if count and type(value) in _TYPES
    ]
    return [{"value": value, "count": -count} for count, _, value in sorted(hits)[:limit]]
