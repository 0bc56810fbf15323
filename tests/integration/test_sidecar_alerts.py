"""What Prometheus reads from `trimtab serve` is what the alerts are written for."""

import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.onnx_models import DIM_IN, linear_bytes
from tests.support.raw_upstream import raw_upstream
from tests.support.sidecar import Sidecar, running_sidecar
from trimtab.metrics import METRICS
from trimtab.model.manifest import QueryRegion

SHARE = 0.01
PATIENCE_S = 60


def samples_of(sidecar: Sidecar) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values in the order of the labels' names."""
    with urllib.request.urlopen(f"{sidecar.admin_url}/metrics", timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module", params=[1, 2])
def n_workers(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def samples(
    tmp_path_factory: pytest.TempPathFactory, n_workers: int
) -> dict[tuple[str, ...], float]:
    """Samples of a sidecar whose adapter knows its training queries, before the first request."""
    folder = tmp_path_factory.mktemp("model")
    region = QueryRegion.pack(np.eye(1, DIM_IN, dtype=np.float32), threshold=0.5, share=SHARE)
    (folder / "adapter.onnx").write_bytes(linear_bytes(query_region=region))
    with raw_upstream(dim=4) as upstream:
        flags = ("--upstream-rest", upstream.url, "--route", f"docs={folder}")
        with running_sidecar(*flags, "--workers", str(n_workers)) as sidecar:
            return samples_of(sidecar)


def test_expected_share_divided_by_adapters_is_the_models(samples, n_workers):
    (expected,) = (key for key in samples if key[0] == "trimtab_expected_far_share")
    adapters = samples["trimtab_adapter", *expected[1:]]
    assert adapters == n_workers
    assert samples[expected] / adapters == pytest.approx(SHARE)


@pytest.mark.parametrize("result", ["ok", "failed", "rollback"])
def test_reloads_begin_at_none(samples, result):
    assert samples["trimtab_reloads_total", result] == 0


def test_nothing_is_measured_that_is_not_declared(samples):
    declared = {f"trimtab_{metric.name}" for metric in METRICS}
    assert {key[0].removesuffix("_total") for key in samples} <= declared
