"""What a server counts and times, as plain numbers: cheap to add to, easy to add up over workers.

prometheus_client's own counters cost a lock and a look-up of labels each time; here a request adds
to a dict. The text format is prometheus_client's, made when somebody asks for it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trimtab.errors import MissingExtraError

SECONDS = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metric(NamedTuple):
    """One thing that is measured.

    Attributes:
        name: Without the prefix ``trimtab_``; a histogram's has its unit.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: What it says.
        labels: Their names.
        bounds: Of a histogram's buckets, upper bounds included.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


REQUESTS = Metric("requests", "counter", "Requests.", ("protocol", "kind", "status"))
DECISIONS = Metric(
    "query_vectors",
    "counter",
    "Places in requests where a query vector can stand, by what became of them.",
    ("collection", "decision"),
)
JUDGED = Metric("judged_queries", "counter", "Adapted queries held against the training queries.",
                ("collection",))  # fmt: skip
BYPASSED = Metric(
    "bypassed_requests", "counter",
    "Requests that look like searches, are not understood, and so pass raw.",
    ("protocol", "reason"),
)  # fmt: skip
FAR = Metric("far_queries", "counter", "Adapted queries far from all training queries.",
             ("collection",))  # fmt: skip
REQUEST_SECONDS = Metric(
    "request_seconds", "histogram", "From a request's head to the end of its answer.",
    ("protocol", "kind"), SECONDS,
)  # fmt: skip
UPSTREAM_SECONDS = Metric(
    "upstream_seconds", "histogram", "From a request sent to the head of its answer.",
    ("protocol", "kind"), SECONDS,
)  # fmt: skip
TRANSFORM_SECONDS = Metric(
    "transform_seconds", "histogram", "In the adapters, of one request.", ("protocol",), SECONDS
)
TEXTS = Metric(
    "texts", "counter", "Texts to embed, by what became of them.", ("model", "role", "result"),
)  # fmt: skip
ENCODE_SECONDS = Metric(
    "encode_seconds", "histogram", "From a text's arrival to its embedding, the wait included.",
    ("model",), SECONDS,
)  # fmt: skip
TEXTS_WAITING = Metric("texts_waiting", "gauge", "Texts that wait to be embedded.", ("model",))
TEXTS_CACHED = Metric("texts_cached", "gauge", "Texts whose embeddings are kept.", ("model",))
ERRORS = Metric("errors", "counter", "Requests answered by the sidecar itself with an error.",
                ("protocol", "error"))  # fmt: skip
RETRIES = Metric("retries", "counter", "Requests sent again over another connection.",
                 ("protocol",))  # fmt: skip
SHADOW_OVERLAP = Metric(
    "shadow_overlap", "histogram", "Share of the raw answer's points in the adapted one.",
    ("collection",), SHARES,
)  # fmt: skip
SHADOW_DISTANCE = Metric(
    "shadow_rank_distance", "histogram",
    "Distance of the raw and the adapted ranking: 0 the same, 1 nothing in common.",
    ("collection",), SHARES,
)  # fmt: skip
SHADOW_SKIPPED = Metric("shadow_skipped", "counter", "Shadow requests without a comparison.",
                        ("reason",))  # fmt: skip
RELOADS = Metric("reloads", "counter", "Route tables put in place, or refused.", ("result",))
CONNECTIONS = Metric("connections", "gauge", "Open connections.", ("side",))
UPSTREAM_UP = Metric("upstream_up", "gauge", "1 where the address answers, in how many workers.",
                     ("address",))  # fmt: skip
ADAPTER_INFO = Metric(
    "adapter", "gauge", "Adapters in use, one for each route and worker.",
    ("collection", "vector", "adapter", "version", "mode"),
)  # fmt: skip
EXPECTED_FAR = Metric(
    "expected_far_share", "gauge",
    "Share of far queries to expect, added up over workers: divide by trimtab_adapter.",
    ADAPTER_INFO.labels,
)  # fmt: skip
UNFORESEEN = Metric(
    "unforeseen_errors", "counter",
    "Errors that nobody foresaw, by where they were met; each is in the log.", ("where",),
)  # fmt: skip
DRAINING = Metric("draining", "gauge", "Workers that take no new connections.")

