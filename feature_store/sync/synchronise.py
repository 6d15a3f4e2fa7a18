"""One view's days brought online, and proven to be: what is to be done, the doing, the proof.

Days are dealt with in chunks that fit into memory, the newest first: each is written, read back, compared and certified
before the next, so a run that ends in between has lost nothing but the chunk that it was at.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store import cost, keyspaces
from feature_store.calendar import DayRange
from feature_store.sync import cells, certificates
from feature_store.sync.certificates import Certificate
from feature_store.sync.changes import Changes, Features, FeaturesError, taken_away
from feature_store.sync.online_table import Compared, OnlineTable, part_of
from feature_store.view import FeatureView

CHUNK_ROWS = 500_000  # of 24 columns: some 100 MB, and as much again while two versions are compared
SAMPLE_ROWS = 10_000  # of a chunk's rows that did not change: so many are read back too, those of whole entities
PART_ROWS = 2_000_000  # of Delta, that are held while a part of the whole table is compared
EXAMPLES = 5

log = logging.getLogger(__name__)


class SyncError(Exception):
    """The days can't be brought online; the message says why, and what is online of them now."""


class CertificateError(SyncError):
    """The days were written, and still are not online as Delta has them; `outcome` has the figures."""

    def __init__(self, sentence: str, outcome: Outcome) -> None:
        """Keep what was done."""
        super().__init__(sentence)
        self.outcome = outcome


