"""Spans: what they hold, whose children they are, and that they cost nothing where they are off."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from trimtab.errors import ConfigError, MissingExtraError
from trimtab.rewrite.policies import Reason
from trimtab.routing.outcome import Outcome
from trimtab.server import tracing
from trimtab.server.tracing import Tracer
from trimtab.settings import TelemetrySettings
from trimtab.upstream.http1 import Fields, field_of

TRACE_ID, CALLER_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{CALLER_ID}-01".encode()
UNSAMPLED = PARENT[:-1] + b"0"
TARGET = b"/collections/docs/points/query"
HOST = (b"Host", b"sidecar.test:6333")
FIELDS: Fields = [
    HOST,
    (b"TraceParent", PARENT),
    (b"tracestate", b"shop=1"),
    (b"baggage", b"k=v, l"),
]


class Collected:
    """A tracer whose spans stay here."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer = Tracer(self.exporter)

    def spans(self) -> tuple[ReadableSpan, ...]:
        self.tracer.shutdown()
        return self.exporter.get_finished_spans()

    def span(self) -> ReadableSpan:
        (found,) = self.spans()
        return found


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collected]:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)
    made = Collected()
    yield made
    made.tracer.shutdown()


def begin(collected: Collected, fields: Fields = FIELDS, target: bytes = TARGET) -> tracing.Span:
    return collected.tracer.begin("query", b"POST", target, fields, collection="docs")


def traceparent_of(span: ReadableSpan) -> bytes:
    context = span.context
    numbers = (context.trace_id, context.span_id, context.trace_flags)
    return b"00-%032x-%016x-%02x" % numbers


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_span_is_a_child_of_the_callers(collected):
    begin(collected).end("200")
    span = collected.span()
    assert span.name == "trimtab query"
    assert span.kind is SpanKind.SERVER
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == CALLER_ID
    assert span.parent.is_remote


def test_span_without_a_caller_begins_a_trace(collected):
    begin(collected, [HOST]).end("200")
    assert collected.span().parent is None


@pytest.mark.parametrize("value", [b"", b"garbage", b"00-0-0-00", b"\xff\xfe", PARENT + b"-more"])
def test_span_with_an_unreadable_caller_begins_a_trace(collected, value):
    span = begin(collected, [HOST, (b"traceparent", value), (b"tracestate", b"shop=1")])
    sent = span.fields([(b"traceparent", value), (b"tracestate", b"shop=1")])
    span.end("200")
    own = collected.span()
    assert own.parent is None
    assert sent == [(b"traceparent", traceparent_of(own))]


def test_fields_name_the_span_as_parent_where_the_callers_stood(collected):
    span = begin(collected)
    sent = span.fields([*FIELDS, (b"x-last", b"1")])
    span.end("200")
    assert sent == [
        HOST,
        (b"TraceParent", traceparent_of(collected.span())),
        (b"tracestate", b"shop=1"),
        (b"baggage", b"k=v, l"),
        (b"x-last", b"1"),
    ]


def test_fields_without_a_caller_end_with_the_span(collected):
    span = begin(collected, [HOST])
    first, second = span.fields([HOST])
    span.end("200")
    assert first == HOST
    assert second == (b"traceparent", traceparent_of(collected.span()))


def test_second_parent_is_dropped(collected):
    twice = [*FIELDS, (b"traceparent", PARENT)]
    sent = begin(collected, twice).fields(twice)
    assert [name.lower() for name, _ in sent].count(b"traceparent") == 1


