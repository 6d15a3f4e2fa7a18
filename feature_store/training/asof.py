"""The newest row of features that each event knows: ASOF JOIN in DuckDB, over the files that delta-rs names.

Only keys go through the ASOF JOIN, and the features of the keys that it finds are fetched after it: it sorts its right
side and holds it, and two columns are less than all of a view's. Rows that share a key come out as several, too, where
an ASOF JOIN of whole rows would take any of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange
from feature_store.function import Type
from feature_store.training.errors import TrainingError
from feature_store.training.events import Events, day_of
from feature_store.training.record import ViewRecord
from feature_store.training.tables import EVER, Table, places_of, unreadable
from feature_store.validation.sql import date, quoted
from feature_store.view import Column

MEMORY = "50%"  # of the machine's, as validation takes; the rest is spilled
# Beside a view's features: the event's place, the day of the row that was found, and how many days before the event's
# that is. They begin with _, as no name of a declaration does.
PLACE, DAY, AGE = Column("_n", Type.BIGINT), Column("_day", Type.DATE), Column("_age", Type.INT)


class RepeatedKeyError(TrainingError):
    """A table of features has two rows of one key, so that nobody can say which of them an event knew."""


@contextmanager
def session() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a session of DuckDB, which ends with it."""
    with tempfile.TemporaryDirectory(prefix="training-") as folder, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET temp_directory = '{folder}'")
        connection.execute("SET enable_progress_bar = false")
        connection.execute("SET preserve_insertion_order = false")  # rows are brought into the events' order afterwards
        yield connection


def found(
    connection: duckdb.DuckDBPyConnection, view: ViewRecord, tables: list[Table], events: Events, max_age: int | None
) -> pa.Table:
    """Find a view's row for each event.

    Args:
        connection: a session.
        view: what is taken of the view.
        tables: the table, at each of its versions.
        events: the events.
        max_age: of a row, in days; the features of an older one are null.

    Returns:
        One row an event, in the events' order: day, age and the features, all null where there is no row.

    Raises:
        RepeatedKeyError: a row's key is there twice.
        TableError: the table can't be read.
    """
    places = places_of(view.versions, events.moments)
    connection.register(
        "all_events",
        pa.table(
            {
                "_n": pa.array(np.arange(len(events.days))),
                "_entity": events.entities,
                "_event_day": _dates(events.days),
                "_latest": _dates(events.limits),
                "_version": pa.array(places),
            }
        ),
    )
    made = schema([PLACE, DAY, AGE, *view.features]).empty_table()
    for place, table in enumerate(tables):
        mine = np.flatnonzero(places == place)
        if not len(mine):
            continue
        until = day_of(int(events.limits[mine].max()))
        since = EVER.start if max_age is None else min(until, day_of(int(events.days[mine].min()) - max_age))
        rows = _of_version(connection, view, table, DayRange(since, until), place, max_age)
        made = pa.concat_tables([made, rows])
    return _in_order(made, len(events.days))


def _of_version(  # noqa: PLR0913, PLR0917 - what of which version, and within which days
    connection: duckdb.DuckDBPyConnection,
    view: ViewRecord,
    table: Table,
    days: DayRange,
    place: int,
    max_age: int | None,
) -> pa.Table:
    """Find the rows of the events that know a version, those that find none left out."""
    entity, day = (quoted(key.name) for key in view.keys)
    table.check([*view.keys, *view.features])
    keys, rows = (table.dataset(view.keys[1].name, each) for each in (DayRange(EVER.start, days.end), days))
    connection.register("keys_in", keys)
    connection.register("rows_in", rows)
    # Of days beyond these, files were left out where that could be; what is left of them does no harm, and to leave it
    # out row by row would copy all others.
    known = f"WHERE {day} NOT IN ({', '.join(map(date, view.held_back))})" if view.held_back else ""
    young = "" if max_age is None else f"AND _event_day - _day <= {max_age}"
    features = ", ".join(f"taken.{quoted(column.name)}" for column in view.features)
    of_rows = ", ".join(quoted(column.name) for column in (*view.keys, *view.features))
    sql = f"""
        WITH found AS (
            SELECT _n, _entity, _event_day, k.{day} AS _day
            FROM (SELECT * FROM all_events WHERE _version = {place}) AS e
            ASOF JOIN (SELECT {entity}, {day} FROM keys_in {known}) AS k
            ON _entity = k.{entity} AND _latest >= k.{day}
        )
        SELECT _n, _day, _event_day - _day AS _age, {features}
        FROM found
        LEFT JOIN (SELECT {of_rows} FROM rows_in) AS taken
        ON _entity = taken.{entity} AND _day = taken.{day} {young}
    """
    try:
        made: pa.Table = connection.sql(sql).to_arrow_table()
    except (duckdb.Error, OSError) as error:
        raise unreadable(table, keys, error) from error
    if made.num_rows > pc.count_distinct(made[PLACE.name]).as_py():
        key = _repeated(connection, made, view)
        raise RepeatedKeyError(f"{table.uri} has several rows of {key} at version {table.version}")
    wanted = schema([PLACE, DAY, AGE, *view.features])
    return pa.table([made[place] for place in range(made.num_columns)], wanted.names).cast(wanted)


def _repeated(connection: duckdb.DuckDBPyConnection, made: pa.Table, view: ViewRecord) -> str:
    """Name the first key that has come out several times for an event."""
    connection.register("made", made.select([PLACE.name, DAY.name]))
    joined = "SELECT _entity, _day FROM made JOIN all_events USING (_n)"
    first: Any = connection.execute(
        f"{joined} GROUP BY _n, _entity, _day HAVING count(*) > 1 ORDER BY _entity, _day"
    ).fetchone()
    entity, day = view.keys
    return f"{entity.name} {first[0]!r}, {day.name} {first[1]}"


def _in_order(rows: pa.Table, count: int) -> pa.Table:
    """One row an event: null where none was found."""
    places = np.full(count, -1, np.int64)
    places[rows[PLACE.name].to_numpy()] = np.arange(rows.num_rows)
    # In one piece: to take from many is slower.
    return rows.drop_columns([PLACE.name]).combine_chunks().take(pa.array(places, mask=places < 0))


def entities(connection: duckdb.DuckDBPyConnection, view: ViewRecord, table: Table, until: DayRange) -> pa.Array:
    """Name the entities that have a row at the end of a range of days or before; TableError as in `found`."""
    entity, day = (quoted(key.name) for key in view.keys)
    table.check(view.keys)
    keys = table.dataset(view.keys[1].name, DayRange(EVER.start, until.end))
    connection.register("keys_in", keys)
    sql = f"SELECT DISTINCT {entity} FROM keys_in WHERE {day} <= {date(until.end)} AND {entity} IS NOT NULL"
    try:
        named: pa.Table = connection.sql(sql).to_arrow_table()
    except (duckdb.Error, OSError) as error:
        raise unreadable(table, keys, error) from error
    return named[0].cast(pa.string()).combine_chunks()


def _dates(days: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
    return pa.array(days.astype(np.int32)).view(pa.date32())
