"""A sidecar before raw upstreams, with one adapter on collection `docs`."""

import contextlib
import gzip
import json
import ssl
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brotli
import numpy as np
import zstandard

from tests.support.onnx_models import linear_adapter, linear_bytes
from tests.support.raw_http import PATIENCE_S, Message, Wire, connect, request_bytes
from tests.support.raw_upstream import JSON_LINE, RawUpstream
from tests.support.sidecar import Sidecar, running_sidecar
from trimtab.model.adapter import Adapter

MODEL = {"dim_in": 6, "dim_out": 6, "normalised": True, "use": "relevance"}
LOOK_S = 0.01
CUT = 0
"""In place of a status: the connection ended before the answer was whole."""
QUERY = [1.0, -2.0, 3.0, -4.0, 5.0, -6.0]
LIMIT_S = 40.0
"""No test waits for it: a busy machine must not look like a dead upstream. Less than patience."""
CONNECT_TIMEOUT_S, QUERY_TIMEOUT_S = 0.5, 0.6
HASTY = {"connect_timeout_s": CONNECT_TIMEOUT_S, "query_timeout_s": QUERY_TIMEOUT_S}
"""Limits for what never answers. An answer that comes may still come too late for them."""
QUERY_PATH = "/collections/docs/points/query"
UPLOAD_PATH = "/collections/docs/snapshots/upload"


def query_body(query: Sequence[float] = QUERY) -> bytes:
    return json.dumps({"query": list(query), "limit": 3}).encode()


def query_bytes(*lines: str, query: Sequence[float] = QUERY, path: str = QUERY_PATH) -> bytes:
    """A query that is adapted."""
    return request_bytes("POST", path, query_body(query), JSON_LINE, *lines)


UPSERT = json.dumps({"points": [{"id": 1, "vector": QUERY}]}).encode()
UNSAFE = {
    "upsert": request_bytes("PUT", "/collections/docs/points?wait=true", UPSERT, JSON_LINE),
    "batch update": request_bytes("POST", "/collections/docs/points/batch", b"{}", JSON_LINE),
    "upload": request_bytes("POST", UPLOAD_PATH, bytes(256 * 1024)),
    "delete points": request_bytes("POST", "/collections/docs/points/delete", b"{}", JSON_LINE),
    "delete collection": request_bytes("DELETE", "/collections/docs"),
    "change collection": request_bytes("PATCH", "/collections/docs", b"{}", JSON_LINE),
}
"""Requests that change something, so that sending one twice may do harm."""
SAFE = {
    "query": query_bytes(),
    "scroll": request_bytes("POST", "/collections/docs/points/scroll", b"{}", JSON_LINE),
    "list": request_bytes("GET", "/collections"),
}
"""Requests that change nothing."""


@dataclass
class Place:
    """A sidecar and what stands behind it."""

    sidecar: Sidecar
    upstreams: Sequence[RawUpstream]
    adapter: Adapter
    context: ssl.SSLContext | None = None

    @property
    def upstream(self) -> RawUpstream:
        return self.upstreams[0]

    def connect(self) -> Wire:
        return connect(self.sidecar.rest_address, self.context)

    def ask(self, request: bytes) -> Message:
        """Ask over a connection of its own."""
        with self.connect() as wire:
            return wire.ask(request)

    def admin(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.sidecar.admin_url}/{path}", timeout=PATIENCE_S) as said:
            text = said.read().decode()
        return text if path == "metrics" else json.loads(text)

    def nodes(self) -> list[dict[str, Any]]:
        """What each worker thinks of its upstreams, in order of their addresses."""
        workers: list[dict[str, Any]] = self.admin("routes")["workers"]
        return [node for worker in workers for node in worker["upstream"]]

    def wait_for(self, are_so: Any) -> None:
        """Wait until the sidecar's view of its upstreams is as a function says."""
        end = time.monotonic() + PATIENCE_S
        while not are_so(self.nodes()):
            assert time.monotonic() < end, self.nodes()
            time.sleep(LOOK_S)

    def ask_until(self, request: bytes, status: int) -> Message:
        """Ask until the answer is as it must become; with hasty limits, one may come too late."""
        end = time.monotonic() + PATIENCE_S
        while (answer := self.ask(request)).status != status:
            assert time.monotonic() < end, answer.start
        return answer

    def recover(self) -> None:
        """Forget what a test did: everything answers well again, and the sidecar knows."""
        for upstream in self.upstreams:
            upstream.recover()
        self.wait_for(self._end_connections)
        for upstream in self.upstreams:
            upstream.forget()

    def _end_connections(self, nodes: list[dict[str, Any]]) -> bool:
        """Tell whether all are up and none is connected, as often as checks connect anew."""
        are_up = all(node["is_up"] for node in nodes)
        are_connected = any(node["connections"] for node in nodes)
        if are_up and are_connected:
            for upstream in self.upstreams:
                upstream.drop_connections()
        return are_up and not are_connected


@contextlib.contextmanager
def running_place(
    folder: Path, upstreams: Sequence[RawUpstream], *flags: str, **tables: Mapping[str, Any]
) -> Iterator[Place]:
    """Run a sidecar until the block ends.

    Args:
        folder: For its settings and its model.
        flags: More of ``trimtab serve``.
        tables: Tables of sidecar.toml, which override the long limits.
    """
    (folder / "adapter.onnx").write_bytes(linear_bytes(**MODEL))
    config = folder / "sidecar.toml"
    config.write_text(config_text([upstream.url for upstream in upstreams], tables))
    with running_sidecar(*flags, config=config) as sidecar:
        yield Place(sidecar, upstreams, linear_adapter(**MODEL))


def config_text(urls: Sequence[str], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a sidecar.toml."""
    upstream = {
        "rest": list(urls),
        "connect_timeout_s": LIMIT_S,
        "query_timeout_s": LIMIT_S,
        "check_interval_s": 0.1,
    }
    route = {"collection": "docs", "adapter": "adapter.onnx", **tables.get("route", {})}
    written = {**tables, "upstream": upstream | dict(tables.get("upstream", {}))}
    written.pop("route", None)
    lines: list[str] = []
    for name, table in {**written, "[route]": route}.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def unpacked(request: Message) -> bytes:
    """Read a request's body as Qdrant does."""
    ways: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        "identity": bytes,
        "gzip": gzip.decompress,
        "deflate": zlib.decompress,
        "br": brotli.decompress,
        "zstd": zstandard.decompress,
    }
    return ways[request.value("content-encoding").lower()](request.body)


def assert_adapted(place: Place, request: Message) -> None:
    got = json.loads(unpacked(request))
    np.testing.assert_allclose(got["query"], place.adapter.transform(np.float32(QUERY)), atol=1e-6)
    assert got["limit"] == 3


def outcome(place: Place, request: bytes) -> tuple[int, Message | None]:
    """Ask, and give the status and the answer, or that it was cut."""
    try:
        answer = place.ask(request)
    except ConnectionError:
        return CUT, None
    return answer.status, answer


def assert_qdrant_error(answer: Message | None) -> None:
    """Assert that an answer is an error as Qdrant writes one, and says whose it is."""
    assert answer is not None
    assert answer.value("content-type").startswith("application/json")
    said = json.loads(answer.body)
    assert set(said) >= {"status", "time"}
    assert said["status"]["error"].startswith("trimtab: ")
