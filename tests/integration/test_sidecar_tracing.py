"""Spans of `trimtab serve`, as a collector receives them over OTLP."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.onnx_models import DIM_IN, linear_adapter, linear_bytes
from tests.support.raw_http import Message, Wire
from tests.support.raw_place import Place
from tests.support.raw_upstream import GOOD, Exchange, RawUpstream, raw_upstream
from tests.support.sidecar import Sidecar, running_sidecar

PATIENCE_S = 60
TRACE_ID, CALLER_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTEXT = {
    "traceparent": f"00-{TRACE_ID}-{CALLER_ID}-01",
    "tracestate": "shop=1,other=2",
    "baggage": "user=7;p=1 , empty=",
}
QUERY = "/collections/docs/points/query"
VECTOR = [0.125] * DIM_IN
BODY = json.dumps({"query": VECTOR, "limit": 3})
FAILED = 2  # Status.STATUS_CODE_ERROR


@dataclass
class Collector:
    """Whom spans are sent to."""

    port: int = 0
    bodies: list[bytes] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def resource_spans(self) -> list[Any]:
        return [
            each
            for body in self.bodies
            for each in ExportTraceServiceRequest.FromString(body).resource_spans
        ]

    def spans(self) -> list[Any]:
        return [
            span
            for resource in self.resource_spans()
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait_for_spans(self, count: int = 1) -> list[Any]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.spans()) >= count, PATIENCE_S)
        return self.spans()


class Receiver(BaseHTTPRequestHandler):
    """Takes spans in."""

    collector: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/traces"
        with self.collector.changed:
            self.collector.bodies.append(body)
            self.collector.changed.notify_all()
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def running_collector() -> Iterator[Collector]:
    collector = Collector()
    handler = type("Handler", (Receiver,), {"collector": collector})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        collector.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


@pytest.fixture
def collector(running_collector: Collector) -> Collector:
    running_collector.bodies.clear()
    return running_collector


@contextlib.contextmanager
def serving(
    folder: Path,
    upstream: RawUpstream,
    collector: Collector,
    *flags: str,
    traces: bool = True,
    **variables: str,
) -> Iterator[Sidecar]:
    """Run a sidecar with an adapter, whose spans go to the collector."""
    (folder / "adapter.onnx").write_bytes(linear_bytes())
    config = folder / "sidecar.toml"
    config.write_text(f"[telemetry]\ntraces = {str(traces).lower()}\n")
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "NO_PROXY": "127.0.0.1",
        **variables,
    }
    given = ("--upstream-rest", upstream.url, "--route", f"docs={folder}", *flags)
    with running_sidecar(*given, config=config, env=env) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, running_collector: Collector
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("tracing")
    with (
        raw_upstream(dim=4) as upstream,
        serving(folder, upstream, running_collector) as sidecar,
    ):
        yield Place(sidecar, [upstream], linear_adapter())


@pytest.fixture
def sidecar(place: Place) -> Sidecar:
    """One for all tests that need no settings of their own."""
    place.recover()
    return place.sidecar


@pytest.fixture
def upstream(sidecar: Sidecar, place: Place) -> RawUpstream:
    return place.upstream


@pytest.fixture
def serve(tmp_path: Path, upstream: RawUpstream, collector: Collector) -> Callable[..., Any]:
    """Starts a sidecar of the test's own before the same upstream."""
    return partial(serving, tmp_path, upstream, collector)


def ask(
    sidecar: Sidecar,
    method: str = "POST",
    target: str = QUERY,
    body: str | None = BODY,
    headers: dict[str, str] = CONTEXT,
) -> int:
    with contextlib.closing(
        http.client.HTTPConnection(*sidecar.rest_address, timeout=PATIENCE_S)
    ) as connection:
        connection.request(method, target, body, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        answer.read()
        return answer.status


def attributes_of(thing: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in thing.attributes
    }


def parent_sent(request: Message) -> str:
    version, trace_id, span_id, _ = request.value("traceparent").split("-")
    assert (version, trace_id) == ("00", TRACE_ID)
    return span_id


def test_span_stands_between_the_caller_and_qdrant(sidecar, collector, upstream):
    assert ask(sidecar) == 200
    (span,) = collector.wait_for_spans()
    (request,) = upstream.requests
    assert span.name == "trimtab query"
    assert span.trace_id.hex() == TRACE_ID
    assert span.parent_span_id.hex() == CALLER_ID
    assert span.span_id.hex() == parent_sent(request)
    assert request.value("tracestate") == CONTEXT["tracestate"]
    assert request.value("baggage") == CONTEXT["baggage"]


def test_span_says_what_was_done(sidecar, collector, upstream):
    assert ask(sidecar) == 200
    (span,) = collector.wait_for_spans()
    host, port = sidecar.rest_address
    attributes = attributes_of(span)
    assert attributes.pop("trimtab.transform_ms") > 0
    assert attributes.pop("trimtab.adapter").startswith("toy@")
    assert attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": QUERY,
        "server.address": host,
        "server.port": port,
        "trimtab.collection": "docs",
        "trimtab.decision.adapted": 1,
        "trimtab.upstream": upstream.url.removeprefix("http://"),
    }
    (resource,) = collector.resource_spans()
    assert attributes_of(resource.resource)["service.name"] == "trimtab"


