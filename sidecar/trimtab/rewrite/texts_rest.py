"""Texts to embed in the bytes of Qdrant's REST requests, and vectors in their place."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.rewrite.json_spans import JsonObject, read_json, write_floats
from trimtab.rewrite.places import Kind, Path, Role
from trimtab.rewrite.qdrant_rest import JsonFinder, RestEndpoint, find_in_body
from trimtab.rewrite.texts import Text

_FINDER = JsonFinder()


_ESCAPED_LETTERS = (b"\\u006", b"\\u007")
"""As a key may be written: of ASCII letters in lower case. Other escapes are of no letter in it."""


def may_hold_texts(body: bytes) -> bool:
    """Tell whether a body can hold a text to embed, without reading it: both keys must be there."""
    if b'"text"' in body and b'"model"' in body:
        return True
    return any(letters in body for letters in _ESCAPED_LETTERS)


def find_texts(endpoint: RestEndpoint, body: bytes) -> list[Text]:
    """Find every text that a request asks to embed, in a query or in points that are written.

    Args:
        endpoint: From :func:`~trimtab.rewrite.qdrant_rest.match_endpoint`.
        body: JSON text, not compressed.

    Raises:
        MalformedError: Qdrant would not read it either.
    """
    if endpoint.is_write:
        written = _in_write(endpoint, read_json(body))
        texts = [_read(value, name, is_example=False) for value, name in written]
    else:
        texts = [
            _read(place.value, place.vector_name, place.path, is_example=place.role is Role.EXAMPLE)
            for place in find_in_body(endpoint, body)
            if place.kind is Kind.INFERENCE
        ]
    return [text for text in texts if text is not None]


def put_embeddings(body: bytes, embedded: Sequence[tuple[Text, NDArray[np.float32]]]) -> bytes:
    """Put each text's vector in its place, and leave every other byte.

    Args:
        body: The body that the texts were found in.
        embedded: Each text with its vector, float32, shape ``(dim,)``.
    """
    return write_floats(body, [(text.holder, vector) for text, vector in embedded])


def _read(value: Any, name: str, path: Path = (), *, is_example: bool) -> Text | None:
    """Read an object that holds a text and a model; None for an image or another object."""
    text, model = (_FINDER.text(_FINDER.get(value, key)) for key in ("text", "model"))
    if text is None or model is None:
        return None
    return Text(model, text, name, is_example, bool(value.get("options")), value, path)


def _in_write(endpoint: RestEndpoint, root: Any) -> Iterator[tuple[JsonObject, str]]:
    """Give every object in a write that may hold a text, with the name of its vector."""
    for part in _written(endpoint, root):
        for point in _items(part, "points"):
            yield from _in_vector(point.get("vector"))
        batch = part.get("batch")
        if isinstance(batch, dict):
            yield from _in_columns(batch.get("vectors"))


def _written(endpoint: RestEndpoint, root: Any) -> Iterator[dict[str, Any]]:
    """Give the parts of a write that hold points."""
    if endpoint.call != ("batch",):
        if isinstance(root, dict):
            yield root
        return
    for operation in _items(root, "operations"):
        for key in ("upsert", "update_vectors"):
            part = operation.get(key)
            if isinstance(part, dict):
                yield part


def _in_vector(vector: Any) -> Iterator[tuple[JsonObject, str]]:
    """Look at one point's vector, or at its vectors by name."""
    if not isinstance(vector, JsonObject):
        return
    if _is_text(vector):
        yield vector, ""
        return
    for name, value in vector.items():
        if isinstance(value, JsonObject) and _is_text(value):
            yield value, name


def _in_columns(vectors: Any) -> Iterator[tuple[JsonObject, str]]:
    """Look at the vectors of a batch: a list, or one by name."""
    columns = vectors.items() if isinstance(vectors, dict) else [("", vectors)]
    for name, column in columns:
        for value in column if isinstance(column, list) else ():
            if isinstance(value, JsonObject) and _is_text(value):
                yield value, name


def _is_text(value: JsonObject) -> bool:
    """Tell an inference object from vectors by name, which can't be strings."""
    return isinstance(value.get("text"), bytes) and isinstance(value.get("model"), bytes)


def _items(holder: Any, key: str) -> Iterator[dict[str, Any]]:
    """Give the objects in an array of an object, as far as there are such."""
    items = holder.get(key) if isinstance(holder, dict) else None
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            yield item
