"""Bytes of requests, put together without any care for what they mean."""

import json
from collections.abc import Sequence

QUERY_PATH = "/collections/docs/points/query"
VECTOR = [0.1, -0.2, 0.3, 0.4]
Lines = Sequence[str | bytes]


def join(method: str | bytes, target: str | bytes, lines: Lines = (), body: bytes = b"") -> bytes:
    """Write a request with exactly these field lines, Host before them."""
    return raw_join(method, target, ["Host: qdrant.test:6333", *lines], body)


def raw_join(
    method: str | bytes, target: str | bytes, lines: Lines = (), body: bytes = b""
) -> bytes:
    """Write a request with exactly these field lines."""
    start = as_bytes(method) + b" " + as_bytes(target) + b" HTTP/1.1"
    return b"\r\n".join([start, *map(as_bytes, lines), b"", b""]) + body


def measured(method: str | bytes, target: str | bytes, body: bytes, lines: Lines = ()) -> bytes:
    """Write a request with a right Content-Length."""
    return join(method, target, [*lines, f"Content-Length: {len(body)}"], body)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Write a chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def query_body(**more: object) -> bytes:
    """Write the body of a query whose vector the adapter takes."""
    return json.dumps({"query": VECTOR, "limit": 3, **more}).encode()


def upsert_body(n: int = 1) -> bytes:
    """Write the body of an upsert; its vectors are as long as a query's, and must stay."""
    points = [{"id": i, "vector": VECTOR, "payload": {"n": i}} for i in range(n)]
    return json.dumps({"points": points}).encode()


def as_bytes(text: str | bytes) -> bytes:
    """Latin-1, so that any byte can be written as a character."""
    return text.encode("latin-1") if isinstance(text, str) else text
