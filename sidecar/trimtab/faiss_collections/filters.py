"""Qdrant's filters over payloads: JSON in, one bit a row out.

Meaning as in qdrant-client 1.20 (local/payload_filters.py), which follows the server for fields
without an index.
"""

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.faiss_collections.arguments import as_list, read_flag
from trimtab.faiss_collections.columns import Column, Mask, Table
from trimtab.faiss_collections.datetimes import read_moment
from trimtab.faiss_collections.replies import Json, bad_format, invalid, not_served

Choose = Callable[[Column, Any], Mask]
"""Marks a column's rows, or its distinct values, by what a condition says."""

_CLAUSES = ("must", "should", "must_not", "min_should")
_BOUNDS: dict[str, Callable[[Any, Any], Any]] = {
    "gte": operator.ge, "gt": operator.gt, "lte": operator.le, "lt": operator.lt,
}  # fmt: skip
_LONE = ("values_count", "is_empty", "is_null")
"""Parts of a field condition beside which no other part counts, the strongest first."""
_GEO = ("geo_bounding_box", "geo_radius", "geo_polygon")
_TOKENS = re.compile(r"[^\W_]+")  # the server's word tokenizer: lib/segment, tokenizers/mod.rs
_NO_CONDITION = (
    'Expected some form of condition, which can be a field condition (like {"key": ..., "match":'
    " ... }), or some other mentioned in the documentation:"
    " https://qdrant.tech/documentation/concepts/filtering/#filtering-conditions"
)


class Filter:
    """Evaluates filters over one table."""

    def __init__(self, table: Table, rows_of: Callable[[Sequence[Any]], list[int]] | None) -> None:
        """Keep what filters are asked about.

        Args:
            table: The payloads.
            rows_of: Finds rows by id; None where rows are no points but parts of some.
        """
        self._table = table
        self._rows_of = rows_of

    def rows(self, data: Any) -> Mask:
        """Mark the rows that a filter lets pass."""
        if not isinstance(data, dict):
            raise bad_format("invalid type: expected struct Filter")
        if unknown := set(data) - set(_CLAUSES):
            raise bad_format(
                f"unknown field `{min(unknown)}`, expected one of {', '.join(_CLAUSES)}"
            )
        mask = np.ones(self._table.n_rows, np.bool_)
        for condition in as_list(data.get("must")):
            mask &= self._condition(condition)
        for condition in as_list(data.get("must_not")):
            mask &= ~self._condition(condition)
        if should := as_list(data.get("should")):  # an empty one says nothing
            mask &= self._count(should) >= 1
        if (min_should := data.get("min_should")) is not None:
            least = min_should.get("min_count") if isinstance(min_should, dict) else None
            if type(least) is not int:
                raise bad_format("missing field `min_count`")
            if least < 1:
                raise invalid(f"min_should.min_count: value {least} invalid, must be 1 or larger")
            mask &= self._count(as_list(min_should.get("conditions"))) >= least
        return mask

    def _count(self, conditions: Sequence[Any]) -> NDArray[np.int64]:
        """Count by row how many conditions hold."""
        total = np.zeros(self._table.n_rows, np.int64)
        for condition in conditions:
            total += self._condition(condition)
        return total

    def _condition(self, data: Any) -> Mask:
        """Mark where one condition holds."""
        if not isinstance(data, dict):
            raise bad_format(_NO_CONDITION)
        if data.get("key") is not None:
            return self._field(data)
        for name, read in _CONDITIONS.items():
            if data.get(name) is not None:
                return read(self, data[name])
        if data.get("slice") is not None:
            raise not_served("a `slice` condition", "page with scroll instead")
        if data.keys() <= set(_CLAUSES):  # none at all lets every row pass
            return self.rows(data)
        raise bad_format(_NO_CONDITION)

    def _field(self, data: Json) -> Mask:
        """Mark where what a payload has under a path meets a condition.

        Of several parts in one condition, the first of ``_LONE`` stands alone; without these, one
        that holds is enough. So the server reads a field without an index: lib/segment,
        condition_checker.rs.
        """
        for name in _GEO:
            if data.get(name) is not None:
                raise not_served(f"`{name}`", "compare latitude and longitude by range instead")
        if not isinstance(data["key"], str):
            raise bad_format("invalid type: expected a string for `key`")
        parts = {
            name: read(self._table.column(data["key"]), data[name])
            for name, read in _FIELDS.items()
            if data.get(name) is not None
        }
        if not parts:
            raise bad_format(_NO_CONDITION)
        for name in _LONE:
            if name in parts:
                return parts[name]
        mask: Mask = np.logical_or.reduce(list(parts.values()))
        return mask

    def _has_id(self, values: Any) -> Mask:
        """Mark the points of some ids; parts of points have none."""
        mask = np.zeros(self._table.n_rows, np.bool_)
        if self._rows_of is not None:
            mask[self._rows_of(as_list(values))] = True
        return mask

    def _has_vector(self, name: Any) -> Mask:
        """Every point has the one vector, which has no name."""
        return np.full(self._table.n_rows, name == "" and self._rows_of is not None)

    def _nested(self, data: Any) -> Mask:
        """Mark where one object of an array meets a whole filter."""
        parts, parents = self._table.parts(_read_key(data))
        mask = np.zeros(self._table.n_rows, np.bool_)
        mask[parents[Filter(parts, None).rows(data.get("filter"))]] = True
        return mask


