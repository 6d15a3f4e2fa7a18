"""Days, months, ranges."""

import datetime as dt

import pytest

from feature_store.calendar import DayRange, add_months, parse_day

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        ("2013-05-31", -3, "2013-02-28"),
        ("2012-05-31", -3, "2012-02-29"),
        ("2012-02-29", -12, "2011-02-28"),
        ("2013-02-28", -12, "2012-02-28"),
        ("2013-01-15", -3, "2012-10-15"),
        ("2013-01-31", 1, "2013-02-28"),
        ("2012-12-31", 12, "2013-12-31"),
        ("0001-03-01", -12, "0001-01-01"),
    ],
)
def test_months_are_the_calendars_and_clamped(day: str, months: int, expected: str) -> None:
    assert add_months(parse_day(day), months) == parse_day(expected)


@pytest.mark.parametrize("text", ["2013-02-30", "20130201", "2013-2-1", "2013-W01-1", "", "2013-02-01 ", "yesterday"])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a day"):
        parse_day(text)


def test_a_range_has_both_ends() -> None:
    days = DayRange(dt.date(2012, 2, 28), dt.date(2012, 3, 1))
    assert [day.day for day in days] == [28, 29, 1]
    assert len(days) == 3
    assert str(days) == "2012-02-28..2012-03-01"


def test_a_range_is_not_empty() -> None:
    with pytest.raises(ValueError, match="2012-03-01 is before the first day 2012-03-02"):
        DayRange(dt.date(2012, 3, 2), dt.date(2012, 3, 1))
