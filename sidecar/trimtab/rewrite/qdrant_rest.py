"""Query vectors in the bytes of Qdrant's REST requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import MalformedError
from trimtab.rewrite.bare_query import find_bare_query
from trimtab.rewrite.json_spans import (
    FlatArray,
    FloatSpan,
    JsonObject,
    parse_token,
    read_json,
    write_floats,
)
from trimtab.rewrite.places import Kind, Place
from trimtab.rewrite.qdrant_query import Fields, QueryFinder

_QUERIES: dict[tuple[str, ...], str] = {
    ("query",): "find_query",
    ("query", "batch"): "find_query",
    ("query", "groups"): "find_query",
    # Out of the OpenAPI since 1.19, served all the same: src/actix/api/{search,recommend,discover}
    ("search",): "find_search",
    ("search", "batch"): "find_search",
    ("search", "groups"): "find_search",
    ("recommend",): "find_recommend",
    ("recommend", "batch"): "find_recommend",
    ("recommend", "groups"): "find_recommend",
    ("discover",): "find_discover",
    ("discover", "batch"): "find_discover",
}
_PLAIN_QUERIES = {("query",), ("query", "groups")}
_WRITES = {("PUT", ()), ("PUT", ("vectors",)), ("POST", ("batch",))}
_WRITING_OPERATIONS = ("upsert", "update_vectors")


@dataclass(frozen=True, slots=True)
class RestEndpoint:
    """One of the calls that carry vectors.

    Attributes:
        collection: The collection or alias in the path.
        call: What stands behind ``points/``: ``("query", "batch")``.
        is_write: True where the vectors are documents' and go into the collection.
    """

    collection: str
    call: tuple[str, ...]
    is_write: bool = False


def split_path(path: str | bytes) -> tuple[str, ...] | None:
    """Give the segments of a path as Qdrant reads them.

    Percent-encoding is undone, and repeated and trailing slashes are ignored (actix
    ``NormalizePath::trim``), or requests would slip past.

    Args:
        path: The raw path; a query string behind ``?`` is ignored.

    Returns:
        The segments, or None where they are not UTF-8.
    """
    raw = path.encode() if isinstance(path, str) else path
    whole = raw.split(b"?", 1)[0]
    try:
        if b"%" in whole:
            return tuple(unquote_to_bytes(part).decode() for part in whole.split(b"/") if part)
        return tuple([part for part in whole.decode().split("/") if part])
    except UnicodeDecodeError:
        return None


def match_endpoint(method: str, path: str | bytes) -> RestEndpoint | None:
    """Tell whether a request is one that can carry vectors.

    Args:
        method: The HTTP method.
        path: The raw path; see :func:`split_path`.

    Returns:
        The endpoint, or None for a request that carries none.
    """
    parts = split_path(path)
    return None if parts is None else match_parts(method.upper(), parts)


def match_parts(method: str, parts: tuple[str, ...]) -> RestEndpoint | None:
    """Tell whether a request is one that can carry vectors.

    Args:
        method: The HTTP method, in capitals.
        parts: From :func:`split_path`.
    """
    if len(parts) < 3 or parts[2] != "points" or parts[0] != "collections":
        return None
    call = parts[3:]
    if (method, call) in _WRITES:
        return RestEndpoint(parts[1], call, is_write=True)
    if method == "POST" and call in _QUERIES:
        return RestEndpoint(parts[1], call)
    return None


def find_in_body(endpoint: RestEndpoint, body: bytes) -> list[Place]:
    """Find every place of a request's body where a query vector can stand.

    Args:
        endpoint: From :func:`match_endpoint`; not a write.
        body: JSON text, not compressed.

    Returns:
        The places; the value of a dense one is a :class:`FloatSpan`, of a multivector a list.

    Raises:
        MalformedError: Qdrant would not read it either.
    """
    finder = JsonFinder()
    find = getattr(finder, _QUERIES[endpoint.call])
    root = read_json(body)
    if endpoint.call[-1] == "batch":
        return list(finder.find_batch(root, find))
    return list(find(root))


def find_bare(endpoint: RestEndpoint, body: bytes) -> Place | None:
    """Find the vector of a request that has one and no other level; None for other requests."""
    return find_bare_query(body) if endpoint.call in _PLAIN_QUERIES else None


def has_vectors_to_write(endpoint: RestEndpoint, body: bytes) -> bool:
    """Tell whether a write brings vectors, and does not only delete or set payloads.

    Raises:
        MalformedError: Qdrant would not read it either.
    """
    if endpoint.call != ("batch",):
        return True
    finder = JsonFinder()
    fields = finder.fields(read_json(body)) or {}
    operations = finder.items(finder.get(fields, "operations")) or ()
    return any(
        finder.get(finder.fields(operation) or {}, key) is not None
        for operation in operations
        for key in _WRITING_OPERATIONS
    )


def replace_in_body(body: bytes, changes: Sequence[tuple[Place, NDArray[np.float32]]]) -> bytes:
    """Put adapted vectors in their places, and leave every other byte.

    Args:
        body: The body that the places were found in.
        changes: Each place with its adapted vector ``(dim,)``, or rows ``(n, dim)``, float32.

    Returns:
        The new body.
    """
    if len(changes) == 1 and changes[0][0].kind is Kind.DENSE:
        return write_floats(body, [(changes[0][0].value, changes[0][1])])
    edits: list[tuple[FloatSpan, NDArray[np.float32]]] = []
    for place, adapted in changes:
        if place.kind is Kind.MULTI:
            edits += zip(place.value, adapted, strict=True)
        else:
            edits.append((place.value, adapted))
    return write_floats(body, edits)


class JsonFinder(QueryFinder):
    """Looks at what :func:`read_json` gives."""

    def fields(self, value: Any) -> Fields | None:
        """Give the fields of an object."""
        return value if isinstance(value, dict) else None

    def get(self, fields: Fields, key: str) -> Any:
        """Give a field; refuse one that stands twice, as serde does."""
        if isinstance(fields, JsonObject) and key in fields.repeated:
            raise MalformedError(f"{key} stands twice in one object")
        return fields.get(key)

    def items(self, value: Any) -> Sequence[Any] | None:
        """Give the items of an array."""
        if isinstance(value, FlatArray):
            return value.items()
        return value if isinstance(value, list) else None

    def text(self, value: Any) -> str | None:
        """Give the text of a string."""
        if not isinstance(value, bytes):
            return None
        text: str = parse_token(value)
        return text

    def is_id(self, value: Any) -> bool:
        """Numbers and UUIDs are ids."""
        return isinstance(value, bytes | int) and not isinstance(value, bool)

    def array(self, value: Any) -> tuple[Kind, Any] | None:
        """Parse the numbers of an array, or of an array of arrays."""
        if isinstance(value, FlatArray):
            return Kind.DENSE, value.floats()
        if isinstance(value, list) and all(isinstance(row, FlatArray) for row in value):
            return Kind.MULTI, [row.floats() for row in value]
        return None
