"""Dates as Qdrant reads them, in microseconds since 1970."""

import re
from datetime import UTC, datetime, timedelta, timezone

# The forms of lib/segment/src/types.rs (DateTimePayloadType), as qdrant-client 1.20 lists them in
# local/datetime_utils.py: only a time with seconds can have an offset, and UTC is meant without.
_FORM = re.compile(
    r"\s*(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?(?: ?(Z|z|UTC|[+-]\d\d(?::?\d\d)?))?)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_moment(text: str) -> int | None:
    """Read a date, or a date and time; None where it is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    *parts, fraction, offset = found.groups()
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in parts)
        moment = datetime(year, month, day, hour, minute, second, micros, _read_offset(offset))
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None


def _read_offset(text: str | None) -> timezone:
    """Read an offset from UTC."""
    if text is None or text in {"Z", "z", "UTC"}:
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)
