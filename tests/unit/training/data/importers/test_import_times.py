"""Times in logs: every usual form is read, and a column that has two readings is refused."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from trimtab_training.data.importers.dates import as_zone
from trimtab_training.data.importers.texts import Unusable
from trimtab_training.data.importers.times import TimeSurvey, as_time, check_form
from trimtab_training.errors import ConfigError, DataError

HOUR_EAST = timezone(timedelta(hours=1))
MARCH = datetime(2025, 3, 1, 9, 30, tzinfo=UTC).timestamp()
DAY = datetime(2025, 3, 1, tzinfo=UTC).timestamp()


def read(values: list[Any], form: str | None = None, zone: str | None = None) -> list[float]:
    survey = TimeSurvey(form, as_zone(zone) if zone else None)
    for value in values:
        survey.add(value)
    clock = survey.decide()
    found = [clock.read(value) for value in values]
    assert sorted(survey.moments(clock)) == sorted(found)
    return found


@pytest.mark.parametrize(
    "value",
    [
        MARCH, MARCH * 1e3, MARCH * 1e6, MARCH * 1e9, f"{MARCH:.0f}", f"{MARCH:.3f}",
        20250301093000,
        "20250301093000", 202503010930, "202503010930", 20250301093000000, "20250301T093000",
        "2025-03-01T09:30", "2025-03-01 09:30:00.000", "2025-03-01 09:30:00,000",
        "2025-03-01T10:30:00+01:00", "2025-03-01 10:30:00 +0100", "2025-03-01 10:30:00 +01",
        "2025-03-01 09:30:00 UTC", "2025-03-01T09:30:00Z", "2025/03/01 09:30", "1.3.2025 9:30",
        "01.03.2025, 09:30:00", "Sat, 01 Mar 2025 09:30:00 GMT", "01/Mar/2025:10:30:00 +0100",
        "Sat Mar 01 2025 10:30:00 GMT+0100 (Central European Standard Time)",
        "Mar 1, 2025 @ 09:30:00.000", "Sat Mar  1 09:30:00 UTC 2025",
        datetime(2025, 3, 1, 9, 30), datetime(2025, 3, 1, 10, 30, tzinfo=HOUR_EAST),
    ],
    ids=str,
)  # fmt: skip
def test_moment_is_read_in_every_usual_form(value: Any) -> None:
    assert read([value, value]) == [MARCH, MARCH]
    assert as_time(value) == MARCH


@pytest.mark.parametrize(
    "value", [20250301, "20250301", 20250301.0, "2025-03-01", date(2025, 3, 1)]
)
def test_day_is_read_in_every_usual_form(value: Any) -> None:
    assert read([value]) == [DAY]


def test_order_of_day_and_month_is_told_by_other_values() -> None:
    assert read(["01/03/2025", "31/03/2025 1:05 PM"]) == [DAY, DAY + 30 * 86400 + 47_100]
    assert read(["3/1/2025", "3/31/2025"]) == [DAY, DAY + 30 * 86400]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["01/03/2025", "02/03/2025"], "day first or the month.*--time-format %d/%m/%Y or %m/%d"),
        (["31/03/2025", "03/31/2025"], "two orders"),
        ([2025030109, 2025030110], "YYYYMMDDHH, or seconds since 1970; .*--time-format %Y%m%d%H"),
        (["250301", "250302"], "YYMMDD, or seconds; .*--time-format %y%m%d, or s"),
        ([45717.395833, 45718.5], "a spreadsheet's days, or seconds; .*--time-format excel, or s"),
        ([20250301, 1000, 20250302, 1001], "a date as YYYYMMDD, or a number since 1970"),
        ([133853000000000000], "no date between 1995 and 2100"),
        ([1_700_000_000, 5, 1_700_000_001, 6], "2 of 4 times, such as 5, are too small"),
        (["2025-03-01T09:30", "2025-03-01T09:30Z"], r"1 times have no zone .*--time-zone UTC"),
    ],
)  # fmt: skip
def test_column_with_two_readings_is_refused(values: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(values)


@pytest.mark.parametrize(
    ("values", "form", "zone", "first"),
    [
        (["01/03/2025"], "%d/%m/%Y", None, DAY),
        (["01/03/2025"], "%m/%d/%Y", None, datetime(2025, 1, 3, tzinfo=UTC).timestamp()),
        ([2025030109], "%Y%m%d%H", None, DAY + 9 * 3600),
        ([2025030109], "s", None, 2025030109.0),
        ([20250301], "s", None, 20250301.0),
        ([45717.5], "excel", None, DAY + 43200),
        (["45717.5"], "s", None, 45717.5),
        (["2025-03-01 10:30", "2025-03-01T09:30Z"], None, "+01:00", MARCH),
        (["2025-03-01 10:30"], None, "Europe/Berlin", MARCH),
        ([20250301], None, "+0100", DAY - 3600),
    ],
)
def test_user_decides_what_the_values_do_not(
    values: list[Any], form: str | None, zone: str | None, first: float
) -> None:
    assert read(values, form, zone)[0] == first


def test_moment_that_stands_alone_is_in_the_zone_that_is_told() -> None:
    assert as_time("2025-03-01T10:30", as_zone("+01:00")) == MARCH
    assert as_time("2025-03-01T09:30Z", as_zone("+01:00")) == MARCH


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Sat, 01 Mar 2025 10:30:00 CET", "time ends in CET, which no zone is known by"),
        ("Sat, 01 Mar 2025 10:30:00 (CET)", "time ends in CET, which no zone is known by"),
        ("01 Mar 2025 09:30:00 PM", "time ends in PM, in a form that is not known"),
        ("Sat 01 Mar 2025 09:30:00 PM UTC", "time ends in PM, in a form that is not known"),
        ("1 Mar 2025 9:30:00 PM +0000", "time ends in PM, in a form that is not known"),
        ("Sat Mar  1 10:30:00 CET 2025", "time ends in CET, which no zone is known by"),
        *((value, "time is not between 1995 and 2100") for value in (
            "9999-12-31", "1970-01-01T00:00:00Z", "0001-01-01", date(9999, 12, 31),
            datetime(1900, 1, 1, tzinfo=UTC), "31/12/9999", "Thu, 01 Jan 1970 00:00:00 GMT",
        )),
    ],
    ids=str,
)  # fmt: skip
def test_what_stands_for_no_time_is_unusable(value: Any, message: str) -> None:
    survey = TimeSurvey()
    for one in ("2025-03-01T09:30Z", value, "2025-03-01T10:30Z"):
        survey.add(one)
    clock = survey.decide()
    assert list(survey.moments(clock)) == [MARCH, MARCH + 3600]
    with pytest.raises(Unusable, match=message):
        clock.read(value)


def test_zones_that_mail_names_are_known() -> None:
    for value in ("Sat, 01 Mar 2025 04:30:00 EST", "Sat, 01 Mar 2025 09:30:00 UT"):
        assert read([value]) == [MARCH]


def test_own_clock_of_a_log_is_taken_as_it_is() -> None:
    assert read([0, 5, "1000", 3.5e6]) == [0.0, 5.0, 1000.0, 3.5e6]


def test_stray_values_of_a_column_are_unusable() -> None:
    survey = TimeSurvey()
    values = [1_700_000_000 + n for n in range(20)]
    for value in [*values, 0, None, "soon"]:
        survey.add(value)
    clock = survey.decide()
    assert list(survey.moments(clock)) == values
    for value in (0, None, "soon", 123, 10**18 // 5, True):
        with pytest.raises(Unusable, match="time"):
            clock.read(value)


def test_unknown_forms_and_zones_are_refused() -> None:
    with pytest.raises(ConfigError, match="--time-format iso: expected s, ms, us, ns, excel"):
        check_form("iso")
    with pytest.raises(ConfigError, match="--time-zone Mars: no such zone"):
        as_zone("Mars")