def test_spans_hold_no_secrets_vectors_or_texts(sidecar, collector):
    value = float(np.float32(0.1234567))
    body = {
        "query": [value] * DIM_IN,
        "filter": {"must": [{"key": "k", "match": {"text": "hide-1"}}]},
    }
    headers = {"api-key": "hide-2", "authorization": "Bearer hide-3", "cookie": "c=hide-4"}
    assert (
        ask(sidecar, target=f"{QUERY}?token=hide-5", body=json.dumps(body), headers=headers) == 200
    )
    collector.wait_for_spans()
    sent = b"".join(collector.bodies)
    assert b"hide-" not in sent
    assert b"0.123" not in sent
    assert np.float64(value).tobytes() not in sent


@pytest.mark.parametrize(
    ("call", "name", "decisions"),
    [
        (("PUT", "/collections/docs/points", '{"points": []}'), "trimtab write", {"write": 1}),
        (("GET", "/collections", None), "trimtab other", {}),
        (("POST", QUERY, '{"query": 7}'), "trimtab query", {"id": 1}),
    ],
)
def test_every_request_has_one_span(sidecar, collector, upstream, call, name, decisions):
    assert ask(sidecar, *call) == 200
    (span,) = collector.wait_for_spans()
    assert span.name == name
    assert span.span_id.hex() == parent_sent(upstream.requests[0])
    found = {
        key.removeprefix("trimtab.decision."): n
        for key, n in attributes_of(span).items()
        if key.startswith("trimtab.decision.")
    }
    assert found == decisions


def test_request_adapted_before_has_a_span_that_says_so(sidecar, collector):
    assert ask(sidecar, headers={"x-trimtab-adapter": "toy@1"}) == 200
    (span,) = collector.wait_for_spans()
    assert attributes_of(span)["trimtab.decision.already_adapted"] == 1
    assert span.parent_span_id == b""


def test_retry_is_an_event_of_the_same_span(sidecar, collector, upstream):
    answers = iter([GOOD, Exchange.read_body, GOOD])

    def answer(exchange: Exchange) -> None:
        chosen = next(answers)
        chosen(exchange)
        if chosen is not GOOD:
            exchange.wire.close()

    upstream.answer = answer
    assert ask(sidecar) == 200
    assert ask(sidecar) == 200
    _, span = collector.wait_for_spans(2)
    assert [event.name for event in span.events] == ["retry"]
    assert [parent_sent(each) for each in upstream.requests[1:]] == [span.span_id.hex()] * 2


def test_span_of_an_unreachable_qdrant_has_failed(sidecar, collector, upstream):
    upstream.stop()
    status = ask(sidecar)
    (span,) = collector.wait_for_spans()
    attributes = attributes_of(span)
    assert status >= 500
    assert attributes["http.response.status_code"] == status
    assert attributes["error.type"] == attributes["trimtab.error"]
    assert span.status.code == FAILED


def test_span_of_a_client_that_left_says_so(sidecar, collector, upstream):
    upstream.answer = Exchange.hang
    client = Wire(socket.create_connection(sidecar.rest_address))
    head = f"POST {QUERY} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n\r\n"
    client.send(f"{head}{BODY}".encode())
    upstream.wait_for_requests(1)
    client.reset()
    (span,) = collector.wait_for_spans()
    assert attributes_of(span)["trimtab.end"] == "gone"
    assert span.status.code != FAILED


@pytest.mark.parametrize("workers", ["1", "2"])
def test_spans_that_wait_are_sent_at_the_end(serve, collector, workers):
    with serve("--workers", workers, OTEL_BSP_SCHEDULE_DELAY="600000") as sidecar:
        for _ in range(8):
            assert ask(sidecar) == 200
    assert len(collector.spans()) == 8


def test_collector_that_is_gone_harms_no_request(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": nowhere, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with serve(**settings) as sidecar:
        assert ask(sidecar) == 200


def test_context_passes_untouched_where_traces_are_off(serve, collector, upstream):
    with serve(traces=False) as sidecar:
        assert ask(sidecar) == 200
        assert ask(sidecar, "GET", "/collections", None) == 200
    for request in upstream.requests:
        assert {name: request.value(name) for name in CONTEXT} == CONTEXT
    assert collector.bodies == []


def test_context_passes_untouched_where_the_environment_disables_traces(serve, collector, upstream):
    with serve(OTEL_SDK_DISABLED="true") as sidecar:
        assert ask(sidecar) == 200
    assert {name: upstream.requests[0].value(name) for name in CONTEXT} == CONTEXT
    assert collector.bodies == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_server_does_not_start_with_a_variable_that_is_wrong(serve, workers):
    wrong = {"OTEL_BSP_MAX_QUEUE_SIZE": "1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5"}
    with pytest.raises(RuntimeError, match="OTEL_"), serve("--workers", workers, **wrong):
        pass