@dataclass(frozen=True)
class Chunk:
    """Days that are dealt with at once: all of one kind.

    Attributes:
        days: in order.
        since: the version of the features that is online of them; None if none is, or if that is not certain.
        unsure: whether something else may be online of them, so that it has to be looked at first.
        leaves: whether they are to leave the online table.
    """

    days: tuple[dt.date, ...]
    since: int | None
    unsure: bool
    leaves: bool

    def __str__(self) -> str:
        """Name its days, as messages do."""
        return str(DayRange(self.days[0], self.days[-1]))


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        chunks: days to bring online, or to take away.
        too_old: days that are older than what the online table holds: nothing is written of them.
        newer: days of which another run has brought later features online.
        rows: of Delta, by day, of those that are to be online.
    """

    chunks: list[Chunk] = field(default_factory=list)
    too_old: list[dt.date] = field(default_factory=list)
    newer: list[dt.date] = field(default_factory=list)
    rows: dict[dt.date, int] = field(default_factory=dict)


@dataclass
class Outcome:
    """What was done.

    Attributes:
        rows_online: of the days, all of which are certified.
        planned: rows that differed from what is online, before the first was written; None until that is known.
        planned_units: what their writing takes.
        compared: rows that were read back.
        differences: of these, those that were not as they should be after the writing.
        repaired: of these, those that were mended and then were.
        certified: days.
        left: days that have left the online table.
    """

    rows_online: int = 0
    planned: int | None = None
    planned_units: int = 0
    compared: int = 0
    differences: int = 0
    repaired: int = 0
    certified: list[dt.date] = field(default_factory=list)
    left: list[dt.date] = field(default_factory=list)


def plan(
    features: Features, known: Mapping[dt.date, Certificate], days: DayRange | None, held_back: Collection[dt.date]
) -> Plan:
    """Decide what becomes of each day.

    Args:
        features: as they are to be online.
        known: what is online of any day.
        days: that are to be brought online; None brings those up to date that are online.
        held_back: of these, those that must not be: what is online of them stays.

    Raises:
        FeaturesError: the features can't be read.
    """
    view = features.view
    span = days or (DayRange(min(known), max(known)) if known else None)
    rows = {
        day: count
        for day, count in (features.days(span) if span else {}).items()
        if day not in held_back and (days or day in known)
    }
    online = [day for day, each in known.items() if each.rows or each.open]
    newest = max([*rows, *online], default=None)
    oldest = dt.date.min
    if view.retention is not None and newest is not None:
        oldest = newest - dt.timedelta(days=view.retention - 1)
    made = Plan(too_old=[day for day in rows if day < oldest])
    # Also days that Delta no longer has: of those, everything that is online has to go.
    asked = {*rows, *(day for day in known if span and span.start <= day <= span.end and day not in held_back)}
    wanted: dict[dt.date, Chunk] = {}
    for day in sorted(day for day in asked if day >= oldest):
        there = known.get(day)
        if there and there.features_id == features.id and (there.features_version or -1) > features.version:
            made.newer.append(day)
        else:
            wanted[day] = _kind(day, there, features.id, leaves=False)
    made.rows = {day: rows.get(day, 0) for day in wanted}
    leaving = {day: _kind(day, known[day], features.id, leaves=True) for day in sorted(online) if day < oldest}
    made.chunks = [*_chunks(wanted, made.rows), *_chunks(leaving, {day: known[day].rows for day in leaving})]
    return made


@dataclass
class Sync:
    """The doing of a plan."""

    features: Features
    online: OnlineTable
    known: Mapping[dt.date, Certificate]
    region: str
    budget: float | None = None  # dollars
    changed_only: bool = False  # what did not change is not looked at either
    outcome: Outcome = field(default_factory=Outcome)
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)

    def run(self, made: Plan) -> Outcome:
        """Do it, chunk after chunk.

        Raises:
            SyncError: it would cost more than the budget, or a row is none that Keyspaces takes: nothing was written;
                or another run was at the same days.
            CertificateError: what is online is not what Delta has.
            FeaturesError: the features can't be read.
            OnlineError: the online table can't be read or written.
            RecordsError: the certificates can't be.
        """
        work = [(chunk, *self._changes(chunk)) for chunk in made.chunks[:1]]
        self._estimate(work[0][1] if len(made.chunks) == 1 else None, made)
        for chunk in made.chunks:
            changes, certain = work.pop()[1:] if work else self._changes(chunk)
            self._chunk(chunk, changes, made, certain=certain)
        return self.outcome

    def _changes(self, chunk: Chunk) -> tuple[Changes, bool]:
        """What has to be done to a chunk, and whether that is certain; if not, what is online decides."""
        view = self.features.view
        if chunk.leaves:
            return taken_away(view, self._keys_online(chunk)), not chunk.unsure
        if chunk.unsure or chunk.since is None:
            return self.features.all_of(chunk.days), not chunk.unsure
        try:
            return self.features.since(self.features.at(chunk.since), chunk.days), True
        except FeaturesError as gone:
            log.info("%s: %s: what is online is looked at instead.", chunk, gone)
            return self.features.all_of(chunk.days), False

    def _keys_online(self, chunk: Chunk) -> pa.Table:
        """Keys that may be online of days: those of any version that was ever brought there, as far as it is known."""
        versions = {self.features.version}
        for day in chunk.days:
            if there := self.known.get(day):
                versions |= {each for each in (there.features_version, there.begun_version) if each is not None}
        names = [key.name for key in self.features.view.keys]
        found = []
        for version in sorted(versions):
            try:
                found.append(self.features.at(version).rows(chunk.days, columns=names))
            except FeaturesError as gone:  # vacuumed since
                log.info("%s: %s: its keys are those of the other versions.", chunk, gone)
        return pa.concat_tables(found).group_by(names).aggregate([]).sort_by([(name, "ascending") for name in names])

    def _estimate(self, changes: Changes | None, made: Plan) -> None:
        """Say what the writing will cost, and refuse it where that is more than may be spent."""
        counted = [changes] if changes is not None else (self._changes(chunk)[0] for chunk in made.chunks)
        rows = units = 0
        for each in counted:
            _check_keys(each)
            rows += len(each)
            units += each.rows.num_rows * _units_a_row(each) + each.gone.num_rows
        self.outcome.planned, self.outcome.planned_units = rows, units
        price = cost.dollars(self.region, writes=units)
        said = "of a region whose prices are not known here" if price is None else f"${price:.4f} on demand"
        log.info("%s row(s) differ at most: %s write units, %s.", f"{rows:,}", f"{units:,}", said)
        if self.budget is None:
            return
        if price is None:
            raise SyncError(
                f"Whether {units:,} write units keep to the budget can't be told: feature_store/cost.py has no prices "
                f"of {self.region}. Nothing was written."
            )
        if price > self.budget:
            raise SyncError(
                f"Bringing {rows:,} row(s) online would take {units:,} write units, ${price:.2f}, and the budget is "
                f"${self.budget:.2f}. Nothing was written. Next: fewer days, or a larger budget."
            )

    def _chunk(self, chunk: Chunk, changes: Changes, made: Plan, *, certain: bool) -> None:
        """Write a chunk, prove it, certify it."""
        if self.changed_only and certain and not len(changes):
            return
        before = _usage(self.online)
        if len(changes) or not certain:
            self._begin(chunk)
        if certain:
            self._do(changes)
        total = sum(made.rows.get(day, 0) for day in chunk.days)
        compared = self._compare(chunk, changes, total, everything=not certain)
        differences = compared.differences
        if not certain:
            log.info("%s: %d row(s) online are not as they should be: written.", chunk, differences)
        elif differences:
            log.warning("%s: %d row(s) online are not what was written: repaired.", chunk, differences)
        if differences:
            self._begin(chunk)
            self._mend(compared)
            again = self._compare_again(chunk, compared)
            if again.differences:
                self.outcome.differences += again.differences
                raise CertificateError(self._difference(chunk, again), self.outcome)
        self._certify(chunk, made, compared, before, repaired=differences if certain else 0)

    def _do(self, changes: Changes) -> None:
        if changes.rows.num_rows:
            self.online.write(changes.upserts(), changes.rows.num_rows)
        if changes.gone.num_rows:
            self.online.delete(changes.keys_gone(), changes.gone.num_rows)

    def _mend(self, compared: Compared) -> None:
        if compared.upserts:
            order = np.random.default_rng().permutation(len(compared.upserts))
            self.online.write((compared.upserts[at] for at in order), len(compared.upserts))
        if compared.left_over:
            self.online.delete(iter(compared.left_over), len(compared.left_over))

    def _compare(self, chunk: Chunk, changes: Changes, total: int, *, everything: bool) -> Compared:
        """Read back what was written and taken away, and a sample of what was not; or everything."""
        view = self.features.view
        entity = view.entity
        of_changes = pa.concat_tables([changes.rows.select([entity]), changes.gone.select([entity])])
        touched = pc.unique(of_changes[entity].combine_chunks())
        if chunk.leaves:
            return self._compare_entities(chunk, _no_rows(changes), touched)
        if everything or total - changes.rows.num_rows <= SAMPLE_ROWS:
            wanted = self.features.rows(chunk.days)
            if everything and chunk.unsure:
                keys = self._keys_online(chunk)
                touched = pc.unique(pa.chunked_array([touched, *keys[entity].chunks]).combine_chunks())
            return self._compare_entities(chunk, wanted, touched)
        keys = self.features.rows(chunk.days, columns=[key.name for key in view.keys])
        sample = _sample(keys[entity], touched, SAMPLE_ROWS)
        both = pa.concat_arrays([touched.cast(pa.string()), sample])
        return self._compare_entities(chunk, self.features.rows(chunk.days, both), touched)

    def _compare_entities(self, chunk: Chunk, wanted: pa.Table, more: pa.Array) -> Compared:
        """Compare all entities of these rows, and others that should have none."""
        entity = self.features.view.entity
        there = pc.unique(wanted[entity].combine_chunks()) if wanted.num_rows else pa.array([], pa.string())
        others = more.filter(pc.invert(pc.is_in(more, there))) if len(more) else more

        def each() -> Iterator[tuple[bytes, list[cells.Row]]]:
            yield from cells.by_entity(wanted, entity, self.features.view.columns)
            for name in others.to_pylist():
                yield name.encode(), []

        return self.online.compare(each(), len(there) + len(others), chunk.days)

    def _compare_again(self, chunk: Chunk, compared: Compared) -> Compared:
        """Read the entities again that were mended."""
        entities = {key for key, _ in compared.left_over} | {each.row[0] or b"" for each in compared.upserts}
        names = pa.array(sorted(entity.decode() for entity in entities), pa.string())
        wanted = self.features.rows(chunk.days, names) if not chunk.leaves else _no_rows(self._no_changes())
        return self._compare_entities(chunk, wanted, names)

    def _no_changes(self) -> Changes:
        return taken_away(self.features.view, pa.table({key.name: [] for key in self.features.view.keys}))

    def _begin(self, chunk: Chunk) -> None:
        """Leave a note before the first write: until the days are certified, nobody knows what is online of them."""
        begun = [
            replace(
                self.known.get(day) or Certificate(day, self.features.id),
                begun_version=self.features.version,
                attempt=self.attempt,
            )
            for day in chunk.days
        ]
        certificates.record(self.features.uri, self.online.name, begun)

    def _certify(self, chunk: Chunk, made: Plan, compared: Compared, before: tuple[int, int], *, repaired: int) -> None:
        now = certificates.known(self.features.uri, self.online.name, DayRange(chunk.days[0], chunk.days[-1]))
        others = [day for day in chunk.days if (there := now.get(day)) and there.attempt not in {None, self.attempt}]
        if others:
            self._begin(chunk)  # what is online may be either run's
            raise SyncError(
                f"Another run has begun to bring {_few(others)} online meanwhile: what is online of them is not "
                "certain. Run this again when that has ended."
            )
        self.outcome.compared += compared.rows
        self.outcome.differences += repaired
        self.outcome.repaired += repaired
        if chunk.leaves:
            certificates.forget(self.features.uri, self.online.name, chunk.days)
            self.outcome.left += chunk.days
            return
        written, deleted = (after - was for after, was in zip(_usage(self.online), before, strict=True))
        moment = dt.datetime.now(dt.UTC)
        made_now = [
            Certificate(
                day,
                self.features.id,
                self.features.version,
                rows=made.rows[day],
                written=written,
                deleted=deleted,
                compared=compared.rows,
                differences=repaired,
                repaired=repaired,
                certified_at=moment,
            )
            for day in chunk.days
        ]
        certificates.record(self.features.uri, self.online.name, made_now)
        self.outcome.rows_online += sum(made.rows[day] for day in chunk.days)
        self.outcome.certified += chunk.days

    def _difference(self, chunk: Chunk, compared: Compared) -> str:
        missing = f"{compared.missing} missing, " if compared.missing else ""
        rows = [each.row[:2] for each in compared.upserts[:EXAMPLES]] + compared.left_over[:EXAMPLES]
        some = ", ".join(cells.named(*row) for row in rows[:EXAMPLES])
        return (
            f"{self.online.name} is not what {self.features.uri} has of {chunk}, after a repair: {missing}"
            f"{len(compared.upserts) - compared.missing} different, {len(compared.left_over)} left over "
            f"(such as {some}). Does something else write to the table?"
        )


def compare_whole(
    features: Features, online: OnlineTable, known: Mapping[dt.date, Certificate], *, mend: bool
) -> tuple[Compared, list[dt.date]]:
    """Compare the whole online table with what was certified of its days, and mend it if asked to.

    Args:
        features: at any version.
        online: the table.
        known: its certificates.
        mend: whether to write what is missing or different, and to delete what should not be there.

    Returns:
        What was found, summed up (with some of the rows), and the days that could not be looked at: a run has begun
        with them and not ended, or the version that is online of them is gone from Delta.

    Raises:
        FeaturesError: the features can't be read.
        OnlineError: the table can't be.
    """
    by_version: dict[int, list[dt.date]] = {}
    unsure = sorted(day for day, each in known.items() if each.open or each.features_id != features.id)
    for day, each in known.items():
        if day not in unsure and each.rows and each.features_version is not None:
            by_version.setdefault(each.features_version, []).append(day)
    tables = []
    for version, days in sorted(by_version.items()):
        try:
            at = features.at(version)
            at.rows(days, columns=[key.name for key in features.view.keys])  # its files are there
        except FeaturesError as gone:
            log.warning("%s: of %s, nothing can be compared.", gone, _few(days))
            unsure += days
        else:
            tables.append((at, sorted(days)))
    passed_over = {cells.day_bytes(day) for day in unsure}
    parts = max(1, -(-sum(each.rows for each in known.values()) // PART_ROWS))
    found = Compared()
    for part in range(parts):
        compared = online.compare_all(_part(tables, features.view, part, parts), part, parts)
        compared.left_over = [key for key in compared.left_over if key[1] not in passed_over]
        found.rows += compared.rows
        found.missing += compared.missing
        found.upserts += compared.upserts
        found.left_over += compared.left_over
        if mend and compared.differences:
            online.write(iter(compared.upserts), len(compared.upserts))
            online.delete(iter(compared.left_over), len(compared.left_over))
    return found, sorted(unsure)


def _part(
    tables: Sequence[tuple[Features, Sequence[dt.date]]], view: FeatureView, part: int, parts: int
) -> dict[bytes, list[cells.Row]]:
    """Read the rows that should be online of the entities of a part."""
    wanted: dict[bytes, list[cells.Row]] = {}
    for at, days in tables:
        chosen = None
        if parts > 1:
            names = pc.unique(at.rows(days, columns=[key.name for key in view.keys])[view.entity].combine_chunks())
            mask = [part_of(name.encode(), parts) == part for name in names.to_pylist()]
            chosen = names.filter(pa.array(mask, pa.bool_()))
        for entity, rows in cells.by_entity(at.rows(days, chosen), view.entity, view.columns):
            wanted.setdefault(entity, []).extend(rows)
    return wanted


def _usage(online: OnlineTable) -> tuple[int, int]:
    """How many rows were written and deleted so far."""
    return online.usage.rows_written, online.usage.rows_deleted


def _no_rows(changes: Changes) -> pa.Table:
    """No rows, with the columns of a view."""
    return changes.rows.select([column.name for column in changes.view.columns]).slice(0, 0)


def _kind(day: dt.date, there: Certificate | None, features_id: str, *, leaves: bool) -> Chunk:
    """A chunk of one day; those of one kind are put together."""
    if there is None:
        return Chunk((day,), None, unsure=False, leaves=leaves)
    unsure = there.open or there.features_id != features_id or there.features_version is None
    return Chunk((day,), None if unsure else there.features_version, unsure, leaves)


def _chunks(days: Mapping[dt.date, Chunk], rows: Mapping[dt.date, int]) -> list[Chunk]:
    """Put days of one kind together, as far as they fit; the newest come first."""
    made: list[Chunk] = []
    held = 0
    for day, each in sorted(days.items(), reverse=True):
        last = made[-1] if made else None
        alike = last and (last.since, last.unsure) == (each.since, each.unsure)
        if last and alike and held + rows[day] <= CHUNK_ROWS:
            made[-1] = replace(last, days=(day, *last.days))
            held += rows[day]
        else:
            made.append(each)
            held = rows[day]
    return made


def _sample(entities: pa.ChunkedArray, without: pa.Array, most: int) -> pa.Array:
    """Choose entities at random that have about so many rows together."""
    counted = entities.combine_chunks().value_counts()
    names, counts = counted.field("values"), counted.field("counts")
    others = pc.invert(pc.is_in(names, without))
    names, counts = names.filter(others), counts.filter(others).to_numpy(zero_copy_only=False)
    order = np.random.default_rng().permutation(len(names))
    chosen = order[: int(np.searchsorted(np.cumsum(counts[order]), most, side="right"))]
    return names.take(pa.array(chosen)).cast(pa.string())


def _units_a_row(changes: Changes) -> int:
    longest = pc.max(pc.binary_length(changes.rows[changes.view.entity])).as_py() or 0
    return cost.write_units(cost.row_bytes(changes.view, longest))


def _check_keys(changes: Changes) -> None:
    """Refuse keys that Keyspaces has no row for, before anything is written."""
    entity = changes.rows[changes.view.entity]
    length = pc.fill_null(pc.binary_length(entity), 0)
    wrong = pc.or_(pc.equal(length, 0), pc.greater(length, keyspaces.ENTITY_BYTES))
    wrong = pc.or_(wrong, pc.is_null(changes.rows[changes.view.day]))
    bad = changes.rows.filter(wrong)
    if bad.num_rows:
        some = ", ".join(
            f"{str(row[changes.view.entity])[:40]!r} {row[changes.view.day]}"
            for row in bad.slice(0, EXAMPLES).select([key.name for key in changes.view.keys]).to_pylist()
        )
        raise SyncError(
            f"{bad.num_rows} row(s) have a key that Keyspaces can't hold (such as {some}): {changes.view.entity} has "
            f"to have 1 to {keyspaces.ENTITY_BYTES} bytes. Nothing was written."
        )


def _few(days: Sequence[dt.date]) -> str:
    return ", ".join(map(str, islice(days, EXAMPLES))) + (", ..." if len(days) > EXAMPLES else "")
