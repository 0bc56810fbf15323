"""What a column of times means: told by all of its values, since one alone can mean several things.

``20250301`` is a day in March 2025, or the 23rd of August 1970 in seconds; ``01/03/2025`` is in
January or in March. A column that can be read in two ways is refused, with both readings.
"""

import re
from array import array
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from trimtab_training.data.importers.dates import (
    COMPACT,
    NO_TIME,
    as_datetime,
    both_orders,
    from_digits,
)
from trimtab_training.data.importers.texts import Unusable
from trimtab_training.errors import ConfigError, DataError

UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_BY_SIZE = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (0.0, "s"))  # from, unit
_RELATIVE_BELOW = 1e8  # seconds: a log's own clock, for as dates they would be before 1973
_SINCE, _UNTIL = 788_918_400.0, 4_102_444_800.0  # 1995, before which nobody logged clicks, and 2100
_EXCEL_FROM, _EXCEL_TO = 36_526, 54_788  # 2000 and 2050, in days since 1899-12-30
_EXCEL_EPOCH = datetime(1899, 12, 30)
_MOST = 0.9  # a column is of a form if so much of it is
_NUMBER = re.compile(r"\s*[0-9]+(?:\.[0-9]*)?(?:[eE]\+?[0-9]+)?\s*")
_SHORT = re.compile(r"\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")


@dataclass(frozen=True)
class Clock:
    """How one column's values become seconds since 1970.

    Attributes:
        numbers: Form of numbers: a unit, ``size`` (a unit by their size), ``own`` (a clock of the
            log's own, in seconds), ``digits`` (YYYYMMDD and on), ``excel``, or a strptime format.
        day_first: Whether 01/03/2025 is the first of March.
        zone: Zone of what has none.
    """

    numbers: str = "size"
    day_first: bool = True
    zone: tzinfo = UTC

    def read(self, value: Any) -> float:
        """Take a moment.

        Raises:
            Unusable: The value is none, or none of this column's form.
        """
        try:
            number = _as_number(value)
            if "%" in self.numbers:
                return self.seconds(datetime.strptime(_written(value, number), self.numbers))
            if number is not None:
                return self._read_number(number)
            return self.seconds(as_datetime(value, day_first=self.day_first))
        except (ValueError, OverflowError) as error:
            raise Unusable(str(error) if isinstance(error, Unusable) else NO_TIME) from error

    def describe(self) -> str:
        """Say how numbers are read, for people."""
        words = {
            "size": "seconds, ms, us or ns since 1970, by their size",
            "own": "seconds of a clock of the log's own",
            "digits": "YYYYMMDD, perhaps with HHMMSS",
            "excel": "days since 1899-12-30",
        }
        return words.get(self.numbers, self.numbers)

    def _read_number(self, number: float) -> float:
        """Read a number in this column's form."""
        if self.numbers in UNITS:
            return number / UNITS[self.numbers]
        if self.numbers == "excel":
            return self.seconds(_EXCEL_EPOCH + timedelta(days=number))
        if self.numbers == "digits":
            return self.seconds(from_digits(f"{number:.0f}"))
        if (self.numbers == "own") != (number < _RELATIVE_BELOW):
            raise Unusable("time is far from all others of its column")
        seconds = by_size(number)
        return _plausible(seconds) if self.numbers == "size" else seconds

    def seconds(self, moment: datetime) -> float:
        """Count seconds since 1970.

        Raises:
            Unusable: The date stands for none, such as 9999-12-31.
        """
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=self.zone)
        return _plausible(zoned.timestamp())


