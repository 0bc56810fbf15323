"""When a request that failed may be sent again, as HTTP says it.

Source:
    ``retry-after`` of RFC 9110, section 10.2.3, in seconds or as a date; ``retry-after-ms`` of
    OpenAI and Azure.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""What an endpoint answers to a request that may succeed later as it is."""


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Read how long an endpoint asks to wait, in seconds, or None where it does not say."""
    milliseconds = finite_number(headers.get("retry-after-ms"))
    if milliseconds is not None and milliseconds >= 0:
        return milliseconds / 1000
    text = headers.get("retry-after", "").strip()
    seconds = finite_number(text)
    if seconds is not None:
        return max(0.0, seconds)
    from email.utils import parsedate_to_datetime  # 10 ms that only a failure costs

    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def finite_number(text: str | None) -> float | None:
    """Read a finite number, or None."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
