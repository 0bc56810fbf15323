"""Values of a click log: lists in cells, ids, ranks, flags and seconds, each checked.

Objects in lists have their keys by the names that columns are known by.
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from trimtab_training.data.importers.cells import postgres_items, spelled_list
from trimtab_training.data.importers.columns import (
    CLICK_ROLES,
    as_number,
    is_missing,
    plain_key,
)
from trimtab_training.data.importers.texts import (
    Unusable,
    as_name,
    one_value,
    spells_missing,
    two_values,
)

_BODIES = {"document", "doc"}  # an id only where there is no other: it may be the text
_IDS = {"id", "_id", *CLICK_ROLES["document"]} - _BODIES
_RANK_WORDS = {"rank", "position", "pos"}
_SHOWN = "document shown"
_MANY_KEYS = 12  # named in a message
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
    """Take an entry of a list: an id, or an object with one.

    Raises:
        Unusable: It has no id, or two.
    """
    if not isinstance(value, dict):
        return as_name(value, "document id"), {}
    name = _value_under(value, _IDS)
    name = _value_under(value, _BODIES) if name is None else name
    if name is None:
        raise Unusable(f"document shown has no id under a name that is known, but {keys_of(value)}")
    return as_name(name, "document id"), value


def keys_of(entry: Iterable[str]) -> str:
    """Write an object's keys for a message."""
    return ", ".join(map(repr, list(entry)[:_MANY_KEYS])) or "no keys"


def as_identity(value: Any, what: str) -> str | None:
    """Take the id of a search or session; None where there is none, however a program spells it.

    Raises:
        Unusable: It is neither a text nor a whole number.
    """
    if value is None or (isinstance(value, str) and spells_missing(value.strip())):
        return None
    return as_name(value, what)


def rank_of(entry: Mapping[str, Any]) -> Any:
    """Give the rank that an object has, or None.

    Raises:
        Unusable: It has two.
    """
    return _value_under(entry, CLICK_ROLES["rank"])


def unread_rank(entries: Sequence[Mapping[str, Any]]) -> str | None:
    """Give a key under which objects shown may have their ranks, if it orders them otherwise.

    Args:
        entries: All objects of a list, none with a rank under a name that is known.
    """
    for key in entries[0]:
        numbers = [entry.get(key) for entry in entries]
        if _RANK_WORDS.isdisjoint(plain_key(key).split("_")) or any(
            isinstance(one, bool) for one in numbers
        ):
            continue
        try:
            ranks = [as_number(number, key) for number in numbers]
        except Unusable:
            continue
        is_rank = min(ranks) >= 0 and len(set(ranks)) == len(ranks)
        in_order = [list(range(first, first + len(ranks))) for first in (0, 1)]
        if is_rank and all(map(float.is_integer, ranks)) and ranks not in in_order:
            return key
    return None


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


def is_clicked(entry: Mapping[str, Any]) -> bool:
    """Tell whether an object says that it was clicked.

    Raises:
        Unusable: What it says is no flag or count, or says both.
    """
    found = _under(entry, CLICK_ROLES["clicked"])
    flags = {as_count(value) > 0 for value in found.values()}
    if len(flags) > 1:
        raise two_values(found, _SHOWN)
    return True in flags


def speaks_of_clicks(entry: Mapping[str, Any]) -> bool:
    """Tell an object that has a key, under a name that is known, for whether it was clicked."""
    return any(plain_key(key) in CLICK_ROLES["clicked"] for key in entry)


def dwell_in(entry: Mapping[str, Any], otherwise: Any = None) -> float | None:
    """Give the seconds that an object has, or those beside its list.

    Raises:
        Unusable: They are no number, or it has two.
    """
    seconds = _value_under(entry, CLICK_ROLES["dwell"])
    return as_dwell(otherwise if seconds is None else seconds)


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


def _under(entry: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    """Give what an object has under names that are known, missing values left out."""
    return {
        key: value
        for key, value in entry.items()
        if plain_key(key) in names and not is_missing(value)
    }


def _value_under(entry: Mapping[str, Any], names: Container[str]) -> Any:
    """Give the one value that an object has under names that are known, or None."""
    return one_value(_under(entry, names), _SHOWN)
