"""What differs between two versions of a table of features: rows to write, rows to delete.

The versions' logs name their files. A file that both have holds nothing new: only the others are read, and rows that
were merely written again cancel out. So a day that was computed anew and has ten other rows comes to ten rows.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same
import pyarrow.dataset as ds  # type: ignore[import-untyped]  # the same

from feature_store import files, inputs, live_table
from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange
from feature_store.function import Type
from feature_store.sync import cells
from feature_store.sync.cells import Key
from feature_store.sync.online_table import Upsert
from feature_store.view import FeatureView

if TYPE_CHECKING:
    from deltalake import DeltaTable

WAS = "was_"  # before the name of a column: what it held


class FeaturesError(Exception):
    """The table of features can't be read; the message says which version and why."""


class GoneError(FeaturesError):
    """A version of it is gone for good: its log was cleaned up, or its files were vacuumed."""


@dataclass(frozen=True)
class Changes:
    """Rows to be brought online, in an order that spreads them over the table, and keys of rows to be taken away.

    Attributes:
        rows: the view's columns, and where the rows that they replace are known, these as `was_...`.
        gone: the view's keys.
    """

    view: FeatureView
    rows: pa.Table
    gone: pa.Table

    def __len__(self) -> int:
        """How many rows differ."""
        return int(self.rows.num_rows + self.gone.num_rows)

    def upserts(self) -> Iterator[Upsert]:
        """The rows to write, encoded."""
        if WAS + self.view.entity not in self.rows.column_names:
            return (Upsert(row, None) for row in cells.rows(self.rows, self.view.columns, cells.UNSET))
        new = cells.rows(self.rows, self.view.columns)
        was = self.rows.select([WAS + column.name for column in self.view.columns])
        old = cells.rows(was.rename_columns([column.name for column in self.view.columns]), self.view.columns)
        return (Upsert(*pair) for pair in zip(new, old, strict=True))

    def keys_gone(self) -> Iterator[Key]:
        """The keys to delete, encoded."""
        return map(cells.key, cells.rows(self.gone, self.view.keys))


