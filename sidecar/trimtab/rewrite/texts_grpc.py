"""Texts to embed in Qdrant's gRPC messages, and vectors in their place."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.rewrite.places import Kind, Path, Role
from trimtab.rewrite.qdrant_grpc import GrpcMethod, find_in_message
from trimtab.rewrite.texts import Text

_VECTOR = ("dense", "data")
"""Where a vector stands in what holds a text."""


def find_texts(method: GrpcMethod, message: Any) -> list[Text]:
    """Find every text that a request asks to embed, in a query or in points that are written.

    Args:
        method: From :func:`~trimtab.rewrite.qdrant_grpc.match_method`.
        message: From :func:`~trimtab.rewrite.qdrant_grpc.read_message`.

    Raises:
        MalformedError: Qdrant would refuse it too.
    """
    if method.is_write:
        texts = [_read(holder, name, is_example=False) for holder, name in _in_write(message)]
    else:
        texts = [
            _read(place.value, place.vector_name, place.path, is_example=place.role is Role.EXAMPLE)
            for place in find_in_message(method, message)
            if place.kind is Kind.INFERENCE
        ]
    return [text for text in texts if text is not None]


def put_embeddings(embedded: Sequence[tuple[Text, NDArray[np.float32]]]) -> None:
    """Put each text's vector, float32 ``(dim,)``, in its place, in the message itself."""
    for text, vector in embedded:
        dense = text.holder.dense  # one of several: the text goes
        dense.SetInParent()
        dense.data.extend(vector)


def _read(holder: Any, name: str, path: Path = (), *, is_example: bool) -> Text | None:
    """Read a ``VectorInput`` or ``Vector`` that holds a document; None for another object."""
    if not holder.HasField("document"):
        return None
    document, where = holder.document, (*path, *_VECTOR) if path else ()
    options = bool(document.options)
    return Text(document.model, document.text, name, is_example, options, holder, where)


def _in_write(message: Any) -> Iterator[tuple[Any, str]]:
    """Give every vector of a write, with its name."""
    for points in _written(message):
        for point in points:
            vectors = point.vectors
            if vectors.HasField("vector"):
                yield vectors.vector, ""
            for name, vector in vectors.vectors.vectors.items():
                yield vector, name


def _written(message: Any) -> Iterator[Any]:
    """Give the lists of points in a write."""
    if not hasattr(message, "operations"):
        yield message.points
        return
    for operation in message.operations:
        if operation.HasField("upsert"):
            yield operation.upsert.points
        elif operation.HasField("update_vectors"):
            yield operation.update_vectors.points
