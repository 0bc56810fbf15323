"""OpenTelemetry spans, one for each request, where ``[telemetry] traces`` asks for them.

The protocols' own modules tell a span what they see; what a span may say is decided here: counts,
names and times, never vectors, payloads, texts or keys. Where spans are off there is no tracer, and
nothing of OpenTelemetry is imported. Where they are on, endpoint, sampling, propagation and limits
come from the standard ``OTEL_*`` variables, which OpenTelemetry's own SDK reads; those that choose
an exporter are held against the one that there is, OTLP over HTTP.
"""

import os
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from trimtab.errors import ConfigError, MissingExtraError
from trimtab.rewrite.policies import Reason
from trimtab.routing.outcome import Outcome
from trimtab.settings import TelemetrySettings
from trimtab.upstream.http1 import Fields, field_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer as OtelTracer

_NAME = "trimtab"
_FLUSH_TIMEOUT_S = 5.0
"""How long the end of the process may wait for a collector that does not answer."""

_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
"""Variables that choose what OTLP is sent over; the first that is set counts."""

_LONGEST_PATH = 1000
"""Characters of a path that are kept: a path may be as long as a whole head."""

_METHODS = {
    b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT",
    b"QUERY", b"TRACE",
}  # fmt: skip
"""Methods that a span may name; any other is ``_OTHER``.

Source: OpenTelemetry semantic conventions 1.44, HTTP, ``http.request.method``.
"""

_FAILURES = {
    "cut", "UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
}  # fmt: skip
"""Ends that are the server's fault; of gRPC's statuses those that OpenTelemetry counts so.

Source: OpenTelemetry semantic conventions 1.44, gRPC, status of a server's span.
"""


class Span:
    """One request, from its head to the end of its answer; made by :meth:`Tracer.begin`."""

    def __init__(self, tracer: "Tracer", span: "OtelSpan") -> None:
        """Take a span that has begun."""
        self._tracer = tracer
        self._span = span
        self._error = ""
        self._n_sent = 0

    def fields(self, fields: Fields) -> Fields:
        """Name this span as the parent, in the fields that go on to Qdrant.

        Args:
            fields: As they came; baggage stays as it is.
        """
        return self._tracer.replace_parent(fields, self._span)

    def counted(self, reason: Reason, n: int = 1) -> None:
        """Say what became of places where a query vector can stand."""
        self._span.set_attribute(f"trimtab.decision.{reason}", n)

    def decided(self, outcome: Outcome | None) -> None:
        """Say what was decided about a whole request, if it was looked into."""
        if outcome is None:
            return
        for reason, n in outcome.decisions.items():
            self.counted(reason, n)
        if outcome.mark:
            self._span.set_attribute("trimtab.adapter", outcome.mark)
            self._span.set_attribute("trimtab.transform_ms", outcome.transform_s * 1000)

    def sent(self, address: str) -> None:
        """Say that the request goes to one of Qdrant's addresses, for the first time or again."""
        self._span.set_attribute("trimtab.upstream", address)
        if self._n_sent:
            self._span.add_event("retry", {"trimtab.upstream": address})
        self._n_sent += 1

    def failed(self, error: str) -> None:
        """Say that the sidecar itself answers with an error.

        Args:
            error: Its name in the metrics.
        """
        self._error = error
        self._span.set_attribute("trimtab.error", error)

    def end(self, status: str) -> None:
        """End.

        Args:
            status: An HTTP status, gRPC's name of one, or ``cut`` or ``gone`` for an answer that
                broke off or that nobody waits for.
        """
        if status.isdecimal():
            self._span.set_attribute("http.response.status_code", int(status))
        elif status.isupper():
            self._span.set_attribute("rpc.response.status_code", status)
        else:
            self._span.set_attribute("trimtab.end", status)
        if _is_failure(status):
            self._tracer.mark_failed(self._span, self._error or status)
        self._span.end()


