"""What a backfill has to do: which days of a range are done and right, and which are not.

It looks at the tables' logs, at one column of days, and at what validation and sync have recorded of each day; features
themselves are read only of days that were written again since they were judged.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store import files, inputs, small_table
from feature_store.calendar import DayRange
from feature_store.sync import certificates
from feature_store.sync.certificates import Certificate
from feature_store.sync.changes import Features, FeaturesError
from feature_store.validation import records
from feature_store.validation.records import Judged, RecordsError, Source
from feature_store.view import FeatureView

if TYPE_CHECKING:
    from deltalake import DeltaTable

UNREACHABLE = re.compile(r"Generic \w+ error|timed out|onnection")  # what delta-rs says of a store that is not there


class BackfillError(Exception):
    """What is there can't be looked at; the message says why."""


class Reprocess(Enum):
    """Which days are done: see `states`."""

    MISSING = "missing"
    STALE = "stale"
    CHANGED = "changed"
    ALL = "all"

    @property
    def states(self) -> set[State]:
        """The states of the days that are done."""
        return {
            Reprocess.MISSING: {State.MISSING},
            Reprocess.STALE: {State.CHANGED},
            Reprocess.CHANGED: {State.MISSING, State.CHANGED},
            Reprocess.ALL: {*State},
        }[self]


class State(Enum):
    """How far a day of a view has come."""

    MISSING = "missing"  # it has no features, or they were not validated or not brought online
    CHANGED = "changed"  # its features are of older readings
    DONE = "done"  # it has all of it, of the readings as they are
    HELD_BACK = "held back"  # validation holds it back; as it is now, it would again


@dataclass(frozen=True)
class ViewDays:
    """The days of a view, of those that have readings.

    Attributes:
        rows: of readings, and so of features, by day.
        states: by day.
        affected: days after the range that have features whose windows see readings of the range that have changed.
        newest: the newest day that is there or online, or the range's last; from it on back the retention counts.
    """

    rows: Mapping[dt.date, int]
    states: Mapping[dt.date, State]
    affected: Sequence[dt.date]
    newest: dt.date

    def to_do(self, reprocess: Reprocess) -> list[dt.date]:
        """The days to do, in order."""
        return sorted(day for day, state in self.states.items() if state in reprocess.states)


@dataclass(frozen=True)
class Store:
    """Where the tables are.

    Attributes:
        readings: URI or path of the readings.
        features: that of a view's features.
        online: the view's online table, KEYSPACE.TABLE; None where nothing is to be brought online.
    """

    readings: str
    features: str
    online: str | None


def look(store: Store, view: FeatureView, days: DayRange) -> ViewDays:
    """Look how far the days of a view have come.

    Args:
        store: where its tables are.
        view: the declaration.
        days: those that are asked for.

    Raises:
        BackfillError: a table can't be read.
    """
    with _explained():
        readings, features = small_table.open_table(store.readings), small_table.open_table(store.features)
        if readings is None:
            return ViewDays({}, {}, [], days.end)
        rows = _rows_by_day(readings, view, days)
        if features is None:
            return ViewDays(rows, dict.fromkeys(rows, State.MISSING), [], days.end)
        reach = DayRange(days.start, max(days.end, view.longest.last_day(days.end)))
        judged = records.sources(store.features, view, reach)
        there = _rows_by_day(features, view, reach)
        # Of all days: how old is too old for the online table goes by the newest.
        known = certificates.known(store.features, store.online) if store.online else {}
        stale = _stale(readings, view, judged, there)
        rewritten = _rewritten(store, view, features, {day: about for day, (_, about) in judged.items() if day in rows})
    newest = max([*known, *there], default=days.end)
    states = {}
    for day in {*rows, *(day for day in there if day <= days.end)}:
        if day not in rows:
            states[day] = State.CHANGED  # its readings were withdrawn, all of them
        elif day not in there or day not in judged or day in rewritten:
            states[day] = State.MISSING
        elif day in stale:
            states[day] = State.CHANGED
        elif judged[day][0].held_back:
            states[day] = State.HELD_BACK
        else:
            old = view.retention is not None and day <= newest - dt.timedelta(days=view.retention)
            done = old or store.online is None or _is_online(known.get(day), judged[day][1])
            states[day] = State.DONE if done else State.MISSING
    affected = [day for day in stale if day > days.end]
    return ViewDays({day: rows.get(day, 0) for day in states}, states, affected, newest)


def _is_online(certificate: Certificate | None, about: Source) -> bool:
    """Whether what was judged of a day, or what came after it, is proven to be online."""
    return (
        certificate is not None
        and not certificate.open
        and certificate.rows > 0
        and certificate.features_id == about.features_id
        and (certificate.features_version or 0) >= about.features_version
    )


def stale_days(store: Store, view: FeatureView, since: dt.date) -> list[dt.date]:
    """Find the days from `since` on whose features are of older readings; BackfillError if a table can't be read."""
    span = DayRange(since, dt.date.max)
    with _explained():
        readings, features = small_table.open_table(store.readings), small_table.open_table(store.features)
        if readings is None or features is None:
            return []
        judged = records.sources(store.features, view, span)
        return _stale(readings, view, judged, _rows_by_day(features, view, span))


