"""The features once more, by SQL over the readings: a path that shares no arithmetic with the kernel.

Only the declaration is common to both: windows are SQL's intervals, and DuckDB sums, averages and deviates.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence

from feature_store.calendar import DayRange
from feature_store.validation.sql import TYPES, date, quoted
from feature_store.view import Aggregation, FeatureView, Function, Window

# Beside the features, of each mean: between the window's least and its most it has to be.
LEAST, MOST = "least", "most"
# Up to so many days each is computed by one pass over its year of readings (0.2 s of 5,500 entities); more of them take
# less time by windows over all of them at once (30 days: 4 s; all of 736: 13 s).
PASSES = 10


def statements(view: FeatureView, found: Sequence[dt.date], days: DayRange, nth: int = 1) -> Iterator[str]:
    """Make table `a` from `readings_in`: a row per entity and day that it has readings for, or more of them.

    Args:
        view: the declaration.
        found: the days that have rows.
        days: the range that they are of.
        nth: of every which entity; of how many, the report says.
    """
    entity, day = quoted(view.entity), quoted(view.day)
    columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in _columns(view).items())
    yield f"CREATE OR REPLACE TEMP TABLE a ({entity} VARCHAR, {day} DATE, {columns}, computed BOOLEAN DEFAULT true)"
    into = f"INSERT INTO a ({', '.join((entity, day, *map(quoted, _columns(view))))})"
    some = f"AND hash({entity}) % {nth} = 0" if nth > 1 else ""
    if len(found) > PASSES:
        yield f"{into} {_windows(view, days, some)}"
        return
    for each in found:
        yield f"{into} {_pass(view, each, some)}"


def _pass(view: FeatureView, as_of: dt.date, some: str) -> str:
    """One day: each entity's readings of the year in one go, every window a filter of them."""
    entity, day = quoted(view.entity), quoted(view.day)

    def over(window: Window) -> str:
        return f"FILTER (WHERE {day} >= {date(as_of)} - {window.reach_sql()})"

    within = f"{day} BETWEEN {date(as_of)} - {view.longest.reach_sql()} AND {date(as_of)}"
    values = ", ".join(_values(view, over))
    return f"SELECT {entity}, {date(as_of)}, {values} FROM readings_in WHERE {within} {some} GROUP BY {entity}"


def _windows(view: FeatureView, days: DayRange, some: str) -> str:
    """Many days: SQL's windows over all readings."""
    entity, day = quoted(view.entity), quoted(view.day)
    frames = ", ".join(
        f"{quoted(w.name)} AS (PARTITION BY {entity} ORDER BY {day} {w.frame_sql()})" for w in view.windows
    )
    values = _values(view, lambda window: f"OVER {quoted(window.name)}")
    named = ", ".join(f"{value} AS {quoted(name)}" for value, name in zip(values, _columns(view), strict=True))
    within = f"{day} BETWEEN {date(days.start)} - {view.longest.reach_sql()} AND {date(days.end)}"
    rows = f"SELECT {entity}, {day}, {named} FROM readings_in WHERE {within} {some} WINDOW {frames}"
    wanted = ", ".join((entity, day, *map(quoted, _columns(view))))
    return f"SELECT {wanted} FROM ({rows}) WHERE {day} >= {date(days.start)}"


def _columns(view: FeatureView) -> dict[str, str]:
    """What is computed again, with DuckDB's types: the features, and each mean's least and most."""
    columns = {column.name: TYPES[column.type] for column in view.features}
    for name, aggregation in _means(view).items():
        kind = TYPES[view.measure(str(aggregation.measure)).type]
        columns |= {f"{end}_{name}": kind for end in (LEAST, MOST)}
    return columns


def _values(view: FeatureView, over: Callable[[Window], str]) -> list[str]:
    """SQL's expressions of these columns; `over` gives a window's FILTER or OVER clause."""
    made = [
        aggregation.function.sql(aggregation.measure and quoted(aggregation.measure), quoted(view.day), over(window))
        for aggregation, window in view.made_of.values()
    ]
    for name, aggregation in _means(view).items():
        value, where = quoted(str(aggregation.measure)), over(view.made_of[name][1])
        made += [f"min({value}) {where}", f"max({value}) {where}"]
    return made


def _means(view: FeatureView) -> dict[str, Aggregation]:
    return {name: each for name, (each, _) in view.made_of.items() if each.function is Function.MEAN}
