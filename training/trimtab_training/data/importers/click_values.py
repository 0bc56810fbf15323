"""Values of a click log: lists in cells, ids, ranks, flags and seconds, each checked."""

import re
from collections.abc import Mapping
from typing import Any

from trimtab_training.data.importers.cells import postgres_items, spelled_list
from trimtab_training.data.importers.columns import as_number
from trimtab_training.data.importers.texts import (
    Unusable,
    as_name,
    spells_missing,
    value_under,
)

_IDS = ("id", "_id", "doc_id", "docid", "document_id")
_FLAGS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "t"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "n", "f", ""), False),
}
_LIST = re.compile(r"(?:[A-Za-z_.]+\()?[\[({\"']")  # how a spelled list begins, array([ too
_CLOSING = {"(": ")", "{": "}"}


def as_list(value: Any, what: str) -> list[Any]:
    """Take a list; of text, one that is spelled as programs do, or parted by one kind of mark.

    Raises:
        Unusable: It is none, or its parts can be told in two ways.
    """
    if value is None or value == "":
        return []
    if isinstance(value, str):
        text = value.strip()
        value = _spelled(text) if _LIST.match(text) else _parted(text, what)
    if not isinstance(value, list | tuple):
        raise Unusable(f"{what} is not a list")
    return list(value)


def as_entry(value: Any) -> tuple[str, Mapping[str, Any]]:
    """Take an entry of a list: an id, or an object with one."""
    if isinstance(value, dict):
        name = value_under(value, _IDS, "document shown")
        return as_name(value.get("document") if name is None else name, "document id"), value
    return as_name(value, "document id"), {}


def as_identity(value: Any, what: str) -> str | None:
    """Take the id of a search or session; None where there is none, however a program spells it.

    Raises:
        Unusable: It is neither a text nor a whole number.
    """
    if value is None or (isinstance(value, str) and spells_missing(value.strip())):
        return None
    return as_name(value, what)


def rank_of(entry: Mapping[str, Any]) -> Any:
    """Give the rank that an object has, or None."""
    return value_under(entry, ("rank", "position"), "document shown")


def as_rank(value: Any, first: int) -> int:
    """Take a rank and count it from 1.

    Args:
        value: The rank as the log has it.
        first: What the log calls the first, 0 or 1.

    Raises:
        Unusable: It is none.
    """
    number = as_number(value, "rank")
    if number < first or not number.is_integer():
        raise Unusable(f"rank is not a whole number from {first}")
    return int(number) + 1 - first


def flag_of(value: Any) -> bool | None:
    """Tell yes from no: 1 and 0, true and false, yes and no; None where it is neither."""
    if value is None or isinstance(value, bool):
        return bool(value)
    return _FLAGS.get(str(value).strip().lower())


def as_count(value: Any) -> float:
    """Take how often something was clicked: yes is once.

    Raises:
        Unusable: It is neither yes, nor no, nor a number from 0.
    """
    flag = flag_of(value)
    count = float(flag) if flag is not None else as_number(value, "clicked")
    if count < 0:
        raise Unusable("clicked is below 0")
    return count


def as_dwell(value: Any) -> float | None:
    """Take seconds, or None where the log does not say."""
    return None if value is None or value == "" else as_number(value, "dwell")


def dwell_of(value: Any, clicked: list[Any]) -> list[Any]:
    """Give the seconds of every click: a list in its order, an object by id, or one number."""
    if isinstance(value, dict):
        return [value.get(one) for one in clicked]
    if isinstance(value, int | float):
        return [value] * len(clicked)
    seconds = as_list(value, "dwell")
    if seconds and len(seconds) != len(clicked):
        raise Unusable("clicked and dwell differ in length")
    return seconds or [None] * len(clicked)


def _parted(text: str, what: str) -> list[str]:
    """Take a text apart at bars, else at commas or semicolons, else at blanks."""
    for mark in "|;,":
        if mark in text:
            if mark == "," and re.search(r"[^,\s]\s+[^,\s]", text):
                raise Unusable(f"{what} has commas and blanks between its parts; write JSON")
            return [part.strip() for part in text.split(mark)]
    return text.split()


def _spelled(text: str) -> list[Any] | None:
    """Read a list as JSON, Python, numpy or Postgres spell it, or items in quotes alone."""
    if text[0] in "\"'":
        return spelled_list(f"[{text}]")
    if text[0] == "{" and (items := postgres_items(text)) is not None:
        return items
    if text[0] in "({" and text[-1] == _CLOSING[text[0]]:
        return spelled_list(f"[{text[1:-1].strip().removesuffix(',')}]")
    return spelled_list(text)
