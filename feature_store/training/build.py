"""Training sets: made of events or of a range of days, and rebuilt from their records, byte for byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # the same

from feature_store import files
from feature_store.calendar import DayRange
from feature_store.training import asof
from feature_store.training.digest import digest, order
from feature_store.training.events import Events, EventsError, Given, checked, read_events
from feature_store.training.options import Asked, Options, OptionsError
from feature_store.training.record import KEY, ByDay, NotTheSameError, Record, ViewRecord
from feature_store.training.tables import Table, open_table, taken

ROWS = 131_072  # of a row group
JOINT = "__"  # between a view's name and a column's


@dataclass(frozen=True)
class TrainingSet:
    """A training set.

    Attributes:
        table: the events' columns and rows, in their order; and of each view VIEW__day, VIEW__age and the features.
            VIEW__day is the day of the row that was taken, and VIEW__age how many days that is before the event's; both
            are null where the entity has no row. Where VIEW__age is more than the maximal age, the features are null. A
            feature has its own name, or VIEW__FEATURE where an event's column or another view's feature has it too.
        record: what it was made of.
    """

    table: pa.Table
    record: Record

    def write(self, uri: str) -> None:
        """Write it as a Parquet file with its record in it; OSError or ValueError if that is not possible.

        The same set comes to the same bytes, as far as Arrow's version is the same: the file names it.
        """
        out = pa.BufferOutputStream()
        table = self.table.replace_schema_metadata({KEY: self.record.as_json().encode()})
        # All that a later release might have another default for.
        pq.write_table(
            table,
            out,
            row_group_size=ROWS,
            version="2.6",
            data_page_version="1.0",
            compression="zstd",
            compression_level=1,
            # Of numbers it takes three times as long as all else here, and makes the file larger.
            use_dictionary=[field.name for field in table.schema if pa.types.is_string(field.type)],
            write_statistics=True,
            store_schema=True,
        )
        files.write_bytes(uri, out.getvalue())


def training_set(events: Given, asked: Sequence[Asked], options: Options | None = None) -> TrainingSet:
    """Look up for each event what could be known of its entity's features.

    Args:
        events: what `read_events` takes: an entity and a time in each row, and whatever else, such as a label.
        asked: features of one or more views.
        options: what "at or before" means, how old a row may be, and so on.

    Raises:
        TrainingError: events, options or tables are unfit; one sentence says which.
    """
    options = options or Options()
    entity = entity_of(asked, options)
    table = read_events(events, entity)
    views = _views(asked, options, checked(table, entity, options))
    return _made(Record(views, options, entity, digest(table), order=order(table)), table)


def training_set_by_day(
    days: DayRange, asked: Sequence[Asked], options: Options | None = None, *, every: int = 1
) -> TrainingSet:
    """Look up the features of every entity on the days of a range, as if each were an event of that date.

    An entity is there on a day if one of the views has a row of it that may be taken: who is first seen later is not.

    Args:
        days: the range.
        asked: features of one or more views.
        options: as in `training_set`; they name the columns of entities and days, too.
        every: so many days lie between a day and the next.

    Returns:
        One row per entity and day, in the order of both.

    Raises:
        TrainingError: options or tables are unfit; one sentence says which.
    """
    options = options or Options()
    of_days = by_day(days, every)
    entity = entity_of(asked, options)
    # As far as days go, which are the same for all entities, the versions can be told.
    one = _spine(pa.array([""]), of_days, entity, options)
    views = _views(asked, options, checked(one, entity, options))
    return _made(Record(views, options, entity, of_days), None)


def rebuild(record: Record, events: Given = None, *, uris: Mapping[str, str] | None = None) -> TrainingSet:
    """Make a training set again, from its record.

    The declarations as they are now do not count: the record has what it takes of them.

    Args:
        record: of the set.
        events: the same as then; None for a set by days.
        uris: of tables that are elsewhere now, by the name of their view.

    Raises:
        NotTheSameError: the events or a table are not those of the record, or the outcome is not.
        VersionGoneError: a version that it takes is there no more.
        TrainingError: something can't be read.
    """
    check_given(record, events)
    table = None
    if not isinstance(record.events, ByDay):
        table = read_events(events, record.entity)
        check_events(digest(table), record)
        if record.order and order(table) != record.order:
            raise NotTheSameError("the events are not those of the record: they are the same in another order")
    made = _made(replace(record, views=moved(record, uris)), table)
    check_outcome(made.record, record)
    return TrainingSet(made.table, record)


def by_day(days: DayRange, every: int) -> ByDay:
    """The days of a range, every so many of them; OptionsError if that is none."""
    if type(every) is not int or every < 1:
        raise OptionsError(f"every {every} days: it takes a whole number from 1")
    return ByDay(days, every)


def check_given(record: Record, events: object) -> None:
    """See whether a record takes events, and whether they are given; EventsError if these differ."""
    if isinstance(record.events, ByDay) and events is not None:
        raise EventsError("the record is of a range of days, and takes no events")
    if not isinstance(record.events, ByDay) and events is None:
        raise EventsError("the record is of a list of events: it takes the same again")


def check_events(given: str | ByDay, record: Record) -> None:
    """Compare the events' digest with the record's, by a NotTheSameError."""
    if given != record.events:
        raise NotTheSameError(f"the events are not those of the record: their digest is {given}, not {record.events}")


def moved(record: Record, uris: Mapping[str, str] | None) -> tuple[ViewRecord, ...]:
    """What a record takes of the views, where the tables are now."""
    return tuple(replace(view, uri=(uris or {}).get(view.name, view.uri)) for view in record.views)


def check_outcome(made: Record, record: Record) -> None:
    """Compare what has come out with what had to, by a NotTheSameError."""
    if made.digest != record.digest:
        raise NotTheSameError(
            f"the set is not that of the record: the digest of its content is {made.digest}, not {record.digest}"
        )


def _made(record: Record, events: pa.Table | None) -> TrainingSet:
    """Make what a record asks for; the record with what has come of it."""
    options = record.options
    tables = {view.name: tables_of(view) for view in record.views}
    if isinstance(record.events, ByDay):
        days = record.events.days
        named = [asof.entities(view, table, days) for view in record.views for table in tables[view.name]]
        there = pc.unique(pa.concat_arrays([pa.array([], pa.string()), *named]))
        events = _spine(there.take(pc.sort_indices(there)), record.events, record.entity, options)
    assert events is not None  # noqa: S101 - the two who call it
    ready = checked(events, record.entity, options)
    rows = {view.name: asof.found(view, tables[view.name], ready, options.max_age) for view in record.views}
    if isinstance(record.events, ByDay):
        there = _seen(rows.values(), options)
        events, rows = events.filter(there), {view: each.filter(there) for view, each in rows.items()}
    columns = {name: events[name] for name in events.column_names}
    for view, names in names_of(record.views, events.column_names, options).items():
        columns |= {name: rows[view][column] for column, name in names.items()}
    table = pa.table(columns).combine_chunks()
    return TrainingSet(table, replace(record, rows=table.num_rows, digest=digest(table)))


def names_of(views: Sequence[ViewRecord], others: Sequence[str], options: Options) -> dict[str, dict[str, str]]:
    """Name the views' columns in a set.

    Args:
        views: what is taken of each.
        others: the events' columns.
        options: whether all have their view's name before their own.

    Returns:
        Of each view the names by columns: day, age, features.

    Raises:
        OptionsError: two columns would have one name.
    """
    own = (asof.DAY.name, asof.AGE.name)
    of = {view.name: [*own, *(column.name for column in view.features)] for view in views}
    count = Counter([*others, *(column for columns in of.values() for column in columns)])
    named: dict[str, dict[str, str]] = {}
    taken_ = set(others)
    for view, columns in of.items():
        named[view] = {}
        for column in columns:
            full = options.full_names or column in own or count[column] > 1
            name = f"{view}{JOINT}{column.lstrip('_')}" if full else column
            if name in taken_:
                raise OptionsError(
                    f"two columns of the set would be called {name}: rename the events' own, or leave it out"
                )
            taken_.add(name)
            named[view][column] = name
    return named


def _seen(tables: Iterable[pa.Table], options: Options) -> pa.ChunkedArray:
    """Whether one of the views has a row, and one that is young enough."""
    ages = [table[asof.AGE.name] for table in tables]
    oldest = np.iinfo(np.int32).max if options.max_age is None else options.max_age
    young = [pc.fill_null(pc.less_equal(age, pa.scalar(oldest, pa.int64())), fill_value=False) for age in ages]
    return reduce(pc.or_, young)


def entity_of(asked: Sequence[Asked], options: Options) -> str:
    """Name the events' column of entities; OptionsError if what is asked for does not go together."""
    if not asked:
        raise OptionsError("no view is asked for")
    names = [each.view.name for each in asked]
    if twice := [name for name in names if names.count(name) > 1]:
        raise OptionsError(f"view {twice[0]} is asked for twice: name all of its features at once")
    keys = {each.view.entity: each.view.name for each in asked}
    if options.entity is None and len(keys) > 1:
        said = ", ".join(f"{key} of {view}" for key, view in keys.items())
        raise OptionsError(f"the views call their entities differently ({said}): say which column the events have")
    return options.entity or next(iter(keys))


def _views(asked: Sequence[Asked], options: Options, events: Events) -> tuple[ViewRecord, ...]:
    return tuple(taken(each, options, events.moments) for each in asked)


def tables_of(view: ViewRecord) -> list[Table]:
    """Open a view's table at each version; NotTheSameError if it is another than the record's."""
    tables = [open_table(view.uri, version.number) for version in view.versions]
    for table in tables:
        if table.id != view.id:
            raise NotTheSameError(
                f"{table.uri} is another table of features than the record's: {table.id}, not {view.id}"
            )
    return tables


def _spine(entities: pa.Array, by_day: ByDay, entity: str, options: Options) -> pa.Table:
    """Every entity on every day that is asked for."""
    days = pa.array(list(by_day.days)[:: by_day.every], pa.date32())
    whose = np.repeat(np.arange(len(entities)), len(days))
    when = np.tile(np.arange(len(days)), len(entities))
    return pa.table({entity: entities.take(pa.array(whose)), options.time: days.take(pa.array(when))})
