"""A date, a time of day and a zone as people and programs write them."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from trimtab_training.data.importers.texts import Unusable
from trimtab_training.errors import ConfigError

COMPACT = re.compile(
    r"(?:199\d|20\d\d)(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"(?:(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\d{3})?)?)?)?"
)
_COMPACT_FORMS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_MILLISECONDS = 17  # digits of YYYYMMDDHHMMSS and thousandths
_ZONE = re.compile(r"\s*(?:(?:UTC|GMT|Z)|([+-]\d\d)(?::?(\d\d))?)\s*$")
_PARTED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?:[ T,]+(.*))?")
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?\s*([AaPp][Mm])?")
_ZONE_NAME = re.compile(r":\d\d(?:[.,]\d+)?\s*\(?([A-Za-z]+)")  # behind a time of day; PM is none
_HALF = re.compile(r"\d\s*([AaPp]\.?[Mm])\b")  # of a day: the reader of mail's dates passes over it
_BESIDE_MAIL = re.compile(r"\b(?:GMT|UTC)(?=[+-]\d)|(?<=:\d\d)\.\d+|@ ")  # JavaScript's, Kibana's
_APACHE = "%d/%b/%Y:%H:%M:%S %z"
NO_TIME = "time is neither ISO 8601 nor a number (--time-format names another form)"


def from_digits(text: str) -> datetime:
    """Read YYYYMMDD, and HHMMSS and thousandths behind it."""
    if not COMPACT.fullmatch(text):
        raise Unusable("time is not a date as YYYYMMDD, as the others of its column are")
    if len(text) == _MILLISECONDS:
        return from_digits(text[:-3]) + timedelta(milliseconds=int(text[-3:]))
    return datetime.strptime(text, _COMPACT_FORMS[len(text)])


def as_datetime(value: Any, *, day_first: bool) -> datetime:
    """Read what is no number; a ValueError where it is no time."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if not isinstance(value, str):
        raise Unusable(NO_TIME)
    text = value.strip()
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    parted = _PARTED.fullmatch(text)
    if parted is not None:
        return _from_parts(parted, day_first=day_first or parted[2] == ".")
    readers: tuple[Callable[[str], datetime], ...] = (
        _with_zone,
        lambda one: parsedate_to_datetime(_BESIDE_MAIL.sub("", one)),
        lambda one: datetime.strptime(one, _APACHE),
    )
    for read in readers:
        try:
            moment = read(text)
        except (ValueError, TypeError):
            continue
        if half := _HALF.search(text):
            raise Unusable(
                f"time ends in {half[1]}, in a form that is not known; give --time-format, such as "
                "'%d-%b-%y %I.%M.%S %p'"
            )
        name = _ZONE_NAME.search(text)
        if name and moment.tzinfo is None:
            raise Unusable(f"time ends in {name[1]}, which no zone is known by; write +01:00")
        return moment
    raise ValueError(NO_TIME)


def _with_zone(text: str) -> datetime:
    """Read ISO 8601 as it is often written: 2025/03/01 09:30:00 UTC, or +0100 after a blank."""
    zone = _ZONE.search(text)
    if zone is not None and (zone[1] is None or ":" in text[: zone.start()]):
        offset = f"{zone[1]}:{zone[2] or '00'}" if zone[1] else "+00:00"
        text = text[: zone.start()] + offset
    return datetime.fromisoformat(text.replace("/", "-"))


def _from_parts(parts: "re.Match[str]", *, day_first: bool) -> datetime:
    """Read 01/03/2025 and a time of day."""
    day, month = (parts[1], parts[3]) if day_first else (parts[3], parts[1])
    hour = minute = second = 0
    if parts[5]:
        clock = _CLOCK.fullmatch(parts[5].strip())
        if clock is None:
            raise ValueError(NO_TIME)
        hour, minute, second = int(clock[1]), int(clock[2]), int(clock[3] or 0)
        if clock[4]:
            hour = hour % 12 + (12 if clock[4].lower() == "pm" else 0)
    return datetime(int(parts[4]), int(month), int(day), hour, minute, second)


def both_orders(value: Any) -> tuple[datetime | None, datetime | None]:
    """Read a value with the day first, and with the month first."""
    found: list[datetime | None] = []
    for day_first in (True, False):
        try:
            found.append(as_datetime(value, day_first=day_first))
        except ValueError:
            found.append(None)
        if found[0] is not None and not _is_parted(value):
            return found[0], found[0]
    return found[0], found[1]


def _is_parted(value: Any) -> bool:
    """Tell a date whose day and month could change places."""
    return isinstance(value, str) and _PARTED.fullmatch(value.strip()) is not None


def as_zone(text: str) -> tzinfo:
    """Take a zone: UTC, an offset such as +01:00, or a name such as Europe/Berlin.

    Raises:
        ConfigError: There is no such zone.
    """
    try:
        if _ZONE.fullmatch(text):
            zone = _with_zone(f"2000-01-01T00:00:00{text}").tzinfo
            return zone or UTC
        return ZoneInfo(text)
    except (ValueError, ZoneInfoNotFoundError, OSError) as error:
        raise ConfigError(
            f"--time-zone {text}: no such zone; expected UTC, +01:00 or Europe/Berlin"
        ) from error
