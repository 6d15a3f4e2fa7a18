"""One view's days brought online, and proven to be: the doing of a plan, chunk after chunk, and the proof.

Each chunk is written, read back, compared and certified before the next, so a run that ends in between has lost nothing
but the chunk that it was at.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store import keyspaces
from feature_store.calendar import named
from feature_store.sync import cells, certificates, whole
from feature_store.sync.budget import Budget
from feature_store.sync.certificates import Certificate, OvertakenError
from feature_store.sync.changes import Changes, Features, GoneError, taken_away
from feature_store.sync.online_table import Compared, OnlineTable
from feature_store.sync.plan import Chunk, Plan
from feature_store.sync.proof import Proof

EXAMPLES = 5

log = logging.getLogger(__name__)


class SyncError(Exception):
    """The days can't be brought online; the message says why, and what is online of them now."""


class CertificateError(SyncError):
    """The days were written, and still are not online as Delta has them."""


@dataclass
class Outcome:
    """What was done.

    Attributes:
        rows_online: of the days, all of which are certified.
        planned: rows that differed from what was certified, before they were written; those of days of which nobody
            knew what was online are not among them.
        planned_units: what their writing takes.
        compared: rows that were read back.
        differences: of these, those that were not as they should be.
        repaired: of these, those that were mended and then were.
        certified: days.
        left: days that have left the online table.
    """

    rows_online: int = 0
    planned: int = 0
    planned_units: int = 0
    compared: int = 0
    differences: int = 0
    repaired: int = 0
    certified: list[dt.date] = field(default_factory=list)
    left: list[dt.date] = field(default_factory=list)


