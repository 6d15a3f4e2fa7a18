"""What a backfill has to do: which days of a range are done and right, which are not, and in what pieces to do them.

It looks at the tables' logs, at one column of days, and at what validation and sync have recorded of each day; features
themselves are read only of days that were written again since they were judged.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store import cost, inputs, small_table
from feature_store.calendar import DayRange
from feature_store.sync import certificates
from feature_store.sync.certificates import Certificate
from feature_store.sync.changes import Features, FeaturesError
from feature_store.validation import records
from feature_store.validation.records import Judged, RecordsError, Source
from feature_store.view import FeatureView

if TYPE_CHECKING:
    from deltalake import DeltaTable

CHUNK_ROWS = 500_000  # of features, of all views: minutes of work, which is what a crash can cost
# Measured on two cores with 5,500 households (benchmarks features, validation, sync), and of a step by itself.
FEATURIZE_ROWS, VALIDATE_ROWS, SYNC_ROWS, STEP_SECONDS = 60_000, 24_000, 4_400, 15.0  # rows a second, seconds
UNREACHABLE = re.compile(r"Generic \w+ error|timed out|onnection")  # what delta-rs says of a store that is not there
ENTITY_BYTES = 36  # of a name, for the price: as long as a UUID


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


# As people are told.
WORDS = {
    State.DONE: "done",
    State.MISSING: "missing",
    State.CHANGED: "of older readings",
    State.HELD_BACK: "held back by validation",
}


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


def chunks(days: Mapping[dt.date, int], most: int = CHUNK_ROWS) -> list[DayRange]:
    """Cut days into ranges of at most so many rows, or of a single day; days that are not asked for part them.

    Args:
        days: to be done, with their rows.
        most: rows of a range.
    """
    made: list[DayRange] = []
    held = 0
    for day in sorted(days):
        if made and made[-1].end + dt.timedelta(days=1) == day and held + days[day] <= most:
            made[-1] = DayRange(made[-1].start, day)
            held += days[day]
        else:
            made.append(DayRange(day, day))
            held = days[day]
    return made


def seconds(rows: int, parts: int, *, online: bool = True) -> float:
    """How long so many rows will take in so many chunks, about; without the cluster's start."""
    steps = [FEATURIZE_ROWS, VALIDATE_ROWS, *([SYNC_ROWS] if online else [])]
    return sum(rows / pace + parts * STEP_SECONDS for pace in steps)


def write_units(view: FeatureView, rows: int) -> int:
    """What bringing so many rows online takes, at most: those that are there already as they are cost nothing."""
    return rows * cost.write_units(cost.row_bytes(view, ENTITY_BYTES))


@dataclass(frozen=True)
class Outlook:
    """What a backfill of a range will do, of several views.

    Attributes:
        days: the range.
        reprocess: which days are done again.
        views: how far each has come.
        region: AWS', for the prices.
        chunk_rows: rows of a chunk, at most, unless a day has more.
        online: whether the days are brought online too.
    """

    days: DayRange
    reprocess: Reprocess
    views: Mapping[FeatureView, ViewDays]
    region: str
    chunk_rows: int = CHUNK_ROWS
    online: bool = True

    @cached_property
    def to_do(self) -> dict[dt.date, int]:
        """The days to do, of whichever view, in order; each with the rows of all views, as a chunk is of all."""
        wanted = sorted({day for each in self.views.values() for day in each.to_do(self.reprocess)})
        return {day: sum(each.rows.get(day, 0) for each in self.views.values()) for day in wanted}

    @cached_property
    def chunks(self) -> list[DayRange]:
        """The days to do in pieces, the oldest first."""
        return chunks(self.to_do, self.chunk_rows)

    @property
    def rows(self) -> int:
        """How many rows there are to do, of all views."""
        return sum(self.to_do.values())

    @property
    def minutes(self) -> float:
        """How long it will take, about; without the cluster's start."""
        return seconds(self.rows, len(self.chunks), online=self.online) / 60

    def units(self, view: FeatureView) -> int:
        """Write units, at most: rows that are online already as they are cost nothing, and old ones do not go there."""
        of = self.views[view]
        if not self.online:
            return 0
        oldest = dt.date.min if view.retention is None else of.newest - dt.timedelta(days=view.retention - 1)
        return write_units(view, sum(of.rows.get(day, 0) for day in self.to_do if day >= oldest))

    @property
    def left(self) -> str | None:
        """Say what is not right and left as it is; None if nothing is."""
        counted = Counter(state for of in self.views.values() for state in of.states.values())
        right = {State.DONE, *self.reprocess.states}
        said = [f"{counted[state]} {words}" for state, words in WORDS.items() if counted[state] and state not in right]
        return f"Left as they are, by view: days {', '.join(said)}." if said else None

    def as_json(self) -> dict[str, Any]:
        """Say it for programs: start, end, reprocess, chunks, and by view its days by state."""
        return {
            "start": str(self.days.start),
            "end": str(self.days.end),
            "reprocess": self.reprocess.value,
            "days_to_do": len(self.to_do),
            "rows": self.rows,
            "minutes": round(self.minutes, 1),
            "chunks": [{"start": str(each.start), "end": str(each.end), "days": len(each)} for each in self.chunks],
            "views": {
                view.name: {
                    "states": {
                        state.value: [str(day) for day, its in sorted(of.states.items()) if its is state]
                        for state in State
                    },
                    "affected": [str(day) for day in of.affected],
                    "write_units": self.units(view),
                    "dollars": cost.dollars(self.region, writes=self.units(view)),
                }
                for view, of in self.views.items()
            },
        }

    def lines(self) -> Iterator[str]:
        """Say it in words, line by line."""
        yield f"{self.days} ({len(self.days)} day(s)), reprocess {self.reprocess.value}:"
        for view, of in self.views.items():
            states = Counter(of.states.values())
            units = self.units(view)
            price = cost.dollars(self.region, writes=units)
            counted = ", ".join(f"{states[state]} {words}" for state, words in WORDS.items())
            yield (
                f"{view.name}: {len(of.states)} day(s) with readings: {counted}. Online at most {units:,} write units"
                f"{'' if price is None else f', ${price:.4f} on demand'}."
            )
            if of.affected:
                yield (
                    f"{view.name}: {len(of.affected)} day(s) after the range, {of.affected[0]} to {of.affected[-1]}, "
                    "are of older readings too: they are none of this run."
                )
        if self.left:
            yield self.left
        if not self.to_do:
            yield "There is nothing to do."
            return
        yield (
            f"To do: {len(self.to_do)} day(s), {self.rows:,} row(s), in {len(self.chunks)} chunk(s); about "
            f"{max(1, round(self.minutes))} minute(s) and the cluster's start."
        )


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
        raise BackfillError(f"{(str(error).strip() or type(error).__name__).splitlines()[0]}.") from error


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
