"""The server that tests talk to: ours, or a user's own where ``QDRANT_URL`` names one."""

import os
import uuid
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from qdrant_client import QdrantClient

from tests.support.qdrant.process import Server, running_server

_GRPC_PORT = 6334


@pytest.fixture(scope="session")
def qdrant() -> Iterator[Server]:
    """A running server for the whole session; it may hold collections of others."""
    url = os.environ.get("QDRANT_URL")
    if not url:
        with running_server() as server:
            yield server
        return
    parts = urlsplit(url)
    yield Server(
        rest_url=url.rstrip("/"),
        rest_port=parts.port or (443 if parts.scheme == "https" else 6333),
        grpc_port=int(os.environ.get("QDRANT_GRPC_PORT", _GRPC_PORT)),
        api_key=os.environ.get("QDRANT_API_KEY"),
        host=parts.hostname or "localhost",
    )


def connect(server: Server, *, grpc: bool = False) -> QdrantClient:
    """The official client, connected over REST or, wherever it can, over gRPC."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
        return QdrantClient(**client_options(server, grpc=grpc))


def client_options(server: Server, *, grpc: bool) -> dict[str, Any]:
    """What either client is made with; the version of a user's own server is the user's choice."""
    return {
        "url": server.rest_url,
        "grpc_port": server.grpc_port,
        "prefer_grpc": grpc,
        "api_key": server.api_key,
        "timeout": 30,
        "check_compatibility": server.process is not None,
    }


def unique_name(what: str = "test") -> str:
    """A name for a collection or an alias that no other run uses."""
    return f"trimtab-{what}-{uuid.uuid4().hex[:12]}"
