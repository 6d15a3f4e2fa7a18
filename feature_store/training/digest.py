"""Digests of a table's content: of its rows in whatever order, and of their order; whichever engine holds them.

Each row comes to a number by all of its values, and the digest of the rows is of the sum of these numbers: a part of
the rows has a part of the sum, so that Spark's tasks can reckon each theirs. The numbers notice what goes wrong; they
are no proof against someone who wants to deceive.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
from numpy.typing import NDArray

Words = NDArray[np.uint64]

ROWS = 65_536  # at a time, so that they stay in the processor's cache
# Splitmix64's constants: every bit of what is mixed moves half of the outcome's.
STEP, FIRST, SECOND = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
WORDS = 2**64


def digest(table: pa.Table) -> str:
    """SHA-256 of a table's columns, by name and type, and of its rows in any order.

    What a null hides, chunks, metadata, and how Arrow holds a text, a day or a moment do not count; the sign of a zero
    does.
    """
    made = canonical(table)
    return of_sum(made.schema, table.num_rows, _added(made, lambda numbers, _: numbers))


def order(table: pa.Table) -> str:
    """A digest of the order of a table's rows."""

    def placed(numbers: Words, first: int) -> Words:
        return _mixed(numbers ^ _mixed(np.arange(first, first + len(numbers), dtype=np.uint64)))

    return f"{_added(canonical(table), placed) % WORDS:016x}"


def of_sum(columns: pa.Schema, rows: int, added: int) -> str:
    """The digest of canonical columns and the sum of their rows' numbers."""
    said = "".join(f"{field.name}\n{field.type}\n" for field in columns)
    return hashlib.sha256(f"{rows}\n{said}{added % WORDS:016x}".encode()).hexdigest()


def total(numbers: Words) -> int:
    """The sum of rows' numbers, modulo 2^64."""
    return int(numbers.sum(dtype=np.uint64))


def canonical(table: pa.Table) -> pa.Table:
    """The same values, each column as one array, of one type where several hold the same."""
    columns = [_canonical(plain(table[name])) for name in table.column_names]
    return pa.Table.from_arrays(columns, table.column_names) if columns else table


def row_numbers(table: pa.Table) -> Words:
    """Reckon a number for each row of a canonical table, by all of its values."""
    made = np.zeros(table.num_rows, np.uint64)
    for column in table.columns:
        made += STEP
        made ^= _words(column.combine_chunks())
        _mixed(made)
        if column.null_count:
            np.invert(made, out=made, where=~column.is_valid().to_numpy())
    return made


def plain(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; text as Arrow's plain one, however it was held."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if kind.value_type == pa.string_view():  # as polars has categories: Arrow takes nothing from these
            column = column.cast(pa.dictionary(kind.index_type, pa.string()))
        column = column.cast(column.type.value_type)
    if column.type in (pa.large_string(), pa.string_view()):
        column = column.cast(pa.string())
    made = column.combine_chunks()
    return made if isinstance(made, pa.Array) else pa.concat_arrays(made.chunks)


def _canonical(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_date64(kind):
        return column.cast(pa.date32())
    if pa.types.is_timestamp(kind):
        try:
            return column.cast(pa.timestamp("us", "UTC" if kind.tz else None))
        except pa.ArrowInvalid:  # nanoseconds, or too far away
            return column
    return column


def _added(table: pa.Table, change: Callable[[Words, int], Words]) -> int:
    """The sum of what is made of the rows' numbers, given with the place of the first of them."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy lets others work meanwhile
        return sum(
            pool.map(
                lambda first: total(change(row_numbers(table.slice(first, ROWS)), first)),
                range(0, table.num_rows, ROWS),
            )
        )


def _words(column: pa.Array) -> Words:
    """The values of a column as 64 bits each; of a null, zeros."""
    kind = column.type
    if pa.types.is_string(kind):
        encoded = column.dictionary_encode()
        of_texts = np.array([0, *map(_of_text, encoded.dictionary.to_pylist())], np.uint64)
        words: Words = of_texts[encoded.indices.fill_null(-1).to_numpy() + 1]
        return words
    if pa.types.is_boolean(kind):
        return _words(column.cast(pa.uint8()))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = (column.fill_null(0) if column.null_count else column).to_numpy(zero_copy_only=False)
        bits: Words = values.view(f"u{values.itemsize}") if pa.types.is_floating(kind) else values
        return bits.astype(np.uint64, copy=False)
    if pa.types.is_temporal(kind) and kind.bit_width in (32, 64):
        return _words(column.view(pa.int32() if kind.bit_width == 32 else pa.int64()))
    # Lists, decimals and the like: slower, and the same.
    return np.array([0 if value is None else _of_text(repr(value)) for value in column.to_pylist()], np.uint64)


@lru_cache(ROWS)
def _of_text(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _mixed(words: Words) -> Words:
    """Mix each number, in its place."""
    words ^= words >> np.uint64(30)
    words *= FIRST
    words ^= words >> np.uint64(27)
    words *= SECOND
    words ^= words >> np.uint64(31)
    return words
