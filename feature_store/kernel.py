"""The features of a view from its readings, column by column: Arrow tables in, Arrow tables out, numpy between.

One definition for a day, a range and the whole history: a feature follows from the readings of its window alone. What
else is in a batch, in which order its rows come, how a history is cut into batches or days: no bit of it differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store.arrow_readings import ARROW, Readings, ValueRefusedError, check_order, checked, schema
from feature_store.blocks import Counts, Numbers
from feature_store.calendar import DayRange
from feature_store.folds import TooLargeError, WindowValues
from feature_store.view import Aggregation, FeatureView
from feature_store.window import EPOCH

CHUNK = 16_384  # rows that are computed at a time: what is made of them on the way stays in a core's cache
BATCH = 131_072  # rows of a stream that are taken together


def features(
    readings: pa.Table | pa.RecordBatch, view: FeatureView, asked: DayRange | pa.BooleanArray | None = None
) -> pa.Table:
    """Compute the features of the asked readings.

    Args:
        readings: of whole entities, in any order, one row per key: all that the asked rows' windows see. Columns that
            are not the view's are passed over.
        view: the declaration.
        asked: the days whose features are wanted, or a flag per row, or None for all rows.

    Returns:
        One row per asked reading, by entity and day: the view's columns, exactly and in its order.

    Raises:
        ReadingsError: a column is missing or has another type, a key is null or stands twice, a measure that is
            aggregated is no finite number, or a result is too large for its type.
    """
    ordered = Readings(checked(readings, view), view)
    rows = _asked_rows(asked, ordered)
    carried = ordered.table if len(rows) == len(ordered.keys) else ordered.table.take(pa.array(rows))
    computed = _Computation(ordered, rows).run()
    arrays = [carried[column.name] for column in view.readings] + [computed[column.name] for column in view.features]
    return pa.Table.from_arrays(arrays, schema=schema(view.columns))


def stream(
    batches: Iterable[pa.RecordBatch], view: FeatureView, asked: DayRange | None = None, rows: int = BATCH
) -> Iterator[pa.RecordBatch]:
    """Compute the features of batches that come by entity, however they are cut: as `features`, in bounded memory.

    Args:
        batches: readings, ascending by entity (in the order of their UTF-8 bytes, as Spark sorts). An entity's rows may
            go on in the next batches, and come in any order.
        view: the declaration.
        asked: the days whose features are wanted, or None for all.
        rows: that are taken together; an entity that has more is taken as a whole.

    Raises:
        ReadingsError: as `features` does, or an entity comes after one that should come after it.
    """
    held: list[pa.Table] = []
    count = 0
    done: str | None = None
    for batch in batches:
        held.append(checked(batch, view))
        count += batch.num_rows
        if count < rows or not batch.num_rows:
            continue
        table = pa.concat_tables(held).combine_chunks()
        entities = table[view.entity]
        ends = pc.index(entities, entities[-1]).as_py()  # the last entity may go on
        if ends:
            done = check_order(entities.slice(0, ends), done, view)
            yield from features(table.slice(0, ends), view, asked).to_batches()
        # What is kept is copied: a slice would hold on to the whole.
        held = [table.slice(ends).take(pa.array(np.arange(count - ends)))]
        count -= ends
    if count:
        table = pa.concat_tables(held)
        check_order(table[view.entity], done, view)
        yield from features(table, view, asked).to_batches()


def _asked_rows(asked: DayRange | pa.BooleanArray | None, readings: Readings) -> Counts:
    """The places of the asked rows among the ordered ones."""
    days, order = readings.days, readings.order
    if asked is None:
        return np.arange(len(days))
    if isinstance(asked, DayRange):
        return np.flatnonzero((days >= asked.start.toordinal() - EPOCH) & (days <= asked.end.toordinal() - EPOCH))
    if len(asked) != len(days) or asked.null_count:
        raise ValueError(f"asked takes a flag per reading: {len(days)}, and not {len(asked) - asked.null_count}")
    flags = asked.to_numpy(zero_copy_only=False)
    return np.flatnonzero(flags if order is None else flags[order])


class _Computation:
    """The features of some rows of ordered readings, chunk by chunk."""

    def __init__(self, readings: Readings, rows: Counts) -> None:
        """Take the readings and the places of the asked rows."""
        self._readings, self._rows = readings, rows
        self._view = view = readings.view
        asked = readings.days[rows]
        self._earliest = int(asked.min()) if rows.size else 0
        calendar = np.arange(self._earliest, int(asked.max(initial=self._earliest)) + 1)
        self._first_days = [window.first_days(calendar) for window in view.windows]
        self._by_measure: dict[str | None, list[Aggregation]] = {}
        for aggregation in view.aggregations:
            self._by_measure.setdefault(aggregation.measure, []).append(aggregation)
        self._measures = {name: readings.values(name) for name in self._by_measure if name is not None}
        types = {column.name: ARROW[column.type].to_pandas_dtype() for column in view.features}
        self._results: dict[str, Numbers] = {}
        self._are_null: dict[str, Numbers] = {}
        for aggregation in view.aggregations:
            shape = (len(view.windows), len(rows))
            self._results[aggregation.name] = np.empty(shape, types[aggregation.column(view.windows[0])])
            self._are_null[aggregation.name] = np.zeros(shape, np.bool_)

    def run(self) -> dict[str, pa.Array]:
        """Compute; the features' columns by name."""
        done = 0
        for begin, end in self._chunks():
            upto = done + int(np.searchsorted(self._rows[done:], end))
            if upto > done:
                self._compute(begin, end, slice(done, upto))
            done = upto
        columns = {}
        for aggregation in self._view.aggregations:
            results, are_null = self._results.pop(aggregation.name), self._are_null.pop(aggregation.name)
            for window, result, is_null in zip(self._view.windows, results, are_null, strict=True):
                columns[aggregation.column(window)] = pa.array(result, mask=is_null if is_null.any() else None)
        return columns

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """Cut the rows between entities, into chunks of about one size."""
        entities = self._readings.keys - self._readings.days
        ends = np.append(np.flatnonzero(entities[1:] != entities[:-1]) + 1, len(entities))
        begin = 0
        while begin < len(entities):
            # The last end within the chunk, or else the end of an entity that is larger than a chunk.
            place = max(np.searchsorted(ends, begin + CHUNK, "right") - 1, np.searchsorted(ends, begin, "right"))
            yield begin, int(ends[place])
            begin = int(ends[place])

    def _compute(self, begin: int, end: int, place: slice) -> None:
        """Compute the asked rows of a chunk, window by window in one row of arrays."""
        keys, rows = self._readings.keys[begin:end], self._rows[place] - begin
        days = self._readings.days[begin:end][rows]
        entities = keys[rows] - days
        firsts = [entities + first[days - self._earliest] for first in self._first_days]
        starts = np.concatenate([np.searchsorted(keys, first) for first in firsts])
        ends = np.tile(rows + 1, len(firsts))
        for name, aggregations in self._by_measure.items():
            values = self._windows(name, slice(begin, end), starts, ends)
            for aggregation in aggregations:
                try:
                    result = getattr(values, aggregation.function.fold)
                except TooLargeError as error:
                    window, row = divmod(error.window, len(rows))
                    column = aggregation.column(self._view.windows[window])
                    key = self._readings.key(begin + int(rows[row]))
                    raise ValueRefusedError(f"{column} of {key} is larger than its type can hold") from None
                shape = (len(firsts), len(rows))
                self._results[aggregation.name][:, place] = result.reshape(shape)
                if least := aggregation.function.least:
                    self._are_null[aggregation.name][:, place] = (values.count < least).reshape(shape)

    def _windows(self, name: str | None, chunk: slice, starts: Counts, ends: Counts) -> WindowValues:
        """A measure's values in windows of a chunk's rows, without nulls; the days themselves if it is none."""
        if name is None:
            return WindowValues(self._readings.days[chunk], starts, ends, deviate=False)
        deviate = any(aggregation.function.fold == "deviation" for aggregation in self._by_measure[name])
        values, there = self._measures[name]
        if there is None or there[chunk].all():
            return WindowValues(values[chunk], starts, ends, deviate=deviate)
        before = np.concatenate([[0], np.cumsum(there[chunk])])
        return WindowValues(values[chunk][there[chunk]], before[starts], before[ends], deviate=deviate)
