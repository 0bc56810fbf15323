"""Records from outside, TOML tables and JSON objects, as typed values.

msgspec holds a record against the types of a dataclass. Here it refuses unknown keys, too, which it
overlooks in dataclasses, and says what is wrong in words for whoever wrote the file.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

Value = TypeVar("Value")
_TOO_DEEP = "it is nested too deep"
_WORDS = {"object": "dict", "array": "list", "null": "NoneType", "float": "float or int"}
_LIMITS = {
    "ge": "{:g} or more",
    "gt": "more than {:g}",
    "le": "{:g} at most",
    "lt": "less than {:g}",
    "min_length": "{} value or more",
}


class MisfitError(ValueError):
    """A record does not fit its type. As text, what the record's name may stand before.

    Attributes:
        path: What in the record is wrong, as in ``encoder.name``; empty for all of it.
        fact: What is wrong with that, as in ``is '6', expected int``.
    """

    def __init__(self, path: str, fact: str, text: str = "") -> None:
        super().__init__(text or f"{path} {fact}".lstrip())
        self.path, self.fact = path, fact


def read_json(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: It is none, or nested deeper than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def read_toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        ValueError: It is none, or nested deeper than can be read.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def parse(
    record: Any,
    kind: type[Value],
    *,
    allow_unknown: bool = False,
    show: Callable[[Any], str] = repr,
    hook: Callable[[Any, Any], Any] | None = None,
) -> Value:
    """Make a typed value of a record.

    Args:
        record: What a parser of JSON or TOML has given.
        kind: A dataclass, or any type that msgspec knows; its limits, too, as ``msgspec.Meta``.
        allow_unknown: True to overlook keys that the dataclass does not have.
        show: How a wrong value is written in the message.
        hook: Makes values of types that msgspec does not know, of the type and what is given;
            refuses by a ``MisfitError``.

    Raises:
        MisfitError: A key is missing or unknown, or a value is of another type or out of range.
    """
    if is_dataclass(kind) and isinstance(record, dict) and not allow_unknown:
        refuse_unknown(record, {item.name for item in fields(kind)})
    try:
        return msgspec.convert(record, kind, dec_hook=hook)
    except (ValueError, RecursionError) as error:  # ValueError: text that is no Unicode, too
        raise _misfit(str(error), record, kind, show) from error


def refuse_unknown(record: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the first key that means nothing.

    Raises:
        MisfitError: With the keys that do.
    """
    for key in record:
        if key not in known:
            names = f"known: {', '.join(sorted(known))}"
            raise MisfitError(key, f"is unknown; {names}", f"has unknown key {key!r}; {names}")


def _misfit(message: str, record: Any, kind: Any, show: Callable[[Any], str]) -> MisfitError:
    """Say in our words what msgspec says in its own: a fact, and perhaps `` - at `$.path` ``."""
    (path,) = re.findall(r" - at `\$([^`]*)`$", message) or [""]
    message = message.removesuffix(f" - at `${path}`")
    for name, number in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        record = record[name] if name else record[int(number)]
    path = path.lstrip(".")
    if message.startswith("Object missing"):
        path = ".".join(filter(None, [path, message.split("`")[1]]))
        return MisfitError(path, "is missing", f"lacks {path!r}")
    if not message.startswith(("Expected", "Invalid enum")):
        is_ours = "expected" in message  # of a hook
        return MisfitError(path, message if is_ours else f"is {show(record)}: {message}")
    wanted, _, found = message.removeprefix("Expected ").replace("`", "").partition(", got ")
    hints = get_type_hints(kind, include_extras=True) if is_dataclass(kind) else {"": kind}
    wanted = _allowed(hints.get(path), is_number=not found) or " or ".join(
        _WORDS.get(word, word) for word in wanted.split(" | ")
    )
    fact = f"holds {_WORDS.get(found, found)}" if path.endswith("[...]") else f"is {show(record)}"
    return MisfitError(path.removesuffix("[...]"), f"{fact}, expected {wanted}")


def _allowed(hint: Any, *, is_number: bool) -> str:
    """Say what a type takes that has choices or, for what is a number, limits."""
    words = [word for arg in get_args(hint) for word in get_args(arg) or [arg]]
    choices = [word for word in words if isinstance(word, str)]
    limits = [
        text.format(limit)
        for part in (hint, *get_args(hint))  # what may be None holds its limits inside
        for meta in getattr(part, "__metadata__", ())
        for name, text in _LIMITS.items()
        if (limit := getattr(meta, name)) is not None
    ]
    return " or ".join(choices) or " and ".join(limits if is_number else [])
