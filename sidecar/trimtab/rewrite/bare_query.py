"""The common REST query, found in half the time: one vector, nothing nested.

``{"query": [...], ...}`` or ``{"query": {"nearest": [...]}, ...}`` without a prefetch. Everything
but the vector is read by orjson with a word in the vector's place; where that word is then found is
where the vector stood. Whatever is not surely of this form is left to
:func:`trimtab.rewrite.qdrant_rest.find_in_body`, which knows every form.
"""

import re
import struct
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import MalformedError
from trimtab.rewrite.json_spans import FloatSpan, parse_token
from trimtab.rewrite.places import Kind, Place, Role

_QUERY = re.compile(rb'"query"\s*:\s*(\{\s*"nearest"\s*:\s*)?\[')
_STAND_IN = "where the vector stood: 2f7c9e31-6b1d-4c55-9a55-0a5f2f1f3a0e"
_STAND_IN_JSON = f'"{_STAND_IN}"'.encode()
_KEPT_BYTES = 512
_PATHS = {False: ("query",), True: ("query", "nearest")}
_NAMES = (b'"using"', b'"query"', b'"nearest"', b'"prefetch"')


def find_bare_query(body: bytes) -> Place | None:
    """Find the vector of a query that has one and no other level.

    Args:
        body: JSON text of a request to ``points/query`` or ``points/query/groups``.

    Returns:
        Its place, with a :class:`FloatSpan`; None for every other form, malformed ones included.
    """
    match = _QUERY.search(body)
    if match is None:
        return None
    start = match.end() - 1
    end = body.find(b"]", start) + 1
    text = body[start:end]
    values = _read_floats(text)
    if values is None:
        return None
    is_nested = match.group(1) is not None
    read = _name_of_level if len(body) - len(text) > _KEPT_BYTES else _known_name_of_level
    name = read(body[:start] + _STAND_IN_JSON + body[end:], is_nested)
    if name is None:
        return None
    return Place(name, Kind.DENSE, Role.QUERY, _PATHS[is_nested], FloatSpan(start, end, values))


def _name_of_level(rest: bytes, is_nested: bool) -> str | None:  # lru_cache
    """Read the name of the vector that a query is meant for; None where the form is another."""
    if b"\\" in rest or any(rest.count(name) > 1 for name in _NAMES):
        return None  # keys may be spelt otherwise, or stand twice: what counts is not plain
    try:
        fields = parse_token(rest)
    except MalformedError:
        return None
    if not isinstance(fields, dict) or "prefetch" in fields:
        return None
    query: Any = fields.get("query")
    if is_nested:
        query = query.get("nearest") if isinstance(query, dict) else None
    name = fields.get("using") or ""
    return name if query == _STAND_IN and isinstance(name, str) else None


# What stands around the vector is the same for most queries of an application.
_known_name_of_level = lru_cache(maxsize=512)(_name_of_level)


def _read_floats(text: bytes) -> NDArray[np.float32] | None:
    """Read an array of finite numbers; None for anything else."""
    if b"[" in text[1:] or b"t" in text or b"f" in text or b"n" in text:
        return None
    try:
        numbers = parse_token(text)
        return np.frombuffer(struct.pack(f"{len(numbers)}f", *numbers), dtype=np.float32)
    except (MalformedError, TypeError, struct.error, OverflowError):
        return None
