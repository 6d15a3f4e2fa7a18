"""The newest row of features that each event knows: a search in the table's keys, read from the files of Delta's log.

The keys are read first: an entity's number among the events' and a day make one number, and once these are sorted, the
newest row that an event knows is found by bisection. The features are read after that, of the rows that were found and
of the files that have one.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same
import pyarrow.dataset as ds  # type: ignore[import-untyped]  # the same

from feature_store.arrow_readings import DAY_BITS, schema
from feature_store.calendar import DayRange
from feature_store.function import Type
from feature_store.training.errors import TrainingError
from feature_store.training.events import Events, Whole, day_of
from feature_store.training.record import ViewRecord
from feature_store.training.tables import EVER, Table, places_of, unreadable
from feature_store.view import Column

# Beside a view's features: the day of the row that was found, and how many days before the event's that is. They begin
# with _, as no name of a declaration does.
DAY, AGE = Column("_day", Type.DATE), Column("_age", Type.INT)
NO_ROW = NOBODY = -1  # in place of a row's number, and of an entity's
DAYS = np.iinfo(np.int32)  # as Arrow has them
# Of parts that are read at once, so many are held at a time: more than processors, as S3 takes its time.
THREADS = max(4, os.cpu_count() or 1)


class RepeatedKeyError(TrainingError):
    """A table of features has two rows of one key, so that nobody can say which of them an event knew."""


def found(view: ViewRecord, tables: Sequence[Table], events: Events, max_age: int | None) -> pa.Table:
    """Find a view's row for each event.

    Args:
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
    encoded = events.entities.dictionary_encode()
    whose = encoded.indices.to_numpy().astype(np.int64)
    there, days, at = np.zeros(len(whose), np.bool_), np.zeros_like(whose), np.zeros_like(whose)
    wanted = schema(view.features)
    # Where an event has none, it takes the first row, which is of nulls.
    fetched, count = [pa.table([pa.nulls(1, kind) for kind in wanted.types], schema=wanted)], 1
    for place, table in enumerate(tables):
        mine = np.flatnonzero(places == place)
        if not len(mine):
            continue
        files = _Files(view, table, day_of(int(events.limits[mine].max())))
        rows, days[mine] = files.newest(encoded.dictionary, whose[mine], events.limits[mine])
        there[mine] = rows != NO_ROW
        if max_age is not None:
            rows[events.days[mine] - days[mine] > max_age] = NO_ROW
        order = np.argsort(rows)
        order = order[np.searchsorted(rows, 0, sorter=order) :]
        at[mine[order]] = np.arange(count, count + len(order))
        fetched += files.fetch(rows[order], wanted)
        count += len(order)
    own = [pa.array(each.astype(np.int32), mask=~there) for each in (days, events.days - days)]
    together, taken = pa.concat_tables(fetched), pa.array(at)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # In one piece: to take from many is slower.
        features = list(pool.map(lambda column: column.combine_chunks().take(taken), together.columns))
    made = schema([DAY, AGE, *view.features])
    return pa.table([*own, *features], made.names).cast(made)


def entities(view: ViewRecord, table: Table, until: DayRange) -> pa.Array:
    """Name the entities that have a row at the end of a range of days or before; TableError as in `found`."""
    named, days = _Files(view, table, until.end).keys()
    there = named.indices.filter(pc.less_equal(days, pa.scalar(until.end))).unique().drop_null()
    return named.dictionary.take(there)


