"""Dates are read in the forms that Qdrant takes."""

from datetime import UTC, datetime

import pytest
from qdrant_client.local.datetime_utils import parse

from trimtab.faiss_collections.datetimes import read_moment

FORMS = [
    "2024-05-06", "2024-05-06 07:08", "2024-05-06T07:08", "2024-05-06T07:08:09",
    "2024-05-06 07:08:09.5", "2024-05-06T07:08:09.123456789Z", "2024-05-06T07:08:09z",
    "2024-05-06T07:08:09 UTC", "2024-05-06T07:08:09+02:00", "2024-05-06T07:08:09-0230",
    "2024-05-06 07:08:09+01", "  2024-05-06", "1969-12-31T23:59:59.999999Z", "9999-12-31",
]  # fmt: skip
OTHERS = [
    "", "2024", "2024-13-01", "2024-02-30", "2024-05-06T25:00:00", "2024-05-06T07",
    "2024-05-06T07:08Z", "2024-05-06Z", "6 May 2024", "2024-05-06T07:08:09+99:00",
]  # fmt: skip


@pytest.mark.parametrize("text", FORMS)
def test_dates_are_read_as_by_the_official_client(text: str) -> None:
    expected = parse(text)
    assert expected is not None
    passed = expected - datetime(1970, 1, 1, tzinfo=UTC)
    micros = (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
    assert read_moment(text) == micros


@pytest.mark.parametrize("text", OTHERS)
def test_other_texts_are_no_dates(text: str) -> None:
    assert read_moment(text) is None
