"""One sidecar before one raw upstream, for all tests that need no settings of their own.

And one with short limits, for tests in which the upstream never answers.
"""

from collections.abc import Iterator

import pytest

from tests.support.raw_place import HASTY, Place, running_place
from tests.support.raw_upstream import raw_upstream


@pytest.fixture(scope="session")
def running_raw_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("raw-place")
    with raw_upstream() as upstream, running_place(folder, [upstream]) as place:
        yield place


@pytest.fixture(scope="session")
def running_hasty_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("hasty-place")
    with (
        raw_upstream() as upstream,
        running_place(folder, [upstream], upstream=HASTY) as place,
    ):
        yield place


@pytest.fixture
def hasty_place(running_hasty_place: Place) -> Place:
    running_hasty_place.recover()
    return running_hasty_place


@pytest.fixture
def place(running_raw_place: Place) -> Place:
    running_raw_place.recover()
    return running_raw_place
