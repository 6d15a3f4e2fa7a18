"""What a window of days is: the one place where its days are counted, for Python, numpy and SQL."""

from __future__ import annotations

import datetime as dt
from dataclasses import KW_ONLY, dataclass
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

from feature_store.calendar import DayRange, add_months

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EPOCH = dt.date(1970, 1, 1).toordinal()
FIRST_DAY = dt.date.min.toordinal() - EPOCH  # the first day that there is, counted from 1970-01-01
DAYS_A_WEEK = 7
MONTHS_A_YEAR = 12
CYCLE = 400 * MONTHS_A_YEAR  # months after which the calendar repeats itself


@dataclass(frozen=True)
class Window:
    """The days of which a feature as of day d is made: so many months, days, weeks or years, d among them.

    - N days: the last N days, [d - (N-1) days, d]. One day is d alone; as of a Sunday, 7 days begin on Monday.
    - N weeks: 7 N days.
    - N months: [add_months(d, -N), d], both ends included, by the calendar and clamped at month ends: as of 31 May, 3
      months begin on 28 or 29 February. So they hold one day more than the months between.
    - N years: 12 N months.

    Days before year 1 are none. Exactly one of the four is given, as a whole number from 1; the view that has the
    window checks it.
    """

    name: str
    months: int | None = None
    _: KW_ONLY
    days: int | None = None
    weeks: int | None = None
    years: int | None = None

    def fault(self) -> str | None:
        """Say what is wrong with the declaration, if anything is."""
        lengths = {"months": self.months, "days": self.days, "weeks": self.weeks, "years": self.years}
        given = {unit: length for unit, length in lengths.items() if length is not None}
        if len(given) != 1:
            return f"takes one of months, days, weeks and years, not {' and '.join(given) or 'none'}"
        unit, length = given.popitem()
        # bool is an int to Python, and a file that is no typed program can hold anything.
        if type(length) is not int or length < 1:
            return f"is of {length!r} {unit}: it takes a whole number from 1"
        return None

    @property
    def whole_months(self) -> int | None:
        """Its length in months, if the calendar's months count it."""
        return self.years * MONTHS_A_YEAR if self.years is not None else self.months

    @property
    def whole_days(self) -> int:
        """Its length in days, if days count it."""
        return self.weeks * DAYS_A_WEEK if self.weeks is not None else self.days or 0

    @property
    def shortest(self) -> int:
        """The fewest days that it covers."""
        return self.whole_days if self.whole_months is None else _days_in_months(self.whole_months)[0] + 1

    @property
    def longest(self) -> int:
        """The most days that it covers."""
        return self.whole_days if self.whole_months is None else _days_in_months(self.whole_months)[1] + 1

    def within(self, other: Window) -> bool:
        """Tell whether, as of each day, the other window holds all of this one's days."""
        if self.whole_months is not None and other.whole_months is not None:
            return self.whole_months <= other.whole_months
        return self.longest <= other.shortest

    def first_day(self, day: dt.date) -> dt.date:
        """The first day of the window as of a day."""
        if self.whole_months is not None:
            return add_months(day, -self.whole_months)
        return dt.date.fromordinal(max(day.toordinal() - self.whole_days + 1, dt.date.min.toordinal()))

    def last_day(self, day: dt.date) -> dt.date:
        """The last day whose window has this day in it, or the last day that there is."""
        try:
            if self.whole_months is None:
                return day + dt.timedelta(days=self.whole_days - 1)
            last = add_months(day, self.whole_months)
            # Three months after 28 February is 28 May, but the windows of 29 to 31 May begin on 28 February too.
            while self.first_day(last + dt.timedelta(days=1)) <= day:
                last += dt.timedelta(days=1)
        except (ValueError, OverflowError):  # 9999-12-31 is what some systems write for a day that they don't know
            return dt.date.max
        return last

    def first_days(self, days: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.int64]:
        """The first days of the windows as of many days, in days since 1970-01-01."""
        # Not at import: whoever reads a view's columns, as the online client does, needs no numpy.
        import numpy as np  # noqa: PLC0415

        if self.whole_months is None:
            first = days.astype(np.int64) - (self.whole_days - 1)
        else:
            dates = days.astype(np.int64).view("datetime64[D]")
            months = dates.astype("datetime64[M]")
            day_of_month = dates - months.astype("datetime64[D]")
            begin = (months - self.whole_months).astype("datetime64[D]")
            end = (months - self.whole_months + 1).astype("datetime64[D]")
            first = np.minimum(begin + day_of_month, end - 1).view(np.int64)
        return np.maximum(first, FIRST_DAY)

    def first_day_sql(self, day: str) -> str:
        """Spark SQL's expression for the first day of the window as of a date column."""
        if self.whole_months is not None:
            return f"add_months({day}, -{self.whole_months})"
        return f"date_sub({day}, {self.whole_days - 1})"

    def reach_sql(self) -> str:
        """SQL's interval from the window's first day to its last; Spark and DuckDB read it alike."""
        months = self.whole_months
        return f"INTERVAL {self.whole_days - 1} DAY" if months is None else f"INTERVAL {months} MONTH"

    def frame_sql(self) -> str:
        """SQL's frame of the window, over rows ordered by a date column; Spark and DuckDB read it alike."""
        return f"RANGE BETWEEN {self.reach_sql()} PRECEDING AND CURRENT ROW"

    def seen(self, days: DayRange) -> DayRange:
        """The days that the windows as of some days see."""
        return DayRange(self.first_day(days.start), days.end)


@cache
def _days_in_months(months: int) -> tuple[int, int]:
    """The fewest and the most days in so many calendar months in a row.

    No other number of days is between add_months(d, -months) and d: a clamped d is as far from it as the months' ends.
    """
    lengths = [(_month(number + 1) - _month(number)).days for number in range(CYCLE)]
    cycles, rest = divmod(months, CYCLE)
    ends = list(accumulate(lengths + lengths[:rest], initial=0))
    sums = [ends[number + rest] - ends[number] for number in range(CYCLE)]
    return min(sums) + cycles * ends[CYCLE], max(sums) + cycles * ends[CYCLE]


def _month(number: int) -> dt.date:
    """The first day of a month, counted from January 2000."""
    year, month = divmod(number, MONTHS_A_YEAR)
    return dt.date(2000 + year, month + 1, 1)
