"""The whole online table beside what was certified of its days, also rows that nobody asked for."""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store.calendar import named
from feature_store.sync import cells
from feature_store.sync.certificates import Certificate
from feature_store.sync.changes import Features, GoneError
from feature_store.sync.online_table import Compared, OnlineTable, part_of

PART_ROWS = 2_000_000  # of Delta, that are held while a part of the whole table is compared

Days = Mapping[Features, Sequence[dt.date]]  # what should be online: days, by the version that they are of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What the whole online table should hold.

    Attributes:
        tables: the days, by the version of the features that they are of.
        current: of these, those that nobody knows to be of that version: the certified one is gone, or a run has begun
            with them and not ended. So they are to be of the current one.
        unsure: days of which that can't be said either, as validation holds the current rows back.
    """

    tables: Days
    current: frozenset[dt.date]
    unsure: Sequence[dt.date]

    @property
    def days(self) -> set[dt.date]:
        """All days of which rows should be online."""
        return set().union(*self.tables.values())


@dataclass
class Found:
    """What differs, summed up.

    Attributes:
        rows: that should be there and were looked for, by day.
        missing: rows that were not there.
        different: rows with another value.
        left_over: rows that should not be there.
        days: how many rows of each day differ.
    """

    rows: Counter[dt.date] = field(default_factory=Counter)
    missing: int = 0
    different: int = 0
    left_over: int = 0
    days: Counter[dt.date] = field(default_factory=Counter)

    def add(self, compared: Compared) -> None:
        """Add a part."""
        self.rows.update({cells.day_of(day): count for day, count in compared.rows.items()})
        self.missing += compared.missing
        self.different += len(compared.upserts) - compared.missing
        self.left_over += len(compared.left_over)
        self.days.update(compared.by_day())


def wanted(features: Features, known: Mapping[dt.date, Certificate], held_back: Collection[dt.date]) -> Wanted:
    """Say what the whole online table should hold.

    Args:
        features: at the current version.
        known: the table's certificates.
        held_back: days whose current rows must not go online.

    Raises:
        FeaturesError: the features can't be read.
    """
    certified: dict[int, list[dt.date]] = {}
    doubtful = []
    for day, each in sorted(known.items()):
        if each.open or each.foreign or each.features_id != features.id or each.features_version is None:
            doubtful.append(day)
        elif each.rows:
            certified.setdefault(each.features_version, []).append(day)
    tables: dict[Features, Sequence[dt.date]] = {}
    for version, days in sorted(certified.items()):
        try:
            at = features.at(version)
            if not at.has_all_columns:  # a feature was added since
                doubtful += days
                continue
            at.check(days)
        except GoneError as gone:
            log.info("%s: %s are compared with version %d instead.", gone, named(days), features.version)
            doubtful += days
        else:
            tables[at] = days
    current = sorted(day for day in doubtful if day not in held_back)
    if current:
        tables[features] = sorted([*tables.get(features, ()), *current])
    return Wanted(tables, frozenset(current), sorted(day for day in doubtful if day in held_back))


def compare_all(
    it: Wanted, online: OnlineTable, known: Mapping[dt.date, Certificate], mend: Callable[[Compared], None] | None
) -> Found:
    """Compare the whole online table with what it should hold, in parts.

    Args:
        it: what it should hold.
        online: the table.
        known: its certificates, for their numbers of rows.
        mend: is given what differs in a part, if something does.

    Raises:
        FeaturesError: the features can't be read.
        OnlineError: the table can't be.
    """
    found, nobodys = Found(), {cells.day_bytes(day) for day in it.unsure}
    for part, parts, rows in in_parts(it.tables, sum(each.rows for each in known.values())):
        compared = online.compare_all(rows, part, parts, nobodys.__contains__)
        found.add(compared)
        if mend and compared.differences:
            mend(compared)
    return found


def in_parts(tables: Days, rows: int) -> Iterator[tuple[int, int, dict[bytes, list[cells.Row]]]]:
    """Read days of features, encoded, by entity, in as many parts as their rows need: which part, of how many, rows.

    Raises:
        FeaturesError: they can't be read.
    """
    parts = max(1, -(-rows // PART_ROWS))
    for part in range(parts):
        by_entity: dict[bytes, list[cells.Row]] = {}
        for at, days in tables.items():
            view = at.view
            chosen = None
            if parts > 1:
                keys = at.rows(days, columns=[key.name for key in view.keys])
                names = pc.unique(keys[view.entity].combine_chunks())
                mask = [part_of(name.encode(), parts) == part for name in names.to_pylist()]
                chosen = names.filter(pa.array(mask, pa.bool_()))
            for entity, of_one in cells.by_entity(at.rows(days, chosen), view.entity, view.columns):
                by_entity.setdefault(entity, []).extend(of_one)
        yield part, parts, by_entity