class Tracer:
    """Begins spans and sends them, from a thread of its own, to a collector."""

    @classmethod
    def make(cls, settings: TelemetrySettings) -> "Tracer | None":
        """Make the tracer that the settings ask for.

        Returns:
            None where they ask for none, or ``OTEL_SDK_DISABLED`` or ``OTEL_TRACES_EXPORTER`` says
            so.

        Raises:
            MissingExtraError: OpenTelemetry is not installed.
            ConfigError: An ``OTEL_*`` variable can't be used.
        """
        if not settings.traces or not _are_exported():
            return None
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.trace import NoOpTracer

            tracer = cls(OTLPSpanExporter())
        except ImportError as error:
            raise MissingExtraError("traces need: pip install 'trimtab[otel]'") from error
        except ValueError as error:
            raise ConfigError(
                f"[telemetry] traces: an OTEL_* variable is wrong: {error}"
            ) from error
        if isinstance(tracer._otel, NoOpTracer):
            tracer.shutdown()
            return None
        return tracer

    def __init__(self, exporter: "SpanExporter") -> None:
        """Begin to collect spans.

        Args:
            exporter: Who sends them.
        """
        from opentelemetry import propagate, trace
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource({SERVICE_VERSION: version(_NAME)}).merge(Resource.create())
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: _NAME}))
        self._api = trace
        self._exporter = exporter
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._propagator = propagate.get_global_textmap()
        self._parent_fields = {
            name.lower().encode(): name for name in self._propagator.fields if name != "baggage"
        }
        self._otel: OtelTracer = self._provider.get_tracer(_NAME, version(_NAME))

    def begin(
        self, kind: str, method: bytes, target: bytes, fields: Fields, *, collection: str = ""
    ) -> Span:
        """Begin a request's span, a child of its caller's where the request names one.

        Args:
            kind: ``query``, ``write`` or ``other``.
            method: The HTTP method; empty for gRPC.
            target: The HTTP target, or gRPC's path of the method.
            fields: Header fields, or metadata, as they came.
            collection: Whose vectors the request can carry, as it names it.
        """
        named = _called(method, target, fields)
        if collection:
            named["trimtab.collection"] = collection
        span = self._otel.start_span(
            f"{_NAME} {kind}",
            self._propagator.extract(self._read_parent(fields)),
            kind=self._api.SpanKind.SERVER,
            attributes=named,
        )
        return Span(self, span)

    def _read_parent(self, fields: Fields) -> dict[str, list[str]]:
        """Give the fields that name the caller's span."""
        found: dict[str, list[str]] = {}
        for name, value in fields:
            known = self._parent_fields.get(name.lower())
            if known is not None:
                found.setdefault(known, []).append(value.decode("latin-1"))
        return found

    def replace_parent(self, fields: Fields, span: "OtelSpan") -> Fields:
        """Name a span as the parent, where the caller's is named or else at the end."""
        parent: dict[str, str] = {}
        self._propagator.inject(parent, self._api.set_span_in_context(span))
        changed: Fields = []
        for field in fields:
            known = self._parent_fields.get(field[0].lower())
            if known is None:
                changed.append(field)
            elif known in parent:
                changed.append((field[0], parent.pop(known).encode("latin-1")))
        changed += [(name.encode(), value.encode("latin-1")) for name, value in parent.items()]
        return changed

    def mark_failed(self, span: "OtelSpan", error: str) -> None:
        """Mark a span as failed."""
        span.set_attribute("error.type", error)
        span.set_status(self._api.StatusCode.ERROR)

    def shutdown(self) -> None:
        """Send what is left; give up after a few seconds. Blocks: call it in a thread."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(_FLUSH_TIMEOUT_S)
        if sending.is_alive():
            self._exporter.shutdown()  # ends its retries


def _are_exported() -> bool:
    """Tell whether the environment wants spans sent anywhere.

    Source: OpenTelemetry specification, environment variables: one that is empty counts as not set,
    and names are compared without regard to case.

    Raises:
        ConfigError: It wants them sent by something else than OTLP over HTTP.
    """
    given = os.environ.get("OTEL_TRACES_EXPORTER", "")
    exporters = {name.strip().lower() for name in given.split(",")} - {""} or {"otlp"}
    if exporters - {"otlp", "none"}:
        raise ConfigError(
            f"[telemetry] traces: OTEL_TRACES_EXPORTER is {given!r}, expected otlp or none"
        )
    if "otlp" not in exporters:
        return False
    name = next((each for each in _PROTOCOLS if os.environ.get(each, "").strip()), None)
    if name is not None and os.environ[name].strip().lower() != "http/protobuf":
        raise ConfigError(
            f"[telemetry] traces: {name} is {os.environ[name]!r}, expected http/protobuf, which "
            "collectors take at port 4318"
        )
    return True


def _is_failure(status: str) -> bool:
    """Tell whether a request has failed, and not by its caller's fault."""
    return status >= "500" if status.isdecimal() else status in _FAILURES


def _called(method: bytes, target: bytes, fields: Fields) -> dict[str, Any]:
    """Give the attributes that say what was called; a target's query may hold secrets."""
    path = target.partition(b"?")[0].decode("utf-8", "replace")[:_LONGEST_PATH]
    if not method:
        return {"rpc.system.name": "grpc", "rpc.method": path.removeprefix("/")}
    is_known = method in _METHODS
    named: dict[str, Any] = {
        "http.request.method": method.decode() if is_known else "_OTHER",
        "url.path": path,
    }
    host = (field_of(fields, b"host") or b"").decode("latin-1")
    name, _, port = host.rpartition(":")
    if name and port.isdecimal():
        named["server.port"] = int(port)
    else:
        name = host
    if name:
        named["server.address"] = name.strip("[]")
    return named