def _read_key(data: Any) -> str:
    """Read ``{"key": PATH}``."""
    key = data.get("key") if isinstance(data, dict) else None
    if not isinstance(key, str):
        raise bad_format("missing field `key`")
    return key


def _match(column: Column, data: Any) -> Mask:
    """Mark where a value is, or contains, what is looked for."""
    for name, choose in _MATCHES.items():
        if isinstance(data, dict) and data.get(name) is not None:
            return column.where(choose(column, data[name]))
    raise bad_format(_NO_CONDITION)


def _choose_values(column: Column, values: Any) -> Mask:
    """Choose the distinct values that are among some."""
    chosen = np.zeros(len(column.distinct), np.bool_)
    for value in as_list(values):
        code = None if isinstance(value, float | dict | list) else column.code(value)
        if code is not None:
            chosen[code] = True
    return chosen


def _choose_texts(is_chosen: Callable[[str, str], bool]) -> Choose:
    """Make a choice among the distinct texts."""

    def choose(column: Column, wanted: Any) -> Mask:
        if not isinstance(wanted, str):
            raise bad_format("invalid type: expected a string to match a text with")
        return column.choose(lambda value: isinstance(value, str) and is_chosen(value, wanted))

    return choose


def _choose_words(is_chosen: Callable[[list[str], list[str]], bool]) -> Choose:
    """Make a choice among the distinct texts by the words in them, and those looked for."""
    return _choose_texts(lambda text, wanted: is_chosen(_split(text), _split(wanted)))


def _split(text: str) -> list[str]:
    """Split a text into words."""
    return [token.lower() for token in _TOKENS.findall(text)]


def _has_phrase(words: list[str], wanted: list[str]) -> bool:
    """Tell whether words follow one another in others."""
    starts = range(len(words) - len(wanted) + 1)
    return bool(wanted) and any(words[at : at + len(wanted)] == wanted for at in starts)


def _range(column: Column, data: Any) -> Mask:
    """Mark where a number, or a date, lies between bounds."""
    if any(isinstance(data.get(name), str) for name in _BOUNDS):
        return column.where(_lie_between(column.moments, data, _read_date))
    return column.where(_lie_between(column.numbers, data, _read_number))


def _values_count(column: Column, data: Any) -> Mask:
    """Mark where a path selects something with so many items; none at all counts as 0."""
    mask = np.full(column.n_rows, _lie_between(np.zeros(1), data, _read_number)[0])
    mask[column.counted_rows] = False
    mask[column.counted_rows[_lie_between(column.counts, data, _read_number)]] = True
    return mask


def _is_empty(column: Column, value: Any) -> Mask:
    """Mark where some value is empty, or is not; a path that selects nothing is empty.

    So a field is asked, as of any other condition. The condition of that name alone is of all
    values together.
    """
    if not read_flag(value, "is_empty"):
        return column.has_filled
    return column.has_empty | ~column.has_filled


def _is_null(column: Column, value: Any) -> Mask:
    """Mark where some value is null, or is not; a path that selects nothing is not."""
    if read_flag(value, "is_null"):
        return column.has_null
    return column.has_whole | ~column.has_null


def _lie_between(values: NDArray[Any], data: Any, read: Callable[[Any], float]) -> Mask:
    """Mark the values that lie between bounds; NaN never does."""
    mask: Mask = ~np.isnan(values)
    for name, holds in _BOUNDS.items():
        if data.get(name) is not None:
            mask &= holds(values, read(data[name]))
    return mask


def _read_date(bound: Any) -> float:
    """Read a bound of dates."""
    moment = read_moment(bound) if isinstance(bound, str) else None
    if moment is None:
        raise bad_format(f"failed to parse date-time: {bound}")
    return moment


def _read_number(bound: Any) -> float:
    """Read a bound of numbers."""
    if type(bound) not in {int, float}:
        raise bad_format("invalid type: expected a number as a bound")
    return float(bound)


_MATCHES: dict[str, Choose] = {
    "value": lambda column, value: _choose_values(column, [value]),
    "text": _choose_words(lambda words, wanted: bool(wanted) and set(wanted) <= set(words)),
    "text_any": _choose_words(lambda words, wanted: not set(wanted).isdisjoint(words)),
    "phrase": _choose_words(_has_phrase),
    "prefix": _choose_texts(str.startswith),
    "substring": _choose_texts(str.__contains__),
    "any": _choose_values,
    "except": lambda column, values: ~_choose_values(column, values),
}
_FIELDS: dict[str, Choose] = {
    "match": _match,
    "range": _range,
    "values_count": _values_count,
    "is_empty": _is_empty,
    "is_null": _is_null,
}
_CONDITIONS: dict[str, Callable[[Filter, Any], Mask]] = {
    "is_empty": lambda at, data: ~at._table.column(_read_key(data)).has_filled,
    "is_null": lambda at, data: at._table.column(_read_key(data)).has_null,
    "has_id": Filter._has_id,
    "has_vector": Filter._has_vector,
    "nested": Filter._nested,
}