class _Files:
    """The files of a table's version that may have rows of a day or before it."""

    def __init__(self, view: ViewRecord, table: Table, until: dt.date) -> None:
        """Open them; TableError if that is not possible, or if the table is not the view's."""
        self._view, self._table = view, table
        table.check([*view.keys, *view.features])
        self._dataset = table.dataset(view.keys[1].name, DayRange(EVER.start, until))
        self._parts: list[ds.Fragment] = []  # row groups, each of which is read as a whole
        self._ends: Whole = np.zeros(1, np.int64)  # of no part and of each: how many rows there are up to its last

    def keys(self) -> tuple[pa.DictionaryArray, pa.Array]:
        """Read the entity and the day of each row."""

        def read(part: ds.Fragment) -> tuple[pa.Array, pa.Array]:
            named, days = self._read(part, [key.name for key in self._view.keys]).columns
            return named.cast(pa.string()).combine_chunks().dictionary_encode(), days.combine_chunks()

        with self._reading() as pool:
            files = pool.map(lambda file: file.split_by_row_group(), self._dataset.get_fragments())
            self._parts = list(chain.from_iterable(files))
            made = list(pool.map(read, self._parts))
        self._ends = np.cumsum([0, *(len(days) for _, days in made)])
        kinds = pa.dictionary(pa.int32(), pa.string()), pa.date32()
        named, days = (pa.chunked_array([each[place] for each in made], kind) for place, kind in enumerate(kinds))
        return named.combine_chunks(), days.combine_chunks()

    def newest(self, entities: pa.Array, whose: Whole, limits: Whole) -> tuple[Whole, Whole]:
        """Find the newest row that each event knows.

        Args:
            entities: those of the events.
            whose: of each event the entity's place among them.
            limits: of each event the newest day that it knows.

        Returns:
            The row's number, NO_ROW where there is none, and its day.

        Raises:
            RepeatedKeyError: it is one of several with its key.
            TableError: a file can't be read.
        """
        named, dates = self.keys()
        # Of each row the entity's place, by way of the dictionary; a null's is the one at the end.
        known = pc.index_in(named.dictionary, value_set=entities).fill_null(NOBODY).to_numpy()
        owners = np.append(known, np.int32(NOBODY))[named.indices.fill_null(-1).to_numpy()]
        days = dates.view(pa.int32()).fill_null(0).to_numpy()
        wanted = (owners != NOBODY) & dates.is_valid().to_numpy(zero_copy_only=False)
        if self._view.held_back:
            wanted &= ~np.isin(days, pa.array(self._view.held_back, pa.date32()).view(pa.int32()).to_numpy())
        rows = np.flatnonzero(wanted)
        keys = (owners[rows].astype(np.int64) << DAY_BITS) + days[rows]
        order = np.argsort(keys, kind="stable")  # which makes use of the order that there is
        # A key before all others, so that a search always finds one.
        keys, rows = np.append(np.iinfo(np.int64).min, keys[order]), np.append(NO_ROW, rows[order])
        first = whose << DAY_BITS
        asked = first + np.clip(limits, DAYS.min, DAYS.max)
        # One after another in the keys' order, ten times as fast as all over them.
        order = np.argsort(asked)
        at = np.empty_like(order)
        at[order] = np.searchsorted(keys, asked[order], "right") - 1
        there = keys[at] >= first + DAYS.min
        days_found = np.where(there, keys[at] - first, 0)
        twice = np.flatnonzero(there & (keys[at - 1] == keys[at]))
        if len(twice):
            raise self._repeated(entities.take(pa.array(whose[twice])), days_found[twice])
        return np.where(there, rows[at], NO_ROW), days_found

    def _repeated(self, entities: pa.Array, days: Whole) -> RepeatedKeyError:
        """Name the first of the keys that are there several times."""
        (entity, day), first = self._view.keys, min(zip(entities.to_pylist(), days.tolist(), strict=True))
        return RepeatedKeyError(
            f"{self._table.uri} has several rows of {entity.name} {first[0]!r}, {day.name} {day_of(first[1])} "
            f"at version {self._table.version}"
        )

    def fetch(self, rows: Whole, wanted: pa.Schema) -> list[pa.Table]:
        """Read columns of rows, which are given in their order; TableError if a file can't be read."""
        bounds = np.searchsorted(rows, self._ends)

        def read(place: int) -> pa.Table:
            mine = rows[bounds[place] : bounds[place + 1]] - self._ends[place]
            return self._read(self._parts[place], wanted.names).take(pa.array(mine)).cast(wanted)

        with self._reading() as pool:
            return list(pool.map(read, np.flatnonzero(np.diff(bounds))))

    def _read(self, part: ds.Fragment, columns: list[str]) -> pa.Table:
        return part.to_table(schema=self._dataset.schema, columns=columns, use_threads=False)

    @contextmanager
    def _reading(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that read, each a part at a time."""
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                yield pool
        except (OSError, pa.ArrowException) as error:
            raise unreadable(self._table, self._dataset, error) from error
