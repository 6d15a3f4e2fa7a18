"""What a backfill will do of a range: in what pieces, how long it takes and what it costs, for people and programs."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from feature_store import cost, speeds
from feature_store.backfill import Reprocess, State, ViewDays
from feature_store.calendar import DayRange
from feature_store.view import FeatureView

CHUNK_ROWS = 500_000  # of features, of all views: minutes of work, which is what a crash can cost
# As people are told.
WORDS = {
    State.DONE: "done",
    State.MISSING: "missing",
    State.CHANGED: "of older readings",
    State.HELD_BACK: "held back by validation",
}


def chunks(days: Mapping[dt.date, int], most: int = CHUNK_ROWS) -> list[DayRange]:
    """Cut days into ranges of at most so many rows, or of a single day; days that are not asked for part them.

    Args:
        days: to be done, with their rows.
        most: rows of a range.
    """
    made: list[DayRange] = []
    held = 0
    for day in sorted(days):
        if made and made[-1].end + dt.timedelta(days=1) == day and held + days[day] <= most:
            made[-1] = DayRange(made[-1].start, day)
            held += days[day]
        else:
            made.append(DayRange(day, day))
            held = days[day]
    return made


def seconds(rows: int, parts: int, *, online: bool = True) -> float:
    """How long so many rows will take in so many chunks, about; without the cluster's start."""
    steps = [speeds.FEATURIZE_ROWS, speeds.VALIDATE_ROWS, *([speeds.SYNC_ROWS] if online else [])]
    return sum(rows / pace + parts * speeds.STEP_SECONDS for pace in steps)


def write_units(view: FeatureView, rows: int) -> int:
    """What bringing so many rows online takes, at most: those that are there already as they are cost nothing."""
    return rows * cost.write_units(cost.row_bytes(view, cost.ENTITY_BYTES))


@dataclass(frozen=True)
class Outlook:
    """What a backfill of a range will do, of several views.

    Attributes:
        days: the range.
        reprocess: which days are done again.
        views: how far each has come.
        region: AWS', for the prices.
        chunk_rows: rows of a chunk, at most, unless a day has more.
        online: whether the days are brought online too.
    """

    days: DayRange
    reprocess: Reprocess
    views: Mapping[FeatureView, ViewDays]
    region: str
    chunk_rows: int = CHUNK_ROWS
    online: bool = True

    @cached_property
    def to_do(self) -> dict[dt.date, int]:
        """The days to do, of whichever view, in order; each with the rows of all views, as a chunk is of all."""
        wanted = sorted({day for each in self.views.values() for day in each.to_do(self.reprocess)})
        return {day: sum(each.rows.get(day, 0) for each in self.views.values()) for day in wanted}

    @cached_property
    def chunks(self) -> list[DayRange]:
        """The days to do in pieces, the oldest first."""
        return chunks(self.to_do, self.chunk_rows)

    @property
    def rows(self) -> int:
        """How many rows there are to do, of all views."""
        return sum(self.to_do.values())

    @property
    def minutes(self) -> float:
        """How long it will take, about; without the cluster's start."""
        return seconds(self.rows, len(self.chunks), online=self.online) / 60

    def units(self, view: FeatureView) -> int:
        """Write units, at most: rows that are online already as they are cost nothing, and old ones do not go there."""
        of = self.views[view]
        if not self.online:
            return 0
        oldest = dt.date.min if view.retention is None else of.newest - dt.timedelta(days=view.retention - 1)
        return write_units(view, sum(of.rows.get(day, 0) for day in self.to_do if day >= oldest))

    @property
    def left(self) -> str | None:
        """Say what is not right and left as it is; None if nothing is."""
        counted = Counter(state for of in self.views.values() for state in of.states.values())
        right = {State.DONE, *self.reprocess.states}
        said = [f"{counted[state]} {words}" for state, words in WORDS.items() if counted[state] and state not in right]
        return f"Left as they are, by view: days {', '.join(said)}." if said else None

    def as_json(self) -> dict[str, Any]:
        """Say it for programs: start, end, reprocess, chunks, and by view its days by state."""
        return {
            "start": str(self.days.start),
            "end": str(self.days.end),
            "reprocess": self.reprocess.value,
            "days_to_do": len(self.to_do),
            "rows": self.rows,
            "minutes": round(self.minutes, 1),
            "chunks": [{"start": str(each.start), "end": str(each.end), "days": len(each)} for each in self.chunks],
            "views": {
                view.name: {
                    "states": {
                        state.value: [str(day) for day, its in sorted(of.states.items()) if its is state]
                        for state in State
                    },
                    "affected": [str(day) for day in of.affected],
                    "write_units": self.units(view),
                    "dollars": cost.dollars(self.region, writes=self.units(view)),
                }
                for view, of in self.views.items()
            },
        }

    def lines(self) -> Iterator[str]:
        """Say it in words, line by line."""
        yield f"{self.days} ({len(self.days)} day(s)), reprocess {self.reprocess.value}:"
        for view, of in self.views.items():
            states = Counter(of.states.values())
            units = self.units(view)
            price = cost.dollars(self.region, writes=units)
            counted = ", ".join(f"{states[state]} {words}" for state, words in WORDS.items())
            yield (
                f"{view.name}: {len(of.states)} day(s) with readings: {counted}. Online at most {units:,} write units"
                f"{'' if price is None else f', ${price:.4f} on demand'}."
            )
            if of.affected:
                yield (
                    f"{view.name}: {len(of.affected)} day(s) after the range, {of.affected[0]} to {of.affected[-1]}, "
                    "are of older readings too: they are none of this run."
                )
        if self.left:
            yield self.left
        if not self.to_do:
            yield "There is nothing to do."
            return
        yield (
            f"To do: {len(self.to_do)} day(s), {self.rows:,} row(s), in {len(self.chunks)} chunk(s); about "
            f"{max(1, round(self.minutes))} minute(s) and the cluster's start."
        )
