"""Rows of features as the bytes that Cassandra's protocol has of them: to be sent, and to be compared in.

What is compared is what was sent, bit for bit: no value is taken apart and put together in between.
Encodings: cassandra.apache.org/doc/latest/cassandra/reference/native-protocol.html and the protocol's section 6.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store.function import Type
from feature_store.view import Column
from feature_store.window import EPOCH

# The values of a row in the order of its columns, entity and day first: of each its length, four bytes, and its bytes.
Row = bytes
Key = tuple[bytes, bytes]  # entity and day

LENGTH = struct.Struct(">i")
NULL, UNSET = LENGTH.pack(-1), LENGTH.pack(-2)  # instead of a length; what is unset stays as it is, and is only sent
DAY_ZERO = 2**31  # of a date: days since 1970 plus this, unsigned
NUMBERS = {Type.INT: ">i4", Type.BIGINT: ">i8", Type.DOUBLE: ">f8", Type.DATE: ">u4"}
AT_A_TIME = 4096  # rows: few enough that they stay in the processor's cache


def rows(table: pa.Table, columns: Sequence[Column], null: bytes = NULL) -> Iterator[Row]:
    """Encode the columns of a table, row by row.

    Args:
        table: with a column of each name, of the type that Arrow has for it.
        columns: which, in the order in which the rows are to have them.
        null: what a null becomes: NULL, or UNSET in rows that are only sent, to where nothing is.
    """
    for start in range(0, table.num_rows, AT_A_TIME):
        yield from map(b"".join, zip(*_pieces(table.slice(start, AT_A_TIME), columns, null), strict=True))


def values(*of: bytes | None) -> bytes:
    """Put encoded values in a row, or a part of one; None is null."""
    return b"".join(map(_sized, of))


def split(row: Row) -> list[bytes | None]:
    """Take a row apart into its encoded values; null, and what is unset, is None."""
    found: list[bytes | None] = []
    at = 0
    while at < len(row):
        (length,) = LENGTH.unpack_from(row, at)
        at += LENGTH.size
        found.append(row[at : at + length] if length >= 0 else None)
        at += max(0, length)
    return found


def key(data: bytes, at: int = 0) -> Key:
    """Give the entity and the day, encoded, of a row: a row by itself, or the one that begins at a place."""
    size = LENGTH.size
    day_at = at + size + LENGTH.unpack_from(data, at)[0]
    return data[at + size : day_at], data[day_at + size : day_at + 2 * size]


def to_send(row: Row, there: Row | None) -> bytes:
    """Give the values to write a row by: a null only where it takes one away from the row in its place, if one is.

    Each null that is written is a tombstone, to be read over later.
    """
    if NULL not in row:
        return row
    new = split(row)
    old = split(there) if there else [None] * len(new)
    return b"".join(_sized(value, UNSET if was is None else NULL) for value, was in zip(new, old, strict=True))


@dataclass(frozen=True)
class Page:
    """Rows as they came: how many, and the bytes of all."""

    count: int
    data: bytes

    def rows(
        self, columns: int, expected: Callable[[bytes, bytes], Row | None]
    ) -> Iterator[tuple[bytes, bytes, Row, Row | None]]:
        """Cut it into rows of so many columns: entity, day, the row, and the row that is expected of both, if one is.

        A row that is as expected is told by its bytes alone: what is in it is not looked at.
        """
        data, at = self.data, 0
        for _ in range(self.count):
            entity, day = key(data, at)
            wanted = expected(entity, day)
            row = wanted if wanted and data.startswith(wanted, at) else data[at : _end(data, at, columns)]
            at += len(row)
            yield entity, day, row, wanted


def day_bytes(day: dt.date) -> bytes:
    """Encode a day."""
    return (day.toordinal() - EPOCH + DAY_ZERO).to_bytes(4)


def day_of(encoded: bytes) -> dt.date:
    """Decode a day."""
    return dt.date.fromordinal(int.from_bytes(encoded) - DAY_ZERO + EPOCH)


def named(of: Key) -> str:
    """Name a row by its key, as messages do."""
    return f"{of[0].decode()} {day_of(of[1])}"


def by_entity(table: pa.Table, entity: str, columns: Sequence[Column]) -> Iterator[tuple[bytes, list[Row]]]:
    """Encode a table that is in the order of its entities; each entity, encoded too, with its rows.

    Raises:
        ValueError: a row has no entity.
    """
    if not table.num_rows:
        return
    if table.column(entity).null_count:
        raise ValueError(f"a row without {entity}")
    ends = pc.run_end_encode(table.column(entity).combine_chunks()).run_ends.to_numpy()
    encoded = rows(table, columns)
    begin = 0
    for end in ends:
        of_one = list(islice(encoded, int(end) - begin))
        begin = int(end)
        yield key(of_one[0])[0], of_one


def _sized(value: bytes | None, null: bytes = NULL) -> bytes:
    return null if value is None else LENGTH.pack(len(value)) + value


def _pieces(table: pa.Table, columns: Sequence[Column], null: bytes) -> Iterator[list[bytes]]:
    """Encode what a row is put together of: each column of texts, and columns of numbers that are in a row."""
    for is_text, run in groupby(columns, lambda column: column.type is Type.TEXT):
        if is_text:
            for column in run:
                yield [_sized(text, null) for text in table.column(column.name).cast(pa.binary()).to_pylist()]
        else:
            yield _numbers(table, list(run), null)


def _numbers(table: pa.Table, columns: Sequence[Column], null: bytes) -> list[bytes]:
    """Encode columns of numbers, next to each other in a row, all at once: what is null is cut out at the end."""
    kinds = [np.dtype(NUMBERS[column.type]) for column in columns]
    layout = np.dtype(
        [field for place, kind in enumerate(kinds) for field in ((f"length{place}", ">i4"), (f"value{place}", kind))]
    )
    made = np.empty(table.num_rows, layout)
    kept: np.ndarray[tuple[int, int], np.dtype[np.bool_]] | None = None
    for place, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
        array = table.column(column.name).combine_chunks()
        made[f"length{place}"] = kind.itemsize
        made[f"value{place}"] = _plain(array, column.type)
        if array.null_count:
            if kept is None:
                kept = np.ones((table.num_rows, layout.itemsize), np.bool_)
            nulls = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
            made[f"length{place}"][nulls] = LENGTH.unpack(null)[0]
            begin = int(layout.fields[f"value{place}"][1]) if layout.fields else 0
            kept[nulls, begin : begin + kind.itemsize] = False
    if kept is None:
        data, width = made.tobytes(), layout.itemsize
        return [data[at : at + width] for at in range(0, len(data), width)]
    data = made.view(np.uint8).reshape(kept.shape)[kept].tobytes()
    ends = kept.sum(axis=1).cumsum().tolist()
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def _plain(array: pa.Array, kind: Type) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    """Give its numbers, with a zero where one is null."""
    if kind is not Type.DATE:
        plain: np.ndarray[tuple[int], np.dtype[np.generic]] = array.fill_null(0).to_numpy(zero_copy_only=False)
        return plain
    days: np.ndarray[tuple[int], np.dtype[np.int32]] = (
        array.cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False)
    )
    return days.astype(np.int64) + DAY_ZERO


def _end(data: bytes, at: int, columns: int) -> int:
    """Find where a row ends that begins at a place."""
    for _ in range(columns):
        at += LENGTH.size + max(0, LENGTH.unpack_from(data, at)[0])
    return at
