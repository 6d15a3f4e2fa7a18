"""Days, months and ranges of days, as every stage counts them."""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

DAY_FORM = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
NAMED = 5  # days in a message


def parse_day(text: str) -> dt.date:
    """Parse a day written YYYY-MM-DD; ValueError says what is wrong with any other text."""
    if not DAY_FORM.fullmatch(text):
        raise ValueError(f"{text!r} is not a day: write it as YYYY-MM-DD")
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day: the calendar has no such date") from None


def add_months(day: dt.date, months: int) -> dt.date:
    """Move a day by whole months, clamped at the month's end (31 May - 3 months is 28 or 29 February).

    This is SQL's add_months for all days but those before year 1, which clamp to the first day that there is.
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if year < dt.MINYEAR:
        return dt.date.min
    last = calendar.monthrange(year, month + 1)[1]
    return dt.date(year, month + 1, min(day.day, last))


@dataclass(frozen=True)
class DayRange:
    """The days from start to end, both included; ValueError if end is before start."""

    start: dt.date
    end: dt.date

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        if self.end < self.start:
            raise ValueError(f"the last day {self.end} is before the first day {self.start}")

    def __str__(self) -> str:
        """The range as messages name it."""
        return str(self.start) if self.start == self.end else f"{self.start}..{self.end}"

    def __len__(self) -> int:
        """The number of days."""
        return (self.end - self.start).days + 1

    def __iter__(self) -> Iterator[dt.date]:
        """Go through the days, the oldest first."""
        return (self.start + dt.timedelta(days=number) for number in range(len(self)))


def merged(days: Iterable[DayRange]) -> tuple[DayRange, ...]:
    """Put ranges of days in order, those that touch or overlap into one."""
    made: list[DayRange] = []
    for each in sorted(days, key=lambda days: days.start):
        if made and (each.start - made[-1].end).days <= 1:
            made[-1] = DayRange(made[-1].start, max(made[-1].end, each.end))
        else:
            made.append(each)
    return tuple(made)


def named(days: Sequence[dt.date]) -> str:
    """Name days as messages do: the first few, and whether there are more."""
    return ", ".join(map(str, days[:NAMED])) + (", ..." if len(days) > NAMED else "")
