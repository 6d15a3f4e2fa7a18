"""Delta tables through delta-rs, for a job that runs in one process: what is in them, and the replacement of days."""

from __future__ import annotations

import datetime as dt
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same
import pyarrow.dataset as ds  # type: ignore[import-untyped]  # the same

from feature_store import files, inputs, live_table
from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange
from feature_store.function import Type
from feature_store.view import FeatureView
from spark_jobs import tables
from spark_jobs.errors import JobError

if TYPE_CHECKING:
    from deltalake import DeltaTable

# What delta-rs can write of the features that a table's protocol can ask for, and Delta gives to ours.
WRITER_VERSION, WRITER_FEATURES = 4, frozenset({"appendOnly", "invariants", "changeDataFeed"})
NO_DAYS = DayRange(dt.date.min, dt.date.min)
BYTES_A_VALUE = 5  # in a file of features, about: most are doubles, compressed


class NotHereError(Exception):
    """This is nothing for delta-rs, or not for one process; the message says why, as a clause."""


@dataclass(frozen=True)
class Recorded:
    """What a table's log says of the files that may have some days: rows, and the table's first and last day."""

    rows: int
    first_day: dt.date | None
    last_day: dt.date | None


def place(uri: str) -> str:
    """Name a table's place as delta-rs takes it: a URI, in which a path's own blanks and # are encoded.

    Raises:
        NotHereError: delta-rs would take it for another place.
    """
    if "%" in uri:
        raise NotHereError(f"delta-rs takes the % in {uri} for a sign that is encoded")
    return files.as_uri(uri)


def open_table(uri: str, day: str, version: int | None = None) -> DeltaTable:
    """Open a table that exists, at a version or the newest; NotHereError if delta-rs can't read it.

    Args:
        uri: where it is.
        day: its day column.
        version: which to open.
    """
    table, _ = _open(uri, version, (day, NO_DAYS))  # no file is looked at
    return table


def rows(uri: str) -> list[dict[str, Any]]:
    """Read all of a small table that exists; NotHereError if delta-rs can't read it."""
    _, opened = _open(uri, None, None)
    try:
        # No threads: a process that ends soon after a scan with them is aborted (github.com/apache/arrow/issues/39862).
        found: list[dict[str, Any]] = opened.to_table(use_threads=False).to_pylist()
    except OSError as error:
        raise NotHereError(f"{uri} can't be read ({str(error).splitlines()[0]})") from error
    return found


def _open(uri: str, version: int | None, of: inputs.OfDays | None) -> tuple[DeltaTable, ds.Dataset]:
    """Open a table and its files, so that what can't be read is said here."""
    try:
        from deltalake import DeltaTable  # noqa: PLC0415 - where it is missing, Spark does the work
        from deltalake.exceptions import DeltaError  # noqa: PLC0415
    except ImportError as error:
        raise NotHereError("the package deltalake is not installed") from error
    try:
        table = DeltaTable(place(uri), version=version, storage_options=_options())
        return table, inputs.dataset(table, of)
    except (DeltaError, OSError) as error:
        raise NotHereError(f"delta-rs can't open {uri} ({str(error).splitlines()[0]})") from error
    except inputs.InputError as error:
        raise NotHereError(str(error)) from error


def check_writable(table: DeltaTable, uri: str) -> None:
    """Refuse, by a NotHereError, a table that delta-rs can't write to."""
    protocol = table.protocol()
    asked = frozenset(protocol.writer_features or ())
    if protocol.min_writer_version > WRITER_VERSION and not (asked and asked <= WRITER_FEATURES):
        needs = ", ".join(sorted(asked - WRITER_FEATURES)) or f"writer version {protocol.min_writer_version}"
        raise NotHereError(f"{uri} needs what delta-rs can't write ({needs})")


def recorded(table: DeltaTable, uri: str, day: str, days: DayRange) -> Recorded:
    """Look into a table's log, and at no row; NotHereError if it does not say which days a file has."""
    from deltalake.exceptions import DeltaError  # noqa: PLC0415

    try:
        actions = pa.table(table.get_add_actions(flatten=True))
    except DeltaError as error:
        raise NotHereError(f"delta-rs can't read the log of {uri} ({str(error).splitlines()[0]})") from error
    first, last = f"min.{day}", f"max.{day}"
    if not actions.num_rows:
        return Recorded(0, None, None)
    silent = NotHereError(f"the log of {uri} does not say how many rows there are of which days")
    if not {first, last, "num_records"} <= set(actions.column_names):
        raise silent
    of_days = pc.and_(pc.less_equal(actions[first], days.end), pc.greater_equal(actions[last], days.start))
    rows = actions["num_records"].filter(of_days, null_selection_behavior="emit_null")
    if rows.null_count:
        raise silent
    return Recorded(int(pc.sum(rows).as_py() or 0), pc.min(actions[first]).as_py(), pc.max(actions[last]).as_py())


