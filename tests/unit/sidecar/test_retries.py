"""When to ask again: what an answer says, in every form that endpoints use."""

from datetime import UTC, datetime

import pytest

from trimtab.retries import retry_after_s

NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Wed, 25 Nov 2026 04:00:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 25 Nov 2026 03:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], wanted: float | None) -> None:
    assert retry_after_s(headers, NOW) == wanted
