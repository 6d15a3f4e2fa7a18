"""Training sets on Spark, for those that do not fit into one process: the same rows and the same digests as there.

What an event knows, the names and the records are `feature_store.training`'s. What differs: events are a DataFrame, or
Parquet at a URI; the set is a folder of Parquet files with the record in it, its rows in no order; and `as_known` is
for sets that are made in one process.

Spark has no ASOF JOIN: keys and events of an entity are sorted together, and each event takes the last key before it.
Features are fetched for the keys that were found, by an ordinary join.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from urllib.parse import unquote

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j ships no types
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it
from pyspark.sql import types as T  # noqa: N812 - the same
from pyspark.sql.pandas.types import to_arrow_schema

from feature_store import files
from feature_store.calendar import DayRange
from feature_store.training import (
    Asked,
    EventsError,
    Options,
    OptionsError,
    Record,
    RepeatedKeyError,
    build,
    digest,
)
from feature_store.training.asof import AGE, DAY
from feature_store.training.events import checked, day_of
from feature_store.training.record import FILE, ByDay, ViewRecord
from feature_store.training.tables import EVER, Table, taken, unreadable
from spark_jobs import storage, tables
from spark_jobs.errors import JobError, first_cause, java_causes

# Of the rows on their way. They begin with _, as no name of a declaration does; an event's columns are within EVENT.
EVENT, ENTITY, TIME, EVENT_DAY, AT, KIND = "_event", "_entity", "_time", "_event_day", "_at", "_kind"
BEFORE = (f"{AT}_before", f"{KIND}_before")
REPEATED = re.compile(r"^(?:Caused by: )?(?:[\w.]+: )?(.* has several rows of .* at version \d+)$", re.MULTILINE)
OURS = re.compile(rf"{re.escape(FILE)}|_SUCCESS|_temporary|part-.*|\..*\.crc")  # what is in the folder of a set
MICROSECONDS = {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"}  # and not Impala's 96 bits
NO_MOMENTS = np.empty(0, np.int64)


def training_set(
    spark: SparkSession, events: DataFrame | str, asked: Sequence[Asked], out: str, options: Options | None = None
) -> Record:
    """Look up for each event what could be known of its entity's features, and write that.

    Args:
        spark: the session, with Delta.
        events: an entity and a time in each row, and whatever else; or the URI of such a Parquet file or folder. A
            TIMESTAMP is a moment, a TIMESTAMP_NTZ one of the options' zone.
        asked: features of one or more views.
        out: the URI of the folder to write to, in place of a set that is there.
        options: as in one process.

    Returns:
        The record, as it is in the folder: last of all, so that a set without one is not whole.

    Raises:
        TrainingError: events, options or tables are unfit; one sentence says which.
        JobError: something else is at `out`.
    """
    options = options or Options()
    entity = build.entity_of(asked, options)
    views = _views(asked, options)
    return _Making(spark, Record(views, options, entity, ""), out).of_events(_opened(spark, events)).written()


def training_set_by_day(  # noqa: PLR0913 - as in one process, and where it goes
    spark: SparkSession,
    days: DayRange,
    asked: Sequence[Asked],
    out: str,
    options: Options | None = None,
    *,
    every: int = 1,
) -> Record:
    """Look up the features of every entity on the days of a range, and write that: as in one process, and as above."""
    options = options or Options()
    by_day = build.by_day(days, every)
    entity = build.entity_of(asked, options)
    return _Making(spark, Record(_views(asked, options), options, entity, by_day), out).of_days(by_day).written()


def rebuild(
    spark: SparkSession,
    record: Record,
    out: str,
    events: DataFrame | str | None = None,
    *,
    uris: Mapping[str, str] | None = None,
) -> Record:
    """Make a training set again, from its record: of this or of the other engine; arguments as in one process.

    Raises:
        NotTheSameError: the events or a table are not those of the record, or the outcome is not: it has no record.
        TrainingError: something can't be read.
        JobError: something else is at `out`.
    """
    build.check_given(record, events)
    _refuse_as_known(record.options)
    making = _Making(spark, dataclasses.replace(record, views=build.moved(record, uris)), out)
    if isinstance(record.events, ByDay):
        made = making.of_days(record.events)
    else:
        assert events is not None  # noqa: S101 - as checked
        made = making.of_events(_opened(spark, events))
    # The set keeps no order, whatever the one of the record does.
    return made.written(dataclasses.replace(record, order=""))


class _Making:
    """A set that is being made."""

    _columns: list[str]  # the events'
    _set: DataFrame

    def __init__(self, spark: SparkSession, record: Record, out: str) -> None:
        """Open the tables, and look at the place that the set goes to."""
        self._spark, self._record, self._out = spark, record, out
        self._tables = [build.tables_of(view)[0] for view in record.views]
        for view, table in zip(record.views, self._tables, strict=True):
            table.check([*view.keys, *view.features])
        there = storage.names(out)
        others = [name for name in there if not OURS.fullmatch(name)]
        parts = [name for name in there if name.startswith("part-")]
        if not others and parts and FILE not in there and not self._has_columns():
            others = parts  # another's Parquet files, which Spark has named as it names ours
        if others:
            raise JobError(f"{out} has {others[0]} in it, which is of no training set: name another folder.")

    def _has_columns(self) -> bool:
        """Whether the files at the place have columns as each set has: of one that was not finished."""
        try:
            columns = self._spark.read.parquet(self._out).columns
        except (PySparkException, Py4JJavaError):
            return False
        day, age = (f"{build.JOINT}{column.name.lstrip('_')}" for column in (DAY, AGE))
        return any(name.endswith(day) and f"{name.removesuffix(day)}{age}" in columns for name in columns)

    def of_events(self, events: DataFrame) -> _Making:
        """Take events; EventsError or OptionsError if they are unfit."""
        options, entity = self._record.options, self._record.entity
        out = f"{_path(self._out)}/"
        if within := [file for file in events.inputFiles() if _path(unquote(file)).startswith(out)]:
            raise EventsError(f"{within[0]} is of the events, and the set would take its place: name another folder")
        _check_names(events.columns, self._record)
        there = to_arrow_schema(events.schema)
        checked(there.empty_table(), entity, options)
        self._columns = events.columns
        when = events[_quoted(options.time)]
        if isinstance(events.schema[options.time].dataType, T.TimestampType):
            when = F.unix_micros(when)  # a moment, where Python would have the clock of this machine
        nulls = [F.count_if(events[_quoted(name)].isNull()) for name in (entity, options.time)]
        try:
            *missing, first, last = events.agg(*nulls, F.min(when), F.max(when)).collect()[0]
        except ValueError as error:  # Python has no such day
            raise EventsError(f"events with {options.time} before the year 1 or after 9999: {error}") from error
        for name, count in zip((entity, options.time), missing, strict=True):
            if count:
                raise EventsError(f"events without {name}: {count}")
        ends = pa.array([] if first is None else [first, last])
        ends = (ends.cast(pa.int64()) if pa.types.is_integer(ends.type) else ends).cast(there.field(options.time).type)
        return self._looked_up(events, ends)

    def of_days(self, by_day: ByDay) -> _Making:
        """Take every entity on every day that is asked for."""
        options, days = self._record.options, by_day.days
        known = [
            self._read(view, table).where(F.col(view.keys[1].name) <= _date(days.end)).select(view.keys[0].name)
            for view, table in zip(self._record.views, self._tables, strict=True)
        ]
        entities = reduce(DataFrame.union, known).distinct().toDF(self._record.entity)
        dates = F.sequence(_date(days.start), _date(days.end), F.expr(f"INTERVAL {by_day.every} DAYS"))
        events = entities.dropna().withColumn(options.time, F.explode(dates))
        _check_names(events.columns, self._record)
        self._columns = events.columns
        self._looked_up(events, pa.array([days.start, days.end], pa.date32()))
        names = build.names_of(self._record.views, self._columns, options)
        ages = [F.col(_quoted(of[AGE.name])) for of in names.values()]
        young = [age.isNotNull() if options.max_age is None else age <= options.max_age for age in ages]
        self._set = self._set.where(reduce(or_, young))
        return self

    def written(self, expected: Record | None = None) -> Record:
        """Write the set, and then its record, if it is the expected one."""
        try:
            with tables.set_for(self._spark, MICROSECONDS):
                self._set.write.mode("overwrite").option("compression", "zstd").parquet(self._out)
            made = self._as_written()
        except (PySparkException, Py4JJavaError) as error:
            raise self._understood(error) from error
        if expected is None:
            expected = made
        build.check_events(made.events, expected)
        build.check_outcome(made, expected)
        storage.write_text(f"{self._out.rstrip('/')}/{FILE}", expected.as_json())
        return expected

    def _read(self, view: ViewRecord, table: Table) -> DataFrame:
        return tables.read(self._spark, view.uri, table.version)

    def _looked_up(self, events: DataFrame, ends: pa.Array) -> _Making:
        """Find what each event knows; `ends` are the first and the last of their times."""
        options, views = self._record.options, self._record.views
        whose = pa.array([""] * len(ends), pa.string())
        ready = checked(pa.table({ENTITY: whose, TIME: ends}), ENTITY, _of_time(options))
        # A day more at each end: where clocks are put back at midnight, a later moment can have an earlier day.
        until = day_of(int(ready.limits.max(initial=-(10**6))) + 1)
        since = EVER.start
        if options.max_age is not None and len(ends):
            since = min(until, day_of(int(ready.days.min()) - options.max_age - 1))
        found = self._keys_found(_reckoned(events, self._record), DayRange(EVER.start, until))
        for place, (view, table) in enumerate(zip(views, self._tables, strict=True)):
            rows = self._read(view, table).where(_known(view, DayRange(since, until)))
            key = (F.col(view.keys[0].name), F.unix_date(view.keys[1].name))
            features = F.struct(*(column.name for column in view.features))
            of = rows.select(
                key[0].alias(f"{ENTITY}{place}"), key[1].alias(f"{DAY.name}_{place}"), features.alias(f"_view{place}")
            )
            on = (found[ENTITY] == of[f"{ENTITY}{place}"]) & (found[f"{AT}{place}"] == of[f"{DAY.name}_{place}"])
            if options.max_age is not None:
                on &= found[EVENT_DAY] - found[f"{AT}{place}"] <= options.max_age
            found = found.join(of, on=on, how="left").drop(f"{ENTITY}{place}", f"{DAY.name}_{place}")
        columns = [F.col(EVENT).getField(name).alias(name) for name in self._columns]
        for place, names in enumerate(build.names_of(views, self._columns, options).values()):
            day = F.col(f"{AT}{place}")
            own = {DAY.name: F.date_from_unix_date(day), AGE.name: F.col(EVENT_DAY) - day}
            columns += [
                own.get(column, F.col(f"_view{place}").getField(column)).alias(name) for column, name in names.items()
            ]
        self._set = found.select(*columns)
        return self

    def _keys_found(self, events: DataFrame, days: DayRange) -> DataFrame:
        """The events, with the day of each view's row that they know: no feature goes through the sort."""
        views, of_event = self._record.views, len(self._record.views)
        parts = [events.withColumn(KIND, F.lit(of_event))]
        for kind, (view, table) in enumerate(zip(views, self._tables, strict=True)):
            keys = self._read(view, table).where(_known(view, days) & F.col(view.keys[0].name).isNotNull())
            parts.append(
                keys.select(
                    F.col(view.keys[0].name).alias(ENTITY),
                    F.unix_date(view.keys[1].name).alias(AT),
                    F.lit(kind).alias(KIND),
                )
            )
        together = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), parts)
        # At one place, keys come before the events that know them.
        over = Window.partitionBy(ENTITY).orderBy(AT, KIND)
        before = over.rowsBetween(Window.unboundedPreceding, Window.currentRow)
        rows = together.withColumns({name: F.lag(of).over(over) for name, of in zip(BEFORE, (AT, KIND), strict=True)})
        repeated = (F.col(BEFORE[0]) == F.col(AT)) & (F.col(BEFORE[1]) == F.col(KIND))
        newest = {
            f"{AT}{kind}": F.last(F.when(F.col(KIND) == kind, F.struct(AT, repeated.alias("repeated"))), True).over(
                before
            )
            for kind in range(of_event)
        }
        mine = rows.select(EVENT, ENTITY, EVENT_DAY, KIND, *(each.alias(name) for name, each in newest.items()))
        days_found = [
            F.when(F.col(f"{AT}{kind}.repeated"), F.raise_error(_said_repeated(view, table, F.col(f"{AT}{kind}.{AT}"))))
            .otherwise(F.col(f"{AT}{kind}.{AT}"))
            .cast("int")
            .alias(f"{AT}{kind}")
            for kind, (view, table) in enumerate(zip(views, self._tables, strict=True))
        ]
        return mine.where(F.col(KIND) == of_event).select(EVENT, ENTITY, EVENT_DAY, *days_found)

    def _as_written(self) -> Record:
        """The record of what has been written: read back, each part of it where it is."""
        rows = self._spark.read.parquet(self._out)
        columns, events = rows.columns, len(self._columns)

        def summed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            count, of_rows, of_events = 0, 0, 0
            for batch in batches:
                table = digest.canonical(pa.Table.from_batches([batch]))
                count += table.num_rows
                of_rows += digest.total(digest.row_numbers(table))
                of_events += digest.total(digest.row_numbers(table.select(columns[:events])))
            # As text: Spark has no number that large.
            said = [[count], [str(of_rows)], [str(of_events)]]
            yield pa.RecordBatch.from_arrays([pa.array(each) for each in said], ["rows", "of_rows", "of_events"])

        parts = rows.mapInArrow(summed, "rows bigint, of_rows string, of_events string").collect()
        count, of_rows, of_events = (sum(int(part[place]) for part in parts) for place in range(3))
        kinds = digest.canonical(to_arrow_schema(rows.schema).empty_table())
        given = self._record.events
        if not isinstance(given, ByDay):
            given = digest.of_sum(kinds.select(columns[:events]).schema, count, of_events)
        whole = digest.of_sum(kinds.schema, count, of_rows)
        return dataclasses.replace(self._record, events=given, rows=count, digest=whole)

    def _understood(self, error: Exception) -> Exception:
        """What an error of Spark comes from, if that is understood."""
        causes = "\n".join([*java_causes(error), str(error)])
        if found := REPEATED.search(causes):
            return RepeatedKeyError(found[1])
        if "FileNotFound" in causes or "FILE_NOT_EXIST" in causes:
            for view, table in zip(self._record.views, self._tables, strict=True):
                opened = table.dataset(view.keys[1].name, EVER)
                if table.lost(opened):
                    return unreadable(table, opened, error)
        return error


