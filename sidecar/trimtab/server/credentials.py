"""Whom the sidecar asks Qdrant for: for nobody with its own key, else for a caller."""

import re
from collections.abc import Mapping

from trimtab.routing.schema_cache import Caller
from trimtab.upstream.http1 import Fields

CREDENTIALS = (b"api-key", b"authorization")
"""Header fields, or gRPC metadata, that say who asks."""

TWINS_FIELDS = re.compile(rb"authorization|(.+-)?api-key|x-qdrant-route-affinity", re.IGNORECASE)
"""What a shadow query has from its twin; Qdrant hands on ``openai-api-key`` and its like to those
who embed for it."""


def credentials_of(fields: Fields, own_key: str | None) -> Fields:
    """Give the fields for the sidecar's own questions: its own key, else the caller's."""
    if own_key:
        return [(b"api-key", own_key.encode())]
    return [field for field in fields if field[0].lower() in CREDENTIALS]


def caller_of(values: Mapping[bytes, bytes], own_key: str | None) -> Caller:
    """Give for whom the sidecar asks, from header fields by name: nobody, with its own key."""
    if own_key:
        return ()
    return tuple((name, values[name]) for name in CREDENTIALS if name in values)
