"""Tables of features as they were: one version for all events, or for each event the one that was there."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.dataset as ds  # type: ignore[import-untyped]  # the same
import pyarrow.fs  # type: ignore[import-untyped]  # the same

from feature_store import files, inputs, live_table
from feature_store.arrow_readings import ARROW, is_text
from feature_store.calendar import DayRange
from feature_store.function import Type
from feature_store.small_table import RecordsError
from feature_store.training.errors import TrainingError
from feature_store.training.events import Whole
from feature_store.training.options import Asked, Options
from feature_store.training.record import Version, ViewRecord, declaration_digest
from feature_store.validation import records
from feature_store.view import Column

if TYPE_CHECKING:
    from deltalake import DeltaTable

EVER = DayRange(dt.date.min, dt.date.max)
NEVER_KNOWN = -1  # the place of a version, for an event before the first


class TableError(TrainingError):
    """A table of features can't be read, or is not the view's; the message says which and why."""


class VersionGoneError(TableError):
    """A version is gone for good: its log was cleaned up, or its files were vacuumed."""


@dataclass(frozen=True)
class Table:
    """A table of features, at one version."""

    uri: str
    version: int
    id: str
    delta: DeltaTable

    def dataset(self, day: str, days: DayRange) -> ds.Dataset:
        """Open the files that may have rows of some days."""
        try:
            return inputs.dataset(self.delta, (day, days))
        except inputs.InputError as error:
            raise TableError(str(error)) from error

    def check(self, columns: Sequence[Column]) -> None:
        """See whether the columns are there; TableError if one is not, or is of another type."""
        there = {field.name: field.type for field in pa.schema(self.delta.schema().to_arrow())}
        for column in columns:
            kind = there.get(column.name)
            if kind is None:
                raise TableError(f"{self.uri} has no column {column.name} at version {self.version}")
            if kind != ARROW[column.type] and not (column.type is Type.TEXT and is_text(kind)):
                raise TableError(
                    f"column {column.name} of {self.uri} is {kind} at version {self.version}, not {column.type.cql}"
                )

    def lost(self, opened: ds.Dataset) -> str | None:
        """Name a file that is there no more, if one is not."""
        infos = opened.filesystem.get_file_info(opened.files)
        gone = [info.path for info in infos if info.type == pyarrow.fs.FileType.NotFound]
        return gone[0] if gone else None


def open_table(uri: str, version: int | None = None) -> Table:
    """Open a table at a version, or the newest.

    Raises:
        VersionGoneError: the log does not have that version.
        TableError: there is no table, or it can't be opened.
    """
    from deltalake import DeltaTable  # noqa: PLC0415 - whoever only declares views needs no Delta
    from deltalake.exceptions import DeltaError, TableNotFoundError  # noqa: PLC0415

    if "%" in uri:
        raise TableError(f"{uri} can't be used: delta-rs takes the % in it for a sign that is encoded")
    try:
        options = live_table.storage_options(os.environ)
        delta = DeltaTable(files.as_uri(uri), version=version, storage_options=options)
        return Table(uri, int(delta.version()), str(delta.metadata().id), delta)
    except TableNotFoundError as error:
        raise TableError(f"{uri} is not a Delta table") from error
    except (DeltaError, OSError, ValueError) as error:
        said = files.first_line(error)
        if version is not None and live_table.NO_SUCH_VERSION.search(str(error)):
            raise VersionGoneError(f"{uri} has no version {version}, or no longer: {said}") from error
        raise TableError(f"{uri} can't be opened: {said}") from error


def unreadable(table: Table, opened: ds.Dataset, error: Exception) -> TableError:
    """Say why reading a table has failed."""
    if lost := table.lost(opened):
        return VersionGoneError(f"{table.uri} has lost a file of version {table.version}: {lost}")
    said = files.first_line(error)
    return TableError(f"{table.uri} can't be read at version {table.version}: {said}")


def taken(asked: Asked, options: Options, moments: Whole) -> ViewRecord:
    """Settle of which table, versions and days a view's features are taken, and write it down.

    Raises:
        TableError: there is no such table, or it was not there yet, or its log does not go back so far.
    """
    newest = open_table(asked.uri)
    try:
        versions = _versions(asked, options, newest, moments)
        held = () if options.held_back else tuple(sorted(records.held_back(asked.uri, asked.view, EVER)))
    except live_table.LiveTableError as error:
        raise TableError(str(error).rstrip(".")) from error
    except (RecordsError, ValueError) as error:
        raise TableError(f"which days of {asked.view.name} are held back can't be read: {error}") from error
    return ViewRecord(
        name=asked.view.name,
        declaration=declaration_digest(asked.view),
        uri=asked.uri,
        id=newest.id,
        keys=asked.view.keys,
        features=asked.columns,
        versions=versions,
        held_back=held,
    )


def _versions(asked: Asked, options: Options, newest: Table, moments: Whole) -> tuple[Version, ...]:
    if asked.version is not None:
        if options.as_known or options.known_on is not None:
            raise TableError(f"a version of {asked.view.name} is given, and what was known then is another: give one")
        return (Version(asked.version),)
    if options.known_on is not None:
        return (Version(live_table.version_known_on(asked.uri, options.known_on)),)
    return _as_known(asked.uri, moments) if options.as_known else (Version(newest.version),)


def _as_known(uri: str, moments: Whole) -> tuple[Version, ...]:
    """The versions that were the newest just before one of the moments, the oldest first."""
    found: list[Version] = []
    commits = sorted(live_table.commits(uri))
    for number, said in commits:
        if said is None:
            continue
        known: dt.datetime | None = said
        # One clock is ahead, or another behind, where a version says that it is older than one before it, which it
        # holds: it is known when that is, and that was never the newest.
        if found and said <= found[-1].committed:  # type: ignore[operator]  # all of these have one
            known = found.pop().committed
        found.append(Version(number, known))
    if not found:
        raise TableError(f"no version of {uri} says when it was committed: what was known can't be told")
    oldest = commits[0][0]
    places = places_of(tuple(found), moments)
    if oldest and len(places) and places.min() == NEVER_KNOWN:
        raise VersionGoneError(f"the log of {uri} begins with version {oldest}: what was known before is there no more")
    return tuple(found[place] for place in np.unique(places) if place != NEVER_KNOWN)


def places_of(versions: tuple[Version, ...], moments: Whole) -> Whole:
    """Of each moment, which of the versions it knows; NEVER_KNOWN for one before all of them.

    Args:
        versions: one, for all moments; or several with the moments of their commits, the oldest first.
        moments: in microseconds since 1970, in UTC.
    """
    if len(versions) == 1 and versions[0].committed is None:
        return np.zeros(len(moments), np.int64)
    committed = [version.microseconds for version in versions]
    places: Whole = np.searchsorted(np.array(committed, np.int64), moments, "left") - 1
    return places