class Features:
    """A table of features, at one version."""

    def __init__(
        self, uri: str, view: FeatureView, version: int | None = None, storage: Mapping[str, str] | None = None
    ) -> None:
        """Open it at a version, or the newest.

        Args:
            uri: a path, or s3://bucket/key.
            view: the declaration.
            version: which; None is the newest.
            storage: who asks S3, as delta-rs takes it; the environment says what is not in it.

        Raises:
            GoneError: the log no longer has that version.
            FeaturesError: there is no table, or delta-rs can't read it.
        """
        from deltalake import DeltaTable  # noqa: PLC0415 - whoever only declares views needs no Delta
        from deltalake.exceptions import DeltaError  # noqa: PLC0415

        self.uri, self.view, self._storage = uri, view, storage or {}
        if "%" in uri:
            raise FeaturesError(f"{uri} can't be used: delta-rs takes the % in it for a sign that is encoded")
        try:
            options = {**live_table.storage_options(os.environ), **self._storage}
            self._table: DeltaTable = DeltaTable(files.as_uri(uri), version=version, storage_options=options)
            self.id, self.version = str(self._table.metadata().id), int(self._table.version())
        except (DeltaError, OSError, ValueError) as error:
            if version is None:
                raise FeaturesError(f"{uri} can't be opened: {files.first_line(error)}") from error
            kind = GoneError if live_table.NO_SUCH_VERSION.search(str(error)) else FeaturesError
            raise kind(f"{uri} can't be opened at version {version}: {files.first_line(error)}") from error

    def at(self, version: int) -> Features:
        """The same table at another version; GoneError and FeaturesError as of __init__."""
        return self if version == self.version else Features(self.uri, self.view, version, self._storage)

    def size(self, days: DayRange) -> int:
        """Count the bytes of the files that may have rows of some days, by the table's log; no file is looked at."""
        asked = set(self._dataset(days).files)
        files_there = pa.table(self._table.get_add_actions()).select(["path", "size_bytes"]).to_pylist()
        return sum(each["size_bytes"] for each in files_there if each["path"] in asked)

    def days(self, days: DayRange) -> dict[dt.date, int]:
        """How many rows there are of each day that has any; FeaturesError if they can't be read."""
        day = self.view.day
        counted = self._read(self._dataset(days), days, None, [day]).group_by(day).aggregate([(day, "count")])
        return dict(sorted(zip(counted[day].to_pylist(), counted[f"{day}_count"].to_pylist(), strict=True)))

    @property
    def has_all_columns(self) -> bool:
        """Whether this version has every column of the view."""
        there = {field.name for field in self._table.schema().fields}
        return there >= {column.name for column in self.view.columns}

    def check(self, days: Sequence[dt.date]) -> None:
        """See whether the files of some days are there; GoneError if one is not, FeaturesError if it can't be read."""
        self.rows(days, columns=[key.name for key in self.view.keys])

    def rows(
        self, days: Sequence[dt.date], entities: pa.Array | None = None, *, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read the rows of some days, in the order of entity and day; FeaturesError if they can't be read.

        Args:
            days: which.
            entities: of these only, where given.
            columns: all of the view's, or just these, which have the keys among them.
        """
        span = DayRange(min(days), max(days))
        found = self._read(self._dataset(span), span, entities, columns)
        if len(span) > len(days):
            found = found.filter(pc.is_in(found[self.view.day], pa.array(list(days), pa.date32())))
        return found.take(pc.sort_indices(found, [(key.name, "ascending") for key in self.view.keys]))

    def since(self, before: Features, days: Sequence[dt.date]) -> Changes:
        """What has to be done to the rows of some days that are those of a version before.

        Raises:
            GoneError: that version's files are gone.
            FeaturesError: one of the versions can't be read as the view's.
        """
        span = DayRange(min(days), max(days))
        new, old = self._dataset(span), before._dataset(span)
        if not self._table.metadata().partition_columns:  # what a file's place says is lost where files are picked
            both = set(new.files) & set(old.files)
            new, old = _without(new, both), _without(old, both)
        of_days = pa.array(list(days), pa.date32())
        day = self.view.day
        tables = [
            each.filter(pc.is_in(each[day], of_days))
            for each in (self._read(new, span, None, None), before._read(old, span, None, None))
        ]
        return _changes(self.view, *tables)

    def all_of(self, days: Sequence[dt.date]) -> Changes:
        """Everything that there is of some days, as rows to write."""
        rows = self.rows(days)
        return Changes(self.view, _shuffled(rows), _no_keys(self.view))

    def _dataset(self, days: DayRange) -> ds.Dataset:
        try:
            return inputs.dataset(self._table, (self.view.day, days))
        except inputs.InputError as error:
            raise FeaturesError(f"{self.uri}: {error}") from error

    def _read(
        self, opened: ds.Dataset, days: DayRange, entities: pa.Array | None, columns: Sequence[str] | None
    ) -> pa.Table:
        where = (ds.field(self.view.day) >= days.start) & (ds.field(self.view.day) <= days.end)
        if entities is not None:
            where &= ds.field(self.view.entity).cast(pa.string()).isin(entities)
        wanted = schema(column for column in self.view.columns if columns is None or column.name in columns)
        if missing := [name for name in wanted.names if name not in opened.schema.names]:
            raise FeaturesError(f"{self.uri} has no column {missing[0]} at version {self.version}")
        try:
            return opened.to_table(columns=wanted.names, filter=where).cast(wanted)
        except FileNotFoundError as error:
            raise GoneError(
                f"{self.uri} has lost a file of version {self.version}: {files.first_line(error)}"
            ) from error
        except (OSError, pa.ArrowInvalid) as error:
            raise FeaturesError(
                f"{self.uri} can't be read at version {self.version}: {files.first_line(error)}"
            ) from error


def taken_away(view: FeatureView, keys: pa.Table) -> Changes:
    """No rows to write, and these to delete."""
    return Changes(view, schema(view.columns).empty_table(), keys.select([key.name for key in view.keys]))


def _changes(view: FeatureView, new: pa.Table, old: pa.Table) -> Changes:
    if not old.num_rows:
        return Changes(view, _shuffled(new), _no_keys(view))
    keys = [key.name for key in view.keys]
    same_key = " AND ".join(f'n."{key}" = o."{key}"' for key in keys)
    differs = " OR ".join(f'n."{column.name}" IS DISTINCT FROM o."{column.name}"' for column in view.columns)
    # To SQL a negative zero equals zero. What is online is compared by its bytes.
    doubles = [column.name for column in view.columns if column.type is Type.DOUBLE]
    differs += "".join(f' OR signbit(n."{name}") IS DISTINCT FROM signbit(o."{name}")' for name in doubles)
    was = ", ".join(f'o."{column.name}" AS "{WAS}{column.name}"' for column in view.columns)
    named = ", ".join(f'o."{key}"' for key in keys)
    with duckdb.connect() as database:
        database.register("n", new)
        database.register("o", old)
        # Names of columns are all that is put into the SQL.
        rows = database.sql(f"SELECT n.*, {was} FROM n LEFT JOIN o ON {same_key} WHERE {differs}").to_arrow_table()  # noqa: S608
        gone = database.sql(f"SELECT {named} FROM o ANTI JOIN n ON {same_key}").to_arrow_table()  # noqa: S608
    return Changes(view, _shuffled(rows), gone)


def _shuffled(rows: pa.Table) -> pa.Table:
    """Keyspaces keeps an entity's rows in one place, which takes 1,000 rows a second: so none is written in a row."""
    return rows.take(pa.array(np.random.default_rng().permutation(rows.num_rows)))


def _no_keys(view: FeatureView) -> pa.Table:
    return schema(view.keys).empty_table()


def _without(opened: ds.Dataset, others: set[str]) -> ds.Dataset:
    chosen = [file for file in opened.files if file not in others]
    return ds.dataset(chosen, schema=opened.schema, format="parquet", filesystem=opened.filesystem)
