"""What a model answered, read as queries: JSON, a list, or what is left of either."""

import json
import re
import unicodedata
from typing import Any

from trimtab.parsing import read_json
from trimtab_training.synthesis.corpus import repaired

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```[a-zA-Z]*\n?|```")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(?!\s*:)')
_BULLET = re.compile(r"^\s*(?:[-*•\u2013]|\(?\d{1,2}[.):]|\"?\d{1,2}\"?\s*:)\s+")
_LABEL = re.compile(r"^\s*(?:query|search query|search|question|keywords?)\s*\d*\s*:\s*", re.I)
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "`": "`", "\u2018": "\u2019"}
_REFUSAL = re.compile(
    r"^\W*(?:i['\u2019]?m\s+(?:very\s+)?sorry|i\s+am\s+sorry|sorry,|i\s+can(?:no|['\u2019])t\s|"
    r"i\s+am\s+(?:not\s+able|unable)|i['\u2019]m\s+(?:not\s+able|unable)|as\s+an\s+ai\b|"
    r"i\s+apologi[sz]e)",
    re.IGNORECASE,
)


def read_chat_answer(text: str, *, is_cut: bool) -> list[str]:
    """Read the queries of an instructed model's answer.

    A JSON array is expected; an object with one inside, an array within prose, and a plain list
    are understood, too. Of an answer that was cut off, the last query is left out unless it is
    whole.

    Args:
        text: The answer.
        is_cut: True where it ended at the limit of tokens.

    Returns:
        The queries in their order, cleaned; none where nothing can be read, or for a refusal.
    """
    text = _FENCE.sub("", _THOUGHT.sub("", text)).strip()
    found = [] if text in {"null", "true", "false"} else _read_json(text)
    if found is None and text.lstrip("{").lstrip().startswith(("[", '"')):
        found = [_unescape(string) for string in _STRING.findall(text)]
    if found is None:
        found = [] if is_refusal(text) else _read_lines(text, is_cut)
    return [query for query in map(clean, found) if query]


def read_base_answer(text: str) -> list[str]:
    """Read the one query that a base model wrote: its first line."""
    lines = text.strip().splitlines()
    query = clean(lines[0]) if lines else ""
    return [query] if query else []


def is_refusal(text: str) -> bool:
    """Tell whether an answer says, in English, that the model won't do it."""
    return _REFUSAL.match(_THOUGHT.sub("", text).strip()) is not None


def clean(text: str) -> str:
    """Take a query out of its quotes, labels and control characters; fold its white space."""
    text = unicodedata.normalize("NFC", repaired(text))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = _LABEL.sub("", text)
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text


def _read_json(text: str) -> list[str] | None:
    """Read an array of queries, alone, in an object, or within other words."""
    for start, end in (("[", "]"), ("{", "}")):
        first, last = text.find(start), text.rfind(end)
        if 0 <= first < last:
            queries = _texts_of(_parse(text[first : last + 1]))
            if queries:
                return queries
    return None


def _parse(text: str) -> Any:
    """Parse JSON, or give None."""
    try:
        return read_json(text)
    except ValueError:
        return None


def _texts_of(value: Any) -> list[str]:
    """Gather the queries of an array, of objects in an array, or of an object's only array."""
    if isinstance(value, dict):
        lists = [part for part in value.values() if isinstance(part, list)]
        return _texts_of(lists[0]) if len(lists) == 1 else _strings(value)
    if not isinstance(value, list):
        return []
    queries: list[str] = []
    for part in value:
        queries += _strings(part) if isinstance(part, dict) else [part] * isinstance(part, str)
    return queries


def _strings(record: dict[str, Any]) -> list[str]:
    """Give what an object calls its query, else all its texts."""
    for name in ("query", "question", "text", "keywords"):
        if isinstance(record.get(name), str):
            return [record[name]]
    return [part for part in record.values() if isinstance(part, str)]


def _read_lines(text: str, is_cut: bool) -> list[str]:
    """Read a list of one query a line, without what stands above it."""
    lines = [line for line in text.splitlines() if line.strip()]
    if is_cut:
        lines = lines[:-1]
    listed = [line for line in lines if _BULLET.match(line)]
    if listed:
        return [_BULLET.sub("", line) for line in listed]
    return [line for line in lines if not line.rstrip().endswith(":")]


def _unescape(string: str) -> str:
    """Undo the escapes of a JSON string."""
    try:
        text = json.loads(f'"{string}"')
    except ValueError:
        return string
    return str(text)
