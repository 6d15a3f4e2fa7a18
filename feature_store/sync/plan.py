"""What becomes of each day: brought online, taken away, left as it is; in chunks of memory's size, the newest first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from feature_store.calendar import DayRange
from feature_store.sync.certificates import Certificate
from feature_store.sync.changes import Features

CHUNK_ROWS = 500_000  # of 24 columns: some 100 MB, and as much again while two versions are compared


@dataclass(frozen=True)
class Chunk:
    """Days that are dealt with at once: all of one kind.

    Attributes:
        days: in order.
        since: the version of the features that is online of them; None if none is, or if that is not certain.
        unsure: whether something else may be online of them, so that it has to be looked at first.
        leaves: whether they are to leave the online table.
    """

    days: tuple[dt.date, ...]
    since: int | None
    unsure: bool
    leaves: bool

    def __str__(self) -> str:
        """Name its days, as messages do."""
        return str(DayRange(self.days[0], self.days[-1]))


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        chunks: days to bring online, or to take away.
        too_old: days that are older than what the online table holds: nothing is written of them.
        newer: days of which another run has brought later features online.
        unfinished: days of which another run has begun to bring later features online, and has not ended.
        rows: of Delta, by day, of those that are to be online.
    """

    chunks: list[Chunk] = field(default_factory=list)
    too_old: list[dt.date] = field(default_factory=list)
    newer: list[dt.date] = field(default_factory=list)
    unfinished: list[dt.date] = field(default_factory=list)
    rows: dict[dt.date, int] = field(default_factory=dict)


def plan(
    features: Features, known: Mapping[dt.date, Certificate], days: DayRange | None, held_back: Collection[dt.date]
) -> Plan:
    """Decide what becomes of each day.

    Args:
        features: as they are to be online.
        known: what is online of any day.
        days: that are to be brought online; None brings those up to date that are online.
        held_back: of these, those that must not be: what is online of them stays.

    Raises:
        FeaturesError: the features can't be read.
    """
    view = features.view
    span = days or (DayRange(min(known), max(known)) if known else None)
    rows = {
        day: count
        for day, count in (features.days(span) if span else {}).items()
        if day not in held_back and (days or day in known)
    }
    online = [day for day, each in known.items() if each.rows or each.open]
    newest = max([*rows, *online], default=None)
    oldest = dt.date.min
    if view.retention is not None and newest is not None:
        oldest = newest - dt.timedelta(days=view.retention - 1)
    made = Plan(too_old=[day for day in rows if day < oldest])
    # Also days that Delta no longer has: of those, everything that is online has to go.
    asked = {*rows, *(day for day in known if span and span.start <= day <= span.end and day not in held_back)}
    wanted: dict[dt.date, Chunk] = {}
    for day in sorted(day for day in asked if day >= oldest):
        there = known.get(day)
        if there and there.features_id == features.id and max(there.versions, default=-1) > features.version:
            (made.unfinished if there.open else made.newer).append(day)
        else:
            wanted[day] = _kind(day, there, features.id, leaves=False)
    made.rows = {day: rows.get(day, 0) for day in wanted}
    leaving = {day: _kind(day, known[day], features.id, leaves=True) for day in sorted(online) if day < oldest}
    made.chunks = [*_chunks(wanted, made.rows), *_chunks(leaving, {day: known[day].rows for day in leaving})]
    return made


def _kind(day: dt.date, there: Certificate | None, features_id: str, *, leaves: bool) -> Chunk:
    """A chunk of one day; those of one kind are put together."""
    if there is None:
        return Chunk((day,), None, unsure=False, leaves=leaves)
    unsure = there.open or there.foreign or there.features_id != features_id or there.features_version is None
    return Chunk((day,), None if unsure else there.features_version, unsure, leaves)


def _chunks(days: Mapping[dt.date, Chunk], rows: Mapping[dt.date, int]) -> list[Chunk]:
    """Put days of one kind together, as far as they fit; the newest come first."""
    made: list[Chunk] = []
    held = 0
    for day, each in sorted(days.items(), reverse=True):
        last = made[-1] if made else None
        alike = last and (last.since, last.unsure) == (each.since, each.unsure)
        if last and alike and held + rows[day] <= CHUNK_ROWS:
            made[-1] = replace(last, days=(day, *last.days))
            held += rows[day]
        else:
            made.append(each)
            held = rows[day]
    return made
