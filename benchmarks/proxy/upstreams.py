"""What stands behind every contender: a static nginx answer, or Qdrant's engine."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proxy.processes import HOST, MissingError, free_port, running
from benchmarks.proxy.queries import (
    COLLECTION,
    REST_PATH,
    document_vectors,
    payload_of,
    static_answer,
    static_collection,
)
from tests.support.qdrant.process import running_server


@dataclass(frozen=True)
class Upstream:
    """A running upstream."""

    name: str
    rest_port: int
    grpc_port: int | None


def nginx_binary() -> str:
    """Find nginx, which Debian installs beside the paths of users."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise MissingError("no nginx; install Debian's package nginx-light")
    return found


def nginx_command(folder: Path, http: str) -> list[str]:
    """Write the configuration of one worker that logs nothing; give the command that runs it.

    Connections may be idle for an hour and carry any number of requests, so that no contender
    has to open a new one while it is timed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"  {kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""  # else root's worker can't enter our folder
    text = f"""
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
{paths}
  access_log off;
  default_type application/json;
  client_header_buffer_size 32k;
  client_body_buffer_size 128k;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  tcp_nodelay on;
{http}
}}
"""
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    return [
        nginx_binary(), "-p", str(folder), "-c", str(folder / "nginx.conf"),
        "-e", str(folder / "error.log"), "-g", "daemon off;",
    ]  # fmt: skip


@contextlib.contextmanager
def upstream(name: str, dim: int, folder: Path) -> Iterator[Upstream]:
    """Run one of the upstreams."""
    with (_static if name == "static" else _edge)(dim, folder) as found:
        yield found


@contextlib.contextmanager
def _static(dim: int, folder: Path) -> Iterator[Upstream]:
    """Answer every POST alike, and what a sidecar asks about the collection.

    ``return`` alone would answer before a long body has come in, and a proxy that sends in pieces
    would then drop the connection. ``mirror`` reads the body whole first; ``empty_gif`` refuses
    POST, and that refusal is turned into the answer.
    """
    port = free_port()
    collection = static_collection(dim).decode()
    none = '{"result":{"aliases":[]},"status":"ok","time":0.0001}'
    http = f"""
  server {{
    listen {HOST}:{port} backlog=1024;
    location = {REST_PATH} {{ mirror /drop; empty_gif; error_page 405 =200 /answer; }}
    location / {{ mirror /drop; empty_gif; error_page 405 =200 /answer; }}
    location = /drop {{ internal; return 204; }}
    location = /answer {{ internal; return 200 '{static_answer().decode()}'; }}
    location = /aliases {{ return 200 '{none}'; }}
    location = /collections/aliases {{ return 200 '{none}'; }}
    location = /collections/{COLLECTION}/aliases {{ return 200 '{none}'; }}
    location = /collections/{COLLECTION} {{ return 200 '{collection}'; }}
  }}
"""
    with running(nginx_command(folder / "static", http), ports=[port]):
        yield Upstream("static", port, None)


@contextlib.contextmanager
def _edge(dim: int, folder: Path) -> Iterator[Upstream]:
    """Fill Qdrant's engine behind the tests' front."""
    from qdrant_client import QdrantClient, models

    with running_server() as server:
        client = QdrantClient(url=server.rest_url)
        distance = models.Distance.COSINE
        client.create_collection(
            COLLECTION, vectors_config=models.VectorParams(size=dim, distance=distance)
        )
        points = [
            models.PointStruct(id=number, vector=row.tolist(), payload=payload_of(number))
            for number, row in enumerate(document_vectors(dim))
        ]
        for start in range(0, len(points), 250):
            client.upsert(COLLECTION, points[start : start + 250])
        client.close()
        yield Upstream("edge", server.rest_port, server.grpc_port)