def _views(asked: Sequence[Asked], options: Options) -> tuple[ViewRecord, ...]:
    _refuse_as_known(options)
    return tuple(taken(each, options, NO_MOMENTS) for each in asked)


def _refuse_as_known(options: Options) -> None:
    if options.as_known:
        raise OptionsError("as_known is for sets that are made in one process: on Spark known_on takes one day for all")


def _opened(spark: SparkSession, events: DataFrame | str) -> DataFrame:
    if isinstance(events, DataFrame):
        return events
    if not isinstance(events, str):
        raise EventsError(
            f"events for Spark are a DataFrame of its own, or Parquet at a URI, and no {type(events).__name__}"
        )
    try:
        path = files.locate(events)[1]
        return spark.read.parquet(events if "://" in events else path)
    except (PySparkException, Py4JJavaError, OSError, ValueError) as error:
        raise EventsError(f"the events can't be read from {events} as Parquet: {first_cause(error)}") from error


def _check_names(columns: Sequence[str], record: Record) -> None:
    """Refuse names that Spark does not tell apart."""
    names = [
        *columns,
        *(name for of in build.names_of(record.views, columns, record.options).values() for name in of.values()),
    ]
    lower = [name.lower() for name in names]
    if twice := [name for name in names if lower.count(name.lower()) > 1]:
        raise OptionsError(
            f"two columns of the set would be called {twice[0]}, as Spark reads it: rename the events' own"
        )


