"""Where readings are taken from without Spark: Delta tables, landed CSV files, Arrow tables. No more than is asked."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Union

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.dataset as ds  # type: ignore[import-untyped]  # the same
import pyarrow.fs  # type: ignore[import-untyped]  # the same

from feature_store import files, landed_csv, layout, live_table
from feature_store.arrow_readings import ReadingsError, checked
from feature_store.calendar import DayRange
from feature_store.view import FeatureView

if TYPE_CHECKING:
    from deltalake import DeltaTable

OfDays = tuple[str, DayRange]  # a day column, and days of it
# A Delta table, or where one is, or where landed files are, or an Arrow table.
Input = Union["DeltaTable", pa.Table, pa.RecordBatch, str, "os.PathLike[str]"]


class InputError(ReadingsError):
    """There is nothing to read, or it can't be read; the message names the place."""


def readings(
    view: FeatureView, source: Input, days: DayRange | None = None, entities: Iterable[str] | None = None
) -> pa.Table:
    """Read a view's readings, in whatever order they are there.

    Files of a Delta table that can't have a row of these days, going by its partitions and statistics, are not opened.
    Landed files are read through, since they say nothing about themselves.

    Args:
        view: the declaration.
        source: a Delta table or an Arrow table with the view's columns, and others that are passed over; the path or
            URI of a Delta table; or of a landed CSV file, gzipped or not, or of a folder of them, as landed_csv reads
            them.
        days: those whose readings are wanted, or None for all.
        entities: those whose readings are wanted, or None for all.

    Raises:
        InputError: the source can't be read.
        ReadingsError: a column is missing or has another type, a key is null, or a landed file has a malformed row.
    """
    wanted = None if entities is None else pa.array(sorted(set(entities)), pa.string())
    opened = _open(source, None if days is None else (view.day, days))
    if isinstance(opened, list):
        return landed_csv.read(opened, view, days, wanted)
    checked(opened.schema.empty_table(), view)  # before any row is read, and before a filter meets another type
    where = None
    if days is not None:
        where = (ds.field(view.day) >= days.start) & (ds.field(view.day) <= days.end)
    if wanted is not None:
        among = ds.field(view.entity).cast(pa.string()).isin(wanted)
        where = among if where is None else where & among
    return checked(_rows(opened, source, [column.name for column in view.readings], where), view)


def as_known_on(source: Input, day: dt.date) -> DeltaTable:
    """Open a Delta table, given by its path or URI, as it was at the end of a day (UTC); InputError if it can't be."""
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"{_name(source)} is what it is: known_on takes the path or URI of a Delta table")
    uri = os.fspath(source)
    from deltalake import DeltaTable  # noqa: PLC0415 - as in _delta_table

    try:
        version = live_table.version_known_on(uri, day)
        return DeltaTable(uri, version=version, storage_options=live_table.storage_options(os.environ))
    except live_table.LiveTableError as error:
        raise InputError(str(error).rstrip(".")) from error


def dataset(source: Input, of: OfDays | None = None) -> ds.Dataset:
    """Open a Delta table or an Arrow table; InputError if the source is neither.

    Args:
        source: the table.
        of: a day column and days: files of a Delta table that can't have a row of them may be left out.
    """
    opened = _open(source, of)
    if isinstance(opened, list):
        raise InputError(f"{source} holds CSV files, and no Delta table")
    return opened


def _rows(opened: ds.Dataset, source: Input, columns: list[str], where: ds.Expression | None) -> pa.Table:
    try:
        return opened.to_table(columns=columns, filter=where)
    except OSError as error:  # ArrowInvalid and its like are none: they would be mistakes of this module
        raise InputError(f"{_name(source)} can't be read: {files.first_line(error)}") from error


def _open(source: Input, of: OfDays | None) -> ds.Dataset | list[landed_csv.File]:
    if isinstance(source, pa.Table | pa.RecordBatch):
        return ds.dataset(source)
    if not isinstance(source, str | os.PathLike):
        return _of_delta(source, of)
    uri = os.fspath(source)
    if "://" not in uri and not Path(uri).exists():
        raise InputError(f"{uri} does not exist: give a Delta table, a CSV file or a folder of them")
    if layout.is_csv(uri.rpartition("/")[2]):
        return [landed_csv.File(*_file_system(uri))]
    return _delta_table(uri, of) or _csv_files(uri)


def _delta_table(uri: str, of: OfDays | None) -> ds.Dataset | None:
    """Open the Delta table in a folder; None if there is none."""
    if "://" not in uri and not Path(uri, "_delta_log").is_dir():
        return None
    try:
        # Not at import: delta-rs is a tool of one machine, which no cluster has.
        from deltalake import DeltaTable  # noqa: PLC0415
        from deltalake.exceptions import DeltaError, TableNotFoundError  # noqa: PLC0415
    except ImportError as error:
        raise InputError(f"reading the Delta table {uri} without Spark takes the package deltalake") from error
    try:
        return _of_delta(DeltaTable(uri, storage_options=live_table.storage_options(os.environ)), of)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise InputError(f"the Delta table {uri} can't be opened: {files.first_line(error)}") from error


def _of_delta(table: DeltaTable, of: OfDays | None) -> ds.Dataset:
    from deltalake.exceptions import DeltaProtocolError  # noqa: PLC0415 - whoever has a table has the package

    columns = pa.schema(table.schema().to_arrow())
    try:
        dated = {field.name for field in columns if field.type == pa.date32()}
        if of is None or table.metadata().partition_columns or of[0] not in dated:
            return table.to_pyarrow_dataset()
        # Each column makes an expression a file of its statistics, which takes longer than reading a day of hundreds of
        # files: so the files are chosen by those of the day alone.
        day, days = of
        chosen = table.to_pyarrow_dataset(schema=pa.schema([columns.field(day)]))
        within = (ds.field(day) >= days.start) & (ds.field(day) <= days.end)
        files_of_days = [fragment.path for fragment in chosen.get_fragments(within)]
        return ds.dataset(files_of_days, schema=columns, format="parquet", filesystem=chosen.filesystem)
    except DeltaProtocolError as error:
        raise InputError(f"{_name(table)} can't be read without Spark: {files.first_line(error)}") from error


def _csv_files(uri: str) -> list[landed_csv.File]:
    """List the landed files of a folder, all the way down."""
    system, folder = _file_system(uri)
    try:
        found = system.get_file_info(pyarrow.fs.FileSelector(folder, recursive=True))
    except OSError as error:
        raise InputError(f"{uri} can't be looked into: {files.first_line(error)}") from error
    paths = sorted(info.path for info in found if info.is_file and layout.is_csv(info.base_name))
    if not paths:
        raise InputError(f"{uri} is no Delta table, and holds no .csv and no .csv.gz file")
    return [landed_csv.File(system, path) for path in paths]


def _file_system(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    try:
        return files.locate(uri)
    except (ValueError, OSError) as error:
        raise InputError(f"{uri} can't be read: {files.first_line(error)}") from error


def _name(source: Input) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return "the Arrow table" if isinstance(source, pa.Table | pa.RecordBatch) else f"the Delta table {source.table_uri}"
