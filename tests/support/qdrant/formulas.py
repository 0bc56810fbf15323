"""Formulas that score: the wire's JSON -> the engine's expressions."""

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from tests.support.qdrant.errors import bad_format
from tests.support.qdrant.filters import read_condition, read_geo_point

Json = dict[str, Any]

_DECAYS = {
    "lin_decay": edge.DecayKind.Lin,
    "exp_decay": edge.DecayKind.Exp,
    "gauss_decay": edge.DecayKind.Gauss,
}


def read_formula(data: Json) -> edge.Formula:
    return edge.Formula(read_expression(data["formula"]), data.get("defaults") or {})


def read_expression(data: Any) -> edge.Expression:
    if isinstance(data, bool) or data is None:
        raise bad_format("data did not match any variant of untagged enum Expression")
    if isinstance(data, (int, float)):
        return edge.Expression.Constant(float(data))
    if isinstance(data, str):
        return edge.Expression.Variable(data)
    for name, read in _READERS.items():
        if data.get(name) is not None:
            return read(data[name])
    for name, kind in _DECAYS.items():
        if data.get(name) is not None:
            return _decay(kind, data[name])
    return edge.Expression.Condition(read_condition(data))


def _all(data: list[Any]) -> list[edge.Expression]:
    return [read_expression(one) for one in data]


def _divide(data: Json) -> edge.Expression:
    left, right = read_expression(data["left"]), read_expression(data["right"])
    return edge.Expression.Div(left, right, data.get("by_zero_default"))


def _power(data: Json) -> edge.Expression:
    return edge.Expression.Pow(read_expression(data["base"]), read_expression(data["exponent"]))


def _distance(data: Json) -> edge.Expression:
    return edge.Expression.GeoDistance(read_geo_point(data["origin"]), data["to"])


def _decay(kind: edge.DecayKind, data: Json) -> edge.Expression:
    target = data.get("target")
    return edge.Expression.Decay(
        kind,
        read_expression(data["x"]),
        None if target is None else read_expression(target),
        data.get("midpoint"),
        data.get("scale"),
    )


_READERS: dict[str, Callable[[Any], edge.Expression]] = {
    "mult": lambda data: edge.Expression.Mult(_all(data)),
    "sum": lambda data: edge.Expression.Sum(_all(data)),
    "max": lambda data: edge.Expression.Max(_all(data)),
    "min": lambda data: edge.Expression.Min(_all(data)),
    "neg": lambda data: edge.Expression.Neg(read_expression(data)),
    "abs": lambda data: edge.Expression.Abs(read_expression(data)),
    "sqrt": lambda data: edge.Expression.Sqrt(read_expression(data)),
    "exp": lambda data: edge.Expression.Exp(read_expression(data)),
    "ln": lambda data: edge.Expression.Ln(read_expression(data)),
    "log10": lambda data: edge.Expression.Log10(read_expression(data)),
    "acosh": lambda data: edge.Expression.Acosh(read_expression(data)),
    "div": _divide,
    "pow": _power,
    "geo_distance": _distance,
    "datetime": edge.Expression.Datetime,
    "datetime_key": edge.Expression.DatetimeKey,
}