def _reckoned(events: DataFrame, record: Record) -> DataFrame:
    """Reckon the newest day that each event knows, by the rules of the other engine."""
    options = _of_time(record.options)

    def reckon(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            ready = checked(pa.Table.from_batches([batch]).select([ENTITY, TIME]), ENTITY, options)
            numbers = [pa.array(each.astype(np.int32)) for each in (ready.days, ready.limits)]
            yield pa.RecordBatch.from_arrays(
                [batch.column(EVENT), ready.entities, *numbers], [EVENT, ENTITY, EVENT_DAY, AT]
            )

    whole = F.struct(*(events[_quoted(name)] for name in events.columns))
    entity, time = (events[_quoted(name)] for name in (record.entity, record.options.time))
    kinds = T.StructType([T.StructField(EVENT, events.schema), T.StructField(ENTITY, T.StringType())])
    kinds = kinds.add(EVENT_DAY, T.IntegerType()).add(AT, T.IntegerType())
    return events.select(whole.alias(EVENT), entity.alias(ENTITY), time.alias(TIME)).mapInArrow(reckon, kinds)


def _of_time(options: Options) -> Options:
    return dataclasses.replace(options, time=TIME)


def _known(view: ViewRecord, days: DayRange) -> Column:
    day = view.keys[1].name
    known = F.col(day).between(_date(days.start), _date(days.end))
    return known & ~F.col(day).isin(list(view.held_back)) if view.held_back else known


def _date(day: dt.date) -> Column:
    # Not of the date itself: of the first of the calendar, PySpark makes none that Java takes.
    return F.lit(day.isoformat()).cast("date")


def _said_repeated(view: ViewRecord, table: Table, day: Column) -> Column:
    entity, named = (key.name for key in view.keys)
    said = (F.lit(f"{table.uri} has several rows of {entity} '"), F.col(ENTITY), F.lit(f"', {named} "))
    return F.concat(*said, F.date_from_unix_date(day).cast("string"), F.lit(f" at version {table.version}"))


def _path(uri: str) -> str:
    system, path = files.locate(uri)
    return os.path.abspath(path) if system is files.LOCAL else path  # noqa: PTH100 - Path has none that ends with ..


def _quoted(name: str) -> str:
    return "`{}`".format(name.replace("`", "``"))
