"""The dashboard and the alerts speak of metrics and labels that exist, and of all of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from trimtab.metrics import METRICS

DEPLOY = Path(__file__).parents[3] / "deploy"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
LABELS_OF = {
    f"trimtab_{metric.name}{suffix}": {
        *metric.labels, "job", "instance", *(["le"] if suffix == "_bucket" else [])
    }
    for metric in METRICS
    for suffix in SUFFIXES[metric.kind]
}  # fmt: skip
FROM_PROMETHEUS = {"up": {"job", "instance"}}
NAME = re.compile(r"\b(trimtab_\w+|up)\b")


def dashboard() -> dict:
    return json.loads((DEPLOY / "grafana" / "trimtab.json").read_text(encoding="utf-8"))


def rules() -> list[dict]:
    read = yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text(encoding="utf-8"))
    return [rule for group in read["groups"] for rule in group["rules"]]


def targets() -> list[dict]:
    return [target for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def shown() -> list[str]:
    return [target["expr"] for target in targets()]


def asked() -> list[str]:
    variables = dashboard()["templating"]["list"]
    queries = [each["query"]["query"] for each in variables if each["type"] == "query"]
    return [*shown(), *queries, *(rule["expr"] for rule in rules())]


def names_in(expressions: list[str]) -> set[str]:
    return {name for expression in expressions for name in NAME.findall(expression)}


def selections_in(expression: str) -> Iterator[tuple[str, str]]:
    """Every metric with what stands in its braces."""
    yield from re.findall(r"\b(trimtab_\w+|up)(?:\{([^}]*)\})?", expression)


def test_every_name_is_a_metric():
    assert names_in(asked()) <= {*LABELS_OF, *FROM_PROMETHEUS}


def test_every_metric_is_shown():
    names = names_in(shown())
    hidden = [
        metric.name
        for metric in METRICS
        if not names & {f"trimtab_{metric.name}{suffix}" for suffix in SUFFIXES[metric.kind]}
    ]
    assert hidden == []


@pytest.mark.parametrize("expression", asked())
def test_selections_and_groups_use_labels_that_exist(expression):
    known: set[str] = set()
    for name, braces in selections_in(expression):
        labels = {**LABELS_OF, **FROM_PROMETHEUS}[name]
        known |= labels
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", braces)) <= labels
    for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in group.split(",")} <= known


@pytest.mark.parametrize("target", targets(), ids=lambda target: target["expr"][:40])
def test_legends_use_labels_that_are_left(target):
    used = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
    assert used <= set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_alerts_say_what_to_do(rule):
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}


def test_rules_cover_what_must_not_pass_unseen():
    assert {rule["alert"] for rule in rules()} >= {
        "TrimtabErrorRate",
        "TrimtabUpstreamDown",
        "TrimtabReloadFailed",
        "TrimtabBypassed",
        "TrimtabFarQueries",
        "TrimtabUnforeseenErrors",
        "TrimtabSlowQueries",
    }


def test_prometheus_loads_the_rules_and_scrapes_the_admin_listener():
    settings = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text(encoding="utf-8"))
    assert [(DEPLOY / name).exists() for name in settings["rule_files"]] == [True]
    (job,) = settings["scrape_configs"]
    assert job["job_name"] == "trimtab"
    assert job["metrics_path"] == "/trimtab/metrics"


def test_panels_stand_side_by_side_and_take_the_chosen_data_source():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        rows = range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in rows}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    sources = [each["datasource"]["uid"] for each in [*panels, *targets()] if "datasource" in each]
    assert set(sources) == {"${datasource}"}


def test_rows_lead_through_the_dashboard():
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert rows == [
        "Traffic",
        "Adapted and passed",
        "Latency",
        "Errors and retries",
        "Drift",
        "Shadow",
        "Adapters and reloads",
        "Upstream and connections",
        "Texts",
    ]
