"""The features once more, by SQL over the readings: a path that shares no arithmetic with the kernel.

Only the declaration is common to both: windows are SQL's intervals, and DuckDB sums, averages and deviates.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence

from feature_store.calendar import DayRange
from feature_store.validation.sql import TYPES, date, quoted
from feature_store.view import FeatureView, Function, Window

# Of whose measures the window's least and most value are computed beside the features: a mean lies between them, and
# what rounding can do to all three is a part of them.
RANGED = (Function.SUM, Function.MEAN, Function.STDDEV)
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
    yield f"CREATE OR REPLACE TEMP TABLE a ({entity} VARCHAR, {day} DATE, {columns}, _computed BOOLEAN DEFAULT true)"
    into = f"INSERT INTO a ({', '.join((entity, day, *map(quoted, _columns(view))))})"
    some = f"AND hash({entity}) % {nth} = 0" if nth > 1 else ""
    if len(found) > PASSES:
        yield f"{into} {_windows(view, days, some)}"
        return
    for each in found:
        yield f"{into} {_pass(view, each, some)}"


def least(measure: str, window: Window) -> str:
    """Name the column of a measure's least value in a window; no feature's name begins with _."""
    return f"_least_{measure}_{window.name}"


def most(measure: str, window: Window) -> str:
    """Name the column of a measure's largest value in a window."""
    return f"_most_{measure}_{window.name}"


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
    """What is computed again, with DuckDB's types: the features, and the least and most of measures in windows."""
    columns = {column.name: TYPES[column.type] for column in view.features}
    for measure, window in _ranges(view):
        columns |= {name(measure, window): TYPES[view.measure(measure).type] for name in (least, most)}
    return columns


def _values(view: FeatureView, over: Callable[[Window], str]) -> list[str]:
    """SQL's expressions of these columns; `over` gives a window's FILTER or OVER clause."""
    made = [
        aggregation.function.sql(aggregation.measure and quoted(aggregation.measure), quoted(view.day), over(window))
        for aggregation, window in view.made_of.values()
    ]
    for measure, window in _ranges(view):
        made += [f"{end}({quoted(measure)}) {over(window)}" for end in ("min", "max")]
    return made


def _ranges(view: FeatureView) -> list[tuple[str, Window]]:
    measures = dict.fromkeys(str(each.measure) for each in view.aggregations if each.function in RANGED)
    return [(measure, window) for measure in measures for window in view.windows]