def columns(table: DeltaTable) -> dict[str, str]:
    """A table's columns and their types, as Spark names them."""
    spark = {kind.delta: kind.spark for kind in Type}
    kinds = ((field.name, getattr(field.type, "type", str(field.type))) for field in table.schema().fields)
    return {name: spark.get(kind, kind) for name, kind in kinds}


def identity(table: DeltaTable) -> str:
    """The table's own id, as tables.identity."""
    return str(table.metadata().id)


def held(table: DeltaTable, uri: str, view: FeatureView, days: DayRange) -> pa.Table:
    """The rows of features that the table has of some days, in the kernel's order; JobError if they can't be read."""
    of_days = (ds.field(view.day) >= days.start) & (ds.field(view.day) <= days.end)
    try:
        opened = inputs.dataset(table, (view.day, days))
        found = opened.to_table(filter=of_days).cast(schema(view.columns))
    except OSError as error:
        raise JobError(f"{uri} can't be read: {str(error).splitlines()[0]}. Nothing was written.") from error
    return found.take(pc.sort_indices(found, [(key.name, "ascending") for key in view.keys]))


def make(rows: pa.Table, uri: str, view: FeatureView, days: DayRange) -> DeltaTable:
    """Make a table of these rows; JobError if another run has made it meanwhile."""
    from deltalake import CommitProperties, write_deltalake  # noqa: PLC0415
    from deltalake.exceptions import CommitFailedError, DeltaError  # noqa: PLC0415

    try:
        # No second try at the commit: it would be one after that of the run that has made the table, and add to it.
        first = CommitProperties(max_commit_retries=0)
        how = _how(rows, view, days)
        write_deltalake(
            place(uri), _by_day(rows, view), mode="error", storage_options=_options(), commit_properties=first, **how
        )
    except DeltaError as error:
        if isinstance(error, CommitFailedError) or "already exists" in str(error):
            raise JobError(f"Another run has made {uri} meanwhile; {tables.NOTHING_WRITTEN}") from error
        raise
    return open_table(uri, view.day)


def replace_days(  # noqa: PLR0913, PLR0917 - what is written where, and what was there
    rows: pa.Table, there: pa.Table, table: DeltaTable, uri: str, view: FeatureView, days: DayRange
) -> DeltaTable:
    """Replace the rows of some days that are there by others; the table as it is then.

    delta-rs refuses it if another run has replaced a file that these days are in, which other days can be in too, or
    maintenance has. So it is tried again, as long as the rows of these days are those that are there.

    Raises:
        JobError: another run has written rows of these days since; nothing of these rows was written.
    """
    from deltalake import write_deltalake  # noqa: PLC0415
    from deltalake.exceptions import CommitFailedError  # noqa: PLC0415

    ordered, how = _by_day(rows, view), _how(rows, view, days)
    where = f"{view.day} >= '{days.start}' AND {view.day} <= '{days.end}'"
    for tried in range(1, tables.TRIES + 1):
        try:
            write_deltalake(table, ordered, mode="overwrite", predicate=where, **how)
        except CommitFailedError as error:
            table = open_table(uri, view.day)
            if tried == tables.TRIES or not held(table, uri, view, days).equals(there):
                raise JobError(tables.overtaken(uri)) from error
        else:
            break
    return table


def _by_day(rows: pa.Table, view: FeatureView) -> pa.Table:
    """Order rows by day, in one piece: of several, files would overlap in days."""
    order = pa.array(np.argsort(rows[view.day].combine_chunks().view(pa.int32()).to_numpy(), kind="stable"))
    with ThreadPoolExecutor(pa.cpu_count()) as threads:  # Arrow takes rows in one, a third of the writing's time
        return pa.table(list(threads.map(lambda each: each.combine_chunks().take(order), rows.columns)), rows.schema)


def _how(rows: pa.Table, view: FeatureView, days: DayRange) -> dict[str, Any]:
    months = math.ceil(len(days) / tables.DAYS_PER_FILE)
    per_file = max(math.ceil(rows.num_rows / months), tables.LEAST_ROWS_PER_FILE)
    return {"target_file_size": per_file * len(view.columns) * BYTES_A_VALUE}


def _options() -> dict[str, str]:
    return live_table.storage_options(os.environ)