def test_several_tracestates_become_one(collected):
    several = [(b"traceparent", PARENT), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    sent = begin(collected, several).fields(several)
    assert [value for name, value in sent if name == b"tracestate"] == [b"a=1,b=2"]


def test_caller_that_is_not_sampled_stays_so(collected):
    fields = [HOST, (b"traceparent", UNSAMPLED)]
    span = begin(collected, fields)
    sent = field_of(span.fields(fields), b"traceparent") or b""
    span.sent("127.0.0.1:6333")
    span.end("500")
    assert sent.startswith(f"00-{TRACE_ID}-".encode())
    assert sent.endswith(b"-00")
    assert CALLER_ID.encode() not in sent
    assert collected.spans() == ()


def test_span_says_what_became_of_the_request(collected):
    span = begin(collected)
    decisions = Counter({Reason.ADAPTED: 2, Reason.ID: 1})
    span.decided(Outcome(b"secret body", decisions, mark="toy@1234", transform_s=0.002))
    span.sent("10.0.0.1:6333")
    span.end("200")
    found = collected.span()
    assert attributes_of(found) == {
        "http.request.method": "POST",
        "url.path": TARGET.decode(),
        "server.address": "sidecar.test",
        "server.port": 6333,
        "trimtab.collection": "docs",
        "trimtab.decision.adapted": 2,
        "trimtab.decision.id": 1,
        "trimtab.adapter": "toy@1234",
        "trimtab.transform_ms": 2.0,
        "trimtab.upstream": "10.0.0.1:6333",
        "http.response.status_code": 200,
    }
    assert found.events == ()
    assert found.status.status_code is StatusCode.UNSET


def test_request_that_was_not_looked_into_has_no_decision_but_the_one(collected):
    span = begin(collected)
    span.decided(None)
    span.counted(Reason.ALREADY_ADAPTED)
    span.end("200")
    attributes = attributes_of(collected.span())
    decided = {key: n for key, n in attributes.items() if key.startswith("trimtab.decision.")}
    assert decided == {"trimtab.decision.already_adapted": 1}


def test_request_sent_again_has_an_event(collected):
    span = begin(collected)
    span.sent("10.0.0.1:6333")
    span.sent("10.0.0.2:6333")
    span.end("200")
    found = collected.span()
    assert [(event.name, dict(event.attributes or {})) for event in found.events] == [
        ("retry", {"trimtab.upstream": "10.0.0.2:6333"})
    ]
    assert attributes_of(found)["trimtab.upstream"] == "10.0.0.2:6333"


@pytest.mark.parametrize(
    ("end", "error_type"),
    [
        ("200", None),
        ("404", None),
        ("gone", None),
        ("500", "500"),
        ("503", "503"),
        ("cut", "cut"),
        ("OK", None),
        ("NOT_FOUND", None),
        ("UNAVAILABLE", "UNAVAILABLE"),
    ],
)
def test_span_has_failed_where_the_server_has(collected, end, error_type):
    begin(collected).end(end)
    found = collected.span()
    expected = StatusCode.UNSET if error_type is None else StatusCode.ERROR
    assert found.status.status_code is expected
    assert attributes_of(found).get("error.type") == error_type
    known = {"http.response.status_code", "rpc.response.status_code", "trimtab.end"}
    assert [str(attributes_of(found)[key]) for key in known & set(attributes_of(found))] == [end]


@pytest.mark.parametrize(("end", "error_type"), [("502", "unavailable"), ("403", None)])
def test_span_names_the_sidecars_own_error(collected, end, error_type):
    span = begin(collected)
    span.failed("unavailable")
    span.end(end)
    attributes = attributes_of(collected.span())
    assert attributes["trimtab.error"] == "unavailable"
    assert attributes.get("error.type") == error_type


def test_span_keeps_secrets_out(collected):
    fields = [
        *FIELDS,
        (b"api-key", b"hidden-1"),
        (b"authorization", b"Bearer hidden-2"),
        (b"cookie", b"hidden-3"),
        (b"referer", b"http://a/?k=hidden-4"),
    ]
    span = begin(collected, fields, TARGET + b"?api_key=hidden-5")
    span.fields(fields)
    span.decided(Outcome(b'{"query": "hidden-6"}'))
    span.end("200")
    assert "hidden" not in collected.span().to_json()


def test_span_keeps_no_endless_path(collected):
    begin(collected, target=b"/" + b"a" * 60_000).end("404")
    assert len(attributes_of(collected.span())["url.path"]) == 1000


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        (b"qdrant", "qdrant", None),
        (b"qdrant:6333", "qdrant", 6333),
        (b"[::1]:6333", "::1", 6333),
        (b"[::1]", "::1", None),
        (b"", None, None),
    ],
)
def test_span_names_the_server_that_was_called(collected, host, address, port):
    begin(collected, [(b"host", host)]).end("200")
    attributes = attributes_of(collected.span())
    assert attributes.get("server.address") == address
    assert attributes.get("server.port") == port


