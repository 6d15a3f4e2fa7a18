"""A digest of a table's content: of its values, whichever library made it, and however it is cut into pieces."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same


def digest(table: pa.Table) -> str:
    """SHA-256 of a table: names and types of its columns, and every value, in their order.

    What a null hides, chunks, metadata, and how Arrow holds a text do not count; the sign of a zero does.
    """
    hashed = hashlib.sha256(str(table.num_rows).encode())
    for name in table.column_names:
        column = plain(table[name])
        hashed.update(f"\n{name}\n{column.type}\n".encode())
        there = column.is_valid().to_numpy(zero_copy_only=False)
        hashed.update(np.packbits(there).tobytes())
        for part in _parts(column):
            hashed.update(part)
    return hashed.hexdigest()


def plain(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; text as Arrow's plain one, however it was held."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if column.type in (pa.large_string(), pa.string_view()):
        column = column.cast(pa.string())
    made = column.combine_chunks()
    return made if isinstance(made, pa.Array) else pa.concat_arrays(made.chunks)


def _parts(column: pa.Array) -> list[bytes]:
    kind = column.type
    if pa.types.is_string(kind):
        text = column.fill_null("")
        joined = "".join(text.to_pylist()).encode()
        return [pc.binary_length(text).to_numpy(zero_copy_only=False).astype("<i4").tobytes(), joined]
    if pa.types.is_boolean(kind):
        return [np.packbits(column.fill_null(False).to_numpy(zero_copy_only=False)).tobytes()]
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = column.fill_null(0).to_numpy(zero_copy_only=False)
        return [values.astype(values.dtype.newbyteorder("<")).tobytes()]
    if pa.types.is_temporal(kind) and kind.bit_width in (32, 64):
        return _parts(column.view(pa.int32() if kind.bit_width == 32 else pa.int64()))
    # Lists, decimals and the like: slower, and the same.
    return ["\n".join(map(repr, column.to_pylist())).encode()]
