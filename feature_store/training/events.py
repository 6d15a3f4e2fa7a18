"""Events: entities and times, from files or tables, and the newest day of features that each of them may know."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same
import pyarrow.csv  # type: ignore[import-untyped]  # the same
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # the same
from numpy.typing import NDArray

from feature_store import files, layout
from feature_store.arrow_readings import is_text
from feature_store.training.digest import canonical, plain
from feature_store.training.errors import TrainingError
from feature_store.training.options import UTC, Options

Whole = NDArray[np.int64]

SECONDS_A_DAY = 86_400
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
MICROSECONDS = UNITS["us"]
FIRST, LAST = ((day - dt.date(1970, 1, 1)).days for day in (dt.date.min, dt.date.max))

# A path or URI of a .csv, .csv.gz or .parquet file; an Arrow table; or a data frame of pandas or polars.
Given = Any


class EventsError(TrainingError):
    """Events that nothing can be looked up for; the message names the column."""


@dataclass(frozen=True)
class Events:
    """Checked events.

    Attributes:
        table: all their columns, as they came, in one piece each.
        entities: whose, text.
        days: of each the day, in days since 1970-01-01.
        limits: the newest day whose features were known at the event, counted in the same way.
        moments: of each in microseconds since 1970 in UTC, a date's being its end.
    """

    table: pa.Table
    entities: pa.Array
    days: Whole
    limits: Whole
    moments: Whole


def read_events(given: Given, entity: str) -> pa.Table:
    """Take events as a table.

    Args:
        given: the path or URI of a .csv, .csv.gz or .parquet file; an Arrow table; a data frame of pandas (whose index
            is passed over) or polars, or whatever else Arrow can make a table of.
        entity: the column of entities, which a CSV file has as text even where it looks like a number.

    Returns:
        All of their columns: text as Arrow's plain one; moments in microseconds, those with a zone in UTC. So the same
        events are the same table, whatever they came in.

    Raises:
        EventsError: it can't be read as a table.
    """
    table = _read(given, entity)
    for name in table.column_names:
        if table.column_names.count(name) > 1:
            raise EventsError(f"the events have two columns of name {name}")
    return canonical(table)


def _read(given: Given, entity: str) -> pa.Table:
    if isinstance(given, pa.Table):
        return given
    try:
        if isinstance(given, str | os.PathLike):
            return _of_file(os.fspath(given), entity)
        # pandas says itself what its index is, and that is no column.
        table = pa.Table.from_pandas(given, preserve_index=False) if hasattr(given, "iloc") else pa.table(given)
    # Arrow's own derive from these; the last two are of a series, and of numbers too large for it.
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        name = given if isinstance(given, str | os.PathLike) else f"an object of type {type(given).__name__}"
        raise EventsError(
            f"the events can't be read from {name}: {(str(error) or repr(error)).splitlines()[0]}"
        ) from error
    for name, values in zip(table.column_names, _objects(given), strict=False):
        # The first of them says which type Arrow takes for all. Of moments after a date it takes the dates, which know
        # the whole of their day; of moments with a zone and without one it takes all to be of UTC.
        if len({_kind(value) for value in values if isinstance(value, dt.date) and str(value) != "NaT"}) > 1:
            raise EventsError(
                f"the events' column {name} holds dates and moments, or some with a zone and some without"
            )
    return table


def _objects(given: Given) -> Iterator[Iterable[object]]:
    """The columns of what was given, of those that hold Python's objects the values."""
    if hasattr(given, "iloc"):
        yield from (column if column.dtype == object else () for _, column in given.items())
    elif isinstance(given, Mapping):
        yield from (column if isinstance(column, list | tuple) else () for column in given.values())


def _kind(value: dt.date) -> tuple[bool, bool]:
    """Whether it is a moment, and without a zone."""
    return isinstance(value, dt.datetime), getattr(value, "tzinfo", None) is None


def _of_file(uri: str, entity: str) -> pa.Table:
    name = uri.rpartition("/")[2]
    system, path = files.locate(uri)
    if layout.is_csv(name):
        options = pyarrow.csv.ConvertOptions(column_types={entity: pa.string()}, strings_can_be_null=True)
        with system.open_input_stream(path) as stream:
            return pyarrow.csv.read_csv(stream, convert_options=options)
    if name.endswith(".parquet"):
        with system.open_input_file(path) as file:
            return pq.read_table(file)
    raise ValueError("its name ends with none of .csv, .csv.gz, .parquet")