class _Changes:
    """Which days' readings came, went or took another value after a version of the readings."""

    def __init__(self, readings: DeltaTable, view: FeatureView, versions: Iterable[int]) -> None:
        """Read the change feed from the oldest of these versions on; where it is gone, nothing older is known."""
        self._view = view
        self._newest = int(readings.version())
        self._known_from = 0
        self._at: dict[dt.date, int] = {}  # the newest version that has changed a day
        known = [version for version in versions if version <= self._newest]
        oldest = min(known, default=self._newest)
        if oldest < self._newest:
            self._read(readings, oldest)

    def seen(self, day: dt.date, version: int) -> bool:
        """Whether the longest window as of a day has a change since a version in it, as far as that is known."""
        if not self._known_from <= version <= self._newest:  # of a table before this one, or longer ago than is known
            return True
        first = self._view.longest.first_day(day)
        return any(at > version and first <= changed <= day for changed, at in self._at.items())

    def _read(self, readings: DeltaTable, oldest: int) -> None:
        from deltalake.exceptions import DeltaError  # noqa: PLC0415 - whoever has a table has the package

        view = self._view
        values = [measure.name for measure in view.measures]
        columns = [view.entity, view.day, *values, "_change_type", "_commit_version"]
        try:
            feed = pa.table(readings.load_cdf(starting_version=oldest + 1, columns=columns))
        except (DeltaError, pa.ArrowException, OSError) as error:
            if UNREACHABLE.search(str(error)):
                raise OSError(f"the change feed of {readings.table_uri} can't be read: {error}") from error
            # Never recorded, cleaned up or vacuumed: what was computed from older readings may be right, or not.
            self._known_from = self._newest
            return
        value = ", ".join(f'"{name}"' for name in values)
        with duckdb.connect() as database:
            database.register("feed", feed)
            # A merge that only takes a reading over into another file changes no value. Names are all that is put in.
            found = database.sql(
                f"""
                SELECT "{view.day}", max(_commit_version) FROM (
                    SELECT "{view.entity}", "{view.day}", _commit_version,
                        max(({value})) FILTER (_change_type IN ('delete', 'update_preimage')) AS b,
                        max(({value})) FILTER (_change_type IN ('insert', 'update_postimage')) AS a
                    FROM feed GROUP BY ALL
                ) WHERE a IS DISTINCT FROM b GROUP BY 1
                """  # noqa: S608
            ).fetchall()
        self._at = dict(found)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (RecordsError, inputs.InputError, OSError) as error:
        raise BackfillError(f"{files.first_line(error)}.") from error


def _stale(
    readings: DeltaTable,
    view: FeatureView,
    judged: Mapping[dt.date, tuple[Judged, Source]],
    there: Container[dt.date],
) -> list[dt.date]:
    """The days that are there, in whose windows readings have changed since they were computed; in order."""
    versions = {day: about.readings_version for day, (_, about) in judged.items() if day in there}
    changes = _Changes(readings, view, versions.values())
    return sorted(day for day, version in versions.items() if changes.seen(day, version))


def _rows_by_day(table: DeltaTable, view: FeatureView, days: DayRange) -> dict[dt.date, int]:
    within = (pc.field(view.day) >= days.start) & (pc.field(view.day) <= days.end)
    # No threads: see small_table.read.
    found = inputs.dataset(table, (view.day, days)).to_table(columns=[view.day], filter=within, use_threads=False)
    counted = found[view.day].combine_chunks().value_counts()
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def _rewritten(store: Store, view: FeatureView, table: DeltaTable, judged: Mapping[dt.date, Source]) -> set[dt.date]:
    """The days whose rows are not those that were judged: a run that ended in between has written them again."""
    doubtful: dict[int, list[dt.date]] = {}
    # A file of that version was written before its commit; the verdict came later, others may have written in between.
    committed = {each["version"]: _moment(each["timestamp"]) for each in table.history() if "timestamp" in each}
    for first, last, at in _written(table, view):
        for day, about in judged.items():
            if first <= day <= last and at > committed.get(about.features_version, about.judged_at):
                doubtful.setdefault(about.features_version, []).append(day)
    now = Features(store.features, view)
    found: set[dt.date] = set()
    for version, days in doubtful.items():
        try:
            changes = now.since(now.at(version), sorted(set(days)))
        except FeaturesError:  # vacuumed since: nobody can tell
            found |= set(days)
        else:
            found |= {day for rows in (changes.rows, changes.gone) for day in rows[view.day].to_pylist()}
    return found


def _written(table: DeltaTable, view: FeatureView) -> Iterator[tuple[dt.date, dt.date, dt.datetime]]:
    """Of each live file its first and last day, as far as the log says, and when it was written."""
    actions = pa.table(table.get_add_actions(flatten=True))
    for file in actions.to_pylist():
        first, last = file.get(f"min.{view.day}") or dt.date.min, file.get(f"max.{view.day}") or dt.date.max
        yield first, last, _moment(file["modification_time"])


def _moment(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
