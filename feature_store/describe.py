"""A view in words: its tables, windows and columns, and where each column comes from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

from feature_store.view import Aggregation, FeatureView, Window

# The last of a month, after a leap day: what its windows begin with shows every rule.
EXAMPLE = dt.date(2024, 5, 31)
WIDTH, CUT = 120, " ..."


def listing(views: Sequence[FeatureView]) -> str:
    """Render one line a view; what is too long of a description is cut off."""
    rows = [("view", "features", "windows", "description")]
    rows += [
        (view.name, str(len(view.features)), ", ".join(w.name for w in view.windows), view.description)
        for view in views
    ]
    return "\n".join(_cut(line) for line in table(rows)) + "\n"


def description(view: FeatureView) -> str:
    """Render all that there is to say of a view."""
    return "\n".join(_lines(view)) + "\n"


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - len(CUT)].rpartition(" ")[0] + CUT


def _lines(view: FeatureView) -> Iterator[str]:
    entity, day = view.keys
    kept = "for ever" if view.retention is None else f"for the newest {view.retention} days"
    yield f"{view.name}: {view.description}"
    yield ""
    yield from table(
        [
            ("key", f"{entity.name} {entity.type.cql}, {day.name} {day.type.cql}: a row is one entity as of one day"),
            ("source", f"{view.source.name}, from landed CSV files"),
            ("table", f"{view.name}, {len(view.columns)} columns; online a row stays {kept}"),
        ]
    )
    yield ""
    yield "Windows: the days that a feature as of day d sees, both ends included"
    windows = [(window.name, _first_day(window), "d", str(window.first_day(EXAMPLE))) for window in view.windows]
    yield from table([("window", "first day", "last day", f"as of {EXAMPLE}, from"), *windows], "  ")
    yield ""
    yield "Columns, and what they are made of: landed CSV column -> reading -> column"
    rows = [("column", "type", "is", "reading", "landed column")]
    rows += [(column.name, column.type.cql, *made) for column, made in zip(view.columns, _made(view), strict=True)]
    yield from table(rows, "  ")


def _made(view: FeatureView) -> Iterator[tuple[str, str, str]]:
    """Of each column: what it is, the reading and the landed column that it comes from."""
    landed_entity = " or ".join(view.source.landed_entities)
    yield "key", view.entity, landed_entity
    yield "key", view.day, view.source.landed_day
    for measure in view.measures:
        yield "the day's value", measure.name, measure.name
    for aggregation, window in view.made_of.values():
        yield _over(aggregation, window), *_origin(aggregation, view)


def _over(aggregation: Aggregation, window: Window) -> str:
    return f"{aggregation.function.name.lower().replace('_', ' ')} over {window.name}"


def _origin(aggregation: Aggregation, view: FeatureView) -> tuple[str, str]:
    if aggregation.measure is None:
        return view.day, view.source.landed_day
    return aggregation.measure, aggregation.measure


def _first_day(window: Window) -> str:
    if window.whole_months is not None:
        return f"add_months(d, -{window.whole_months}), clamped at the month's end"
    return f"d - {window.whole_days - 1} days" if window.whole_days > 1 else "d"


def table(rows: Sequence[tuple[str, ...]], indent: str = "") -> Iterator[str]:
    """Render rows of cells as lines, column below column."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