def checked(table: pa.Table, entity: str, options: Options) -> Events:
    """Check events, and reckon what each may know.

    Raises:
        EventsError: a column is missing, of another type, or has a null.
    """
    entities, times = (_column(table, name, role) for name, role in ((entity, "entity"), (options.time, "time")))
    if not is_text(entities.type):
        raise EventsError(f"the events' entity column {entity} is {entities.type}, and not text")
    if not pa.types.is_date(times.type) and not pa.types.is_timestamp(times.type):
        raise EventsError(f"the events' time column {options.time} is {times.type}: it takes dates, or timestamps")
    for name, column in ((entity, entities), (options.time, times)):
        if column.null_count:
            raise EventsError(f"events without {name}: {column.null_count}")
    entities = entities.cast(pa.string())
    _check_calendar(times, options.time)
    lag = int(options.lag.total_seconds())
    if pa.types.is_date(times.type):
        days = times.cast(pa.date32()).view(pa.int32()).to_numpy().astype(np.int64)
        # A date stands for its end, which is a whole number of days: only what the lag begins of a day counts.
        return Events(table, entities, days, days - -(-lag // SECONDS_A_DAY), _utc_ends(days, options.zone))
    return _of_moments(table, entities, times, options.zone, lag)


def _check_calendar(times: pa.Array, name: str) -> None:
    """Refuse days that no row of features can have: so far away, a number of days is taken for another."""
    if pa.types.is_timestamp(times.type):
        days = _numbers(times) // (SECONDS_A_DAY * UNITS[times.type.unit])
    else:
        days = times.cast(pa.date32()).view(pa.int32()).to_numpy()
    if beyond := int(((days < FIRST) | (days > LAST)).sum()):
        raise EventsError(f"events with {name} before the year 1 or after 9999: {beyond}")


def _of_moments(table: pa.Table, entities: pa.Array, times: pa.Array, zone: str, lag: int) -> Events:
    a_second = UNITS[times.type.unit]
    utc, local = _utc_and_local(times, zone)
    days = local // (SECONDS_A_DAY * a_second)
    limits = (local - lag * a_second) // (SECONDS_A_DAY * a_second) - 1
    # Down to the microsecond, as what is known is what was there before.
    moments = utc // (a_second // MICROSECONDS) if a_second > MICROSECONDS else utc * (MICROSECONDS // a_second)
    return Events(table, entities, days, limits, moments)


def _utc_and_local(times: pa.Array, zone: str) -> tuple[Whole, Whole]:
    """Moments as UTC and as the zone's clocks show them."""
    if times.type.tz is None:
        # Where clocks are put back an hour comes twice, and where they are put forward one does not come: the earlier
        # moment can know no more than either.
        utc = times if zone == UTC else _zoned(times, zone)
        return _numbers(utc), _numbers(times)
    utc = _numbers(times)
    return utc, utc if zone == UTC else _numbers(pc.local_timestamp(times.cast(pa.timestamp(times.type.unit, zone))))


def _zoned(times: pa.Array, zone: str) -> pa.Array:
    return pc.assume_timezone(times, zone, ambiguous="earliest", nonexistent="earliest")


def _utc_ends(days: Whole, zone: str) -> Whole:
    ends = (days + 1) * SECONDS_A_DAY
    if zone != UTC:
        ends = _numbers(_zoned(pa.array(ends, pa.int64()).view(pa.timestamp("s")), zone))
    return ends * MICROSECONDS


def _numbers(times: pa.Array) -> Whole:
    made: Whole = times.view(pa.int64()).to_numpy()
    return made


def _column(table: pa.Table, name: str, role: str) -> pa.Array:
    if name not in table.column_names:
        there = ", ".join(table.column_names) or "none"
        raise EventsError(f"the events have no {role} column {name}: their columns are {there}")
    return plain(table[name])


def day_of(number: int) -> dt.date:
    """The day of a number of days since 1970-01-01, or the nearest that the calendar has."""
    ordinal = number + dt.date(1970, 1, 1).toordinal()
    return dt.date.fromordinal(min(max(ordinal, 1), dt.date.max.toordinal()))
