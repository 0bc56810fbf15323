"""What Qdrant would make of a request: is it a query that must be adapted, and of which vectors?

Facts from QDRANT_WIRE (server 1.19, actix): ``NormalizePath::trim`` merges and trims slashes of the
raw path, then segments are percent-decoded; ``%2F``, ``%2B`` and ``%25`` stay as they are while the
route is looked for. The ``http`` crate drops a fragment, and takes the path of an absolute target.
"""

import json
import re
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np

from tests.support.hostile.reading import Request

COLLECTION, DIM = b"docs", 4
MARK = b"x-trimtab-adapter"
TOLERANCE = 1e-5
"""Two float32 products of numbers up to 1, written as text and read again, differ by less."""

_FLAT_ARRAY = re.compile(rb"\[[^\[\]]*\]")
_KEPT = re.compile(rb"%(2[fFbB5])")
_QUERY_ENDS = {
    (b"points", b"query"),
    (b"points", b"query", b"batch"),
    (b"points", b"query", b"groups"),
    (b"points", b"search"),
    (b"points", b"search", b"batch"),
    (b"points", b"search", b"groups"),
}


def path_of(target: bytes) -> bytes:
    """Give the path of an origin-form or absolute-form target as actix sees it."""
    target = target.split(b"#")[0].split(b"?")[0]
    if not target.startswith(b"/"):
        match = re.match(rb"[A-Za-z][A-Za-z0-9+.\-]*://[^/]*", target)
        target = target[match.end() :] if match else target
    return target


def is_query(method: bytes, target: bytes) -> bool:
    """Tell whether Qdrant takes it for a query on the adapted collection."""
    parts = [part for part in path_of(target).split(b"/") if part]
    if method != b"POST" or len(parts) < 4 or not path_of(target).startswith(b"/"):
        return False
    root, collection, *end = (_decode(part) for part in parts)
    return (
        root == b"collections"
        and unquote_to_bytes(parts[1]) == COLLECTION
        and b"%" not in collection
        and tuple(end) in _QUERY_ENDS
    )


def _decode(segment: bytes) -> bytes:
    """Decode a segment, but for the three bytes that actix keeps encoded."""
    pieces = _KEPT.split(segment)
    decoded = [unquote_to_bytes(p) if i % 2 == 0 else b"%" + p for i, p in enumerate(pieces)]
    return b"".join(decoded)


def query_vectors(request: Request) -> list[Any]:
    """Give the vectors of the plain shapes (query, searches[].query, vector) that must be adapted.

    Nothing where the body is not JSON, has a key twice or numbers outside float32: Qdrant refuses
    the first two, and the third is the route's own policy.
    """
    if request.body.startswith(b"\xef\xbb\xbf"):
        return []  # serde takes no byte order mark
    try:
        body = json.loads(_text(request.body), object_pairs_hook=_unique, parse_int=_whole)
    except (ValueError, RecursionError):
        return []
    if not isinstance(body, dict):
        return []
    path = path_of(request.target).rstrip(b"/").lower()
    searches = body.get("searches")
    levels = [body]
    if path.endswith(b"batch"):
        levels = searches if isinstance(searches, list) else []
    key = "vector" if b"search" in path else "query"
    found = []
    for level in levels:
        if isinstance(level, dict):
            value = level.get(key)
            value = value.get("nearest") if isinstance(value, dict) else value
            named = level.get("using") not in {None, ""} if _hashable(level.get("using")) else True
            if is_dense(value) and not named:
                found.append(value)
    return found


def is_dense(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == DIM
        and all(type(v) in {int, float} and abs(v) < 1e15 for v in value)
        and any(abs(v) > 1e-15 for v in value)
    )


def is_rightly_adapted(sent: bytes, arrived: bytes, weight: Any) -> bool:
    """Tell whether ``arrived`` is ``sent`` with at least one vector adapted and no other byte."""
    if _FLAT_ARRAY.split(sent) != _FLAT_ARRAY.split(arrived):
        return False
    pairs = zip(_FLAT_ARRAY.findall(sent), _FLAT_ARRAY.findall(arrived), strict=True)
    changed = [(before, after) for before, after in pairs if before != after]
    return bool(changed) and all(_is_adapted(before, after, weight) for before, after in changed)


def _is_adapted(before: bytes, after: bytes, weight: Any) -> bool:
    try:
        vector, adapted = ([float(n) for n in text[1:-1].split(b",")] for text in (before, after))
    except ValueError:
        return False
    if len(vector) != DIM or len(adapted) != DIM:
        return False
    return np.allclose(adapted, adapt(vector, weight), atol=TOLERANCE)


def adapt(vector: list[float], weight: Any) -> Any:
    product = np.asarray(vector, np.float32) @ weight
    length = np.linalg.norm(product)
    return product / length if length > 0 else product


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < 400 else float(digits)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "surrogateescape")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names) or any(not _is_unicode(name) for name in names):
        raise ValueError("a key stands twice, or is no text")
    return dict(pairs)


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in name)


def _hashable(value: Any) -> bool:
    return value is None or isinstance(value, str)
