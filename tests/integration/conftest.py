"""One sidecar before one raw upstream, for all tests that need no settings of their own."""

from collections.abc import Iterator

import pytest

from tests.support.raw_place import Place, running_place
from tests.support.raw_upstream import raw_upstream


@pytest.fixture(scope="session")
def running_raw_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("raw-place")
    with raw_upstream() as upstream, running_place(folder, [upstream]) as place:
        yield place


@pytest.fixture
def place(running_raw_place: Place) -> Place:
    running_raw_place.recover()
    return running_raw_place
