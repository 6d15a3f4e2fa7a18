"""What a day of features is expected to be like before it goes online: limits that a view sets, with their defaults."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """What a failed check does: ERROR holds the day back, WARN is reported."""

    ERROR = "error"
    WARN = "warn"


@dataclass(frozen=True)
class Limit:
    """From which value on a measurement is worth a warning, and from which it is an error; None for never."""

    warn: float | None
    error: float | None

    def severity_below(self, value: float) -> Severity | None:
        """Judge something that is the better the larger it is."""
        return self._severity(value, lower=True)

    def severity_above(self, value: float, allowance: float = 0.0) -> Severity | None:
        """Judge something that is the better the smaller it is; so much more is allowed."""
        return self._severity(value - allowance, lower=False)

    def _severity(self, value: float, *, lower: bool) -> Severity | None:
        for limit, severity in ((self.error, Severity.ERROR), (self.warn, Severity.WARN)):
            if limit is not None and (value < limit if lower else value > limit):
                return severity
        return None

    def text(self, relation: str, unit: str) -> str:
        """Say it in words, such as: at least 0.5 of the rows; less than 0.85 warns.

        Args:
            relation: "at least" or "at most".
            unit: what follows the number.
        """
        beyond = "less" if relation == "at least" else "more"
        if self.error is None:
            return "not judged" if self.warn is None else f"{relation} {self.warn:g} {unit}, else a warning"
        warns = "" if self.warn is None else f"; {beyond} than {self.warn:g} warns"
        return f"{relation} {self.error:g} {unit}{warns}"

    def fault(self) -> str | None:
        """Say what is wrong with it, if anything is."""
        for value in (self.warn, self.error):
            # bool is an int to Python, and a file that is no typed program can hold anything.
            if value is not None and (type(value) not in (int, float) or not math.isfinite(value) or value < 0):
                return f"has the limit {value!r}: it takes a number from 0, or None"
        return None


@dataclass(frozen=True)
class Expectations:
    """The limits of a view's days. The defaults pass every ordinary day of the London households, Christmas included.

    Attributes:
        filled: least share of what the day's readings should hold that they do hold (the source's `whole_day`).
        whole: least share of entities whose day is whole.
        rows: least share of the trailing days' median number of rows.
        growth: most times the trailing days' median number of rows.
        nulls: by how much a column's share of nulls may be above the trailing days' median. This and the next two hold
            a day back for its measures alone: what is computed of them follows exactly, and only warns, as it also
            grows with a history that is not yet as long as its window.
        shift: how far a column's median may be from the trailing days', in their interquartile ranges.
        spread: by which factor a column's interquartile range may differ from the trailing days'.
        repeated: most entities, as a share and beyond the share that is usual, whose reading may be the same in all
            measures as the day before.
        trailing_days: calendar days before a day that it is compared with; those that were held back do not count.
        least_days: with fewer of them nothing is compared.
        least_rows: days, and the days before them, of fewer rows are not compared: there chance is larger than what is
            looked for.
        warn_only: names of checks whose failures are reported, and hold nothing back.
    """

    filled: Limit = Limit(0.85, 0.5)
    whole: Limit = Limit(0.87, None)
    rows: Limit = Limit(0.9, 0.6)
    growth: Limit = Limit(1.5, None)
    nulls: Limit = Limit(0.1, 0.25)
    shift: Limit = Limit(0.5, 1.0)
    spread: Limit = Limit(1.75, 3.0)
    repeated: Limit = Limit(0.5, 0.9)
    trailing_days: int = 30
    least_days: int = 7
    least_rows: int = 50
    warn_only: tuple[str, ...] = ()

    def faults(self) -> Iterator[tuple[str, str]]:
        """Find the fields that are wrong, and how."""
        for name, value in vars(self).items():
            if isinstance(value, Limit):
                if fault := value.fault():
                    yield name, fault
            elif name != "warn_only" and (type(value) is not int or value < 1):
                yield name, f"is {value!r}: it takes a whole number from 1"
        if not isinstance(self.warn_only, tuple) or not all(isinstance(name, str) for name in self.warn_only):
            yield "warn_only", "takes a tuple of str, with a comma after a single one: (str,)"
