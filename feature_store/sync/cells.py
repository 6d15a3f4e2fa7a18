"""Rows of features as the bytes that Cassandra's protocol has of them: to be written, and to be compared in.

What is compared is what was sent, bit for bit: no value is taken apart and put together in between.
Encodings: cassandra.apache.org/doc/latest/cassandra/reference/native-protocol.html and the protocol's section 6.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store.function import Type
from feature_store.view import Column
from feature_store.window import EPOCH

Row = tuple[bytes | None, ...]  # a value a column, in the columns' order; null is None

DAY_ZERO = 2**31  # of a date: days since 1970 plus this, unsigned
NUMBERS = {Type.INT: ">i4", Type.BIGINT: ">i8", Type.DOUBLE: ">f8", Type.DATE: ">u4"}
AT_A_TIME = 4096  # rows: few enough that their thousands of small objects stay in the processor's cache


def rows(table: pa.Table, columns: tuple[Column, ...]) -> Iterator[Row]:
    """Encode the columns of a table, row by row.

    Args:
        table: with a column of each name, of the type that Arrow has for it.
        columns: which, in the order in which the rows are to have them.
    """
    for start in range(0, table.num_rows, AT_A_TIME):
        part = table.slice(start, AT_A_TIME)
        yield from zip(*(_encoded(part.column(column.name), column.type) for column in columns), strict=True)


def day_bytes(day: dt.date) -> bytes:
    """Encode a day."""
    return (day.toordinal() - EPOCH + DAY_ZERO).to_bytes(4)


def day_of(encoded: bytes) -> dt.date:
    """Decode a day."""
    return dt.date.fromordinal(int.from_bytes(encoded) - DAY_ZERO + EPOCH)


def named(entity: bytes | None, day: bytes | None) -> str:
    """Name a row by its key, as messages do."""
    return f"{(entity or b'').decode()} {day_of(day or b'')}"


def by_entity(table: pa.Table, entity: str, columns: tuple[Column, ...]) -> Iterator[tuple[bytes, list[Row]]]:
    """Encode a table that is in the order of its entities; each entity, encoded too, with its rows."""
    if not table.num_rows:
        return
    ends = pc.run_end_encode(table.column(entity).combine_chunks()).run_ends.to_numpy()
    encoded = rows(table, columns)
    begin = 0
    for end in ends:
        of_one = list(islice(encoded, int(end) - begin))
        begin = int(end)
        key = of_one[0][0]
        if key is None:
            raise ValueError(f"a row without {entity}")
        yield key, of_one


def _encoded(column: pa.ChunkedArray, kind: Type) -> list[bytes | None]:
    if kind is Type.TEXT:
        texts: list[bytes | None] = column.cast(pa.binary()).to_pylist()
        return texts
    array = column.combine_chunks()
    if kind is Type.DATE:
        numbers = array.cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64) + DAY_ZERO
    else:
        numbers = array.fill_null(0).to_numpy(zero_copy_only=False)
    encoded = numbers.astype(NUMBERS[kind])
    width, buffer = encoded.dtype.itemsize, encoded.tobytes()
    values: list[bytes | None] = [buffer[at : at + width] for at in range(0, len(buffer), width)]
    if array.null_count:
        for at in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)):
            values[at] = None
    return values