METRICS = (
    REQUESTS, DECISIONS, BYPASSED, JUDGED, FAR, REQUEST_SECONDS, UPSTREAM_SECONDS,
    TRANSFORM_SECONDS, TEXTS, ENCODE_SECONDS, TEXTS_WAITING, TEXTS_CACHED, ERRORS, UNFORESEEN,
    RETRIES, SHADOW_OVERLAP, SHADOW_DISTANCE, SHADOW_SKIPPED,
    RELOADS, CONNECTIONS, UPSTREAM_UP, ADAPTER_INFO, EXPECTED_FAR, DRAINING,
)  # fmt: skip

_BY_NAME = {metric.name: metric for metric in METRICS}


@dataclass(slots=True)
class Histogram:
    """Observations by bucket.

    Attributes:
        counts: One for each bound, and one for what lies above.
        total: Sum of the observations.
        bounds: Upper bounds of the buckets.
    """

    counts: list[int]
    total: float = 0.0
    bounds: tuple[float, ...] = ()

    def add(self, value: float) -> None:
        """Add an observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Telemetry:
    """The numbers of one worker, or of all of them added up."""

    numbers: dict[tuple[str, ...], float] = field(default_factory=dict)
    histograms: dict[tuple[str, ...], Histogram] = field(default_factory=dict)

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Add to a counter, or to a gauge that was cleared."""
        key = (metric.name, *labels)
        self.numbers[key] = self.numbers.get(key, 0) + by

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Add an observation to a histogram."""
        self.histogram(metric, *labels).add(value)

    def histogram(self, metric: Metric, *labels: str) -> Histogram:
        """Give a histogram, to add to it often."""
        key = (metric.name, *labels)
        histogram = self.histograms.get(key)
        if histogram is None:
            counts = [0] * (len(metric.bounds) + 1)
            histogram = self.histograms[key] = Histogram(counts, bounds=metric.bounds)
        return histogram

    def clear(self, metric: Metric) -> None:
        """Forget a gauge's values, to set them anew."""
        for key in [key for key in self.numbers if key[0] == metric.name]:
            del self.numbers[key]

    def to_record(self) -> dict[str, Any]:
        """Write the numbers as JSON can hold them."""
        return {
            "numbers": [[*key, value] for key, value in self.numbers.items()],
            "histograms": [
                [*key, histogram.counts, histogram.total]
                for key, histogram in self.histograms.items()
            ],
        }

    def add_record(self, record: Mapping[str, Any]) -> None:
        """Add another worker's numbers."""
        for *key, value in record["numbers"]:
            self.numbers[tuple(key)] = self.numbers.get(tuple(key), 0) + value
        for *key, counts, total in record["histograms"]:
            ours = self.histograms.setdefault(tuple(key), Histogram([0] * len(counts)))
            ours.counts = [a + b for a, b in zip(ours.counts, counts, strict=True)]
            ours.total += total

    def add_lasting(self, record: Mapping[str, Any]) -> None:
        """Add the numbers of a worker that has ended, but not its gauges."""
        kept = [row for row in record["numbers"] if _BY_NAME[row[0]].kind != "gauge"]
        self.add_record({**record, "numbers": kept})


def add_up(records: Iterable[Mapping[str, Any]]) -> Telemetry:
    """Add the numbers of several workers."""
    total = Telemetry()
    for record in records:
        total.add_record(record)
    return total


def render(telemetry: Telemetry) -> bytes:
    """Write the numbers in Prometheus' text format.

    Raises:
        MissingExtraError: prometheus_client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.registry import Collector
    except ImportError as error:
        raise MissingExtraError("metrics need: pip install 'trimtab[server]'") from error

    class Numbers(Collector):
        def collect(self) -> Iterator[Any]:
            """Give every metric that has a value."""
            return _families(telemetry)

    registry = CollectorRegistry()
    registry.register(Numbers())
    text: bytes = generate_latest(registry)
    return text


def _families(telemetry: Telemetry) -> Iterator[Any]:
    """Give the metrics as prometheus_client's families."""
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    families: dict[str, Any] = {}
    for metric in METRICS:
        kind = kinds.get(metric.kind, HistogramMetricFamily)
        families[metric.name] = kind(f"trimtab_{metric.name}", metric.help, labels=metric.labels)
    for (name, *labels), value in sorted(telemetry.numbers.items()):
        families[name].add_metric(labels, value)
    for (name, *labels), histogram in sorted(
        telemetry.histograms.items(), key=lambda item: item[0]
    ):
        bounds = [*map(repr, _BY_NAME[name].bounds), "+Inf"]
        running, buckets = 0, []
        for bound, count in zip(bounds, histogram.counts, strict=True):
            running += count
            buckets.append((bound, float(running)))
        families[name].add_metric(labels, buckets, histogram.total)
    yield from families.values()
