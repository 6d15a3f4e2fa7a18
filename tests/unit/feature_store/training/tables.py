"""Tables of features for the tests of training sets, and what pure Python looks up in them."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from feature_store.arrow_readings import schema
from feature_store.source import Measure, Source
from feature_store.training import Options
from feature_store.training import events as of_events
from feature_store.view import Aggregation, FeatureView, Function, Window

SOURCE = Source(
    name="readings",
    entity="id",
    day="day_date",
    measures=(Measure("used"),),
    landed_entities=("id",),
    landed_day="day",
)


def view(name: str, aggregation: str) -> FeatureView:
    return FeatureView(
        name=name,
        description="Of a test.",
        source=SOURCE,
        windows=(Window("7days", days=7),),
        aggregations=(Aggregation(aggregation, Function.SUM, "used"),),
    )


USE = view("usage", "total")
OTHER = view("other", "sum")
FIRST = dt.date(2014, 2, 1)
CHECKED = of_events.checked

Key = tuple[str, dt.date]


def day(number: int) -> dt.date:
    return FIRST + dt.timedelta(days=number)


def moment(number: int, hour: int = 0, minute: int = 0) -> dt.datetime:
    return dt.datetime.combine(day(number), dt.time(hour, minute))


def rows(values: Mapping[Key, float | None], of: FeatureView = USE) -> pa.Table:
    """Rows of features: of each key the day's own value, and another for the feature."""
    made = []
    for (entity, when), value in values.items():
        numbers = (value, None if value is None else value * 10)
        made.append(
            {"id": entity, "day_date": when, **dict(zip([c.name for c in of.columns[2:]], numbers, strict=True))}
        )
    return pa.Table.from_pylist(made, schema(of.columns))


def write(path: Path, values: Mapping[Key, float | None], of: FeatureView = USE) -> str:
    write_deltalake(path, rows(values, of), mode="overwrite")
    return str(path)


def events(*of: tuple[str, dt.date], **columns: Sequence[Any]) -> pa.Table:
    return pa.table({"id": [each[0] for each in of], "event_time": [each[1] for each in of], **columns})


def known_until(when: dt.date, zone: str = "UTC", lag: dt.timedelta = dt.timedelta()) -> tuple[dt.date, dt.date]:
    """The day of an event, and the newest day that was over, and readable, by then: by walking back from it."""
    if isinstance(when, dt.datetime):
        local = when.astimezone(zoneinfo.ZoneInfo(zone)).replace(tzinfo=None) if when.tzinfo else when
        event_day, instant = local.date(), local
    else:
        event_day, instant = when, dt.datetime.combine(when + dt.timedelta(days=1), dt.time())
    last = event_day
    while dt.datetime.combine(last + dt.timedelta(days=1), dt.time()) + lag > instant:
        last -= dt.timedelta(days=1)
    return event_day, last


def looked_up(
    values: Mapping[Key, float | None],
    asked: Iterable[tuple[str, dt.date]],
    max_age: int | None = None,
    **how: Any,
) -> list[tuple[dt.date | None, int | None, float | None, float | None]]:
    """Of each event day, age, value and feature: every row of the table is looked at for every event."""
    found = []
    for entity, when in asked:
        event_day, last = known_until(when, **how)
        known = [row for (whose, row) in values if whose == entity and row <= last]
        if not known:
            found.append((None, None, None, None))
            continue
        newest = max(known)
        age = (event_day - newest).days
        value = values[entity, newest] if max_age is None or age <= max_age else None
        found.append((newest, age, value, None if value is None else value * 10))
    return found


def found_in(table: pa.Table, of: FeatureView = USE) -> list[tuple[Any, ...]]:
    names = [f"{of.name}__day", f"{of.name}__age", *(column.name for column in of.columns[2:])]
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def apart(
    values: Mapping[Key, float | None], of: Sequence[tuple[str, Any]]
) -> tuple[dict[Key, float | None], list[tuple[str, Any]]]:
    """Give each event a history of its own: a copy of its entity's rows, under a name that no other event has."""
    own = [(f"{entity}{number}", when) for number, (entity, when) in enumerate(of)]
    copies = {
        (name, row): value
        for (name, _), (entity, _) in zip(own, of, strict=True)
        for (whose, row), value in values.items()
        if whose == entity
    }
    return copies, own


def spoiled(
    values: Mapping[Key, float | None], of: Iterable[tuple[str, Any]], options: Options
) -> dict[Key, float | None]:
    """The rows that each event may know; and others in place of all that it may not: changed, withdrawn and added."""
    known = {name: known_until(when, options.zone, options.lag)[1] for name, when in of}
    made: dict[Key, float | None] = {}
    for place, ((name, row), value) in enumerate(values.items()):
        if row <= known[name]:
            made[name, row] = value
        elif place % 2:
            made[name, row] = -99.0
    # The first days that no event may know of: its own, which is not over, is among them.
    return made | {(name, last + dt.timedelta(days=later)): 99.0 for name, last in known.items() for later in (1, 2)}


def leaking(*given: Any) -> of_events.Events:
    """Planted: an event with a time of day knows its own day, which is not over; one of a date the next."""
    made = CHECKED(*given)
    return of_events.Events(made.table, made.entities, made.days, made.limits + 1, made.moments)
