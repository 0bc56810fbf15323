"""Lists and objects that a cell holds as text: as JSON, Python, numpy and Postgres spell them."""

import ast
import json
import re
import warnings
from collections.abc import Callable
from typing import Any

_ARRAY = re.compile(r"array\((.*?)(?:,\s*dtype=[^)]*)?\)", re.DOTALL)
_ITEM = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
        |(?P<word>None|null|nan|NaN|True|False|true|false)
        |(?P<number>(?![-+]?0\d)[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    )(?P<end>\s*,\s*|\s+|$)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_MARKS = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_WORDS = {"True": True, "true": True, "False": False, "false": False}
_POSTGRES = re.compile(
    r"""\s*(?:"(?P<text>(?:[^"\\]|\\.)*)"|(?P<word>[^\s"'{},\\]+))\s*(?:,|$)""", re.DOTALL
)
_WORD_IN_BRACES = re.compile(r"""\{[^\s"'{},\\]+\}""")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


def spelled_list(cell: Any, *, as_postgres: bool = True) -> list[Any] | None:
    """Take a list out of a text that is nothing but the spelling of one; None for other texts.

    Known are JSON's, Python's lists, tuples and sets, numpy's arrays, whose items stand without
    commas, and, unless told otherwise, Postgres' arrays. What stands for a missing value becomes
    None.
    """
    if not may_be_list(cell):
        return None
    text = cell.strip()
    if wrapped := _ARRAY.fullmatch(text):
        text = wrapped[1].strip()
    if len(text) < 2 or _BRACKETS.get(text[0]) != text[-1]:
        return None
    readers: list[Callable[[str], Any]] = [json.loads, _plain_items, _objects, postgres_items]
    for read in readers if as_postgres else readers[:-1]:
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    return None


def spelled_object(cell: Any) -> dict[str, Any] | None:
    """Take an object out of a text that is nothing but the spelling of one; None for others."""
    text = cell.strip() if isinstance(cell, str) else ""
    if not (text.startswith("{") and text.endswith("}")):
        return None
    found = spelled_list(f"[{text}]") or [None]
    return found[0] if len(found) == 1 and isinstance(found[0], dict) else None


def is_in_brackets(cell: str) -> bool:
    """Tell a text that begins and ends like a list, spelled in whatever way, from [CLS] a [SEP]."""
    text = re.sub(r"^(c|list|array)(?=\()", "", cell.strip())  # R's, and numpy's
    is_closed = len(text) > 1 and _BRACKETS.get(text[0]) == text[-1]
    return is_closed and re.match(r"([\[({])[^\[({\])}'\"]*[\])}]\s*\S", text) is None


def postgres_items(text: str) -> list[str | None] | None:
    """Read an array as Postgres writes it, {a,"b c",NULL}; None where it is none."""
    if text[-1] != "}":
        return None
    inner, at = text[1:-1].strip(), 0
    items: list[str | None] = []
    while at < len(inner):
        found = _POSTGRES.match(inner, at)
        if found is None:
            return None
        at, word = found.end(), found["word"]
        items.append(re.sub(r"\\(.)", r"\1", found["text"]) if word is None else word)
        if word == "NULL":
            items[-1] = None
    return items


def is_word_in_braces(cell: str) -> bool:
    """Tell {word}, a list only in a column that has others: a template's field looks the same."""
    return _WORD_IN_BRACES.fullmatch(cell.strip()) is not None


def may_be_list(cell: Any) -> bool:
    """Tell quickly whether a text can be the spelling of a list."""
    return isinstance(cell, str) and cell.lstrip().startswith(("[", "(", "{", "array("))


def is_of_texts(items: list[Any]) -> bool:
    """Tell a list of texts, or objects, from one of numbers."""
    return any(isinstance(item, str | dict) for item in items)


def _plain_items(text: str) -> list[Any] | None:
    """Read texts and numbers, parted by commas alone or by blanks alone."""
    inner, at = text[1:-1].strip(), 0
    items: list[Any] = []
    ends: set[bool] = set()
    while at < len(inner):
        found = _ITEM.match(inner, at)
        if found is None:
            return None
        at = found.end()
        if found["end"]:
            ends.add("," in found["end"])
        items.append(_value(found))
    is_list = text[0] == "[" or (True in ends and all(isinstance(item, str) for item in items))
    return items if is_list and len(ends) < 2 else None


def _value(found: re.Match[str]) -> Any:
    """Give one item's value."""
    if found["text"]:
        return _ESCAPE.sub(_unescape, found["text"][1:-1])
    return float(found["number"]) if found["number"] else _WORDS.get(found["word"])


def _unescape(found: re.Match[str]) -> str:
    """Write the mark that an escape stands for."""
    code = found[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _MARKS.get(code, found[0])


def _objects(text: str) -> Any:
    """Read objects as Python spells them."""
    if not re.match(r"\[\s*\{", text):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a backslash in somebody's text
        return ast.literal_eval(text)
