"""How log records look on a terminal: the event, then its fields."""

import json
import logging
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

QUIET_S = 60.0
"""Seconds for which the same warning is not repeated."""
_TELLING = ("collection", "cause", "address", "setting", "table", "adapter", "version", "reason")
_MOST_EVENTS = 1024

PACKAGES = ("trimtab", "trimtab_training")
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
"""Without which words of Persian or Hindi, and many emoji, fall apart."""


class FieldFormatter(logging.Formatter):
    """Writes what was passed as ``extra`` behind the event, as ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record on one line."""
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        written = "".join(f" {key}={printable(value)}" for key, value in fields.items())
        return f"{record.levelname.lower()}: {printable_lines(super().format(record))}{written}"


def printable(value: object) -> str:
    """Write a value so that it can't break a line, steer a terminal, or fail to be encoded."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        character if _is_harmless(character) else repr(character)[1:-1] for character in text
    )


def _is_harmless(character: str) -> bool:
    """Tell what is shown as it is: also spaces that are not ASCII, as between words of Japanese."""
    is_space = unicodedata.category(character) == "Zs"
    return character.isprintable() or is_space or character in _JOINERS


def printable_lines(text: str) -> str:
    """Write a text of several lines as :func:`printable` does each of them."""
    return "\n".join(map(printable, text.split("\n")))


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON, its fields beside the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record on one line."""
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


LOG_FORMATS = ("text", "json")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How records are written.

    Attributes:
        verbose: True for decisions as well as warnings.
        form: ``text`` for people, ``json`` for machines.
    """

    verbose: bool = False
    form: str = "text"


class OnceAWhile(logging.Filter):
    """Lets an event through once a minute, however often it happens; metrics count them all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing told."""
        super().__init__()
        self._clock = clock
        self._told: dict[tuple[object, ...], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is written."""
        if record.levelno not in {logging.INFO, logging.WARNING, logging.ERROR}:
            return True
        fields = vars(record)
        key = (record.levelno, record.msg, *(str(fields.get(name)) for name in _TELLING))
        now = self._clock()
        if now - self._told.get(key, float("-inf")) < QUIET_S:
            return False
        if len(self._told) >= _MOST_EVENTS:
            self._told.clear()
        self._told[key] = now
        return True


def install_handler(settings: LogSettings) -> None:
    """Send this project's records to stderr: warnings, or decisions as well."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.form == "json" else FieldFormatter())
    handler.addFilter(OnceAWhile())
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(logging.INFO if settings.verbose else logging.WARNING)
        logger.handlers[:] = [handler]
        logger.propagate = False
