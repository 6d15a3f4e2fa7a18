"""Windows: which days they cover, said for one day, for many, and in SQL."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.calendar import DayRange, parse_day
from feature_store.window import EPOCH, Window

pytestmark = pytest.mark.unit

LENGTHS = ["days", "weeks", "months", "years"]


@pytest.mark.parametrize(
    ("window", "day", "first"),
    [
        (Window("w", days=1), "2013-03-01", "2013-03-01"),
        (Window("w", days=7), "2013-03-03", "2013-02-25"),
        (Window("w", days=7), "2013-01-03", "2012-12-28"),
        (Window("w", weeks=1), "2012-03-03", "2012-02-26"),
        (Window("w", weeks=4), "2012-03-01", "2012-02-03"),
        (Window("w", 1), "2013-03-31", "2013-02-28"),
        (Window("w", months=1), "2013-03-28", "2013-02-28"),
        (Window("w", months=3), "2012-05-31", "2012-02-29"),
        (Window("w", months=3), "2013-01-31", "2012-10-31"),
        (Window("w", months=12), "2013-02-28", "2012-02-28"),
        (Window("w", years=1), "2012-02-29", "2011-02-28"),
        (Window("w", years=4), "2012-02-29", "2008-02-29"),
        (Window("w", years=1), "0001-06-01", "0001-01-01"),
        (Window("w", days=400), "0001-06-01", "0001-01-01"),
    ],
)
def test_a_window_begins_where_the_calendar_says(window: Window, day: str, first: str) -> None:
    assert window.first_day(parse_day(day)) == parse_day(first)


@given(
    st.lists(st.dates(), min_size=1, max_size=20),
    st.sampled_from(LENGTHS),
    st.integers(min_value=1, max_value=5000),
)
def test_many_days_are_counted_as_one_is(days: list[dt.date], unit: str, length: int) -> None:
    window = Window("w", **{unit: length})
    numbers = np.array([day.toordinal() - EPOCH for day in days], np.int32)
    found = [dt.date.fromordinal(int(number) + EPOCH) for number in window.first_days(numbers)]
    assert found == [window.first_day(day) for day in days]


@pytest.mark.parametrize("months", [1, 2, 3, 6, 11, 12, 13, 24, 47, 48, 96, 97, 4801])
def test_the_shortest_and_the_longest_are_those_of_400_years(months: int) -> None:
    window = Window("w", months=months)
    begin = dt.date(2000 if months < 4000 else 2400, 1, 1).toordinal() - EPOCH
    days = np.arange(begin, begin + 146_097)
    covered = days - window.first_days(days) + 1
    assert (covered.min(), covered.max()) == (window.shortest, window.longest)


@pytest.mark.parametrize(
    ("short", "long", "is_within"),
    [
        (Window("a", days=28), Window("b", months=1), True),
        (Window("a", days=29), Window("b", months=1), True),
        # As of 1 March 2013 a month has 29 days.
        (Window("a", days=30), Window("b", months=1), False),
        (Window("a", months=1), Window("b", days=31), False),
        (Window("a", months=1), Window("b", days=32), True),
        (Window("a", weeks=52), Window("b", years=1), True),
        (Window("a", years=1), Window("b", days=366), False),
        (Window("a", years=1), Window("b", days=367), True),
        (Window("a", months=12), Window("b", years=1), True),
        (Window("a", months=13), Window("b", years=1), False),
    ],
)
def test_within_is_as_of_every_day(short: Window, long: Window, is_within: bool) -> None:
    assert short.within(long) is is_within


def test_sql_says_the_same() -> None:
    assert Window("w", days=7).first_day_sql("day") == "date_sub(day, 6)"
    assert Window("w", weeks=4).first_day_sql("day") == "date_sub(day, 27)"
    assert Window("w", months=3).first_day_sql("day") == "add_months(day, -3)"
    assert Window("w", years=1).first_day_sql("day") == "add_months(day, -12)"
    assert Window("w", weeks=1).frame_sql() == "RANGE BETWEEN INTERVAL 6 DAY PRECEDING AND CURRENT ROW"
    assert Window("w", years=2).frame_sql() == "RANGE BETWEEN INTERVAL 24 MONTH PRECEDING AND CURRENT ROW"


def test_a_range_sees_from_its_first_window_to_its_end() -> None:
    days = DayRange(dt.date(2013, 5, 31), dt.date(2013, 6, 1))
    assert Window("w", months=3).seen(days) == DayRange(dt.date(2013, 2, 28), dt.date(2013, 6, 1))
    assert Window("w", days=28).seen(days) == DayRange(dt.date(2013, 5, 4), dt.date(2013, 6, 1))


@pytest.mark.parametrize(
    ("window", "fault"),
    [
        (Window("w"), "not none"),
        (Window("w", 0), "is of 0 months"),
        (Window("w", days=-7), "is of -7 days"),
        (Window("w", weeks=2.5), "is of 2.5 weeks"),  # type: ignore[arg-type]  # a file that no one has checked yet
        (Window("w", years=True), "is of True years"),
        (Window("w", days=7, weeks=1), "not days and weeks"),
        (Window("w", months=1, years=0), "not months and years"),
    ],
)
def test_a_window_of_no_length_has_a_fault(window: Window, fault: str) -> None:
    assert fault in str(window.fault())


@pytest.mark.parametrize("months", [1, 3, 12])
def test_no_window_sees_further_than_the_last_day_that_there_is(months: int) -> None:
    window = Window("w", months=months)
    assert window.last_day(dt.date(9999, 12, 31)) == dt.date.max
    assert window.last_day(dt.date(9999, 12, 1)) == dt.date.max
    assert Window("w", days=31).last_day(dt.date(9999, 12, 30)) == dt.date.max


@pytest.mark.parametrize(
    "window",
    [
        Window("1 month", months=1),
        Window("3 months", months=3),
        Window("6 months", months=6),
        Window("1 year", years=1),
        Window("1 day", days=1),
        Window("4 weeks", weeks=4),
    ],
    ids=lambda window: window.name,
)
def test_the_last_day_whose_window_sees_a_day(window: Window) -> None:
    for day in (dt.date(2011, 2, 28), *DayRange(dt.date(2012, 1, 25), dt.date(2012, 3, 5))):
        seeing = [other for other in DayRange(day, dt.date(2013, 12, 31)) if window.first_day(other) <= day]
        assert window.last_day(day) == seeing[-1]
