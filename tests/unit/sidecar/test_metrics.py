"""Numbers of one worker, of several, and as Prometheus reads them."""

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trimtab import metrics as t
from trimtab.metrics import METRICS, Telemetry, add_up, render

ORDER = ("protocol", "collection", "side", "kind", "status", "decision", "le")


def samples(telemetry: Telemetry) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels in the order above."""
    return {
        (sample.name, *(sample.labels[name] for name in ORDER if name in sample.labels)): (
            sample.value
        )
        for family in text_string_to_metric_families(render(telemetry).decode())
        for sample in family.samples
    }


def example(requests: int = 1, *seconds: float) -> Telemetry:
    telemetry = Telemetry()
    telemetry.count(t.REQUESTS, "rest", "query", "200", by=requests)
    telemetry.count(t.CONNECTIONS, "client", by=requests)
    for value in seconds:
        telemetry.observe(t.REQUEST_SECONDS, value, "rest", "query")
    return telemetry


def test_counters_add_up() -> None:
    telemetry = example(2)
    telemetry.count(t.REQUESTS, "rest", "query", "200")
    telemetry.count(t.REQUESTS, "rest", "query", "404")
    found = samples(telemetry)
    assert found["trimtab_requests_total", "rest", "query", "200"] == 3
    assert found["trimtab_requests_total", "rest", "query", "404"] == 1


@pytest.mark.parametrize(
    ("value", "bound"),
    [(0.0, "1e-05"), (1e-5, "1e-05"), (1.01e-5, "2.5e-05"), (0.3, "0.5"), (30.0, "30.0"),
     (31.0, "+Inf")],
)  # fmt: skip
def test_a_bucket_holds_its_upper_bound(value: float, bound: str) -> None:
    found = samples(example(1, value))
    buckets = {key[-1]: n for key, n in found.items() if key[0].endswith("_bucket")}
    below = [each for each, n in buckets.items() if not n]
    assert buckets[bound] == 1
    assert all(float(each) < float(bound) for each in below)
    assert found["trimtab_request_seconds_count", "rest", "query"] == 1
    assert found["trimtab_request_seconds_sum", "rest", "query"] == value


def test_a_histogram_that_is_kept_counts_as_any_other() -> None:
    telemetry = example(1, 0.5)
    telemetry.histogram(t.REQUEST_SECONDS, "rest", "query").add(0.25)
    found = samples(telemetry)
    assert found["trimtab_request_seconds_count", "rest", "query"] == 2
    assert found["trimtab_request_seconds_sum", "rest", "query"] == 0.75


def test_workers_add_up_through_json() -> None:
    records = [json.loads(json.dumps(example(n, 0.2, 0.002).to_record())) for n in (2, 3)]
    found = samples(add_up(records))
    assert found["trimtab_requests_total", "rest", "query", "200"] == 5
    assert found["trimtab_connections", "client"] == 5
    assert found["trimtab_request_seconds_count", "rest", "query"] == 4
    assert found["trimtab_request_seconds_sum", "rest", "query"] == pytest.approx(0.404)
    assert found["trimtab_request_seconds_bucket", "rest", "query", "0.0025"] == 2


def test_a_worker_that_has_ended_leaves_its_counters_and_not_its_gauges() -> None:
    lasting = Telemetry()
    lasting.add_lasting(example(4, 0.1).to_record())
    found = samples(lasting)
    assert found["trimtab_requests_total", "rest", "query", "200"] == 4
    assert found["trimtab_request_seconds_count", "rest", "query"] == 1
    assert ("trimtab_connections", "client") not in found


def test_a_cleared_gauge_is_gone() -> None:
    telemetry = example(3)
    telemetry.clear(t.CONNECTIONS)
    assert ("trimtab_connections", "client") not in samples(telemetry)
    telemetry.count(t.CONNECTIONS, "client", by=2)
    assert samples(telemetry)["trimtab_connections", "client"] == 2


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_told_with_its_kind_and_help(metric: t.Metric) -> None:
    telemetry = Telemetry()
    labels = [f"of {name}" for name in metric.labels]
    if metric.kind == "histogram":
        telemetry.observe(metric, 0.5, *labels)
        assert list(metric.bounds) == sorted(set(metric.bounds))
    else:
        telemetry.count(metric, *labels)
    families: dict[str, Any] = {
        family.name: family for family in text_string_to_metric_families(render(telemetry).decode())
    }
    family = families[f"trimtab_{metric.name}"]
    assert (family.type, family.documentation) == (metric.kind, metric.help)
    for sample in family.samples:
        assert [sample.labels[name] for name in metric.labels] == labels


def test_labels_of_any_text_are_escaped() -> None:
    telemetry, name = Telemetry(), 'a"b\\c\nd é'
    telemetry.count(t.DECISIONS, name, "adapted")
    assert samples(telemetry)["trimtab_query_vectors_total", name, "adapted"] == 1
    assert (
        len(render(telemetry).decode().splitlines())
        == len(render(Telemetry()).decode().splitlines()) + 1
    )


def test_nothing_counted_is_still_readable() -> None:
    assert samples(Telemetry()) == {}
