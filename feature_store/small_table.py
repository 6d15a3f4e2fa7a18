"""Small Delta tables that the feature store keeps for itself: rows of an owner's days, read and replaced whole."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store import files, live_table
from feature_store.calendar import DayRange, merged

if TYPE_CHECKING:
    from deltalake import DeltaTable

TRIES = 5  # at one commit, while others write other days, or those of another owner
DAY = "day_date"  # the column that says of which day a row is

Owner = tuple[str, str]  # a column, and the value that it has in this owner's rows


class RecordsError(Exception):
    """A table can't be read or written; the message says which and why."""


def read(uri: str, owner: Owner, days: DayRange) -> list[dict[str, Any]]:
    """Read an owner's rows of some days; none if there is no table. RecordsError if that is not possible."""
    table = open_table(uri)
    return [] if table is None else _rows(table, uri, owner, [days])


def replace(uri: str, rows: pa.Table, owner: Owner, days: Iterable[dt.date]) -> None:
    """Replace an owner's rows of some days, all at once; others may write other days, or their own, meanwhile.

    Args:
        uri: of the table, which is made if it is missing.
        rows: of that owner and these days.
        owner: whose.
        days: which; in any order.

    Raises:
        RecordsError: the table can't be written.
    """
    update(uri, rows.schema, owner, days, lambda _: rows)


def update(
    uri: str,
    schema: pa.Schema,
    owner: Owner,
    days: Iterable[dt.date],
    change: Callable[[list[dict[str, Any]]], pa.Table],
) -> None:
    """Replace an owner's rows of some days by what follows from those that are there, as if nobody else was writing.

    Args:
        uri: of the table, which is made if it is missing, and gets columns that it does not have yet.
        schema: of the rows.
        owner: whose.
        days: which; in any order.
        change: is given the rows that are there, and returns those that are to be; it is asked again if someone else
            has written the days meanwhile. What it raises ends the update, and nothing was written.

    Raises:
        RecordsError: the table can't be written.
    """
    from deltalake import DeltaTable, write_deltalake  # noqa: PLC0415 - whoever only declares views needs no Delta
    from deltalake.exceptions import CommitFailedError, DeltaError  # noqa: PLC0415

    stretches = merged(DayRange(day, day) for day in days)
    of_days = " OR ".join(f"({DAY} >= '{each.start}' AND {DAY} <= '{each.end}')" for each in stretches)
    where = f"{owner[0]} = '{owner[1]}' AND ({of_days})"
    options = live_table.storage_options(os.environ)
    for tried in range(1, TRIES + 1):
        try:
            table = open_table(uri) or DeltaTable.create(
                _place(uri), schema, mode="error", partition_by=[owner[0]], storage_options=options
            )
            rows = change(_rows(table, uri, owner, stretches))
            # A commit since the table was opened that is of these rows makes this one fail.
            write_deltalake(table, rows, mode="overwrite", predicate=where, schema_mode="merge")
        except (DeltaError, OSError) as error:
            # Another run was first: it may as well have made the table.
            lost = isinstance(error, CommitFailedError) or "already exists" in str(error)
            if not lost or tried == TRIES:
                raise RecordsError(f"{uri} can't be written: {files.first_line(error)}") from error
        else:
            return


def _rows(table: DeltaTable, uri: str, owner: Owner, days: Iterable[DayRange]) -> list[dict[str, Any]]:
    of_days = [(pc.field(DAY) >= each.start) & (pc.field(DAY) <= each.end) for each in days]
    wanted = (pc.field(owner[0]) == owner[1]) & reduce(or_, of_days)
    try:
        # No threads: a process that ends soon after a scan with them is aborted (github.com/apache/arrow/issues/39862).
        found = table.to_pyarrow_dataset().to_table(filter=wanted, use_threads=False)
        rows: list[dict[str, Any]] = found.to_pylist()
    except OSError as error:
        raise RecordsError(f"{uri} can't be read: {files.first_line(error)}") from error
    return rows


def open_table(uri: str) -> DeltaTable | None:
    """Open any Delta table; None if there is none yet. RecordsError if there is one that can't be opened."""
    from deltalake import DeltaTable  # noqa: PLC0415
    from deltalake.exceptions import DeltaError, TableNotFoundError  # noqa: PLC0415

    try:
        return DeltaTable(_place(uri), storage_options=live_table.storage_options(os.environ))
    except TableNotFoundError:
        return None
    except (DeltaError, OSError, ValueError) as error:
        raise RecordsError(f"{uri} can't be opened: {files.first_line(error)}") from error


def _place(uri: str) -> str:
    if "%" in uri:
        raise RecordsError(f"{uri} can't be used: delta-rs takes the % in it for a sign that is encoded")
    return files.as_uri(uri)
