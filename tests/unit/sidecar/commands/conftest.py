"""Commands set up logging for their process; here the process is pytest's."""

import logging
from collections.abc import Iterator

import pytest

from trimtab.log import PACKAGES


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Put every logger back that a command has set up."""
    loggers = [logging.getLogger(name) for name in PACKAGES]
    kept = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, kept, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate
