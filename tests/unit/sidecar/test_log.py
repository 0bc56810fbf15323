"""Records on a terminal: the event, then its fields, on one line, on stderr."""

import logging
from collections.abc import Iterator

import pytest

from trimtab.log import PACKAGES, FieldFormatter, LogSettings, install_handler


def written(event: str = "adapter loaded", level: int = logging.INFO, **fields: object) -> str:
    """Write one record."""
    record = logging.makeLogRecord({"msg": event, "levelno": level, **fields})
    record.levelname = logging.getLevelName(level)
    return FieldFormatter().format(record)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Give a logger of ours, and put every logger back that is set up meanwhile."""
    loggers = [logging.getLogger(name) for name in PACKAGES]
    kept = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    yield logging.getLogger("trimtab.model.adapter")
    for logger, (level, handlers, propagate) in zip(loggers, kept, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def test_record_is_its_level_its_event_and_its_fields() -> None:
    said = written(adapter="toy", version="0123")
    assert said == "info: adapter loaded adapter=toy version=0123"


def test_record_without_fields_is_its_event() -> None:
    assert written("careful", logging.WARNING) == "warning: careful"


def test_record_is_one_line_whatever_a_field_holds() -> None:
    """Names come out of model files, which come from anywhere."""
    assert len(written(adapter="toy\nerror: all is lost").splitlines()) == 1


def test_error_keeps_its_lines_and_can_not_steer_a_terminal() -> None:
    error = ValueError("said \x1b[2J\nand more")
    said = written(exc_info=(ValueError, error, None))
    assert said == "info: adapter loaded\nValueError: said \\x1b[2J\nand more"


@pytest.mark.parametrize(("verbose", "events"), [(False, ["warning"]), (True, ["info", "warning"])])
def test_handler_writes_what_was_asked_for_on_stderr(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], verbose: bool, events: list[str]
) -> None:
    install_handler(LogSettings(verbose=verbose))
    logger.debug("x")
    logger.info("x")
    logger.warning("x")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [f"{event}: x" for event in events]


def test_handler_installed_twice_writes_once(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    install_handler(LogSettings())
    install_handler(LogSettings())
    logger.warning("x")
    assert capsys.readouterr().err == "warning: x\n"


def test_handler_leaves_other_packages_alone(logger: logging.Logger) -> None:
    before = list(logging.getLogger().handlers), logging.getLogger().level
    install_handler(LogSettings(verbose=True))
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