def test_unknown_method_is_not_named(collected):
    collected.tracer.begin("other", b"PROPFIND", b"/", [HOST]).end("404")
    assert attributes_of(collected.span())["http.request.method"] == "_OTHER"


def test_call_without_a_method_is_grpcs(collected):
    collected.tracer.begin("query", b"", b"/qdrant.Points/Query", []).end("OK")
    assert attributes_of(collected.span()) == {
        "rpc.system.name": "grpc",
        "rpc.method": "qdrant.Points/Query",
        "rpc.response.status_code": "OK",
    }


def test_service_is_named_trimtab(collected):
    begin(collected).end("200")
    resource = collected.span().resource.attributes
    assert resource["service.name"] == "trimtab"
    assert resource["service.version"]


def test_service_is_named_as_the_environment_says(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "search")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=7,team=blue")
    made = Collected()
    begin(made).end("200")
    resource = made.span().resource.attributes
    assert (resource["service.name"], resource["service.version"]) == ("search", "7")
    assert resource["team"] == "blue"


def test_sampler_is_the_environments(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    made = Collected()
    begin(made).end("200")
    assert made.spans() == ()


def test_no_tracer_where_traces_are_off():
    assert Tracer.make(TelemetrySettings()) is None


def test_no_tracer_where_the_environment_disables_it(monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert Tracer.make(TelemetrySettings(traces=True)) is None


@pytest.mark.parametrize("exporter", ["none", " NONE ", "none,none"])
def test_no_tracer_where_the_environment_names_no_exporter(monkeypatch, exporter):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", exporter)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")  # of no exporter
    assert Tracer.make(TelemetrySettings(traces=True)) is None


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_TRACES_EXPORTER": ""},
        {"OTEL_TRACES_EXPORTER": "OTLP"},
        {"OTEL_TRACES_EXPORTER": "none, otlp"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": ""},
        {  # that of traces counts
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "HTTP/protobuf",
        },
    ],
)
def test_otlp_over_http_is_what_the_environment_may_name(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tracer = Tracer.make(TelemetrySettings(traces=True))
    assert tracer is not None
    tracer.shutdown()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_TRACES_EXPORTER", "otlp,zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ],
)
def test_exporter_that_there_is_not_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^.telemetry. traces: {name} is '{value}', expected "):
        Tracer.make(TelemetrySettings(traces=True))


def test_wrong_variable_is_a_config_error(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
    with pytest.raises(ConfigError, match="OTEL_"):
        Tracer.make(TelemetrySettings(traces=True))


@pytest.mark.parametrize(
    "hidden", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"]
)
def test_missing_package_is_named(monkeypatch, hidden):
    monkeypatch.setitem(sys.modules, hidden, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'trimtab\[otel\]'"):
        Tracer.make(TelemetrySettings(traces=True))


def test_nothing_is_imported_where_traces_are_off():
    script = (
        "import sys, trimtab.server.process.run\n"
        "from trimtab.settings import TelemetrySettings\n"
        "from trimtab.server.tracing import Tracer\n"
        "assert Tracer.make(TelemetrySettings()) is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_shutdown_gives_up_on_a_collector_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(tracing, "_FLUSH_TIMEOUT_S", 0.01)
    given_up = threading.Event()

    class Stuck(InMemorySpanExporter):
        def export(self, spans):
            given_up.wait()
            return SpanExportResult.FAILURE

        def shutdown(self):
            given_up.set()

    tracer = Tracer(Stuck())
    tracer.begin("other", b"GET", b"/", [HOST]).end("200")
    tracer.shutdown()
    assert given_up.is_set()
