"""qdrant-client's own tests through the sidecar: none fails that does not fail without it.

Opt-in, as it takes an hour and a checkout: ``QDRANT_CLIENT_CHECKOUT=PATH pytest THIS_FILE``. The
server behind both ways is our stand-in before Qdrant's engine, not a Qdrant server. How each file's
tests ended stands in the report of ``-o junit_family=xunit1 --junitxml FILE``.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.client_suite import running
from tests.support.client_suite.running import VARIABLE, Ways, count, differences, run_file

CHECKOUT = os.environ.get(VARIABLE, "")
N_POINTS = int(os.environ.get("QDRANT_CLIENT_POINTS", "0"))
pytestmark = pytest.mark.skipif(not CHECKOUT, reason=f"{VARIABLE} names no checkout")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("strangers")
    running.unpack(Path(CHECKOUT), made)
    return made


@pytest.fixture(scope="module")
def ways(folder: Path) -> Iterator[Ways]:
    with running.both_ways(folder) as found:
        yield found


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("name", running.FILES)
def test_nothing_fails_through_the_sidecar_alone(
    folder: Path,
    ways: Ways,
    name: str,
    protocol: str,
    record_property: Callable[[str, object], None],
) -> None:
    through, direct = run_file(folder, ways, name, protocol, n_points=N_POINTS)
    record_property("through", count(through))
    for test, (end, said) in through.items():
        if end != "passed":
            record_property(test, f"{end}; straight: {direct.get(test, ('not run',))[0]}; {said}")
    assert not differences(through, direct)