class TimeSurvey:
    """What the values of a column look like, added up."""

    def __init__(self, form: str | None = None, zone: tzinfo | None = None) -> None:
        """Begin without any.

        Args:
            form: What the user says: a unit, ``excel``, or a strptime format; None: the values
                tell.
            zone: Zone of values that have none; None: UTC, unless others have one.
        """
        self._given = None if form is None else Clock(form, zone=zone or UTC)
        self._zone = zone
        self._numbers = array("d")
        self._texts = array("d")  # day first where that is open
        self._swapped = array("d")  # month first
        self._seen: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, value: Any) -> None:
        """Look at a value; one that is no time counts for nothing."""
        number = _as_number(value)
        if self._given is None and number is not None:
            self._numbers.append(number)
            for kind in _kinds_of_number(number):
                self._count(kind, value)
            return
        try:
            self._add_text(value)
        except (Unusable, ValueError, OverflowError):
            self._count("unusable", value)

    def _add_text(self, value: Any) -> None:
        """Look at a value that is no number, or whose form is known."""
        if self._given is not None:
            self._texts.append(self._given.read(value))
            return
        first, second = both_orders(value)
        moment = first or second
        if moment is None:
            raise Unusable(NO_TIME)
        clock = Clock(zone=self._zone or UTC)
        seconds = clock.seconds(moment)
        if first is None or second is None:
            self._count("day first" if second is None else "month first", value)
        elif first != second:
            self._count("either", value)
        self._count("naive" if moment.tzinfo is None else "zoned", value)
        self._texts.append(seconds)
        is_same = second is None or second is first
        self._swapped.append(seconds if is_same else clock.seconds(second or moment))

    def decide(self) -> Clock:
        """Tell the column's form, or refuse it.

        Raises:
            DataError: The column can be read in two ways, or in none.
        """
        if self._given is not None:
            return self._given
        numbers = self._decide_numbers()
        n_naive = self._seen["naive"] + (len(self._numbers) if numbers == "digits" else 0)
        n_zoned = self._seen["zoned"] + (len(self._numbers) if numbers == "size" else 0)
        if n_naive and n_zoned and self._zone is None:
            raise DataError(
                f"{n_naive} times have no zone (such as {self._examples.get('naive')}), {n_zoned} "
                f"have one (such as {self._examples.get('zoned')}); say which one the former are "
                "in: --time-zone UTC, +01:00 or Europe/Berlin"
            )
        return Clock(numbers, self._decide_order(), self._zone or UTC)

    def moments(self, clock: Clock) -> "array[float]":
        """Give all values in seconds since 1970, those that the clock can't read left out."""
        found = array("d", self._texts if clock.day_first else self._swapped)
        for number in self._numbers:
            try:
                found.append(clock.read(number))
            except Unusable:
                continue
        return found

    def _count(self, kind: str, value: Any) -> None:
        """Count a value of a kind; keep the first."""
        self._seen[kind] += 1
        self._examples.setdefault(kind, str(value))

    def _decide_order(self) -> bool:
        """Tell whether days stand before months."""
        days, months = self._seen["day first"], self._seen["month first"]
        if days and months:
            raise DataError(
                f"times stand in two orders: {self._examples['day first']} has the day first, "
                f"{self._examples['month first']} the month; write them as ISO 8601"
            )
        if self._seen["either"] and not days and not months:
            raise DataError(
                f"a time such as {self._examples['either']} can have the day first or the month, "
                "and no other tells; say which: --time-format %d/%m/%Y or %m/%d/%Y (with %H:%M:%S "
                "and so on as they are)"
            )
        return not months

    def _decide_numbers(self) -> str:
        """Tell what numbers are."""
        n_numbers = len(self._numbers)
        share = {kind: self._seen[kind] / max(n_numbers, 1) for kind in _READINGS}
        if share["digits"] >= _MOST:
            return "digits"
        for kind, (readings, options) in _READINGS.items():
            if share[kind] >= (1 - _MOST if kind in {"digits", "implausible"} else _MOST):
                raise DataError(
                    f"a time such as {self._examples[kind]} can be {readings}; say which: "
                    f"--time-format {options}"
                )
        n_relative = self._seen["relative"]
        if n_relative > (1 - _MOST) * n_numbers and n_relative < _MOST * n_numbers:
            raise DataError(
                f"{n_relative} of {n_numbers} times, such as {self._examples['relative']}, are too "
                "small for seconds since 1970, and the others are not; a log has one clock"
            )
        return "own" if n_relative * 2 > n_numbers else "size"


_READINGS = {
    "digits": ("a date as YYYYMMDD, or a number since 1970", "%Y%m%d, or s, ms, us, ns"),
    "hours": ("a date as YYYYMMDDHH, or seconds since 1970", "%Y%m%d%H, or s"),
    "short": ("a date as YYMMDD, or seconds", "%y%m%d, or s"),
    "excel": ("a spreadsheet's days, or seconds", "excel, or s"),
    "implausible": (
        "no date between 1995 and 2100, whether in seconds, ms, us or ns since 1970",
        "s, ms, us, ns, excel, or a pattern such as %Y%m%d",
    ),
}


def as_time(value: Any, zone: tzinfo | None = None) -> float:
    """Take a moment that stands alone: ISO 8601, or a number.

    Args:
        value: The moment.
        zone: Its zone where it names none; None: UTC.

    Raises:
        Unusable: It is neither.
        DataError: It can be read in two ways.
    """
    survey = TimeSurvey(zone=zone)
    survey.add(value)
    return survey.decide().read(value)


def by_size(number: float) -> float:
    """Give seconds for a number since 1970 of a unit that its size tells."""
    unit = next(unit for least, unit in _BY_SIZE if number >= least)
    return number / UNITS[unit]


def check_form(form: str) -> str:
    """Refuse a form of times that there is none of.

    Raises:
        ConfigError: It is neither a unit, nor ``excel``, nor a pattern.
    """
    if form not in {*UNITS, "excel"} and "%" not in form:
        raise ConfigError(
            f"--time-format {form}: expected {', '.join(UNITS)}, excel, or a pattern such as "
            "%d/%m/%Y %H:%M:%S"
        )
    return form


def _plausible(seconds: float) -> float:
    """Refuse a moment at which nobody can have logged clicks."""
    if not _SINCE <= seconds < _UNTIL:
        raise Unusable("time is not between 1995 and 2100")
    return seconds


def _as_number(value: Any) -> float | None:
    """Take a number, also one that is written as text; None where it is none."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e300 else None


def _written(value: Any, number: float | None) -> str:
    """Write a value as a pattern reads it; whole numbers without a fraction."""
    if number is not None and number.is_integer() and not isinstance(value, str):
        return f"{number:.0f}"
    return str(value).strip()


def _kinds_of_number(number: float) -> list[str]:
    """Say everything that a number may be beside one since 1970."""
    found = []
    text = f"{number:.0f}" if number.is_integer() else ""
    if COMPACT.fullmatch(text):
        found.append("hours" if len(text) == 10 else "digits")
    elif _SHORT.fullmatch(text):
        found.append("short")
    if _EXCEL_FROM <= number <= _EXCEL_TO:
        found.append("excel")
    if number < _RELATIVE_BELOW:
        found.append("relative")
    elif not _SINCE <= by_size(number) < _UNTIL:
        found.append("implausible")
    return found
