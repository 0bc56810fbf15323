"""Requests that look like searches and are not understood, so that none passes raw in silence.

Only what is no call that is known comes here. A path tells most of them; where it does not, a body
that holds a dense vector does. Looking is bounded, and changes nothing of what is sent.
"""

import re
import struct
from collections.abc import Callable
from enum import StrEnum

from trimtab.errors import IntegrityError, SidecarError
from trimtab.model.protobuf_fields import read_fields
from trimtab.rewrite.policies import Reason
from trimtab.server.paths import foreign_query
from trimtab.upstream.http1 import unpack

NOTHING_FOUND = {Reason.NO_VECTOR}
"""At most this was decided about a query in which no vector was found."""

LOOK_BYTES = 256 * 1024
"""How much of a body is looked at: more than a query with thousands of values takes."""

_QUIET_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "PUT", "PATCH"}
"""Methods that no search of Qdrant's has, or ever had."""
_SEARCHES = ("query", "search", "recommend", "discover")
_CALLS_WITHOUT_VECTORS = {  # QDRANT_WIRE, A; and what Qdrant 1.20 serves under /collections/NAME
    ("facet",), ("index",), ("cluster",), ("shards",), ("snapshots",), ("points",),
    ("shards", "delete"), ("snapshots", "upload"), ("snapshots", "recover"),
    ("points", "scroll"), ("points", "count"), ("points", "delete"), ("points", "payload"),
    ("points", "payload", "delete"), ("points", "payload", "clear"),
    ("points", "vectors", "delete"), ("points", "batch"),
    ("points", "search", "matrix", "pairs"), ("points", "search", "matrix", "offsets"),
}  # fmt: skip
_ROOTS_WITHOUT_VECTORS = {"aliases", "cluster", "issues", "locks", "shards", "snapshots"}
_NUMBERS = re.compile(rb"\[([\s0-9.,eE+-]{7,}+)(?:\]|\Z)")
_LEAST_VALUES = 4
_MOST_ARRAYS = 64
_FLOAT_BYTES = 4
_LEAST_PACKED = 8
_MOST_FIELDS = 4096
_MOST_DEPTH = 8
_SMALLEST, _TELLING, _LARGEST = 1e-9, 1e-3, 1e4
"""Sizes of the values of embeddings; text read as floats has others."""


class Bypass(StrEnum):
    """Why a request is taken for a search.

    PATH_PREFIX: its path would be a query's without what stands before it. PATH: its path has
    words of one. GRPC_WEB: it is a gRPC query over HTTP/1.1. BODY: it holds a dense vector. FIELD:
    it is a query, and holds a dense vector where none is known to stand. METHOD: it is a gRPC
    method that is not known.
    """

    PATH_PREFIX = "path_prefix"
    PATH = "path"
    GRPC_WEB = "grpc_web"
    BODY = "body"
    FIELD = "unknown_field"
    METHOD = "grpc_method"


PROTOCOLS_OF = {
    reason: {Bypass.METHOD: ("grpc",), Bypass.FIELD: ("rest", "grpc")}.get(reason, ("rest",))
    for reason in Bypass
}
"""The protocols in which each can be met."""

ADVICE = {
    Bypass.PATH_PREFIX: "set [listen] path_prefix to what stands before /collections",
    Bypass.PATH: "this version does not know the call; see whether a newer one does",
    Bypass.GRPC_WEB: "let the client speak REST, or gRPC to the listener of [listen] grpc",
    Bypass.BODY: "this version does not know the call; see whether a newer one does",
    Bypass.FIELD: "this version does not know the field; see whether a newer one does",
    Bypass.METHOD: "this version does not know the method; see whether a newer one does",
}


def judge_path(method: str, parts: tuple[str, ...]) -> Bypass | None:
    """Say why a call that is not known looks like a search; BODY where only its body can tell.

    Args:
        method: The HTTP method.
        parts: The segments of its path.

    Returns:
        None for a call that is surely no search.
    """
    if method in _QUIET_METHODS or _is_without_vectors(parts):
        return None
    if foreign_query(method, parts):
        return Bypass.PATH_PREFIX
    if len(parts) > 1 and is_search_method(f"/{parts[-2]}/{parts[-1]}"):
        return Bypass.GRPC_WEB
    words = parts[2:] if parts[:1] == ("collections",) else parts
    if any(word.lower() in _SEARCHES for word in words):
        return Bypass.PATH
    return Bypass.BODY


def _is_without_vectors(parts: tuple[str, ...]) -> bool:
    """Tell the calls of Qdrant's that are known and hold no query vector."""
    if parts[:1] != ("collections",):
        return bool(parts) and parts[0] in _ROOTS_WITHOUT_VECTORS
    call = parts[2:]
    if call[:1] == ("shards",) and len(call) > 2:  # of one shard: what the whole has, and more
        return not any(word in _SEARCHES for word in call[2:])
    return call in _CALLS_WITHOUT_VECTORS or not call


def is_search_method(path: str) -> bool:
    """Tell a gRPC method that searches by its name, known or not."""
    service, _, name = path.rpartition("/")
    return (
        service.rpartition("/")[2].startswith("qdrant.")
        and name.lower().startswith(_SEARCHES)
        and not name.startswith("SearchMatrix")
    )


class Peek:
    """The beginning of a body, kept while it passes by, and judged once that is whole."""

    def __init__(self, coding: bytes, found: Callable[[], None]) -> None:
        """Wait for the body.

        Args:
            coding: The value of ``Content-Encoding``.
            found: Is called where the body is JSON with a dense vector in it.
        """
        self._coding = coding
        self._found = found
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        """Take a piece."""
        room = LOOK_BYTES - len(self._kept)
        if room > 0:
            self._kept += data[:room]

    def end(self) -> None:
        """Take the end of the body."""
        try:
            content = unpack(bytes(self._kept), self._coding, 4 * LOOK_BYTES)
        except SidecarError:  # cut short, or in another coding
            return
        if content is not None and holds_vector(content):
            self._found()


def holds_vector(body: bytes) -> bool:
    """Tell whether JSON holds a list of numbers that look like a dense vector's."""
    content = body[:LOOK_BYTES]
    if content.lstrip()[:1] not in {b"{", b"["}:
        return False
    for n, found in enumerate(_NUMBERS.finditer(content)):
        values = found[1]
        if n >= _MOST_ARRAYS:
            return False
        if values.count(b",") >= _LEAST_VALUES - 1 and (b"." in values or b"e" in values.lower()):
            return True
    return False


def message_holds_vector(content: bytes) -> bool:
    """Tell whether any protobuf message holds packed floats that look like a dense vector's."""
    waiting = [(memoryview(content), 0)] if len(content) <= LOOK_BYTES else []
    n_fields = 0
    while waiting:
        message, depth = waiting.pop()
        try:
            for _, _, value in read_fields(message):
                n_fields += 1
                if n_fields > _MOST_FIELDS:
                    return False
                if isinstance(value, memoryview) and len(value) > _FLOAT_BYTES:
                    if _looks_packed(value):
                        return True
                    if depth < _MOST_DEPTH:
                        waiting.append((value, depth + 1))
        except IntegrityError:  # text, or numbers
            continue
    return False


def _looks_packed(value: memoryview) -> bool:
    """Tell floats from text and other numbers."""
    if len(value) % _FLOAT_BYTES or len(value) < _LEAST_PACKED * _FLOAT_BYTES:
        return False
    sizes = [abs(each) for (each,) in struct.iter_unpack("<f", value)]
    return max(sizes) >= _TELLING and all(
        not each or _SMALLEST <= each <= _LARGEST for each in sizes
    )
