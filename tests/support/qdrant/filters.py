"""Filters: the wire's JSON -> the engine's objects."""

from collections.abc import Callable
from typing import Any

import numpy as np
import qdrant_edge as edge

from tests.support.qdrant.errors import bad_format

Json = dict[str, Any]

_CLAUSES = ("must", "should", "must_not", "min_should")


def _match_value(value: Any) -> edge.MatchValue:
    """The binding reads Python's True as the integer 1; numpy's it reads as a boolean."""
    return edge.MatchValue(np.bool_(value) if isinstance(value, bool) else value)


_MATCHES: dict[str, Callable[[Any], Any]] = {
    "value": _match_value,
    "text": edge.MatchText,
    "text_any": edge.MatchTextAny,
    "phrase": edge.MatchPhrase,
    "any": edge.MatchAny,
    "except": edge.MatchExcept,
}
_BOUNDS = ("gte", "gt", "lte", "lt")
_ASKS_FOR_CONDITION = (
    'Expected some form of condition, which can be a field condition (like {"key": ..., "match":'
    " ... }), or some other mentioned in the documentation:"
    " https://qdrant.tech/documentation/concepts/filtering/#filtering-conditions"
)


def as_list(value: Any) -> list[Any]:
    """A clause may be one condition or a list of them."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def read_filter(data: Json | None) -> edge.Filter | None:
    if data is None:
        return None
    unknown = set(data) - set(_CLAUSES)
    if unknown:
        raise bad_format(f"unknown field `{min(unknown)}`, expected one of {', '.join(_CLAUSES)}")
    least = data.get("min_should")
    return edge.Filter(
        must=_conditions(data.get("must")),
        should=_conditions(data.get("should")),
        must_not=_conditions(data.get("must_not")),
        min_should=least
        and edge.MinShould(_conditions(least["conditions"]) or [], least["min_count"]),
    )


def without(data: Json | None, point_ids: list[Any]) -> Json | None:
    """The filter with some points excluded, as the server excludes the ids that a query names."""
    if not point_ids:
        return data
    data = data or {}
    return {**data, "must_not": [*as_list(data.get("must_not")), {"has_id": point_ids}]}


def also(data: Json | None, condition: Json) -> Json:
    data = data or {}
    return {**data, "must": [*as_list(data.get("must")), condition]}


def _conditions(value: Any) -> list[Any] | None:
    """An empty clause is no clause: gRPC can't tell the two apart."""
    return [read_condition(one) for one in as_list(value)] or None


def read_condition(data: Json) -> Any:
    if data.get("key") is not None:
        return _field_condition(data)
    for name, read in _CONDITIONS.items():
        if data.get(name) is not None:
            return read(data[name])
    if data.keys() <= set(_CLAUSES):  # an empty object is a filter that says nothing
        return read_filter(data)
    raise bad_format(_ASKS_FOR_CONDITION)


def _field_condition(data: Json) -> edge.FieldCondition:
    parts = {name: data[name] for name in _FIELD_PARTS if data.get(name) is not None}
    if not parts:
        raise bad_format(_ASKS_FOR_CONDITION)
    return edge.FieldCondition(
        data["key"], **{name: _FIELD_PARTS[name](value) for name, value in parts.items()}
    )


def _match(data: Json) -> Any:
    for name, make in _MATCHES.items():
        if data.get(name) is not None:
            return make(data[name])
    raise bad_format(_ASKS_FOR_CONDITION)


def _range(data: Json) -> Any:
    bounds = {name: data[name] for name in _BOUNDS if data.get(name) is not None}
    kind = (
        edge.RangeDateTime if any(isinstance(v, str) for v in bounds.values()) else edge.RangeFloat
    )
    return kind(**bounds)


def _values_count(data: Json) -> edge.ValuesCount:
    return edge.ValuesCount(**{n: data[n] for n in _BOUNDS if data.get(n) is not None})


_FIELD_PARTS: dict[str, Callable[[Any], Any]] = {
    "match": _match,
    "range": _range,
    "values_count": _values_count,
    "is_empty": bool,
    "is_null": bool,
}
_CONDITIONS: dict[str, Callable[[Any], Any]] = {
    "is_empty": lambda field: edge.IsEmptyCondition(field["key"]),
    "is_null": lambda field: edge.IsNullCondition(field["key"]),
    "has_id": lambda ids: edge.HasIdCondition(set(ids)),
    "has_vector": edge.HasVectorCondition,
    "nested": lambda part: edge.NestedCondition(part["key"], read_filter(part["filter"])),
}
