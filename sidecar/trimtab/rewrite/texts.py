"""Texts in Qdrant's requests that somebody has to embed: inference objects.

``{"text": ..., "model": ...}`` in JSON, a ``Document`` in gRPC, wherever a vector can stand: in
queries, and in points that are written.
"""

from dataclasses import dataclass
from typing import Any

from trimtab.rewrite.places import Path


@dataclass(frozen=True, slots=True)
class Text:
    """A text that stands for its vector.

    Attributes:
        model: The model that is to embed it, as the request names it.
        text: The text.
        vector_name: The collection's vector that it is for; empty for the unnamed one.
        is_example: True for an example of recommend, context or feedback.
        has_options: True where the request says more about how to embed it.
        holder: What the vector takes the place of: a ``JsonObject``, or the protobuf message that
            holds the text.
        path: The way to that vector from the root of a query; empty in a write.
    """

    model: str
    text: str
    vector_name: str
    is_example: bool
    has_options: bool
    holder: Any
    path: Path = ()
