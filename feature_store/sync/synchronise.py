"""One view's days brought online, and proven to be: the doing of a plan, chunk after chunk, and the proof.

Each chunk is written, read back, compared and certified before the next, so a run that ends in between has lost nothing
but the chunk that it was at.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store import cost, keyspaces
from feature_store.calendar import DayRange, named
from feature_store.sync import cells, certificates
from feature_store.sync.certificates import Certificate
from feature_store.sync.changes import Changes, Features, FeaturesError, taken_away
from feature_store.sync.online_table import Compared, OnlineTable
from feature_store.sync.plan import Chunk, Plan

SAMPLE_ROWS = 10_000  # of a chunk's rows that did not change: so many are read back too, those of whole entities
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
                f"Another run has begun to bring {named(others)} online meanwhile: what is online of them is not "
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


def _usage(online: OnlineTable) -> tuple[int, int]:
    """How many rows were written and deleted so far."""
    return online.usage.rows_written, online.usage.rows_deleted


def _no_rows(changes: Changes) -> pa.Table:
    """No rows, with the columns of a view."""
    return changes.rows.select([column.name for column in changes.view.columns]).slice(0, 0)


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
