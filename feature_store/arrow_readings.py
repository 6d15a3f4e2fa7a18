"""Readings as Arrow tables: checked against the view, and brought into the order of their keys."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store.blocks import Counts, Numbers
from feature_store.function import Type
from feature_store.view import Column, FeatureView
from feature_store.window import EPOCH

ARROW = {
    Type.TEXT: pa.string(),
    Type.DATE: pa.date32(),
    Type.INT: pa.int32(),
    Type.BIGINT: pa.int64(),
    Type.DOUBLE: pa.float64(),
}
# Other ways in which Arrow holds the same text: pyarrow, polars and delta-rs differ in them.
TEXTS = (pa.string(), pa.large_string(), pa.string_view())
DAY_BITS = 32  # of a key's number: the day's part


class ReadingsError(ValueError):
    """Readings that no features can be made of; the message names the column or the key."""


class ColumnRefusedError(ReadingsError):
    """A column is missing, or is of another type."""


class KeyRefusedError(ReadingsError):
    """A key stands twice, or is null."""


class ValueRefusedError(ReadingsError):
    """A reading is no finite number, or a result is too large for its type."""


class OrderError(ReadingsError):
    """Batches do not come in the order of the entities."""


def schema(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of some columns."""
    return pa.schema([(column.name, ARROW[column.type]) for column in columns])


def is_text(kind: pa.DataType) -> bool:
    """Whether a type holds text, in whatever way, or a dictionary of it."""
    return (kind.value_type if pa.types.is_dictionary(kind) else kind) in TEXTS


def checked(readings: pa.Table | pa.RecordBatch, view: FeatureView) -> pa.Table:
    """Take the columns of the view's readings, each as one array of its type, with no null in a key."""
    arrays = []
    for column in view.readings:
        places = readings.schema.get_all_field_indices(column.name)
        if len(places) != 1:
            there = "is there twice" if places else "is missing"
            raise ColumnRefusedError(f"column {column.name} {there} in the readings of view {view.name}")
        array, wanted = readings.column(places[0]), ARROW[column.type]
        kind = array.type
        if kind != wanted and not (column.type is Type.TEXT and is_text(kind)):
            raise ColumnRefusedError(
                f"column {column.name} in the readings of view {view.name} is {kind}, and not {wanted}"
            )
        array = array if kind == wanted else array.cast(wanted)
        arrays.append(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)
    for key, array in zip(view.keys, arrays, strict=False):
        if array.null_count:
            raise KeyRefusedError(f"readings of view {view.name} without {key.name}: {array.null_count}")
    return pa.Table.from_arrays(arrays, schema=schema(view.readings))


def check_order(entities: pa.ChunkedArray, done: str | None, view: FeatureView) -> str:
    """Check that entities, of which there is at least one, ascend from the last that is done; the last of them."""
    encoded = entities.combine_chunks().dictionary_encode()
    order = [] if done is None else [done]
    order += encoded.dictionary.to_pylist()
    numbers = encoded.indices.to_numpy()
    # Python compares text by code points: the order of the UTF-8 bytes.
    if sorted(order) != order or np.any(numbers[1:] < numbers[:-1]):
        raise OrderError(f"the batches of readings of view {view.name} are not in the order of {view.entity}")
    return order[-1]


class Readings:
    """Checked readings of a view, by entity and day.

    Attributes:
        table: the readings.
        view: the declaration.
        days: of each row, in days since 1970-01-01.
        keys: of each row, the entity's number in their order, shifted by DAY_BITS, plus the day: ascending. Less
            the day (which before 1970 is negative), they tell entities apart.
        order: the places that the rows had before, unless they were in this order.
    """

    def __init__(self, table: pa.Table, view: FeatureView) -> None:
        """Bring a checked table into order; KeyRefusedError if a key stands twice."""
        self.table, self.view = table, view
        encoded = table[view.entity].combine_chunks().dictionary_encode()
        rank = np.empty(len(encoded.dictionary), np.int64)
        rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank))
        self.days: Counts = table[view.day].combine_chunks().view(pa.int32()).to_numpy().astype(np.int64)
        self.keys: Counts = (rank[encoded.indices.to_numpy()] << DAY_BITS) + self.days
        self.order: Counts | None = None
        if np.all(self.keys[1:] > self.keys[:-1]):
            return
        self.order = np.argsort(self.keys)
        self.table = table.take(pa.array(self.order))
        self.keys, self.days = self.keys[self.order], self.days[self.order]
        twice = np.flatnonzero(self.keys[1:] == self.keys[:-1])
        if twice.size:
            key = self.key(int(twice[0]))
            raise KeyRefusedError(f"several readings of view {view.name} have {key}; keys that do so: {twice.size}")

    def values(self, measure: str) -> tuple[Numbers, Numbers | None]:
        """A measure's values, and which of them are there unless all are; ValueRefusedError if one is not finite."""
        array = self.table[measure].combine_chunks()
        there = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
        values: Numbers = (array.fill_null(0) if array.null_count else array).to_numpy()
        unfit = np.flatnonzero(~np.isfinite(values))
        if unfit.size:
            row = int(unfit[0])
            raise ValueRefusedError(f"{measure} of {self.key(row)} is {values[row]}, which is no finite number")
        return values, there

    def key(self, row: int) -> str:
        """Name a row's key, for messages."""
        entity: Any = self.table[self.view.entity][row].as_py()
        day = dt.date.fromordinal(int(self.days[row]) + EPOCH)
        return f"{self.view.entity} {entity!r}, {self.view.day} {day}"