@dataclass
class Sync:
    """The doing of a plan, and of a look at the whole table.

    Attributes:
        features: as they are to be online.
        online: the table.
        known: its certificates; those of days that are dealt with are kept up to date here.
        budget: what may be spent on writing.
        changed_only: what did not change is not looked at either.
        outcome: what was done so far.
        attempt: the name of this run, in its marks.
    """

    features: Features
    online: OnlineTable
    known: dict[dt.date, Certificate]
    budget: Budget
    changed_only: bool = False
    outcome: Outcome = field(default_factory=Outcome)
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)

    @cached_property
    def proof(self) -> Proof:
        """What compares."""
        return Proof(self.features, self.online, self.known)

    def run(self, made: Plan) -> Outcome:
        """Do it, chunk after chunk.

        Raises:
            BudgetError: it would cost more than may be spent.
            SyncError: a row is none that Keyspaces takes, or another run was at the same days meanwhile.
            CertificateError: what is online is not what Delta has.
            FeaturesError: the features can't be read.
            OnlineError: the online table can't be read or written.
            RecordsError: the certificates can't be.
        """
        if self.budget.dollars is not None:  # all of it, before the first row is written
            rows = units = 0
            for chunk in made.chunks:
                if (changes := self._changes(chunk)) is not None:
                    rows, units = rows + len(changes), units + self._units(changes)
            self.budget.check(rows, units, self.online.usage)
        for chunk in made.chunks:
            with self._overtaken():
                self._chunk(chunk, made)
        return self.outcome

    def whole(self, held_back: Collection[dt.date]) -> tuple[whole.Found, Sequence[dt.date]]:
        """Compare the whole online table with what was certified of its days, and mend it.

        Days of which that is not known are brought to the features' version.

        Args:
            held_back: days whose current rows must not go online.

        Returns:
            What was found, and the days that could not be looked at: those of which it is not known, and held back.

        Raises:
            CertificateError: it still differs after it was mended.
            BudgetError, SyncError, FeaturesError, OnlineError, RecordsError: as `run`.
        """
        it = whole.wanted(self.features, self.known, held_back)
        with self._overtaken():
            found = whole.compare_all(it, self.online, self.known, self._mend)
            if found.days:
                again = whole.compare_all(it, self.online, self.known, None)
                if again.days:
                    raise CertificateError(
                        f"{self.online.name} still differs from Delta in {sum(again.days.values())} row(s) of "
                        f"{named(sorted(again.days))} after a repair. Does something else write to the table?"
                    )
            current = {day: found.rows[day] for day in it.current}
            mended = {day: self.known[day].rows for day in found.days if day not in current and day in it.days}
            self._record({**mended, **current}, found.days, {day: self.known[day].features_version for day in mended})
            self._forget([day for day in found.days if day not in it.days])
        return found, it.unsure

    def _changes(self, chunk: Chunk) -> Changes | None:
        """What has to be done to a chunk; None if what is online has to be looked at first."""
        if chunk.unsure:
            return None
        if chunk.leaves:
            keys = self.proof.keys_online(chunk)
            return None if keys is None else taken_away(self.features.view, keys)
        if chunk.since is None:
            return self.features.all_of(chunk.days)
        try:
            before = self.features.at(chunk.since)
            # A feature was added since: of all rows.
            return self.features.since(before, chunk.days) if before.has_all_columns else None
        except GoneError as gone:
            log.info("%s: %s: what is online is looked at instead.", chunk, gone)
            return None

    def _chunk(self, chunk: Chunk, made: Plan) -> None:
        """Write a chunk, prove it, certify it."""
        changes = self._changes(chunk)
        if changes is None:
            compared = self.proof.of_all(chunk)
            if compared.differences:
                log.info("%s: %d row(s) online are not as they should be.", chunk, compared.differences)
        else:
            if self.changed_only and not len(changes):
                self._advance(chunk)
                return
            self._say(chunk, changes)
            if len(changes):
                self._begin(chunk.days)
                self._do(changes)
            compared = self.proof.of_changes(chunk, changes, sum(made.rows.get(day, 0) for day in chunk.days))
            if compared.differences:
                # What was found in a sample is not all that there is.
                log.warning("%s: %d row(s) online are wrong: all are looked at.", chunk, compared.differences)
                compared = self.proof.of_all(chunk)
        self.outcome.compared += compared.rows.total()
        self.outcome.differences += compared.differences
        if compared.differences:
            self._mend(compared, chunk.days)
            again = self.proof.of_mended(chunk, compared)
            if again.differences:
                raise CertificateError(self._difference(chunk, again))
            self.outcome.repaired += compared.differences
        if chunk.leaves:
            self._forget(chunk.days)
            self.outcome.left += chunk.days
        else:
            self._record({day: made.rows[day] for day in chunk.days}, compared.by_day())
            self.outcome.rows_online += sum(made.rows[day] for day in chunk.days)
            self.outcome.certified += chunk.days

    def _say(self, chunk: Chunk, changes: Changes) -> None:
        """Say what writing a chunk costs, before it is written; SyncError if that can't be or may not be."""
        _check_keys(changes)
        units = self._units(changes)
        self.outcome.planned += len(changes)
        self.outcome.planned_units += units
        log.info("%s: %s row(s) differ: %s.", chunk, f"{len(changes):,}", self.budget.said(units))
        self.budget.check(len(changes), units, self.online.usage)

    def _units(self, changes: Changes) -> int:
        longest = pc.max(pc.binary_length(changes.rows[changes.view.entity])).as_py() or 0
        return int(changes.rows.num_rows * self.online.units_a_row(longest) + changes.gone.num_rows)

    def _do(self, changes: Changes) -> None:
        if changes.rows.num_rows:
            self.online.write(changes.upserts(), changes.rows.num_rows)
        if changes.gone.num_rows:
            self.online.delete(changes.keys_gone(), changes.gone.num_rows)

    def _mend(self, compared: Compared, days: Collection[dt.date] = ()) -> None:
        """Mend what differs: of some days, which then are marked, or of those that differ."""
        longest = max((len(each.key[0]) for each in compared.upserts), default=0)
        units = len(compared.upserts) * self.online.units_a_row(longest) + len(compared.left_over)
        log.info("%s row(s) are mended: %s.", f"{compared.differences:,}", self.budget.said(units))
        self.budget.check(compared.differences, units, self.online.usage)
        self._begin(days or compared.by_day())
        self.online.mend(compared)

    def _begin(self, days: Collection[dt.date]) -> None:
        """Leave a note before the first write: until the days are certified, nobody knows what is online of them."""
        new = [day for day in days if day not in self.known or self.known[day].attempt != self.attempt]
        id_, version = self.features.id, self.features.version
        marked = [self.known.get(day, Certificate(day, id_)).begun_by(id_, version, self.attempt) for day in new]
        certificates.record(self.features.uri, self.online.name, marked, self.known)
        self.known |= {each.day: each for each in marked}

    def _record(
        self,
        rows: Mapping[dt.date, int],
        differences: Mapping[dt.date, int],
        versions: Mapping[dt.date, int | None] | None = None,
    ) -> None:
        """Certify days, with their numbers of rows: as of the features' version, or of another."""
        moment = dt.datetime.now(dt.UTC)
        made = {
            day: Certificate(
                day,
                self.features.id,
                (versions or {}).get(day, self.features.version),
                rows=count,
                differences=differences.get(day, 0),
                repaired=differences.get(day, 0),
                certified_at=moment,
            )
            for day, count in rows.items()
        }
        certificates.record(self.features.uri, self.online.name, made.values(), self.known)
        self.known |= made

    def _advance(self, chunk: Chunk) -> None:
        """Note that what was certified of days is this version too: else an older one could follow it."""
        made = {day: replace(self.known[day], features_version=self.features.version) for day in chunk.days}
        certificates.record(self.features.uri, self.online.name, made.values(), self.known)
        self.known |= made

    def _forget(self, days: Collection[dt.date]) -> None:
        certificates.forget(self.features.uri, self.online.name, days, self.known)
        for day in days:
            self.known.pop(day, None)

    @contextmanager
    def _overtaken(self) -> Iterator[None]:
        """Leave days of which another run has taken over what this one has begun in doubt: both may have written."""
        try:
            yield
        except OvertakenError as error:
            mine = [day for day in error.days if (there := self.known.get(day)) and there.attempt == self.attempt]

            def doubt(there: Mapping[dt.date, Certificate]) -> Iterator[Certificate]:
                for day in mine:
                    now = there.get(day, Certificate(day, self.features.id))
                    yield now.begun_by(self.features.id, self.features.version, self.attempt)

            certificates.update(self.features.uri, self.online.name, mine, doubt)
            raise SyncError(
                f"{error}: what is online of them is not certain. Next: run this again when the other run has ended."
            ) from error

    def _difference(self, chunk: Chunk, compared: Compared) -> str:
        missing = f"{compared.missing} missing, " if compared.missing else ""
        keys = [each.key for each in compared.upserts[:EXAMPLES]] + compared.left_over[:EXAMPLES]
        some = ", ".join(map(cells.named, keys[:EXAMPLES]))
        return (
            f"{self.online.name} is not what {self.features.uri} has of {chunk}, after a repair: {missing}"
            f"{len(compared.upserts) - compared.missing} different, {len(compared.left_over)} left over "
            f"(such as {some}). Does something else write to the table?"
        )


def _check_keys(changes: Changes) -> None:
    """Refuse keys that Keyspaces has no row for, before anything is written."""
    entity = changes.rows[changes.view.entity]
    length = pc.fill_null(pc.binary_length(entity), 0)
    wrong = pc.or_(pc.equal(length, 0), pc.greater(length, keyspaces.ENTITY_BYTES))
    bad = changes.rows.filter(wrong)
    if bad.num_rows:
        some = ", ".join(
            f"{str(row[changes.view.entity])[:40]!r} {row[changes.view.day]}"
            for row in bad.slice(0, EXAMPLES).select([key.name for key in changes.view.keys]).to_pylist()
        )
        raise SyncError(
            f"{bad.num_rows} row(s) have a key that Keyspaces can't hold (such as {some}): {changes.view.entity} has "
            f"to have 1 to {keyspaces.ENTITY_BYTES} bytes. Nothing was written of these days."
        )
