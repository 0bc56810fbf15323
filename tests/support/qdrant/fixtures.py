"""The servers that tests talk to; tests/conftest.py gives them to every test.

One process serves a whole session: starting one costs as much as a hundred tests over it.
"""

import os
import uuid
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from qdrant_client import QdrantClient

from tests.support.qdrant.process import Server, running_server

_GRPC_PORT = 6334
KEPT_OPEN = httpx.Limits(keepalive_expiry=1)
"""Connections kept for the next request, as the client does elsewhere; not on the loopback.

Given up long before a server does, which would close one that is just being used.
"""


@pytest.fixture(scope="session")
def running_standin() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="module")
def standin(running_standin: Server) -> Iterator[Server]:
    """Our stand-in, empty: a module names its collections as it likes, and reads its requests."""
    yield running_standin
    client = connect(running_standin)
    for each in client.get_collections().collections:
        client.delete_collection(each.name)
    client.close()


@pytest.fixture(scope="session")
def qdrant(request: pytest.FixtureRequest) -> Server:
    """Our stand-in, or a user's own server where ``QDRANT_URL`` names one.

    It may hold collections of others.
    """
    url = os.environ.get("QDRANT_URL")
    if not url:
        server: Server = request.getfixturevalue("running_standin")
        return server
    parts = urlsplit(url)
    return Server(
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
    """What either client is made with.

    It asks for no version: it would in a thread, which may find the server gone at the end.
    """
    return {
        "url": server.rest_url,
        "grpc_port": server.grpc_port,
        "prefer_grpc": grpc,
        "api_key": server.api_key,
        "timeout": 30,
        "limits": KEPT_OPEN,
        "check_compatibility": False,
    }


def unique_name(what: str = "test") -> str:
    """A name for a collection or an alias that no other run uses."""
    return f"trimtab-{what}-{uuid.uuid4().hex[:12]}"
