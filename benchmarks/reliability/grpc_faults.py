"""Each fault of an upstream that speaks gRPC: what a caller sees, and what is sent twice."""

import contextlib
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from qdrant_client import grpc as messages

from benchmarks.reliability.lines import ALONE
from tests.support.onnx_models import DIM_IN, DIM_OUT, linear_bytes
from tests.support.sidecar import running_sidecar
from tests.support.ways import Authority, Way, listen_table

DEADLINE_S = 1.5
"""Of the caller's own: gRPC has no other limit on a call."""
RECOVERS_WITHIN_S = 3.0
_SETTINGS = """
[upstream]
grpc = "http://127.0.0.1:{port}"
[[route]]
collection = "docs"
adapter = "adapter.onnx"
"""


@dataclass
class Upstream(grpc.GenericRpcHandler):
    """A port that is a good server, a failing one, or something else altogether.

    Attributes:
        port: Always the same one.
        calls: Methods of the service ``Points`` that arrived.
        fails: What a call to it does in place of answering.
    """

    port: int = 0
    calls: list[str] = field(default_factory=list)
    fails: Callable[[Any], None] | None = None
    _server: Any = None
    _raw: socket.socket | None = None

    def service(self, handler_call_details: Any) -> Any:
        """Serve every method."""
        method = handler_call_details.method

        def handle(content: bytes, context: Any) -> bytes:
            if method == "/qdrant.Collections/Get":
                return _info()
            if not method.startswith("/qdrant.Points/"):
                return b""
            self.calls.append(method)
            if self.fails is not None:
                self.fails(context)
            return messages.QueryResponse().SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle)

    def fail(self, fails: Callable[[Any], None]) -> None:
        """Go on as a server of gRPC, whose connections are there, but fail every call."""
        self.fails = fails

    def serve(self) -> None:
        """Be a server of gRPC."""
        self.stop()
        self.fails = None
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def listen(self, accept: Callable[[socket.socket], None]) -> None:
        """Take connections and do something else with them."""
        self.stop()
        raw = self._raw = socket.create_server(("127.0.0.1", self.port))

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accept(raw.accept()[0])

        threading.Thread(target=take, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None
        if self._raw is not None:
            with contextlib.suppress(OSError):
                self._raw.shutdown(socket.SHUT_RDWR)
            self._raw.close()
            self._raw = None


def _info() -> bytes:
    info = messages.CollectionInfo()
    params = info.config.params.vectors_config.params
    params.size, params.distance = DIM_OUT, messages.Distance.Cosine
    return messages.GetCollectionInfoResponse(result=info).SerializeToString()


_HELD: list[socket.socket] = []
_SURE_OF_ALL = 16
"""Calls in a row, each on its own connection, that leave out one of two workers once in 2^15."""


def _speak_http(connected: socket.socket) -> None:
    connected.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    connected.close()


def _abort(context: Any) -> None:
    context.abort(grpc.StatusCode.UNAVAILABLE, "a node of the cluster is down")


def _hang(context: Any) -> None:
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(2 * DEADLINE_S)


@dataclass(frozen=True)
class Fault:
    """One way to fail, and what a caller may see then."""

    inject: Callable[[Upstream], None]
    codes: frozenset[str]
    is_timeout: bool = False


_DOWN, _LATE = frozenset({"UNAVAILABLE"}), frozenset({"DEADLINE_EXCEEDED"})
FAULTS: Mapping[str, Fault] = {
    "refuses connections": Fault(lambda upstream: upstream.stop(), _DOWN),
    "hangs up": Fault(lambda upstream: upstream.listen(lambda each: each.close()), _DOWN),
    "speaks HTTP/1.1": Fault(lambda upstream: upstream.listen(_speak_http), _DOWN),
    "accepts and never answers": Fault(
        lambda upstream: upstream.listen(_HELD.append), _LATE | _DOWN, is_timeout=True
    ),
    "ends the call with UNAVAILABLE": Fault(lambda upstream: upstream.fail(_abort), _DOWN),
    "never answers the call": Fault(lambda upstream: upstream.fail(_hang), _LATE, is_timeout=True),
}


@contextlib.contextmanager
def running_place(way: Way) -> Iterator[tuple[Upstream, Callable[[str, bytes], tuple[str, float]]]]:
    """Run a sidecar before an upstream; give that, and what makes a call."""
    upstream = Upstream()
    upstream.serve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority(folder)
        (folder / "adapter.onnx").write_bytes(linear_bytes(use="relevance"))
        config = folder / "sidecar.toml"
        settings = _SETTINGS.format(port=upstream.port)
        config.write_text(listen_table(way, authority) + settings)
        with running_sidecar(*way.flags, config=config) as sidecar:
            target = ":".join(map(str, sidecar.grpc_address))
            trusted = grpc.ssl_channel_credentials(authority.pem)

            def ask(method: str, content: bytes) -> tuple[str, float]:
                started = time.monotonic()
                with (
                    grpc.secure_channel(target, trusted, options=ALONE)
                    if way.is_tls
                    else grpc.insecure_channel(target, options=ALONE)
                ) as channel:
                    try:
                        channel.unary_unary(method)(content, timeout=DEADLINE_S)
                    except grpc.RpcError as error:
                        return error.code().name, time.monotonic() - started
                return "OK", time.monotonic() - started

            try:
                yield upstream, ask
            finally:
                upstream.stop()


def run(way: Way, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure every fault."""
    dense = messages.DenseVector(data=[1.0] * DIM_IN)
    nearest = messages.Query(nearest=messages.VectorInput(dense=dense))
    asked = {
        "query": (
            "/qdrant.Points/Query",
            messages.QueryPoints(collection_name="docs", query=nearest).SerializeToString(),
        ),
        "write": (
            "/qdrant.Points/Upsert",
            messages.UpsertPoints(collection_name="docs").SerializeToString(),
        ),
    }
    table: dict[str, Any] = {}
    wrong: list[str] = []
    with running_place(way) as (upstream, ask):
        for what, fault in FAULTS.items():
            table[what] = {}
            for kind, call in asked.items():
                cell = _measure(upstream, lambda call=call: ask(*call), fault, rounds)
                table[what][kind] = cell
                wrong += _judge(f"{what}, {kind}", fault, cell)
                say(f"{what:32} {kind:6} {cell}")
    return {
        "settings": {"deadline_s": DEADLINE_S},
        "rounds": rounds,
        "faults": table,
        "not_as_it_must_be": wrong,
    }


def _measure(
    upstream: Upstream, ask: Callable[[], tuple[str, float]], fault: Fault, rounds: int
) -> dict[str, Any]:
    """Make a call to a failing upstream several times, and let it return each time."""
    seen: Counter[str] = Counter()
    times, returns, most_sent = [], [], 0
    for _ in range(rounds):
        fault.inject(upstream)
        upstream.calls.clear()
        code, after_s = ask()
        seen[code] += 1
        times.append(after_s)
        most_sent = max(most_sent, len(upstream.calls))
        upstream.serve()
        returns.append(_recover(ask))
    return {
        "seen": dict(seen),
        "after_ms_max": round(1e3 * max(times), 1),
        "sent_at_most": most_sent,
        "recovered_after_ms_max": round(1e3 * max(returns), 1),
    }


def _recover(ask: Callable[[], tuple[str, float]]) -> float:
    """Ask until every worker must have answered; give the seconds to the last failure's end.

    Each worker has a channel of its own, which finds back by itself.
    """
    started = time.monotonic()
    failed_at, streak = started, 0
    while streak < _SURE_OF_ALL:
        if ask()[0] == "OK":
            streak += 1
        else:
            failed_at, streak = time.monotonic(), 0
            time.sleep(0.01)
    return failed_at - started


def _judge(name: str, fault: Fault, cell: dict[str, Any]) -> list[str]:
    """Say what is not as it must be."""
    wrong = []
    if not set(cell["seen"]) <= fault.codes:
        wrong.append(f"{name}: {cell['seen']}; expected {sorted(fault.codes)}")
    if cell["sent_at_most"] > 1:
        wrong.append(f"{name}: sent {cell['sent_at_most']} times")
    if not fault.is_timeout and cell["after_ms_max"] > 1e3 * DEADLINE_S:
        wrong.append(f"{name}: answered after {cell['after_ms_max']} ms")
    if cell["recovered_after_ms_max"] > 1e3 * RECOVERS_WITHIN_S:
        wrong.append(f"{name}: recovered after {cell['recovered_after_ms_max']} ms")
    return wrong
